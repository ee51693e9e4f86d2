"""Is one model better than another? Two tests of a difference on the same patients, and Holm's correction for several.

The bootstrap over patients asks about other patients like these; the corrected t asks about other trainings as well, and
needs both models trained on the same folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from chiasm.metrics.bootstrap import ROUNDING, Floats, varies


@dataclass(frozen=True)
class FoldTest:
    """A difference over folds: mean, 95% interval, t with its degrees of freedom, two-sided p; None where folds do not differ."""

    value: float
    low: float | None
    high: float | None
    t: float | None
    df: int
    p: float | None

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def corrected_t(differences: ArrayLike, test_share: float) -> FoldTest | None:
    """The corrected resampled t-test (Nadeau & Bengio 2003), for repeated folds as in Bouckaert & Frank (2004).

    t = mean / sqrt((1/J + n_test/n_train) s^2), J - 1 degrees of freedom. The training sets of folds overlap, so their
    scores are not independent, and the plain variance s^2/J is too small; the share stands for the correlation.

    Args:
        differences: [J] of one fold each, over all repeats; NaN where a fold's score is undefined.
        test_share: n_test / n_train.

    Returns:
        None where fewer than two folds are defined. Where all agree, but for rounding, there is nothing to test by: interval, t and
        p are None.
    """
    d = _without_rounding(differences)
    d = d[~np.isnan(d)]
    if len(d) < 2:
        return None
    df = len(d) - 1
    if not varies(d):
        return FoldTest(float(d[0]), None, None, None, df, None)
    mean, error = float(d.mean()), float(np.sqrt((1 / len(d) + test_share) * d.var(ddof=1)))
    t, reach = mean / error, float(stats.t.ppf(0.975, df)) * error
    return FoldTest(mean, mean - reach, mean + reach, t, df, float(2 * stats.t.sf(abs(t), df)))


def bootstrap_p(draws: ArrayLike) -> float | None:
    """Two-sided p of a difference whose resamples [R] are given: the level at which the percentile interval meets 0.

    (Efron & Tibshirani 1993, section 15.4.) Never below 2 / (R + 1); None where most resamples are undefined.
    """
    d = _without_rounding(draws)
    known = d[~np.isnan(d)]
    if 2 * len(known) <= len(d):
        return None
    below, above = (known <= 0).sum(), (known >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(known) + 1)))


def _without_rounding(differences: ArrayLike) -> Floats:
    """Differences of figures that are equal but for the order of their sums are 0."""
    d = np.asarray(differences, np.float64)
    return np.asarray(np.where(np.abs(d) <= ROUNDING, 0.0, d))


def holm(p_values: ArrayLike) -> list[float]:
    """p adjusted for as many tests as there are (Holm 1979): the i-th smallest of m times m - i + 1, never falling."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return [float(x) for x in adjusted]
