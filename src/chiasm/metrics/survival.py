"""Times to an event under right censoring: does the model rank them, and are its survival curves near the truth?

Everywhere: times [n] signed, +t for an event at t, -t for a study that had none until t; `resamples` over the same n rows.
The censoring curve G (Kaplan & Meier 1958, of censoring) is that of the sample, in its resamples as well.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples

GRID = 100
"""Times at which the Brier score is computed to be integrated."""
BLOCK = 1024
"""Studies that are paired with all others at once."""
CONCORDANCE = {
    "c_index": "Harrell's C: a tie counts one half",
    "c_index_ipcw": "Uno's C: pairs weighted by inverse censoring, whole follow-up",
}


def concordance(times: ArrayLike, expected: ArrayLike, resamples: Resamples) -> dict[str, Estimate]:
    """`c_index` (Harrell et al. 1982) and `c_index_ipcw` (Uno et al. 2011).

    Of all pairs in which one is known to have had the event first, the share in which it was expected first; a tie counts
    one half. Uno weighs each pair by 1 / G(t-)^2 of the earlier time, so that it does not hang on who was censored.

    Args:
        expected: [n] expected times: the smaller, the earlier.
    """
    signed = np.asarray(times, np.float64)
    sums = concordant_sums(signed, expected, inverse_censoring(signed), resamples)
    with np.errstate(invalid="ignore"):
        draws = sums[:2] / sums[2:]
    return {
        name: resamples.estimate(
            draw, protocol, undefined="no pair in which one is known to be first", classes=(~np.signbit(signed),)
        )
        for (name, protocol), draw in zip(CONCORDANCE.items(), draws, strict=True)
    }


def inverse_censoring(times: ArrayLike) -> Floats:
    """[n] 1 / G(t-)^2, what a pair weighs by its earlier time (Uno et al. 2011)."""
    t, event = np.abs(np.asarray(times, np.float64)), ~np.signbit(np.asarray(times, np.float64))
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(event, censoring_curve(t, event, t) ** -2.0, 0.0))


def concordant_sums(times: ArrayLike, expected: ArrayLike, weight: Floats, resamples: Resamples) -> Floats:
    """[4, R + 1]: pairs in the right order, counted and weighted by `weight` [n] of the earlier; then all pairs, likewise."""
    t, event = np.abs(np.asarray(times, np.float64)), ~np.signbit(np.asarray(times, np.float64))
    x = np.asarray(expected, np.float64)
    everybody = sparse.eye_array(len(t), format="csr")
    sums = np.zeros((4, resamples.weights.shape[1]))
    for start in range(0, len(t), BLOCK):
        first = start + np.flatnonzero(event[start : start + BLOCK])
        before = (t[first, None] < t) | (
            (t[first, None] == t) & ~event
        )  # an event comes before a censoring at its time
        right = before * ((x[first, None] < x) + 0.5 * (x[first, None] == x))
        each = np.stack([np.ones(len(first)), weight[first]])
        sums += resamples.draws(everybody, partial(_pairs, first, before.astype(np.float64), right, each))
    return sums


def _pairs(first: NDArray[np.intp], before: Floats, right: Floats, weight: Floats, w: Floats) -> Floats:
    """[4, r]: pairs in the right order and all pairs, each counted and weighted, of the studies `first` with an event."""
    return np.concatenate([weight @ (w[first] * (right @ w)), weight @ (w[first] * (before @ w))])


def integrated_brier(times: ArrayLike, survival: Floats, grid: ArrayLike, resamples: Resamples) -> Estimate:
    """`ibs`: the mean over time of the inverse-censoring-weighted Brier score (Graf et al. 1999, eq. 15): 0 is best.

    At time t a study counts S(t)^2 / G(T-) if its event was at T <= t, (1 - S(t))^2 / G(t) if it was seen after t, and
    nothing if it was censored before; trapezoids from the first to the last time of the grid.

    Args:
        survival: [n, T] probability of no event until each time of the rising grid [T].
    """
    t, event = np.abs(np.asarray(times, np.float64)), ~np.signbit(np.asarray(times, np.float64))
    at = np.asarray(grid, np.float64)
    if len(at) < 2 or not event.any():
        nothing = np.full(resamples.weights.shape[1], np.nan)
        why = "no event" if len(at) >= 2 else "nobody was followed up over any time that the model tells"
        return resamples.estimate(nothing, "integrated Brier score", undefined=why, classes=(event,))
    own, later = censoring_curve(t, event, t), censoring_curve(t, event, at, right=True)
    had = (t[:, None] <= at) & event[:, None]
    left = t[:, None] > at
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(had, survival**2 / own[:, None], 0.0) + np.where(left, (1 - survival) ** 2 / later, 0.0)
    mean = np.trapezoid(each, at, axis=1) / (at[-1] - at[0])
    protocol = "integrated Brier score, weighted by inverse censoring"
    return resamples.mean(mean, f"{protocol}; the censoring curve is that of the sample", (event,))


def censoring_curve(t: Floats, event: NDArray[np.bool_], at: Floats, right: bool = False) -> Floats:
    """G(s-), or G(s) with `right`: the chance of not having been censored before (or until) s; events come before censorings."""
    points = np.unique(t[~event])
    at_risk = (t[:, None] >= points).sum(axis=0) - ((t[:, None] == points) & event[:, None]).sum(axis=0)
    lost = ((t[:, None] == points) & ~event[:, None]).sum(axis=0)
    curve = np.append(1.0, np.cumprod(1 - lost / at_risk))
    return np.asarray(curve[np.searchsorted(points, at, side="right" if right else "left")])


def horizon(times: ArrayLike, last: float) -> Floats:
    """[T] even times from 0 to where both the model (`last`) and the follow-up reach; nobody need be seen after it."""
    t = np.abs(np.asarray(times, np.float64))
    end = min(last, float(t.max(initial=0.0)))
    return np.linspace(0.0, end, GRID)[:-1] if end > 0 else np.empty(0)
