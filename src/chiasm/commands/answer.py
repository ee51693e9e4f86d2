"""The result of a command, as the command line prints it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command reports: a JSON document, the same as text for people, and the exit code."""

    document: dict[str, Any]
    text: str
    code: int = 0


def align(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they mean, one row a line, in two columns.

    >>> print(align([("dicom", "DICOM files"), ("table", "CSV")]))
    dicom  DICOM files
    table  CSV
    """
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {about}" for name, about in rows)
