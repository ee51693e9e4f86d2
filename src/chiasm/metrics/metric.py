"""A number with its interval and its protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LOWER_IS_BETTER = ("brier", "ece", "ece_uncalibrated", "mae", "rps", "ibs")
NEITHER_IS_BETTER = (
    "calibration_intercept", "calibration_slope", "coverage", "set_size", "interval_width", "distinct_ratio",
    "shapley_image", "shapley_text", "shapley_record",
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation.

    Attributes:
        value: the figure on the sample itself; None where it is undefined.
        low, high: its 95% interval; None where there is none (the protocol says why).
        n: patients it rests on.
        events: of a binary figure the patients with a positive (of times, with an event); None of any other.
        corrected: of a figure that chance inflates the point that its interval belongs to; None of any other.
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
    corrected: float | None = None

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, self.low, self.high, self.corrected) if x is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"an undefined figure is None with a reason, got {numbers}")
        if (self.value is None) != bool(self.reason):
            raise ValueError(f"a metric has either a value or a reason, got {self.value} and {self.reason!r}")
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError(f"an interval has two ends and a value between, got {self.low}, {self.value}, {self.high}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low <= high expected, got {self.low} > {self.high}")

    @property
    def shown(self) -> float | None:
        """What a page shows: the value, or the corrected one where there is one."""
        return self.value if self.corrected is None else self.corrected

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high`, `n`, `protocol`; `reason` where the value is null, `events` of a binary figure."""
        optional = ("reason", "events", "corrected")
        return {key: each for key, each in self.__dict__.items() if each is not None or key not in optional}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(**fields)
