"""Where the model looked against where readers drew: boxes, masks and maps, all on the pixels of the original image.

Boxes are [n, 4] x_min, y_min, x_max, y_max with exclusive maxima; in a volume a box goes through every slice. Masks are
bool and maps real, [H, W] or [D, H, W] in the original frame.

>>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
[[0.333, 0.0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chiasm.geometry import Geometry
from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, varies

Mask = NDArray[np.bool_]
T_IOU = (0.1, 0.3, 0.5)
RANGE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
AFLOC_THRESHOLDS = (0.55, 0.6, 0.65, 0.7, 0.75)
"""Of the map within its range: .1 to .5 of one that is rescaled to [-1, 1]."""
_WHERE = "mean over image and label pairs with a truth region, original pixels"
_RANGE = "mean over thresholds of the map within its range"
_AFLOC = f"after the released evaluation of AFLoc: central square, thresholds .1 to .5 of a map in [-1, 1], {_WHERE}"
PROTOCOLS = {
    "miou": f"IoU of the map cut at its threshold and the union of truth regions, {_WHERE}",
    "miou_fitted": f"IoU of the map cut at a threshold fitted on boxes of validation patients, which answers do not use, {_WHERE}",
    "dice": f"Dice of the map cut at its threshold and the union of truth regions, {_WHERE}",
    "box_iou": f"IoU of the box of highest score and the truth box it fits best, 0 without a box, {_WHERE}",
    "pointing": f"pointing game: is the map's maximum in a truth region (no tolerance; of tied maxima the share), {_WHERE}",
    "cnr": f"contrast to noise |mean in - mean out| / sqrt(var in + var out) of the map, {_WHERE}",
    "range_iou": f"IoU of the map and the union of truth regions, {_RANGE}, .1 to .5, {_WHERE}",
    "range_dice": f"Dice of the map and the union of truth regions, {_RANGE}, .1 to .5, {_WHERE}",
    "signed_cnr": f"contrast to noise as in cnr, below 0 where the map is higher outside, {_WHERE}",
    "afloc_iou": f"IoU, empty maps left out, {_AFLOC}",
    "afloc_dice": f"Dice, empty maps left out, {_AFLOC}",
    "afloc_cnr": f"absolute contrast to noise, {_AFLOC}",
    **{f"t_iou_{t}": f"share with IoU > {t} of all predicted and all truth boxes as unions, {_WHERE}" for t in T_IOU},
}


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """[n, 4] and [m, 4] boxes -> [n, m] intersection over union; 0 where both are empty."""
    a, b = np.asarray(a, np.float64).reshape(-1, 1, 4), np.asarray(b, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.prod(np.maximum(sides, 0), axis=-1)
    either = _area(a) + _area(b) - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def best_box_iou(boxes: NDArray[np.floating], scores: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """IoU of the box of highest score with the truth box it fits best; 0 where nothing is predicted."""
    if not len(boxes):
        return 0.0
    return float(box_iou(boxes[[int(np.argmax(scores))]], truth).max())


def union_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """IoU of all boxes of `a` together with all of `b`, exact: edges cut the plane into cells that are in or out."""
    boxes = np.concatenate([np.asarray(part, np.float64).reshape(-1, 4) for part in (a, b)])
    if not len(boxes):
        return float("nan")
    x, y = np.unique(boxes[:, ::2]), np.unique(boxes[:, 1::2])
    x_in = (boxes[:, :1] <= x[:-1]) & (x[:-1] < boxes[:, 2:3])  # [boxes, cells]
    y_in = (boxes[:, 1:2] <= y[:-1]) & (y[:-1] < boxes[:, 3:])
    covers = y_in[:, :, None] & x_in[:, None, :]
    in_a, in_b = covers[: len(a)].any(axis=0), covers[len(a) :].any(axis=0)
    cells = np.outer(np.diff(y), np.diff(x))
    return _ratio(cells[in_a & in_b].sum(), cells[in_a | in_b].sum())


def mask_overlap(predicted: Mask, truth: Mask) -> tuple[float, float]:
    """IoU and Dice; NaN where both masks are empty."""
    both, total = int(np.sum(predicted & truth)), int(np.sum(predicted)) + int(np.sum(truth))
    return _ratio(both, total - both), _ratio(2 * both, total)


def pointing(values: NDArray[np.floating], truth: Mask) -> float:
    """1 if the maximum of the map lies in the truth (Zhang et al. 2016, no tolerance); of tied maxima the share in it."""
    return float(truth[values == values.max()].mean())


def cnr(values: NDArray[np.floating], truth: Mask) -> float:
    """|mean in - mean out| / sqrt(var in + var out) (Boecking et al. 2022); NaN for an even map or a truth without edge."""
    inside, outside = values[truth].astype(np.float64), values[~truth].astype(np.float64)
    if not (inside.size and outside.size and (varies(values[truth]) or varies(values[~truth]))):
        return float("nan")
    return _ratio(abs(inside.mean() - outside.mean()), np.sqrt(inside.var() + outside.var()))


def signed_cnr(values: NDArray[np.floating], truth: Mask) -> float:
    """`cnr`, below 0 where the map is higher outside of the truth."""
    outside = values[~truth]
    return cnr(values, truth) * (-1 if outside.size and values[truth].mean() < outside.mean() else 1)


def range_overlap(values: NDArray[np.floating], truth: Mask, thresholds: Sequence[float]) -> tuple[float, float]:
    """IoU and Dice of the map within its range, 0 at its least value and 1 at its highest, mean over thresholds; 0 for an even map."""
    span = float(values.max() - values.min())
    within = (values - values.min()) / span if span > 0 else np.zeros_like(values)
    iou = ious_by_threshold(within, truth, np.asarray(thresholds))
    return float(iou.mean()), float((2 * iou / (1 + iou)).mean())


def afloc(values: NDArray[np.floating], truth: Mask) -> dict[str, float]:
    """IoU, Dice and absolute CNR as the released evaluation of AFLoc computes them: on the central square of the image, at thresholds
    .1 to .5 of the map rescaled to [-1, 1] (.55 to .75 of its range). NaN for an even map and for a truth outside of the square: they are
    left out there, so a figure of it is none of this package's own."""
    height, width = values.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = (..., slice(top, top + side), slice(left, left + side))
    values, truth = values[crop], truth[crop]
    if not (truth.any() and varies(values)):
        return dict.fromkeys(("afloc_iou", "afloc_dice", "afloc_cnr"), float("nan"))
    iou, dice = range_overlap(values, truth, AFLOC_THRESHOLDS)
    return {"afloc_iou": iou, "afloc_dice": dice, "afloc_cnr": cnr(values, truth)}


