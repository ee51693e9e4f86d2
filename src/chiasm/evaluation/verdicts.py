"""What a figure says against chance and against another one: a word for code, and words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.controls import Closeness, closeness
from chiasm.metrics.metric import LOWER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName
from chiasm.summary.tables import number, title_of

Verdict = Literal["better", "unclear", "worse", ""]
Scores = Mapping[MetricName, Estimate]
CHANCE = {"auroc": 0.5, "c_index": 0.5, "r": 0.0}
"""What a figure is where nothing is known of a patient; of any other one that is the prior's."""


def against_chance(scores: Scores, name: MetricName) -> Verdict:
    """Is a figure better than chance, or an error smaller than the prior's, beyond doubt? "" where it is undefined.

    One without an interval cannot be told from chance: its patients were too few for one.
    """
    own = scores.get(name)
    if own is None or own.undefined:
        return ""
    if name.metric not in CHANCE:
        return against(own, scores.get(name.of_arm("prior")), name.metric)
    return _side(own.metric(), CHANCE[name.metric])


def against(own: Estimate, other: Estimate | None, metric: str) -> Verdict:
    """Is the one better than the other beyond doubt, on the same patients? "" where they cannot be compared."""
    gained = gain(own, other, metric)
    return "" if gained is None else _side(gained, 0.0)


def gain(own: Estimate, other: Estimate | None, metric: str) -> Metric | None:
    """By how much the one is better, above 0 also where lower is better; None where they cannot be compared."""
    if other is None or own.undefined or other.undefined or own.protocol != other.protocol:
        return None  # averages over labels that differ
    return (other - own if metric in LOWER_IS_BETTER else own - other).metric()


def near(model: Estimate | None, control: Estimate | None) -> Closeness:
    """`chiasm.metrics.controls.closeness`; "" where they cannot be compared."""
    if model is None or control is None or model.protocol != control.protocol:
        return ""
    return closeness(model, control)


def say(estimate: Estimate | Metric, title: str = "") -> str:
    """ "AUROC 0.780 (95% interval 0.700 to 0.850)". `title`: of the metric, or "" for the numbers alone."""
    m = estimate if isinstance(estimate, Metric) else estimate.metric()
    interval = "no interval" if m.low is None else f"95% interval {number(m.low)} to {number(m.high)}"
    return " ".join(filter(None, [title_of(title), f"{number(m.value)} ({interval})"]))


def say_difference(gained: Metric, metric: str) -> str:
    """ "difference +0.040, -0.010 to +0.090": the one figure minus the other, of what `gain` found."""
    value, low, high = gained.value, gained.low, gained.high
    if metric in LOWER_IS_BETTER:
        value, low, high = (None if x is None else -x for x in (value, high, low))
    interval = "" if low is None or high is None else f", {_signed(low)} to {_signed(high)}"
    return f"difference {'unknown' if value is None else _signed(value)}{interval}"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def _side(m: Metric, of: float) -> Verdict:
    if m.low is not None and m.low > of:
        return "better"
    return "worse" if m.high is not None and m.high < of else "unclear"
