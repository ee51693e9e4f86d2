"""Names of metrics: `[control:][subset:]target/label/metric[@subgroup]`. No other file knows how they are written.

>>> str(metric_name("findings", "Pleural Effusion", "auroc", subset=("image", "record"), subgroup="sex=F"))
'image+record:findings/pleural_effusion/auroc@sex=f'
>>> parse_name("shuffled_text:outcome/all/auroc").control
'shuffled_text'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from chiasm.vocabulary import snake_case

_MODALITIES = ("image", "text", "record")
_METRIC_NOISE = re.compile(r"(?:(?!(?<=\d)\.(?=\d))[\W_])+")  # the dot of `t_iou_0.1` stays


class MetricName(NamedTuple):
    """The parts of a name; None where a part is not there."""

    target: str
    label: str
    metric: str
    control: str | None = None
    subset: str | None = None
    subgroup: str | None = None

    def __str__(self) -> str:
        prefix = f"{self.prefix}:" if self.prefix else ""
        suffix = f"@{self.subgroup}" if self.subgroup else ""
        return f"{prefix}{self.target}/{self.label}/{self.metric}{suffix}"

    @property
    def prefix(self) -> str:
        """The arm: control and subset, "" of the full model."""
        return ":".join(part for part in (self.control, self.subset) if part)

    def of_arm(self, prefix: str) -> MetricName:
        """The same figure of another arm.

        >>> str(MetricName("outcome", "all", "mae").of_arm("bayes:image"))
        'bayes:image:outcome/all/mae'
        """
        arm = split_prefix(prefix)
        return self._replace(control=arm["control"], subset=arm["subset"])


def metric_name(
    target: str,
    label: str | None,
    metric: str,
    control: str | None = None,
    subset: str | Sequence[str] | None = None,
    subgroup: str | None = None,
) -> MetricName:
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
    return MetricName(
        target=_part(target),
        label="all" if label is None else _part(label),
        metric=_METRIC_NOISE.sub("_", metric.lower()).strip("_") or _part(metric),
        control=None if control is None else _control(control),
        subset=None if subset is None else _subset(subset),
        subgroup=None if subgroup is None else _subgroup(subgroup),
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
        if parsed == metric_name(**parsed._asdict()) and name == str(parsed):
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