def mask_boxes(mask: Mask) -> tuple[Floats, NDArray[np.integer]]:
    """Boxes [k, 4] of the connected parts of a mask (corners touch), and the mask with the parts numbered from 1."""
    parts, n = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    places = [(place[-1], place[-2]) for place in ndimage.find_objects(parts)]
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for x, y in places], np.float64)
    return boxes.reshape(n, 4), parts


def map_to_boxes(values: NDArray[np.floating], threshold: float, geometry: Geometry) -> tuple[Floats, Floats]:
    """Boxes around the parts of a map that reach the threshold.

    Args:
        values: [h, w] or [d, h, w] on the localization grid.
        geometry: of the stored image the grid lies on.

    Returns:
        boxes [k, 4] in pixels of the original and scores [k], the highest value of each part; best first.
    """
    return boxes_of(geometry.map_to_original(values), threshold)


def boxes_of(original: NDArray[np.floating], threshold: float) -> tuple[Floats, Floats]:
    """As `map_to_boxes`, of a map that already lies on the original pixels."""
    boxes, parts = mask_boxes(original >= threshold)
    # `ndimage.maximum` sorts the whole image
    places = enumerate(ndimage.find_objects(parts), start=1)
    scores = np.array([original[place][parts[place] == number].max() for number, place in places], np.float64)
    best_first = np.argsort(-scores, kind="stable")
    return boxes[best_first], scores[best_first]


