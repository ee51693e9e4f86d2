"""The answer to one label as an `Outcome`: what is most probable, how probable everything else is, what is likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.levels import Levels, expectation, level_name
from chiasm.heads.head import READER
from chiasm.metrics.conformal import prediction_set
from chiasm.study import Kind, Outcome


def read_outcome(
    target: str,
    label: str,
    kind: Kind,
    answer: NDArray[np.float64],
    levels: Levels,
    threshold: float,
    quantile: float,
    coverage: float,
) -> Outcome:
    """One label's answer.

    Args:
        answer: [] a probability or value, or [Q] of the levels.
        threshold: from which a binary outcome is 1; quantile: of the prediction set; NaN where validation could not say.
    """
    reach = None if np.isnan(quantile) else coverage
    if kind is Kind.REGRESSION:
        value = float(answer)
        interval = None if reach is None else (value - quantile, value + quantile)
        return Outcome(label, value, kind, target, READER, prediction_set=interval, coverage=reach)
    if kind is Kind.BINARY:
        p = float(answer)
        chosen = None if reach is None else _prediction_set(np.array([1 - p, p]), (0.0, 1.0), quantile, kind)
        value = float(p >= (0.5 if np.isnan(threshold) else threshold))
        return Outcome(label, value, kind, target, READER, probability=p, prediction_set=chosen, coverage=reach)
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
        prediction_set=None if reach is None else _prediction_set(answer, levels, quantile, kind),
        coverage=reach,
    )


def _prediction_set(answer: NDArray[np.float64], levels: Levels, quantile: float, kind: Kind) -> Levels:
    inside = prediction_set(answer[None], np.array([quantile]), kind is Kind.ORDINAL)[0]
    return tuple(level for level, here in zip(levels, inside, strict=True) if here)
