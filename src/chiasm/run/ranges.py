"""Values of a chart beside those of training: outside their range, negative, in another unit, a word never seen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from chiasm.documents import STRICT

ENOUGH = 10
"""Training values below which a column has no range."""
MARGIN = 0.25
"""How far beyond the values of training a range goes, as a share of their spread."""
FAR = 10.0
"""Interquartile ranges beyond the quartiles from which a value of training counts as a slip of the pen."""


@dataclass(frozen=True)
class Range:
    """What training shows of a numeric column.

    Attributes:
        least, most: of the values of training, without slips of the pen.
        low, high: from where to where a value is like them.
    """

    __pydantic_config__ = STRICT

    least: float
    most: float
    low: float
    high: float

    def joined(self, other: Range) -> Range:
        """The range of two trainings together."""
        least, most = min(self.least, other.least), max(self.most, other.most)
        return Range(least, most, min(self.low, other.low), max(self.high, other.high))


def fit_range(values: ArrayLike) -> Range | None:
    """The range of a column's observed training values [n]; None where they are fewer than `ENOUGH`.

    Values more than `FAR` interquartile ranges beyond the quartiles do not count (an age of 600 in training makes no other
    age of 600 usual). The range goes a `MARGIN` beyond the rest, but of positive values down to a quarter of the least at most: a
    scale from 5 to 100 does not begin at zero.
    """
    v = np.asarray(values, np.float64)
    if len(v) < ENOUGH:
        return None
    first, third = np.quantile(v, [0.25, 0.75])
    reach = FAR * (third - first)
    kept = v[(v >= first - reach) & (v <= third + reach)] if reach else v
    least, most = float(kept.min()), float(kept.max())
    # a constant says nothing of the spread: half and double of it are like it
    margin = MARGIN * (most - least) if most > least else abs(most) / 2 or 1.0
    low = least - margin
    return Range(least, most, max(low, least / 4) if least >= 0 else low, most + margin)


@dataclass(frozen=True)
class _Unit:
    """Another unit: of columns of these names (of all, if ""), how a value in it becomes one in the unit that was learned."""

    names: str
    converted: Callable[[float], float]
    said: str


_NAMED = (
    _Unit(r"(^|_)(temp|temperature|c|celsius)(_|$)", lambda v: (v - 32) / 1.8, "degrees Fahrenheit where Celsius was learned"),
    _Unit(r"(^|_)(temp|temperature|c|celsius)(_|$)", lambda v: v - 273.15, "kelvin where degrees Celsius were learned"),
    _Unit(r"(^|_)(temp|temperature|f|fahrenheit)(_|$)", lambda v: v * 1.8 + 32, "degrees Celsius where Fahrenheit was learned"),
    _Unit(r"(^|_)(age|years?)(_|$)", lambda v: v / 12, "months where years were learned"),
    _Unit(r"(^|_)(age|years?)(_|$)", lambda v: v / 365.25, "days where years were learned"),
    _Unit(r"(^|_)(height|cm)(_|$)", lambda v: v * 100, "metres where centimetres were learned"),
    _Unit(r"(^|_)(height|cm)(_|$)", lambda v: v * 2.54, "inches where centimetres were learned"),
    _Unit(r"(^|_)(height|m)(_|$)", lambda v: v / 100, "centimetres where metres were learned"),
    _Unit(r"(^|_)(weight|kg)(_|$)", lambda v: v / 2.20462, "pounds where kilograms were learned"),
    _Unit(r"(^|_)(weight|kg)(_|$)", lambda v: v / 1000, "grams where kilograms were learned"),
    _Unit(r"(^|_)(po2|pco2|paco2|pao2|mmhg)(_|$)", lambda v: v * 7.50062, "kilopascals where millimetres of mercury were learned"),
)  # fmt: skip
_TIMES = (
    *((factor, f"{factor} times too small") for factor in (10, 100, 1000)),
    *((1 / factor, f"{factor} times too large") for factor in (10, 100, 1000)),
)


def check_number(name: str, value: float, own: Range) -> str:
    """A sentence where a value is unlike those of training, "" where it is like them. It does not quote the value.

    >>> spo2 = fit_range([40, 88, 91, 93, 95, 96, 97, 98, 99, 100])
    >>> check_number("spo2", 0.95, spo2)
    'record: spo2 lies below the range of training (from 25); it looks like a fraction where percent was learned'
    """
    if own.low <= value <= own.high:
        return ""
    if value < 0 <= own.low:
        return f"record: {name} is negative, which no value of training is"
    side, limit = ("below", f"from {own.low:.3g}") if value < own.low else ("above", f"to {own.high:.3g}")
    unit = _other_unit(name, value, own)
    return f"record: {name} lies {side} the range of training ({limit})" + (f"; it looks {unit}" if unit else "")


def _other_unit(name: str, value: float, own: Range) -> str:
    """What unit the value would be like training in; "" for none."""
    if not math.isfinite(value):
        return ""
    named = [u for u in _NAMED if re.search(u.names, name.lower()) and own.least <= u.converted(value) <= own.most]
    if named:  # of several, the one that lands nearest the middle
        middle = (own.least + own.most) / 2
        return f"like {min(named, key=lambda unit: abs(unit.converted(value) - middle)).said}"
    if 0 < value <= 1 < own.most <= 100 and own.least <= 100 * value <= own.most:
        return "like a fraction where percent was learned"
    if 1 < value <= 100 and own.least >= 0 and own.most <= 1 and own.least <= value / 100 <= own.most:
        return "like percent where a fraction was learned"
    fitting = [said for factor, said in _TIMES if own.least <= factor * value <= own.most]
    return f"{fitting[0]}, as in another unit" if fitting else ""


def check_word(name: str, word: str, known: Sequence[str]) -> str:
    """A sentence where training never had a word in this column; "" where it had. It quotes the words of training alone."""
    return "" if word in known else f"record: {name} is none of the words of training ({', '.join(known)})"


def join_ranges(each: Sequence[Mapping[str, Range]]) -> dict[str, Range]:
    """Column -> the range of several trainings together."""
    joint: dict[str, Range] = {}
    for ranges in each:
        for name, own in ranges.items():
            joint[name] = joint[name].joined(own) if name in joint else own
    return joint
