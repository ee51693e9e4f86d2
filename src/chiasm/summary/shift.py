"""What an external cohort has of its own: plain data of a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chiasm.summary.tables import Table


class Row(Protocol):
    """One difference, as `chiasm.run.records.Difference` holds it."""

    @property
    def group(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def training(self) -> str: ...
    @property
    def tested(self) -> str: ...
    @property
    def measure(self) -> str: ...
    @property
    def size(self) -> float: ...
    @property
    def n(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Shift:
    """The section.

    Attributes:
        said: a sentence for each large difference. rows: all differences. figures: internal and external, a table a label.
    """

    said: Sequence[str]
    rows: Sequence[Row]
    figures: Sequence[Table]