def score_map(
    values: NDArray[np.floating],
    threshold: float,
    boxes: NDArray[np.floating],
    box_scores: NDArray[np.floating],
    truth: Mask,
    truth_boxes: NDArray[np.floating] | None = None,
) -> dict[str, float]:
    """Every figure of `PROTOCOLS` for one label on one image; NaN where undefined.

    Args:
        values: the map on the original pixels; threshold: where it is cut.
        boxes, box_scores: what was predicted, on the original pixels.
        truth: union of the truth regions; truth_boxes: as drawn (None: boxes of the parts of `truth`).

    Raises:
        ValueError: the truth is empty, so there is nothing to locate, or map and truth differ in shape.
    """
    if values.shape != truth.shape or not truth.any():
        raise ValueError(f"a map on a truth of its shape, not empty, expected; got {values.shape} and {truth.shape}")
    truth_boxes = mask_boxes(truth)[0] if truth_boxes is None else truth_boxes
    iou, dice = mask_overlap(values >= threshold, truth)
    overlap = union_iou(boxes, truth_boxes)
    range_iou, range_dice = range_overlap(values, truth, RANGE_THRESHOLDS)
    return {
        "miou": iou,
        "dice": dice,
        "box_iou": best_box_iou(boxes, box_scores, truth_boxes),
        "pointing": pointing(values, truth),
        "cnr": cnr(values, truth),
        "range_iou": range_iou,
        "range_dice": range_dice,
        "signed_cnr": signed_cnr(values, truth),
        **afloc(values, truth),
        **{f"t_iou_{t}": float(overlap > t) for t in T_IOU},
    }


def summarize(scores: Sequence[Mapping[str, float]], resamples: Resamples) -> dict[str, Estimate]:
    """The mean of each figure that the dicts of `score_map` hold, one dict a row of `resamples`."""
    named = {name: text for name, text in PROTOCOLS.items() if name in scores[0]}
    return {name: resamples.mean([row[name] for row in scores], text) for name, text in named.items()}


MAP_THRESHOLDS = np.linspace(0, 1, 51)[1:-1]
"""Where maps are tried."""


def ious_by_threshold(values: NDArray[np.floating], truth: Mask, thresholds: Floats = MAP_THRESHOLDS) -> Floats:
    """IoU of the truth and of the pixels that reach each of the ascending thresholds; map and truth alike in shape."""
    reached = np.searchsorted(thresholds, values, side="right")  # how many thresholds a pixel reaches
    counts = [np.bincount(pixels, minlength=len(thresholds) + 1) for pixels in (reached.ravel(), reached[truth])]
    chosen, both = (count[::-1].cumsum()[::-1][1:] for count in counts)  # pixels that reach each threshold
    return np.asarray(both / (chosen + truth.sum() - both))


def best_map_threshold(
    pairs: Iterable[tuple[NDArray[np.floating], Mask]], thresholds: Floats = MAP_THRESHOLDS
) -> float | None:
    """The threshold of highest mean IoU; the lowest of several. None where there is no pair.

    Args:
        pairs: a map (values 0..1) and its truth, both on the original pixels; looked at one after the other.
    """
    return choose_threshold([ious_by_threshold(values, truth, thresholds) for values, truth in pairs], thresholds)


def choose_threshold(ious: Sequence[Floats], thresholds: Floats = MAP_THRESHOLDS) -> float | None:
    """The threshold of highest mean IoU of what `ious_by_threshold` gives; the lowest of several. None of no map."""
    return float(thresholds[int(np.argmax(np.mean(ious, axis=0)))]) if len(ious) else None


def _area(boxes: Floats) -> Floats:
    return np.asarray(np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
