"""Generated texts beside a cohort's tables: one row a study and kind, with who wrote it, from what, and whether it was accepted.

`texts.parquet` is replaced whole; meanwhile each new text goes to `texts.partial.jsonl`, so that a killed process loses
only the texts in progress. The cohort's content hash leaves texts out: they have a hash of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from chiasm.atomic import locked, whole_file
from chiasm.errors import CohortError

SECTION_KINDS = {"structured_report": "structured-report", "image_description": "image-description"}
"""Section that a recipe may name -> kind of generated text."""
FILE, JOURNAL, LOCK = "texts.parquet", "texts.partial.jsonl", "texts.lock"
COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("study_id", "kind", "text", "structure", "source")),
        *((name, pa.string()) for name in ("writer", "model", "prompt_hash", "input_hash")),
        ("seed", pa.int64()),
        ("attempts", pa.int64()),
        ("accepted", pa.bool_()),
        ("answered", pa.bool_()),
        ("reason", pa.string()),
    ]
)

TextRow = dict[str, Any]


def read_generated(cohort: Path, section: str) -> dict[str, str]:
    """study_id -> generated text of a section of `SECTION_KINDS`; studies without one are left out.

    Raises:
        CohortError: the file is damaged.
    """
    return {
        row["study_id"]: row["text"]
        for row in _read_rows(cohort)
        if row["kind"] == SECTION_KINDS[section] and row["text"]
    }


def count_sources(cohort: Path, section: str) -> dict[str, int]:
    """What the texts of a section were written from ("report", "labels", "regions", "measurements") -> how many."""
    counts: dict[str, int] = {}
    for row in _read_rows(cohort):
        if row["kind"] == SECTION_KINDS[section] and row["text"]:
            for source in row["source"].split("+"):
                counts[source] = counts.get(source, 0) + 1
    return counts


def read_writers(cohort: Path, section: str) -> dict[str, str]:
    """study_id -> who wrote its text of a section: the writer, and the model if it is a language model."""
    return {
        row["study_id"]: " ".join(filter(None, (row["writer"], row["model"])))
        for row in _read_rows(cohort)
        if row["kind"] == SECTION_KINDS[section] and row["text"]
    }


def check_texts(entry: Mapping[str, Any], cohort: Path) -> None:
    """Refuse texts that are not those that a run has recorded.

    Raises:
        CohortError: they were written anew, or are gone.
    """
    for section, digest in entry.get("texts", {}).items():
        if hash_texts(cohort, section) != digest:
            raise CohortError(
                f"the generated texts of {section} have changed since the run was trained",
                expected=f"texts of hash {digest[:16]}",
                got=hash_texts(cohort, section)[:16],
                where=str(cohort / FILE),
                remedy="write them again with the same writer, seed and prompts (texts.parquet names them), or train again",
            )


def hash_texts(cohort: Path, section: str) -> str:
    """SHA-256 over study and text of a section, whatever their order."""
    texts = json.dumps(sorted(read_generated(cohort, section).items()), separators=(",", ":"))
    return hashlib.sha256(texts.encode()).hexdigest()


def _read_rows(cohort: Path) -> list[TextRow]:
    file = cohort / FILE
    if not file.is_file():
        return []
    try:
        rows: list[TextRow] = pq.read_table(file).cast(COLUMNS).to_pylist()
        return rows
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CohortError(
            "the generated texts are damaged",
            got=type(error).__name__,
            where=str(file),
            remedy="delete the file and run chiasm write again",
        ) from None


class GeneratedTexts:
    """The generated texts of a cohort, open for writing by one process at a time.

    >>> with GeneratedTexts(folder) as texts:  # doctest: +SKIP
    ...     texts.add(row)
    """

    def __init__(self, cohort: Path) -> None:
        self.cohort = cohort
        self.rows: dict[tuple[str, str], TextRow] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            busy = "another process is writing texts of this cohort"
            stack.enter_context(locked(self.cohort / LOCK, CohortError, busy))
            self._journal = stack.enter_context((self.cohort / JOURNAL).open("a+", encoding="utf-8"))
            self._journal.seek(0)
            for row in (*_read_rows(self.cohort), *_whole_lines(self._journal.read())):
                self.rows[row["study_id"], row["kind"]] = row
            self._journal.seek(0, os.SEEK_END)
            self._held = stack.pop_all()
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row in place of the one of its study and kind; a killed process does not lose it any more."""
        self.rows[row["study_id"], row["kind"]] = dict(row)
        self._journal.write(f"\n{json.dumps(dict(row))}\n")
        self._journal.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Merge the journal into the table, also after an error."""
        with self._held:
            self._merge()

    def _merge(self) -> None:
        ordered = sorted(self.rows.values(), key=lambda row: (row["kind"], row["study_id"]))
        with whole_file(self.cohort / FILE) as partial:
            pq.write_table(pa.Table.from_pylist(ordered, COLUMNS), partial)
        self._journal.close()
        (self.cohort / JOURNAL).unlink()


def _whole_lines(text: str) -> list[TextRow]:
    """The rows of a journal, without a last line that a killed process left incomplete."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line) if line else None
        except ValueError:
            continue
        if isinstance(row, dict) and row.keys() == set(COLUMNS.names):
            rows.append(row)
    return rows
