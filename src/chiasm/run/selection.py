"""What a tuned run chose inside each of its folds: selection.json, beside run.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from chiasm.atomic import write_json
from chiasm.documents import STRICT, Document, read_document, to_json


@dataclass(frozen=True)
class Chosen:
    """What one outer fold chose.

    Attributes:
        number: of the configuration, in the order in which they were tried; the first are the recipes as they stand.
        recipe: its name; settings: the keys that were set in it.
        inner: its figure, the mean over the inner folds; as_given: that of the first recipe as it stands; None where it has none.
        tried: how many different configurations have a figure. failed: how many could not be trained or scored.
    """

    __pydantic_config__ = STRICT

    number: int
    recipe: str
    settings: dict[str, Any]
    inner: float
    as_given: float | None
    tried: int
    failed: int


@dataclass(frozen=True)
class Selection(Document):
    """How the fold models of a run were chosen.

    Attributes:
        metric: name of the figure by which, of the tested patients of the inner folds.
        recipes: as they were named; space: as read. trials, inner_folds, seed: as asked.
        folds: fold model -> what it chose.
    """

    SCHEMA: ClassVar[int] = 1

    metric: str
    recipes: tuple[str, ...]
    space: dict[str, Any]
    trials: int
    inner_folds: int
    seed: int
    folds: dict[str, Chosen]

    @property
    def inner(self) -> float:
        """The mean over the outer folds of the figure by which each chose: it is of the patients who took part in the choice."""
        return sum(chosen.inner for chosen in self.folds.values()) / len(self.folds)


def read_selection(run: Path) -> Selection | None:
    """The selection.json of a run; None of one that was configured by hand.

    Raises:
        RunError: it is damaged, or of another schema version.
    """
    path = run / "selection.json"
    return read_document(path, Selection, "tune again") if path.is_file() else None


def write_selection(run: Path, selection: Selection) -> None:
    """Write the run's `selection.json`."""
    write_json(run / "selection.json", to_json(selection))
