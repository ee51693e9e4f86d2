"""A number with its interval, its protocol and its name.

A name reads `[control:][subset:]target/label/metric[@subgroup]`:

>>> metric_name("findings", "Pleural Effusion", "auroc", subset=("image", "record"), subgroup="sex=F")
'image+record:findings/pleural_effusion/auroc@sex=f'
>>> parse_name("shuffled_text:outcome/all/auroc").control
'shuffled_text'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from chiasm.vocabulary import snake_case

LOWER_IS_BETTER = ("brier", "ece", "ece_uncalibrated", "mae", "rps", "ibs")
NEITHER_IS_BETTER = (
    "calibration_intercept", "calibration_slope", "coverage", "set_size", "interval_width", "distinct_ratio",
    "shapley_image", "shapley_text", "shapley_record",
)  # fmt: skip
_MODALITIES = ("image", "text", "record")
_METRIC_NOISE = re.compile(r"(?:(?!(?<=\d)\.(?=\d))[\W_])+")  # the dot of `t_iou_0.1` stays


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation.

    Attributes:
        value: the figure on the sample itself; None where it is undefined.
        low, high: its 95% interval; None where there is none (the protocol says why).
        n: patients it rests on.
        events: of a binary figure the patients with a positive (of times, with an event); None of any other.
        protocol: what was computed, on what, and how the interval was drawn.
        reason: why the value is undefined; None exactly where it is defined.

    Raises:
        ValueError: a number is not finite, low > high, or value and reason are both given or both missing.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    protocol: str
    reason: str | None = None
    events: int | None = None

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, self.low, self.high) if x is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"an undefined figure is None with a reason, got {numbers}")
        if (self.value is None) != bool(self.reason):
            raise ValueError(f"a metric has either a value or a reason, got {self.value} and {self.reason!r}")
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError(f"an interval has two ends and a value between, got {self.low}, {self.value}, {self.high}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low <= high expected, got {self.low} > {self.high}")

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high`, `n`, `protocol`; `reason` where the value is null, `events` of a binary figure."""
        optional = ("reason", "events")
        return {key: each for key, each in self.__dict__.items() if each is not None or key not in optional}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(**fields)


class MetricName(NamedTuple):
    """The parts of a name; None where a part is not there."""

    target: str
    label: str
    metric: str
    control: str | None = None
    subset: str | None = None
    subgroup: str | None = None

    def __str__(self) -> str:
        prefix = "".join(f"{part}:" for part in (self.control, self.subset) if part)
        suffix = f"@{self.subgroup}" if self.subgroup else ""
        return f"{prefix}{self.target}/{self.label}/{self.metric}{suffix}"


def metric_name(
    target: str,
    label: str | None,
    metric: str,
    control: str | None = None,
    subset: str | Sequence[str] | None = None,
    subgroup: str | None = None,
) -> str:
    """Build a metric's name from parts in any spelling.

    Args:
        target, metric, control: any text; lower-cased, every run of other characters one `_` (a decimal dot in `metric`
            stays).
        label: None for the only label of a target, written `all`.
        subset: the modalities that are used, "image+record" or ("image", "record"); written in the order image, text,
            record.
        subgroup: "column=value".

    Raises:
        ValueError: a part is empty when written so, a subset names no modality, a control is named like a subset (it
            could not be told from one), or a subgroup has no value.
    """
    return str(
        MetricName(
            target=_part(target),
            label="all" if label is None else _part(label),
            metric=_METRIC_NOISE.sub("_", metric.lower()).strip("_") or _part(metric),
            control=None if control is None else _control(control),
            subset=None if subset is None else _subset(subset),
            subgroup=None if subgroup is None else _subgroup(subgroup),
        )
    )


def parse_name(name: str) -> MetricName:
    """The parts of a name that `metric_name` wrote.

    Raises:
        ValueError: it is no such name.
    """
    head, _, subgroup = name.partition("@")
    *prefixes, body = head.split(":")
    parts = body.split("/")
    subset = prefixes.pop() if prefixes and set(prefixes[-1].split("+")) <= set(_MODALITIES) else None
    if len(parts) == 3 and len(prefixes) <= 1:
        target, label, metric = parts
        control = prefixes[0] if prefixes else None
        parsed = MetricName(target, label, metric, control, subset, subgroup or None)
        if name == metric_name(**parsed._asdict()):
            return parsed
    raise ValueError(f"[control:][subset:]target/label/metric[@subgroup] expected, got {name!r}")


def split_prefix(prefix: str) -> dict[str, str | None]:
    """The parts of a prefix as `metric_name` takes them.

    >>> split_prefix("image+record"), split_prefix("bayes:image")
    ({'control': None, 'subset': 'image+record'}, {'control': 'bayes', 'subset': 'image'})
    """
    parts = parse_name(f"{prefix}:a/b/c" if prefix else "a/b/c")
    return {"control": parts.control, "subset": parts.subset}


def _part(text: str) -> str:
    part = snake_case(text)
    if not part:
        raise ValueError(f"a name needs a letter or a digit in every part, got {text!r}")
    return part


def _control(control: str) -> str:
    part = _part(control)
    if part in _MODALITIES:
        raise ValueError(f"a control cannot be named like a modality, got {control!r}")
    return part


def _subset(subset: str | Sequence[str]) -> str:
    given = set(subset.split("+") if isinstance(subset, str) else subset)
    if not given or not given <= set(_MODALITIES):
        raise ValueError(f"a subset of {', '.join(_MODALITIES)} expected, got {subset!r}")
    return "+".join(name for name in _MODALITIES if name in given)


def _subgroup(subgroup: str) -> str:
    column, separator, value = subgroup.partition("=")
    if not separator:
        raise ValueError(f"a subgroup is column=value, got {subgroup!r}")
    return f"{_part(column)}={_part(value)}"
