"""What the Q numbers mean that answer one label of a leveled kind: its levels, and what a truth is on them.

    ordinal     levels of a scale, rising; a truth is a value of it, and need not be one of the levels
    multiclass  words; a truth is the number of a word, Q for a word that training did not have
    survival    times, rising, the upper edges of Q intervals; a truth is a signed time: +t for an event at t, -t for a
                study that had none until t (right censoring)

Logits and values stand in arrays [n, L, Q]; a label with fewer levels than another of its target ends in `NEVER` and 0.
NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, softmax

from chiasm.study import Kind

Floats = NDArray[np.float64]
Levels = tuple[float | str, ...]
NEVER = -1e4
"""The logit of a level that a label does not have."""
INTERVALS = 10
"""Intervals of a time to an event, or fewer where training has fewer different times of events."""


def find_levels(values: ArrayLike, kind: Kind, words: Sequence[str] = ()) -> Levels:
    """The levels of a label, from its known training values [n].

    Survival: quantiles of the times of events, the last one the latest event (Kvamme & Borgan 2019, section 3.2: as many
    events in each interval), so that no interval is without an event to learn from; none without an event.
    """
    values = np.asarray(values, np.float64)
    if kind is Kind.ORDINAL:
        return tuple(np.unique(values).tolist())
    if kind is Kind.MULTICLASS:
        return tuple(words[i] for i in np.unique(values.astype(np.int64)))
    events = values[~np.signbit(values)]
    shares = np.arange(1, INTERVALS + 1) / INTERVALS
    return tuple(np.unique(np.quantile(events, shares, method="inverted_cdf")).tolist()) if len(events) else ()


def find_rates(values: ArrayLike, levels: Levels, kind: Kind) -> tuple[float, ...]:
    """What training says without any input: the share of each level, or the hazard of each interval.

    Half a study is added to each side, so that no rate is 0 or 1.
    """
    codes, known = encode(values, levels, kind)
    codes = codes[known]
    k = np.arange(len(levels))
    if kind is not Kind.SURVIVAL:
        counts = (codes == k[:, None]).sum(axis=1)
        return tuple(((counts + 0.5) / (counts.sum() + 0.5 * len(k))).tolist())
    events = (codes == k[:, None]).sum(axis=1)
    survived = (np.abs(codes) > k[:, None]).sum(axis=1)
    return tuple(((events + 0.5) / (events + survived + 1)).tolist())


def encode(values: ArrayLike, levels: Levels, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[n] truths -> [n] codes as a loss takes them, and where there is something to learn from.

    Ordinal: how many levels, but for the last, lie below the value. Multiclass: the number of the class. Survival: k for an
    event in interval k, -k for a study that is known to have come through k whole intervals.
    """
    values = np.asarray(values, np.float64)
    if kind is Kind.ORDINAL:
        return np.searchsorted(np.array(levels[:-1], np.float64), values, side="left"), np.ones(len(values), bool)
    if kind is Kind.MULTICLASS:
        codes = values.astype(np.int64)
        return codes, codes < len(levels)
    edges, event = np.array(levels, np.float64), ~np.signbit(values)
    interval = np.searchsorted(edges, np.abs(values), side="left")
    whole = np.searchsorted(edges, np.abs(values), side="right")
    codes = np.where(
        event & (interval < len(edges)), interval, -whole
    )  # an event after the last edge comes through all
    return codes, (event & (interval < len(edges))) | (whole > 0)


def answers(logits: ArrayLike, kind: Kind, temperature: ArrayLike = 1.0) -> Floats:
    """[..., Q] logits -> probability of each level, or of no event until each edge: prod over intervals of 1 - hazard."""
    z = np.asarray(logits, np.float64) / np.asarray(temperature, np.float64)
    if kind is Kind.SURVIVAL:
        return np.asarray(np.exp(np.cumsum(log_expit(-z), axis=-1)))
    return np.asarray(softmax(z, axis=-1))


def place(values: Floats, own: Levels, levels: Levels, kind: Kind) -> Floats:
    """[..., len(own)] answers on other levels: a model gives 0 to a level its training did not have.

    A survival curve is read at other edges by straight lines from 1 at time 0, and stays level after its last edge
    (constant-density interpolation; Kvamme & Borgan 2019, section 4.1).
    """
    if kind is not Kind.SURVIVAL:
        result = np.zeros((*values.shape[:-1], len(levels)))
        result[..., [levels.index(level) for level in own]] = values[..., : len(own)]
        return result
    return curve_at(values[..., : len(own)], own, np.array(levels, np.float64))


def curve_at(values: Floats, edges: Levels, times: Floats) -> Floats:
    """[..., Q] survival at the edges -> [..., T] at any times."""
    knots = np.array((0.0, *edges), np.float64)
    curve = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    right = np.clip(np.searchsorted(knots, times, side="left"), 1, len(knots) - 1)
    share = np.clip((times - knots[right - 1]) / np.diff(knots)[right - 1], 0, 1)
    return np.asarray((1 - share) * curve[..., right - 1] + share * curve[..., right])


def expectation(values: Floats, levels: Levels, kind: Kind) -> Floats:
    """[..., Q] -> [...]: the mean of an ordinal scale, or the mean time without an event up to the last edge.

    The latter is the area under the curve (restricted mean survival time): the earlier an event is expected, the smaller.
    """
    k = np.array(levels, np.float64)
    if kind is Kind.ORDINAL:
        return np.asarray(values[..., : len(k)] @ k)
    curve = np.concatenate([np.ones((*values.shape[:-1], 1)), values[..., : len(k)]], axis=-1)
    return np.asarray((curve[..., 1:] + curve[..., :-1]) / 2 @ np.diff(k, prepend=0.0))


def level_name(level: float | str) -> str:
    """A level as it is written in metrics and files.

    >>> level_name(2.0), level_name("cardioembolic")
    ('2', 'cardioembolic')
    """
    return level if isinstance(level, str) else f"{level:g}"
