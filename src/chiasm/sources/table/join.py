"""A table of labels, reports and charts that is joined to studies whose images come from elsewhere."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chiasm.errors import TableError
from chiasm.sources.table.columns import Columns
from chiasm.sources.table.guess import guess_parts, ready_map
from chiasm.sources.table.patients import plain_id
from chiasm.sources.table.read import study_of_rows
from chiasm.sources.table.schema import EACH_ROW, Format, TableMap, read_map
from chiasm.sources.table.tabular import column_names, read_table
from chiasm.study import Record, Rejected, Study
from chiasm.vocabulary import snake_case

log = logging.getLogger(__name__)
KEYS: Mapping[str, tuple[str, ...]] = {
    "StudyInstanceUID": ("study_instance_uid", "studyinstanceuid", "study_uid", "studyuid"),
    "AccessionNumber": ("accession_number", "accessionnumber", "accession", "accession_no"),
    "PatientID": ("patient_id", "patientid", "patient", "mrn", "subject_id", "subjectid", "subject"),
}
"""DICOM keyword -> names of the column that holds it, in snake case; the most specific goes first."""


class Joined:
    """The rows of a table by the identifier that studies have too.

    Attributes:
        key: the DICOM keyword by which rows are joined.
        rejected: rows and cells that were skipped.
    """

    def __init__(self, file: Path, map_: str | Path | Mapping[str, Any] | None = None) -> None:
        """
        Raises:
            TableError: the table or the map cannot be read, no column holds an identifier of studies or patients, or there is
                nothing in it to join.
        """
        given = None if map_ is None else read_map(map_)
        form = given.table if given else Format()
        frame, self.rejected = read_table(file, form.delimiter, form.encoding, form.sheet)
        known = {snake_case(str(column)): str(column) for column in reversed(frame.columns) if column}
        found = {key: next((known[n] for n in names if n in known), None) for key, names in KEYS.items()}
        if given is not None and given.patient != EACH_ROW:
            found["PatientID"] = found["PatientID"] or given.patient
        self.key, column = next(((key, name) for key, name in found.items() if name), ("", None))
        if column is None:
            raise TableError(
                "no column of the table says which study or patient a row belongs to",
                expected=f"a column {', '.join(KEYS)}",
                got=column_names(frame),
                where=file.name,
            )
        if given is None:
            parts = guess_parts(frame, file.parent)
            parts = {key: parts[key] for key in ("report", "record", "labels", "outcomes", "split") if key in parts}
            if not parts.keys() - {"split"}:
                raise TableError(
                    "the columns cannot be guessed: no column is known to hold a label, a report or a chart value",
                    expected="columns such as label_pneumonia, report, age, sex, outcome_died; or a map",
                    got=column_names(frame),
                    where=file.name,
                    remedy=f"save this as map.yaml, correct it, and pass --map map.yaml\n\n{ready_map(frame, parts)}",
                )
            given = read_map({"patient": found["PatientID"] or column, **parts})
        self._check(given, file)
        self.columns = Columns(frame, given, file)
        self.rejected += self.columns.rejected
        self._rows: dict[str, list[int]] = {}
        for i, cell in enumerate(frame[column]):
            self._rows.setdefault(str(cell).strip(), []).append(i)
        blank = self._rows.pop("", [])
        self.rejected += [Rejected(self.columns.where(i), f"{self.key} is blank: the row is skipped") for i in blank]
        plain = Counter(map(plain_id, self._rows))
        self._plain = {plain_id(name): name for name in self._rows if plain[plain_id(name)] == 1}
        self._taken: set[str] = set()

    def _check(self, map_: TableMap, file: Path) -> None:
        if given := [key for key in ("images", "boxes", "masks") if getattr(map_, key)]:
            raise TableError(
                f"the map names {' and '.join(given)}, and here the images come from elsewhere",
                expected="labels, report, record, outcomes and split",
                where=file.name,
                remedy=f"leave out {' and '.join(given)}",
            )

    def join(self, study: Study, name: str, where: str) -> Iterator[Study | Rejected]:
        """A study with what its rows say, after what was skipped of them.

        Args:
            name: its identifier, as the table would write it.
        """
        key = name if name in self._rows else self._plain.get(plain_id(name), "")
        if not name or not key:
            why = f"no row of {self.columns.name} has its {self.key}: taken without what the table says"
            yield Rejected(where, why, taken=True)
            yield study
            return
        self._taken.add(key)
        for item in study_of_rows(self.columns, study.study_id, self._rows[key]):
            if isinstance(item, Rejected):
                yield item
            else:
                record, told = self._record(study.record, item.record, where)
                yield from told
                yield replace(item, patient_id=study.patient_id, images=study.images, record=record)

    def _record(self, own: Record | None, table: Record | None, where: str) -> tuple[Record | None, list[Rejected]]:
        """The chart of the table, and what else the study's own files say; the table goes first."""
        if own is None or table is None:
            return own or table, []
        said = {name: value for name, value in table.values.items() if value is not None}
        apart = [n for n, value in said.items() if own.values.get(n) not in (None, value)]
        told = [
            f"{self.columns.name} and the files do not agree on {name}: the table's value is taken" for name in apart
        ]
        values = {**table.values, **own.values, **said}
        return Record(values, table.unknown_time), [Rejected(where, why, taken=True) for why in told]

    def left(self) -> Iterator[Rejected]:
        """The rows that no study asked for."""
        for key, rows in self._rows.items():
            if key not in self._taken:
                why = f"no study has this {self.key}: the row is skipped"
                yield from (Rejected(self.columns.where(i), why) for i in rows)
