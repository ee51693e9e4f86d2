"""Detection of several findings on many images: RoDeO and average precision, of boxes with a class and a score.

Boxes are [n, 4] x_min, y_min, x_max, y_max on the pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples
from chiasm.metrics.localization import box_iou

RODEO = {
    "rodeo_classification": "Matthews correlation of the classes of matched boxes, 0 where it is negative",
    "rodeo_location": "2 ^ -(squared distance of the centres in units of the truth's sides) of matched boxes",
    "rodeo_shape": "IoU of matched boxes laid upon each other",
    "rodeo_total": "harmonic mean of classification, location and shape",
}
_RODEO = "RoDeO (Meissen et al. 2023), boxes that are not matched count as 0"
AP_IOU = (0.3, 0.5)
_TINY = 1e-6  # of the harmonic mean, as in the released code: a part of 0 makes it about 0


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: predicted [k, 4] with classes and scores [k], true [m, 4] with classes [m]."""

    predicted: Floats
    classes: NDArray[np.int64]
    scores: Floats
    true: Floats
    true_classes: NDArray[np.int64]


def generalized_iou(a: Floats, b: Floats) -> Floats:
    """[n, 4] and [m, 4] boxes of some extent -> [n, m] in (-1, 1] (Rezatofighi et al. 2019, eq. 3).

    >>> generalized_iou(np.array([[0, 0, 1, 1.0]]), np.array([[0, 0, 1, 1], [1, 0, 2, 1], [3, 0, 4, 1.0]])).tolist()
    [[1.0, 0.0, -0.5]]
    """
    one, other = a[:, None], b[None]
    iou = box_iou(a, b)
    areas = [np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (one, other)]
    union = (areas[0] + areas[1]) / (1 + iou)  # areas = union + both, and both = iou * union
    hull = np.prod(np.maximum(one[..., 2:], other[..., 2:]) - np.minimum(one[..., :2], other[..., :2]), axis=-1)
    return np.asarray(iou - (hull - union) / hull)


def rodeo(images: Sequence[Boxes], classes: int, resamples: Resamples) -> dict[str, Estimate]:
    """The figures of `RODEO` over images, one a row of `resamples` (Meissen et al. 2023, eqs. 1 to 6).

    Boxes of an image are matched (Hungarian) by generalized IoU plus, where the classes agree, the Matthews correlation of the classes
    of all images. With one class the classification, and with it the total, is undefined.

    Args:
        classes: how many there are.
    """
    weight = max(0.0, _presence_correlation(images, classes))
    sums = np.array([_matched(image, weight) for image in images], np.float64).reshape(-1, 6).T

    def figures(totals: Floats) -> Floats:
        same, other, near, alike, extra, missed = totals
        matched = same + other
        every = matched + extra + missed
        rest = same * (classes - 1) + other * (classes - 2)
        agree = np.clip((same * rest - other**2) / (matched**2 * max(classes - 1, 1)), 0, None)
        parts = np.stack([np.where(matched > 0, agree * matched, 0), near, alike]) / every
        if classes < 2:
            parts[0] = np.nan
        total = 3 / (1 / (parts + _TINY)).sum(axis=0)
        return np.stack([*parts, total])

    draws = resamples.draws(sums, figures)
    why = "there are no boxes" if classes > 1 else "there is one class"
    return {
        name: resamples.estimate(own, f"{text}; {_RODEO}", undefined=why)
        for own, (name, text) in zip(draws, RODEO.items(), strict=True)
    }


def average_precision(
    images: Sequence[Boxes], number: int, iou: float, resamples: Resamples, protocol: str = ""
) -> Estimate:
    """Average precision of one class: the area under precision, made monotone, over recall (Everingham et al. 2010, all points).

    A predicted box finds the true box of its image that it fits best, if their IoU is at least `iou` and no box of higher score has
    found it.

    Args:
        images: one a row of `resamples`. number: of the class.
    """
    found: list[tuple[float, int, bool]] = []
    truths = np.zeros(len(images))
    for row, image in enumerate(images):
        true = image.true[image.true_classes == number]
        mine = image.classes == number
        truths[row] = len(true)
        hits = _hits(image.predicted[mine], image.scores[mine], true, iou)
        found += [(score, row, hit) for score, hit in zip(image.scores[mine].tolist(), hits, strict=True)]
    found.sort(key=lambda one: -one[0])
    rows, hit = np.array([row for _, row, _ in found], int), np.array([hit for *_, hit in found], bool)
    n = len(found)
    place = np.arange(n)
    counts = sparse.csr_array((np.ones(n), (np.where(hit, place, n + place), rows)), shape=(2 * n, len(images)))
    statistics = sparse.vstack([counts, sparse.csr_array(truths[None])]).tocsr()

    def area(sums: Floats) -> Floats:
        right, wrong, number_true = sums[:n], sums[n : 2 * n], sums[-1]
        gained, lost = right.cumsum(axis=0), wrong.cumsum(axis=0)
        precision = gained / np.maximum(gained + lost, 1)
        monotone = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        return np.asarray((right * monotone).sum(axis=0) / number_true)

    draws = resamples.draws(statistics, area)
    said = f"average precision at IoU {iou}, all points{protocol}"
    return resamples.estimate(draws, said, undefined="there is no true box", classes=(truths > 0,))


def _hits(boxes: Floats, scores: Floats, true: Floats, iou: float) -> list[bool]:
    """Whether each box finds a true one, in the order of the boxes."""
    hits, free = [False] * len(boxes), np.ones(len(true), bool)
    if not len(true):
        return hits
    overlap = box_iou(boxes, true)
    for i in np.argsort(-scores, kind="stable").tolist():
        best = int(overlap[i].argmax())
        if overlap[i, best] >= iou and free[best]:
            hits[i], free[best] = True, False
    return hits


def _matched(image: Boxes, weight: float) -> tuple[float, ...]:
    """Of an image: pairs of one class, pairs of two, their sums of location and of shape, boxes too many, boxes missed."""
    agree = image.classes[:, None] == image.true_classes
    worth = generalized_iou(image.predicted, image.true) + weight * agree
    i, j = linear_sum_assignment(-worth)
    mine, true = image.predicted[i], image.true[j]
    sides, own = true[:, 2:] - true[:, :2], mine[:, 2:] - mine[:, :2]
    apart = (mine[:, :2] + own / 2 - true[:, :2] - sides / 2) / sides
    both = np.minimum(own, sides).prod(axis=1)
    shape = both / (own.prod(axis=1) + sides.prod(axis=1) - both)
    same = int(agree[i, j].sum())
    near = float(np.exp2(-np.square(apart).sum(axis=1)).sum())
    return same, len(i) - same, near, float(shape.sum()), len(image.predicted) - len(i), len(image.true) - len(i)


def _presence_correlation(images: Sequence[Boxes], classes: int) -> float:
    """Matthews correlation of which classes are predicted and which are there, over images and classes; 0 where undefined."""
    said, true = np.zeros((2, len(images), classes), bool)
    for row, image in enumerate(images):
        said[row, image.classes], true[row, image.true_classes] = True, True
    if said.all() or true.all() or not said.any() or not true.any():
        return 0.0
    return float(np.corrcoef(said.ravel(), true.ravel())[0, 1])
