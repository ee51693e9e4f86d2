"""Who trained, validated and tested a fold model: split.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chiasm.atomic import write_json
from chiasm.documents import Document, read_document, to_json

FILE = "split.json"


@dataclass(frozen=True)
class Split(Document):
    """What split.json says of a fold model.

    Attributes:
        seed: of its training.
        train, validation, test: studies, each "number of the cohort/study id".
        seen: digests (`chiasm.run.seen`) of patients and pixels that it was trained or validated on, sorted.
        seen_before: of those that its encoders had seen in another run before it began, sorted.
    """

    SCHEMA: ClassVar[int] = 1

    seed: int
    train: list[str]
    validation: list[str]
    test: list[str]
    seen: list[str]
    seen_before: list[str]

    @property
    def parts(self) -> dict[str, list[str]]:
        """Studies of each part by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def write_split(split: Split, folder: Path) -> None:
    write_json(folder / FILE, to_json(split))


def read_split(folder: Path) -> Split:
    """Of the folder of a fold model.

    Raises:
        RunError: the file is missing, damaged, or of another schema.
    """
    return read_document(folder / FILE, Split, "train again")
