"""Numbers against numbers: mean absolute error and Pearson's r, in the units of the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from chiasm.errors import ChiasmError
from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, varies


def agreement(
    truth: ArrayLike, predicted: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`mae` and `r` of predictions.

    Args:
        truth, predicted: [n]; mask: [n], True where the truth is known (None: everywhere).
        resamples: over the same n rows.

    r is undefined where truth or prediction never varies, also within a resample.

    Raises:
        ValueError: the lengths differ.
        ChiasmError: a known truth or its prediction is NaN or infinite.
    """
    x, y, rows = finite_pairs(truth, predicted, resamples, mask)
    r = rows.draws(np.stack([np.ones_like(x), *moments(x, y)]), pearson)
    return {
        "mae": rows.mean(np.abs(x - y), "mean absolute error, units of the target"),
        "r": rows.estimate(r, "Pearson's r", undefined="truth or prediction never varies"),
    }


def finite_pairs(
    truth: ArrayLike, predicted: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> tuple[Floats, Floats, Resamples]:
    """Truth, predictions and resamples of the rows whose truth is known; raises as `agreement`."""
    x, y = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    known = np.ones(len(x), bool) if mask is None else np.asarray(mask, bool)
    if not len(x) == len(y) == len(known) == len(resamples):
        lengths = (len(x), len(y), len(known), len(resamples))
        raise ValueError(f"truth, predictions, mask and resamples of one length expected, got {lengths}")
    x, y, rows = x[known], y[known], resamples.at(known)
    broken = int(np.sum(~np.isfinite(x) | ~np.isfinite(y)))
    if broken:
        raise ChiasmError(
            "Some values are not numbers",
            expected="a finite truth and prediction for every study with a known value",
            got=f"{broken} of {len(x)} NaN or infinite",
        )
    return x, y, rows


def moments(x: Floats, y: Floats) -> list[Floats]:
    """First and second powers, of centred values: sums of raw squares would lose the digits that matter.

    What varies by rounding alone is 0 throughout.
    """
    x, y = ((v - v.mean()) / v.std() if varies(v) else np.zeros_like(v) for v in (x, y))
    return [x, y, x * x, y * y, x * y]


def pearson(sums: Floats) -> Floats:
    """Sums [6, ...] of 1 and `moments` -> Pearson's r [...]; NaN where one never varies."""
    n, x, y, xx, yy, xy = sums
    variance = np.maximum(xx / n - (x / n) ** 2, 0), np.maximum(yy / n - (y / n) ** 2, 0)
    varies = (variance[0] > 1e-12) & (variance[1] > 1e-12)  # of values of unit variance: less is rounding
    r = (xy / n - x * y / n**2) / np.sqrt(variance[0] * variance[1])
    return np.where(varies, np.clip(r, -1, 1), np.nan)
