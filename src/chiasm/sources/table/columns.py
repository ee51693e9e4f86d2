"""The columns of a table as the map names them: checked, all problems at once, and read cell by cell."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from chiasm.sources.table import cells
from chiasm.sources.table.boxes import BoxFiles, Drawn, check_boxes, lacking, read_boxes
from chiasm.sources.table.cells import Cells
from chiasm.sources.table.media import with_suffix
from chiasm.sources.table.patients import plain_id
from chiasm.sources.table.schema import (
    EACH_ROW,
    RENAMED,
    Labels,
    OutcomeColumn,
    RecordColumn,
    TableMap,
    problems_error,
)
from chiasm.sources.table.tabular import column_names
from chiasm.study import Kind, Rejected, State
from chiasm.vocabulary import canonical, snake_case

log = logging.getLogger(__name__)
Values = NDArray[np.object_]
Key = tuple[str, str, str]
"""target, label, reader"""


class Columns:
    """What each row says, in typed columns of n values (None where missing).

    Attributes:
        ids, patients, splits: splits is None where the map names no such column.
        texts: report section ("" for a whole report, "file" for the path of one) -> column and cells.
        record: name -> column and cells. unknown_time: names of the record. findings: key -> column and states. outcomes: key -> column, kind and cells.
        paths: of the images of each row, each with the number of its image column.
        drawn: boxes of this table, by row. boxes: those of box files.
        rejected: cells and rows that were skipped.

    Raises:
        TableError: a column is not there, or is not what the map says.
    """

    def __init__(self, frame: pd.DataFrame, map_: TableMap, file: Path) -> None:
        self.frame, self.map, self.name, self.root = frame, map_, file.name, file.parent
        self.words = map_.table.words
        self.rejected: list[Rejected] = []
        self.problems = self._lacking()
        self._stop()
        self.ids = self._column(map_.study) if map_.study else _objects(f"row-{number}" for number in frame.index)
        self.patients = self.ids if map_.patient == EACH_ROW else self._patients(map_.patient)
        self.splits = self._words(map_.split, cells.SPLITS) if map_.split else None
        self.texts = self._texts()
        chart = {self._chart_name(name, part): part for name, part in map_.record.items()}
        self.record = {name: (part.column, self._record(name, part)) for name, part in chart.items()}
        for name, part in chart.items():
            if snake_case(part.column) == "gender" and name == RENAMED["gender"]:
                log.warning("%s: column %s becomes the record column %s", self.name, part.column, name)
        self.unknown_time = frozenset(name for name, part in chart.items() if part.unknown_time)
        self.findings = {key: found for part in map_.labels for key, found in self._findings(part).items()}
        self.outcomes = {
            (*part.key, part.reader): (part.column, part.kind, self._outcome(part)) for part in map_.outcomes
        }
        self.paths = self._paths()
        self.drawn, self.boxes = self._boxes()
        self._stop()

    def where(self, i: int) -> str:
        return f"{self.name}: row {self.frame.index[i]}"

    def values(self) -> list[Values]:
        """All columns of labels, outcomes, chart and text, of which each cell says something of its study."""
        found = [states for _, states in self.findings.values()] + [values for _, _, values in self.outcomes.values()]
        found += [values for _, values in (*self.record.values(), *self.texts.values())]
        return [*found, *([self.splits] if self.splits is not None else [])]

    def _lacking(self) -> list[str]:
        """A sentence for each column that the map names and the table does not have."""
        m = self.map
        wanted: list[tuple[str, str | None]] = [("study", m.study), ("split", m.split)]
        wanted += [("patient", m.patient)] if m.patient != EACH_ROW else []
        wanted += [("images", column) for column in (*m.images.columns, m.images.view)] if m.images else []
        wanted += (
            [("report", c) for c in (m.report.column, m.report.file, *m.report.sections.values())] if m.report else []
        )
        wanted += [(f"record.{name}", part.column) for name, part in m.record.items()]
        wanted += [("labels", column) for part in m.labels for column in (part.column, *part.columns.values())]
        wanted += [("masks", part.column) for part in m.masks]
        wanted += [("outcomes", column) for part in m.outcomes for column in (part.column, part.event)]
        problems = [lacking(c, self.frame, key) for key, c in wanted if c is not None and c not in self.frame.columns]
        problems += [p for part in m.boxes if part.file is None for p in check_boxes(part, self.frame, "this table")]
        if m.patient == EACH_ROW and EACH_ROW in self.frame.columns and m.study != EACH_ROW:
            problems.append(f"patient: `{EACH_ROW}` says that no patient has two studies, but a column has that name")
        return problems

    def _stop(self) -> None:
        if self.problems:
            found = column_names(self.frame)
            what, remedy = "the map does not fit the table: it", "correct the map, or the header of the table"
            raise problems_error(what, self.problems, self.name, remedy, f"columns of the table: {found}")

    def _take(self, column: str, found: Cells) -> Values:
        """The values; bad cells are rejected, unless they are most of the column, which is then the wrong one."""
        good = sum(value is not None for value in found.values)
        lost = [i for i in sorted(found.problems) if found.values[i] is None and i not in found.understood]
        if len(lost) > good:
            rows = ", ".join(str(self.frame.index[i]) for i in lost[:3]) + ", ..." * (len(lost) > 3)
            advice = found.remedy or "so it may not be the column that was meant"
            self.problems.append(
                f"column {column}: {len(lost)} of {good + len(lost)} cells with a value are not {found.wanted} "
                f"(rows {rows}), {advice}"
            )
        self.rejected += [
            Rejected(f"{self.where(i)}, column {column}", why, found.values[i] is not None)
            for i, why in found.problems.items()
        ]
        return found.values

    def _column(self, column: str) -> Values:
        blank = cells.is_missing(self.frame[column], self.words)
        return _objects(None if b else str(cell) for cell, b in zip(self.frame[column], blank, strict=True))

    def _patients(self, column: str) -> Values:
        """The ids of patients, those that differ in spelling alone as one, and said: two of them would be in two splits."""
        ids = self._column(column)
        rows: dict[str, dict[str, int]] = {}
        for i, name in enumerate(ids):
            if name is not None:
                rows.setdefault(plain_id(name), {}).setdefault(name, i)
        for spellings in rows.values():
            if len(spellings) > 1:
                numbers = " and ".join(str(self.frame.index[i]) for i in spellings.values())
                why = f"rows {numbers} spell one patient differently (case, leading zeros, .0): taken as one"
                self.rejected.append(Rejected(f"{self.name}, column {column}", why, taken=True))
        bare = {plain.lstrip("abcdefghijklmnopqrstuvwxyz"): plain for plain in rows if plain[0].isalpha()}
        if alike := [(number, bare[number]) for number in rows if number in bare]:
            some = " and ".join(str(self.frame.index[next(iter(rows[plain].values()))]) for plain in alike[0])
            why = (
                f"{len(alike)} patients differ by letters before their number alone, as in rows {some}: taken as different "
                "ones; if they are one, spell them alike"
            )
            self.rejected.append(Rejected(f"{self.name}, column {column}", why, taken=True))
        first = {plain: next(iter(spellings)) for plain, spellings in rows.items()}
        return _objects(None if name is None else first[plain_id(name)] for name in ids)

    def _words(self, column: str, words: Mapping[str, Any]) -> Values:
        return self._take(column, cells.parse_words(self.frame[column], self.words, words))

    def _texts(self) -> dict[str, tuple[str, Values]]:
        if (part := self.map.report) is None:
            return {}
        named = {"": part.column, "file": part.file, **part.sections}
        return {section: (column, self._column(column)) for section, column in named.items() if column}

    def _chart_name(self, name: str, part: RecordColumn) -> str:
        """The name of a chart column: what holds no years is not called so, and is then a number like any other."""
        if name != "age_years" or not cells.centred(self.frame[part.column], self.words, self.map.table.decimal):
            return name
        log.warning(
            "%s: column %s holds no ages in years (standardized or centred: many cells are below 0), so it is taken as plain "
            "numbers, record column `age`; no figures by age are told of it",
            self.name,
            part.column,
        )
        return "age"

    def _record(self, name: str, part: RecordColumn) -> Values:
        column, form = self.frame[part.column], self.map.table
        words = self.words | {word.strip().lower() for word in part.missing}
        kind = "categorical" if part.words else part.kind
        if kind != "categorical" and name == "age_years":
            return self._take(part.column, cells.parse_ages(column, words, part.unit))
        share = cells.numeric_share(column, words)
        if share is None:
            log.warning("%s: record column %s has no value", self.name, part.column)
        elif kind is None and 0.2 <= share <= 0.8:
            self.problems.append(
                f"record.{name}: {share:.0%} of the cells of column {part.column} are numbers, the others words; write "
                "`kind: numeric` (the words are then left out, row by row) or `kind: categorical`"
            )
        what = cells.no_category(column, words) if kind is None else ""
        if what and (what == cells.DATES or (share or 0) <= 0.5):
            self.problems.append(
                f"record.{name}: column {part.column} holds {what}, which are no categories; leave it out"
            )
            return _objects([None] * len(column))
        if kind == "numeric" or (kind is None and (share or 0) > 0.5):
            percent = name.endswith(("_percent", "_pct"))
            values = self._take(part.column, cells.parse_numbers(column, words, form.decimal, percent))
            if cells.are_identifiers(part.column, values) and kind is None:
                self.problems.append(
                    f"record.{name}: column {part.column} holds a number of its own in every row, so it is an identifier; leave "
                    "it out, or write `kind: numeric`"
                )
            self._ask(part.column, values, f"record: {{{name}: {{column: {part.column}, missing: [CODE]}}}}")
            return values
        listed = form.list_words | (words - self.words)
        found = cells.parse_categories(column, listed, part.words or (cells.SEXES if name == "sex" else {}))
        if (n := len(set(found.values) - {None})) > cells.MOST_WORDS:
            self.problems.append(
                f"record.{name}: column {part.column} has {n} different words, so it is a text or an identifier; leave it out"
            )
        return found.values

    def _findings(self, part: Labels) -> dict[Key, tuple[str, Values]]:
        target, result = snake_case(part.target), {}
        for label, column in part.named():
            states = cells.parse_states(self.frame[column], self.words, part.words())
            result[target, label, part.reader] = column, self._take(column, states)
        if part.column is None:
            return result
        lists = cells.split_lists(self.frame[part.column], part.separator, self.map.table.list_words)
        rows = [None if words is None else {canonical(word) for word in words} - {"none"} for words in lists]
        for i, row in enumerate(rows):
            if row and "" in row:
                row.discard("")
                self.rejected.append(
                    Rejected(f"{self.where(i)}, column {part.column}", "a label without letters: skipped")
                )
        labels = sorted({label for row in rows if row for label in row})
        if _no_labels(labels):
            self.problems.append(
                f"labels: column {part.column} has {len(labels)} different labels of up to {max(map(len, labels))} "
                f"characters with the separator {part.separator!r}, so it may not be the column that was meant"
            )
            return result
        others = None if part.others == "not_mentioned" else State(part.others)
        for label in labels:
            states_ = (None if row is None else State.PRESENT if label in row else others for row in rows)
            result[target, label, part.reader] = part.column, _objects(states_)
        return result

    def _outcome(self, part: OutcomeColumn) -> Values:
        """Numbers, words of a multiclass outcome, (time, event) of survival."""
        column = self.frame[part.column]
        if part.kind is Kind.BINARY:
            return self._yes_no(part.column)
        if part.kind is Kind.MULTICLASS:
            listed = self.map.table.list_words | {word.strip().lower() for word in part.missing}
            found = cells.parse_categories(column, listed, part.words)
            if (n := len(set(found.values) - {None})) > cells.MOST_WORDS:
                self.problems.append(
                    f"outcomes: column {part.column} has {n} different words, so it may not be the column of a class"
                )
            return found.values
        words = self.words | {word.strip().lower() for word in part.missing}
        found = cells.parse_numbers(column, words, self.map.table.decimal)
        if part.kind is Kind.ORDINAL:
            for i, value in enumerate(found.values):
                if value is not None and value != round(value):
                    found.values[i] = None
                    found.problems[i] = (
                        "no whole number, and an ordinal scale counts in whole numbers: treated as missing"
                    )
        values = self._take(part.column, found)
        self._ask(part.column, values, f"outcomes: [{{column: {part.column}, missing: [CODE]}}]")
        return values if part.event is None else self._timed(part.column, values, self._yes_no(part.event))

    def _ask(self, column: str, values: Values, remedy: str) -> None:
        """Ask about numbers that are used as codes for no value, where they lie far from all others."""
        if codes := cells.find_codes(values):
            said = ", ".join(f"{count} of {code:g}" for code, count in codes.items())
            why = f"{said}, far from all other values: taken as numbers. If they stand for no value, write `{remedy}` in the map"
            self.rejected.append(Rejected(f"{self.name}, column {column}", why, taken=True))
            log.warning("%s: column %s: %s", self.name, column, why)

    def _yes_no(self, column: str) -> Values:
        """[n] 1 and 0."""
        sure = {State.PRESENT: 1.0, State.ABSENT: 0.0}
        words = {word: sure[state] for word, state in cells.STATES.items() if state in sure}
        return self._words(column, {**words, "1.0": 1.0, "0.0": 0.0})

    def _timed(self, column: str, times: Values, events: Values) -> Values:
        """[n] (time, event); a time and an event say nothing without each other."""
        pairs = []
        for i, (time, event) in enumerate(zip(times, events, strict=True)):
            known = time is not None and event is not None
            if known != (time is not None or event is not None):
                why = "a time and whether the event happened, one without the other: treated as missing"
                self.rejected.append(Rejected(f"{self.where(i)}, column {column}", why))
            pairs.append((time, bool(event)) if known else None)
        return _objects(pairs)

    def _paths(self) -> list[list[tuple[int, str]]]:
        part = self.map.images
        if part is None:
            return [[] for _ in self.ids]
        columns = [self._column(column) for column in part.columns]
        rows = zip(*columns, strict=True)
        split = part.separator

        def named(cell: str) -> list[str]:
            names = [name.strip() for name in (cell.split(split) if split else [cell]) if name.strip()]
            found = [with_suffix(self.root, part, name) for name in names]
            return [split.join(found)] if part.volume and split and found else found  # a cell is then one volume

        return [
            [(number, name) for number, cell in enumerate(row) if cell is not None for name in named(cell)]
            for row in rows
        ]

    def _boxes(self) -> tuple[dict[int, list[Drawn]], BoxFiles]:
        drawn: dict[int, list[Drawn]] = {}
        paths = dict.fromkeys(path for row in self.paths for _, path in row)
        files = BoxFiles(list(paths), [str(study) for study in self.ids if study is not None])
        for part in self.map.boxes:
            if part.file is None:
                boxes, rejected = read_boxes(part, self.frame, self.name, self.map.table)
                for i, box in boxes.items():
                    drawn.setdefault(i, []).append(box)
            else:
                problems, rejected = files.add(part, self.root, self.map.table)
                self.problems += problems
            self.rejected += rejected
        labels = {box.label for boxes in (*drawn.values(), *files.by_path.values()) for box in boxes}
        if _no_labels(labels):
            self.problems.append(
                f"boxes: {len(labels)} different labels, so label_column may not be the one that was meant"
            )
        return drawn, files


def _no_labels(names: Collection[str]) -> bool:
    """Whether they are rather identifiers or texts, which must not become the names of what is learned."""
    return len(names) > cells.MOST_WORDS or any(len(name) > cells.LONGEST_LABEL for name in names)


def _objects(values: Any) -> Values:
    """[n] Python objects, whatever they are."""
    return np.array([*values, None], object)[:-1]
