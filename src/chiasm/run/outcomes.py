"""The answer to one label as an `Outcome`: what is most probable, how probable everything else is, what is likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.levels import Levels, expectation, level_name
from chiasm.heads.head import READER
from chiasm.metrics.conformal import likely
from chiasm.study import Kind, Outcome


def read_outcome(
    target: str,
    label: str,
    kind: Kind,
    answer: NDArray[np.float64],
    levels: Levels,
    cut: float,
    radius: float,
    coverage: float,
) -> Outcome:
    """One label's answer.

    Args:
        answer: [] a probability or value, or [Q] of the levels.
        cut: from which a binary outcome is 1; radius: of the prediction set; NaN where validation could not say.
    """
    reach = None if np.isnan(radius) else coverage
    if kind is Kind.REGRESSION:
        value = float(answer)
        interval = None if reach is None else (value - radius, value + radius)
        return Outcome(label, value, kind, target, READER, likely=interval, coverage=reach)
    if kind is Kind.BINARY:
        p = float(answer)
        chosen = None if reach is None else _likely(np.array([1 - p, p]), (0.0, 1.0), radius, kind)
        value = float(p >= (0.5 if np.isnan(cut) else cut))
        return Outcome(label, value, kind, target, READER, probability=p, likely=chosen, coverage=reach)
    answer = answer[: len(levels)]
    spread = {level_name(level): float(p) for level, p in zip(levels, answer, strict=True)}
    if kind is Kind.SURVIVAL:
        time = float(expectation(answer, levels, kind))
        return Outcome(label, time, kind, target, READER, probability=1 - float(answer[-1]), distribution=spread)
    mode = int(answer.argmax())
    return Outcome(
        label,
        levels[mode],
        kind,
        target,
        READER,
        probability=float(answer[mode]),
        expected=float(expectation(answer, levels, kind)) if kind is Kind.ORDINAL else None,
        distribution=spread,
        likely=None if reach is None else _likely(answer, levels, radius, kind),
        coverage=reach,
    )


def _likely(answer: NDArray[np.float64], levels: Levels, radius: float, kind: Kind) -> Levels:
    inside = likely(answer[None], np.array([radius]), kind is Kind.ORDINAL)[0]
    return tuple(level for level, here in zip(levels, inside, strict=True) if here)
