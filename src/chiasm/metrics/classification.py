"""Binary labels against scores: ranking, decisions at a threshold, curves with bands.

Everywhere: labels [n] 0 or 1; scores or probabilities [n]; `resamples` over the same n rows; mask [n], True where the
label is known (None: everywhere). What stands under a False is never read. A figure of fewer than
`chiasm.metrics.bootstrap.FEWEST` patients of a class is computed, and not reported (`Estimate.undefined`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from chiasm.errors import ChiasmError
from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, indicator


def known_rows(
    labels: ArrayLike, scores: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], Floats, Resamples]:
    """Labels (bool), scores and resamples of the rows whose label is known.

    Raises:
        ValueError: the lengths differ, or a known label is neither 0 nor 1.
        ChiasmError: a score of a known row is NaN or infinite.
    """
    y, s = np.asarray(labels), np.asarray(scores, np.float64)
    known = np.ones(len(y), bool) if mask is None else np.asarray(mask, bool)
    if not len(y) == len(s) == len(known) == len(resamples):
        lengths = (len(y), len(s), len(known), len(resamples))
        raise ValueError(f"labels, scores, mask and resamples of one length expected, got {lengths}")
    y, s = y[known], s[known]
    if not np.isin(y, (0, 1)).all():
        raise ValueError("a known label is 0 or 1; the mask must be False where it is not known")
    if not np.isfinite(s).all():
        raise ChiasmError(
            "Some scores are not numbers",
            expected="a finite score for every study with a label",
            got=f"{np.sum(~np.isfinite(s))} of {len(s)} NaN or infinite",
            remedy="train again with a lower learning rate or in 32-bit precision",
        )
    return y.astype(bool), s, resamples.at(known)


def ranking(
    labels: ArrayLike, scores: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`auroc` (a tie counts one half) and `auprc` (average precision: no interpolation, ties are one threshold).

    Both equal scikit-learn's `roc_auc_score` and `average_precision_score` with each resample as sample weights. A
    resample with one class only is undefined.
    """
    y, s, rows = known_rows(labels, scores, resamples, mask)

    def both(sums: Floats) -> Floats:
        positives, negatives = np.split(sums, 2)
        tp, fp = positives.cumsum(axis=0), negatives.cumsum(axis=0)
        n_positive, n_negative = tp[-1:].sum(axis=0), fp[-1:].sum(axis=0)
        lost = np.einsum("sr,sr->r", positives, fp) - np.einsum("sr,sr->r", positives, negatives) / 2
        precision = np.divide(tp, np.maximum(fp + tp, 1, out=fp), out=tp)  # nothing predicted yet: 0 / 1
        precision_sum = np.einsum("sr,sr->r", positives, precision)
        one_class = np.where(n_negative * n_positive > 0, 0.0, np.nan)
        return np.stack([1 - lost / (n_positive * n_negative), precision_sum / n_positive]) + one_class

    draws, why, classes = rows.draws(_threshold_counts(y, s), both), _one_class(y), (y, ~y)
    area, precision = "area under the ROC curve, a tie counts one half", "average precision, not interpolated"
    return {
        "auroc": rows.estimate(draws[0], area, undefined=why, classes=classes),
        "auprc": rows.estimate(draws[1], precision, undefined=why, classes=classes),
    }


