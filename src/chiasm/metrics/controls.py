"""Shortcut controls: what can be told without looking at the anatomy.

If metadata, 25 numbers about the pixels or a 16 x 16 thumbnail tell a label nearly as well as the model does, then how
the images came to be (device, cropping, compression, who was sent where) may be what the model has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chiasm.metrics.bootstrap import Estimate, Floats

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
STATISTICS = (
    *("mean", "std", "skewness", "kurtosis", "entropy", "levels", "black_share", "white_share", "lowest", "highest"),
    *(f"percentile_{q}" for q in PERCENTILES),
    *("border_mean", "border_std", "corner_mean", "left_minus_right", "top_minus_bottom"),
    *("gradient_x", "gradient_y", "sharpness"),
)
"""Names of the columns of `pixel_statistics`."""
_LOGIT_VARIANCE = 2.5  # of the probes' prior, whatever the number of features: 256 thumbnail cells must not overfit


def probe(
    train_features: Floats, train_labels: ArrayLike, test_features: Floats, train_mask: ArrayLike | None = None
) -> Floats | None:
    """Scores [n_test] of a logistic regression on features alone, fitted on the training rows.

    Args:
        train_features [n, d], test_features [m, d]: NaN is missing: it becomes the mean and an indicator of its own.
        train_labels: [n] 0 or 1; train_mask: [n], True where known (None: everywhere).

    Returns:
        None where the known training labels have one class only, or there is no feature.
    """
    labels = np.asarray(train_labels)
    if not train_features.size:
        return None
    known = np.ones(len(labels), bool) if train_mask is None else np.asarray(train_mask, bool)
    if len(np.unique(labels[known])) < 2:
        return None
    model = make_pipeline(
        SimpleImputer(add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=_LOGIT_VARIANCE / train_features.shape[1], max_iter=2000),
    )
    model.fit(train_features[known], labels[known].astype(int))
    return np.asarray(model.decision_function(test_features), np.float64) if len(test_features) else np.empty(0)


Closeness = Literal["beats", "close", "unclear", ""]


def closeness(model: Estimate, control: Estimate, share: float = 0.5) -> Closeness:
    """How near a control comes to the model (both AUROC).

    Only a control that goes at least `share` of the model's way from chance (.86 beside a model's .96: 78% of it), or may be as
    good (the interval of the paired difference holds 0), is near.

    Returns:
        beats, close: the control's whole interval lies above chance, and it is better than the model beyond doubt, or near.
        unclear: the control's own interval is too wide to say so, as in a small cohort, but it goes that way and may be as good
        as a model that is above chance. "": none of these.
    """
    own, found, gain = model.metric(), control.metric(), (model - control).metric()
    if own.value is None or found.value is None or gain.low is None or gain.high is None:
        return ""
    way = found.value > 0.5 and found.value - 0.5 >= share * (own.value - 0.5)
    if found.low is not None and found.low > 0.5:
        return "beats" if gain.high < 0 else "close" if way or gain.low <= 0 else ""
    return "unclear" if way and gain.low <= 0 and own.low is not None and own.low > 0.5 else ""


def metadata_features(numeric: Mapping[str, ArrayLike], categorical: Mapping[str, ArrayLike]) -> Floats:
    """[n, d]: numbers as they are (NaN is missing), one 0/1 column for each word of a categorical column.

    Args:
        numeric: column -> [n]; categorical: column -> [n] of words, None or "" for missing (a word of its own).
    """
    columns = [np.asarray(values, np.float64)[:, None] for values in numeric.values()]
    for values in categorical.values():
        words = np.array(["" if word is None else str(word) for word in np.asarray(values, object)])
        columns.append((words[:, None] == np.unique(words)).astype(np.float64))
    return np.concatenate(columns, axis=1) if columns else np.empty((0, 0))


def pixel_statistics(images: NDArray[np.uint8], batch_size: int = 64) -> Floats:
    """[n, 25] `STATISTICS` of stored images: numbers that know nothing of place but border, sides and sharpness.

    Args:
        images: [n, H, W] or [n, D, H, W] uint8, also memory-mapped: a batch is read at a time. All slices of a volume
            count alike.
    """
    return _in_batches(images, batch_size, _statistics, len(STATISTICS))


def thumbnails(images: NDArray[np.uint8], side: int = 16, batch_size: int = 64) -> Floats:
    """[n, side * side] means over equal areas of the image, 0..1; of a volume, of its mean over slices."""

    def shrink(batch: NDArray[np.uint8]) -> Floats:
        flat = batch.mean(axis=1)
        rows, columns = (_area_means(n, side) for n in flat.shape[1:])
        return np.asarray((rows @ flat @ columns.T / 255).reshape(len(flat), -1))

    return _in_batches(images, batch_size, shrink, side * side)


def _in_batches(
    images: NDArray[np.uint8], size: int, function: Callable[[NDArray[np.uint8]], Floats], d: int
) -> Floats:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"[n, H, W] or [n, D, H, W] of uint8 expected, got {images.shape} of {images.dtype}")
    result = np.empty((len(images), d))
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        result[start : start + size] = function(batch if batch.ndim == 4 else batch[:, None])
    return result


def _statistics(batch: NDArray[np.uint8]) -> Floats:
    """[b, D, H, W] -> [b, 25]."""
    return np.concatenate([_of_histogram(batch), _of_layout(batch)], axis=1)


def _of_histogram(batch: NDArray[np.uint8]) -> Floats:
    b, level = len(batch), np.arange(256.0)
    flat = batch.reshape(b, -1).astype(np.int64) + 256 * np.arange(b)[:, None]
    share = np.bincount(flat.ravel(), minlength=256 * b).reshape(b, 256) / flat.shape[1]
    mean = share @ level
    second, third, fourth = (np.sum(share * (level - mean[:, None]) ** k, axis=1) for k in (2, 3, 4))
    spread = np.where(second > 0, second, 1.0)  # an even image: its third and fourth moments are 0 as well
    entropy = -np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1)
    used, reached = share > 0, share.cumsum(axis=1)
    percentiles = [np.argmax(reached >= q / 100 - 1e-9, axis=1) for q in PERCENTILES]
    moments = [mean, np.sqrt(second), third / spread**1.5, fourth / spread**2]
    extent = [used.sum(axis=1), share[:, 0], share[:, 255], used.argmax(axis=1), 255 - used[:, ::-1].argmax(axis=1)]
    return np.stack([*moments, entropy, *extent, *percentiles], axis=1).astype(np.float64)


def _of_layout(batch: NDArray[np.uint8]) -> Floats:
    height, width = batch.shape[-2:]
    edge, corner = max(1, min(height, width) // 32), max(1, min(height, width) // 8)
    inner = np.zeros((height, width), bool)
    inner[edge:-edge, edge:-edge] = True
    border = batch[..., ~inner].reshape(len(batch), -1)
    corners = [
        batch[..., y, x] for y in (slice(corner), slice(-corner, None)) for x in (slice(corner), slice(-corner, None))
    ]
    pixels = batch.astype(np.int16)
    dx, dy = np.diff(pixels, axis=-1), np.diff(pixels, axis=-2)
    everywhere = (-3, -2, -1)

    def mean(values: NDArray[np.integer]) -> Floats:
        return np.asarray(values.mean(axis=everywhere))

    return np.stack(
        [
            border.mean(axis=1),
            border.std(axis=1),
            np.mean([mean(c) for c in corners], axis=0),
            mean(batch[..., : width // 2]) - mean(batch[..., (width + 1) // 2 :]),
            mean(batch[..., : height // 2, :]) - mean(batch[..., (height + 1) // 2 :, :]),
            mean(np.abs(dx)),
            mean(np.abs(dy)),
            mean(np.abs(np.diff(dx, axis=-1))) + mean(np.abs(np.diff(dy, axis=-2))),
        ],
        axis=1,
    )


def _area_means(n: int, cells: int) -> Floats:
    """[cells, n] weights: the mean of n pixels over cells of equal width, a pixel on an edge shared by its parts."""
    pixel, edge = np.arange(n), np.arange(cells + 1) * n / cells
    shared = np.minimum(pixel + 1, edge[1:, None]) - np.maximum(pixel, edge[:-1, None])
    return np.asarray(np.clip(shared, 0, 1) * cells / n)
