"""Levels of a scale, and classes, against their probabilities.

Everywhere: truth [n]; probabilities [n, Q] of the levels; `resamples` over the same n rows; mask [n], True where the truth is
known (None: everywhere). A truth that is none of the levels is scored like any other: the model gave it probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, indicator, macro
from chiasm.metrics.classification import ranking
from chiasm.metrics.regression import agreement


def ordinal(
    truth: ArrayLike,
    probabilities: Floats,
    levels: Sequence[float],
    resamples: Resamples,
    mask: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """`mae`, `qwk`, `balanced_accuracy`, `r` and `rps`. Each is asked of the answer that is best for it.

    mae of the median level, qwk (quadratic weighted kappa, Cohen 1968) of the level nearest to the expected one, balanced
    accuracy of the most probable, Pearson's r of the expected one; rps is the ranked probability score (Epstein 1969), the
    sum over levels of (P(y <= level) - [y <= level])^2 / (Q - 1).
    """
    y, p, rows = _known(truth, probabilities, resamples, mask)
    scale = np.array(levels, np.float64)
    expected = p @ scale
    median = scale[np.minimum((p.cumsum(axis=1) < 0.5 - 1e-9).sum(axis=1), len(scale) - 1)]
    nearest = scale[np.abs(expected[:, None] - scale).argmin(axis=1)]
    reached = (p.cumsum(axis=1) - (y[:, None] <= scale))[:, :-1] ** 2
    return {
        "mae": rows.mean(np.abs(y - median), "mean absolute error of the median level"),
        "qwk": _kappa(y, nearest, rows),
        "balanced_accuracy": _balanced(y, scale[p.argmax(axis=1)], rows, {level: f"{level:g}" for level in levels}),
        "r": agreement(y, expected, rows)["r"],
        "rps": replace(
            rows.mean(
                reached.sum(axis=1) / (len(scale) - 1) if len(scale) > 1 else np.full(len(y), np.nan),
                "ranked probability score: mean over levels of squared differences",
            ),
            reason="one level alone has no order" if len(y) else "no patient here has this truth",
        ),
    }


def dichotomized(
    truth: ArrayLike,
    probabilities: Floats,
    levels: Sequence[float],
    resamples: Resamples,
    mask: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """`auroc_gt_LEVEL` of each level but the last: how well P(y > level) ranks those above it."""
    y, p, rows = _known(truth, probabilities, resamples, mask)
    above = chances_above(p)
    return {
        f"auroc_gt_{level:g}": ranking(y > level, above[:, k], rows)["auroc"] for k, level in enumerate(levels[:-1])
    }


def chances_above(probabilities: Floats) -> Floats:
    """[..., Q] of the levels -> [..., Q - 1] P(y > level) of each level but the last."""
    return np.asarray(probabilities[..., ::-1].cumsum(axis=-1)[..., -2::-1])


def multiclass(
    truth: ArrayLike,
    probabilities: Floats,
    words: Sequence[str],
    resamples: Resamples,
    mask: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """`auroc` (mean over classes of one against the rest), `balanced_accuracy`, `accuracy` and `brier` (the sum over classes).

    Args:
        truth: [n] numbers of classes; len(words) and above for a class that the model does not know.
    """
    y, p, rows = _known(truth, probabilities, resamples, mask)
    chosen = p.argmax(axis=1)
    each = {word: ranking(y == k, p[:, k], rows)["auroc"] for k, word in enumerate(words)}
    missed = ((p - (y[:, None] == np.arange(len(words)))) ** 2).sum(axis=1) + (y >= len(words))
    return {
        "auroc": mean_over_classes(each, len(y) > 0),
        "balanced_accuracy": _balanced(y, chosen, rows, dict(enumerate(words))),
        "accuracy": rows.mean(y == chosen, "accuracy of the most probable class"),
        "brier": rows.mean(missed, "Brier score of all classes: mean of the sum of (probability - truth)^2, 0 to 2"),
    }


def mean_over_classes(each: Mapping[str, Estimate], known: bool) -> Estimate:
    """The mean of the AUROC of each class against the rest; the protocol names the classes. `known`: is there any truth?"""
    area, used = macro(each), [word for word, estimate in each.items() if not estimate.undefined]
    return replace(
        area,
        protocol="mean over classes of the AUROC of one against the rest",
        detail="; ".join(filter(None, [f"classes: {', '.join(used) or 'none'}", area.detail])),
        reason="undefined for every class" if known else "no patient here has this truth",
    )


def confusion(truth: ArrayLike, probabilities: Floats, levels: Sequence[float]) -> NDArray[np.int64]:
    """[Q, Q] studies by true level (row) and most probable one (column); truths that are no level are left out."""
    places = np.searchsorted(levels, np.asarray(truth, np.float64))
    here = np.isin(np.asarray(truth, np.float64), levels)
    table = np.zeros((len(levels), len(levels)), np.int64)
    np.add.at(table, (places[here], probabilities.argmax(axis=1)[here]), 1)
    return table


def _known(
    truth: ArrayLike, probabilities: Floats, resamples: Resamples, mask: ArrayLike | None
) -> tuple[Floats, Floats, Resamples]:
    y, p = np.asarray(truth, np.float64), np.asarray(probabilities, np.float64)
    known = np.ones(len(y), bool) if mask is None else np.asarray(mask, bool)
    if not len(y) == len(p) == len(known) == len(resamples):
        lengths = (len(y), len(p), len(known), len(resamples))
        raise ValueError(f"truth, probabilities, mask and resamples of one length expected, got {lengths}")
    return y[known], p[known], resamples.at(known)


def _cells(
    y: Floats, said: NDArray[np.generic], rows: Resamples, function: Callable[[Floats, Floats], Floats]
) -> Floats:
    """Draws of a function of the confusion table [C, C, r] and the C values of truth and answer together."""
    values, place = np.unique(np.concatenate([y, said.astype(np.float64)]), return_inverse=True)
    c, true, told = len(values), place[: len(y)], place[len(y) :]
    if not c:
        return np.full(rows.weights.shape[1], np.nan)
    counts = indicator(true * c + told, c * c)
    return rows.draws(counts, lambda sums: function(sums.reshape(c, c, -1), values))


def _kappa(y: Floats, said: Floats, rows: Resamples) -> Estimate:
    def kappa(table: Floats, values: Floats) -> Floats:
        weight = (values[:, None] - values) ** 2
        seen = np.einsum("ij,ijr->r", weight, table)
        chance = np.einsum("ij,ir,jr->r", weight, table.sum(axis=1), table.sum(axis=0)) / table.sum(axis=(0, 1))
        return np.where(chance > 0, 1 - seen / chance, np.nan)

    draws = _cells(y, said, rows, kappa)
    why = "truth and answer are one level throughout"
    return rows.estimate(draws, "quadratic weighted kappa of the level nearest to the expected one", undefined=why)


def _balanced(y: Floats, said: NDArray[np.generic], rows: Resamples, names: Mapping[float, str]) -> Estimate:
    """The mean recall over the levels that occur; a resample in which one of them does not is undefined.

    Args:
        names: of the levels that the model knows.
    """
    here = np.unique(y)

    def recall(table: Floats, values: Floats) -> Floats:
        own = np.isin(values, here)
        hits = np.einsum("iir->ir", table)[own]
        balanced = (hits / table.sum(axis=1)[own]).mean(axis=0)
        return np.asarray(balanced if len(here) > 1 else np.full_like(balanced, np.nan))

    protocol = "mean recall over the levels or classes that occur, of the most probable one"
    absent = [name for level, name in names.items() if level not in here]
    unknown = sum(level not in names for level in here)
    detail = [
        f"{len(here)} occur" + (f", {unknown} of them unknown to the model" if unknown else ""),
        f"left out, as no patient has it: {', '.join(absent)}" if absent else "",
    ]
    draws = _cells(y, said, rows, recall)
    return rows.estimate(draws, protocol, detail="; ".join(filter(None, detail)), undefined="one level or class only")