def decisions(
    labels: ArrayLike, scores: ArrayLike, threshold: float, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`f1`, `sensitivity`, `specificity`, `balanced_accuracy` (the mean of the two), `ppv` and `npv`, where score >= threshold means
    yes. The threshold is not chosen here.

    F1 and sensitivity are undefined without a positive, specificity without a negative, the predictive values where nobody is
    called so. The detail holds the counts.
    """
    y, s, rows = known_rows(labels, scores, resamples, mask)
    yes = s >= threshold
    sums = np.stack([y & yes, y & ~yes, ~y & yes, ~y & ~yes]).astype(np.float64)
    tp, fn, fp, tn = rows.draws(sums, lambda totals: totals)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = {
            "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
        }
    names = {
        "f1": "F1",
        "balanced_accuracy": "mean of sensitivity and specificity",
        "ppv": "positive predictive value, at this prevalence,",
        "npv": "negative predictive value, at this prevalence,",
    }
    nobody = {"ppv": "nobody is called positive", "npv": "nobody is called negative"}
    detail = f"threshold {threshold:.4g}"
    return {
        key: rows.estimate(
            value,
            f"{names.get(key, key)} at a threshold fixed beforehand",
            detail=detail,
            undefined=_one_class(y) or nobody.get(key, ""),
            classes=(y, ~y),
        )
        for key, value in draws.items()
    }


def brier(labels: ArrayLike, probabilities: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None) -> Estimate:
    """Mean squared difference of probability and label (Brier 1950, one class): 0 is best, .25 is a coin."""
    y, p, rows = known_rows(labels, probabilities, resamples, mask)
    return rows.mean((p - y) ** 2, "Brier score: mean of (probability - label)^2", (y, ~y))


def prevalence(labels: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None) -> Estimate:
    """The share of positives: the AUPRC of a model that knows nothing."""
    y, _, rows = known_rows(labels, np.zeros(np.shape(labels)), resamples, mask)
    return rows.mean(y, "share of positives", (y, ~y))


def best_f1_threshold(labels: ArrayLike, scores: ArrayLike, mask: ArrayLike | None = None) -> float | None:
    """The threshold of highest F1, halfway to the next lower score; the highest of several. None without a positive.

    Halfway, because a score computed again may differ in its last digit.
    """
    y, s, _ = known_rows(labels, scores, Resamples.draw(range(np.size(labels)), resamples=0), mask)
    if not y.any():
        return None
    values, groups = np.unique(-s, return_inverse=True)  # descending scores
    tp = np.bincount(groups, weights=y).cumsum()
    called = np.bincount(groups).cumsum()
    best = int(np.argmax(2 * tp / (called + y.sum())))
    return float(-(values[best] + values[min(best + 1, len(values) - 1)]) / 2)


def rarer_class(labels: ArrayLike, patients: ArrayLike, mask: ArrayLike | None = None) -> int:
    """How many patients the class has that fewer of them have."""
    y, whose = np.asarray(labels), np.asarray(patients)
    known = np.ones(len(y), bool) if mask is None else np.asarray(mask, bool)
    return min(len(np.unique(whose[known & (y == value)])) for value in (0, 1))


def threshold_at(
    labels: ArrayLike, scores: ArrayLike, *, sensitivity: float | None = None, specificity: float | None = None
) -> float | None:
    """The highest threshold that reaches a sensitivity, or the lowest that reaches a specificity, halfway to the next score.

    None without a patient of the class that it is counted on.
    """
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    counted = np.sort(s[y] if sensitivity is not None else s[~y])
    if not len(counted):
        return None
    if sensitivity is not None:
        last = counted[len(counted) - int(np.ceil(sensitivity * len(counted) - 1e-9))]  # the lowest score called yes
        below = s[s < last]
        return float((last + below.max()) / 2 if len(below) else last)
    assert specificity is not None
    first = counted[int(np.ceil(specificity * len(counted) - 1e-9)) - 1]  # the highest score called no
    above = s[s > first]
    return float((first + above.min()) / 2 if len(above) else np.nextafter(first, np.inf))


@dataclass(frozen=True)
class Curve:
    """A curve on a grid with the 95% band of its resamples, pointwise; all [points]."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


def roc_curve(
    labels: ArrayLike, scores: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None, points: int = 101
) -> Curve | None:
    """True positive rate over false positive rate, linear between thresholds; None where AUROC is undefined."""

    def at_grid(x: Floats, tp: Floats, fp: Floats) -> Floats:
        return np.asarray(np.interp(x, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])))

    return _curve(labels, scores, resamples, mask, points, at_grid)


def pr_curve(
    labels: ArrayLike, scores: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None, points: int = 101
) -> Curve | None:
    """Precision over recall: that of the first threshold that reaches the recall; None where AUPRC is undefined."""

    def at_grid(x: Floats, tp: Floats, fp: Floats) -> Floats:
        recall, needed = tp / tp[-1], np.maximum(x, 1e-12)  # recall 0 stands for the first positive found
        precision: Floats = tp / np.maximum(tp + fp, 1)
        return precision[np.searchsorted(recall, needed - 1e-13)]

    return _curve(labels, scores, resamples, mask, points, at_grid)


def _curve(
    labels: ArrayLike,
    scores: ArrayLike,
    resamples: Resamples,
    mask: ArrayLike | None,
    points: int,
    at_grid: Callable[[Floats, Floats, Floats], Floats],
) -> Curve | None:
    y, s, rows = known_rows(labels, scores, resamples, mask)
    if _one_class(y):
        return None
    x = np.linspace(0, 1, points)

    def columns(sums: Floats) -> Floats:
        tp, fp = (part.cumsum(axis=0) for part in np.split(sums, 2))
        defined = (tp[-1] > 0) & (fp[-1] > 0)
        nothing = np.full(points, np.nan)
        each = [at_grid(x, tp[:, j], fp[:, j]) if defined[j] else nothing for j in range(sums.shape[1])]
        return np.stack(each, axis=1)

    draws = rows.draws(_threshold_counts(y, s), columns)
    resampled = draws[:, 1:][:, ~np.isnan(draws[0, 1:])]
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1) if resampled.size else np.full((2, points), np.nan)
    return Curve(x, draws[:, 0], low, high)


def _threshold_counts(y: NDArray[np.bool_], s: Floats) -> sparse.csr_array:
    """[2S, n] statistics: positives of each step of falling score, then negatives.

    A step is one distinct score, or a run of scores that no positive has: inside such a run neither AUROC nor average
    precision can tell the order, and a rare label has few steps.
    """
    _, score_rank = np.unique(-s, return_inverse=True)
    has_positive = np.bincount(score_rank, weights=y) > 0
    begins = np.append(True, has_positive[1:] | has_positive[:-1])[: len(has_positive)]
    step = (begins.cumsum() - 1)[score_rank] if len(s) else score_rank
    n_steps = int(begins.sum())
    return indicator(step + n_steps * ~y, 2 * n_steps)


def _one_class(y: NDArray[np.bool_]) -> str:
    """Why ranking is undefined, or "" where both classes are there."""
    if y.any() and not y.all():
        return ""
    return f"one class only: {int(y.sum())} positive of {len(y)}"
