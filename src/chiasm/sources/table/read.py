"""Studies made of the rows of a table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from chiasm.errors import ImageError, InputError, TableError
from chiasm.formats import cells as parse
from chiasm.formats.intensity import Intensity
from chiasm.report.sections import split_sections
from chiasm.sources.registry import Source
from chiasm.sources.table.boxes import frame_of
from chiasm.sources.table.cells import VIEWS
from chiasm.sources.table.columns import Columns, Key, Values
from chiasm.sources.table.guess import guess_map
from chiasm.sources.table.media import check_files, find_file, is_lost_link, read_mask, read_picture
from chiasm.sources.table.schema import Format, label_name, read_map
from chiasm.sources.table.tabular import decode, find_table, read_table
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Rejected, Report, State, Study, View
from chiasm.vocabulary import snake_case

ABOUT = "any CSV, TSV or Parquet table with an image folder; --map map.yaml names its columns (docs/table.md)"
log = logging.getLogger(__name__)
_Images = dict[str, tuple[Image, list[int]]]
_Findings = dict[Key, State | None]


def preprocessing(*, map: str | Path | Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an import does to pixels: the intensity rules of the map, and what its pictures are parts of."""
    images = None if map is None else read_map(map).images
    if images is None:
        return {}
    spacing = images.volume.spacing_mm if images.volume else ()
    return {"intensity": images.rules, "channels": images.channels, "slices_mm": spacing}


def read(
    path: Path, *, map: str | Path | Mapping[str, Any] | None = None, intensity: Intensity | None = None
) -> Iterator[Study | Rejected]:
    """Read a table as studies, in the order of their first rows; images are read one study at a time.

    A cell, row or file that cannot be used becomes a `Rejected` and costs nothing else. Rows are numbered as in a
    spreadsheet: the header is row 1.

    Args:
        path: the table, or a folder that holds exactly one.
        map: `map.yaml` (docs/table.md), or the same keys as a mapping; None to guess the columns by their names, which
            is said in the log.
        intensity: the rules of modalities; the defaults if None.

    Raises:
        TableError: the table or the map cannot be read, or they do not fit; all problems in one message.
    """
    given = None if map is None else read_map(map)
    file = find_table(Path(path), given.files if given else ())
    form = given.table if given else Format()
    frame, rejected = read_table(file, form.delimiter, form.encoding, form.sheet)
    if frame.empty:
        got = f"{len(rejected)} rows, none with as many cells as the header" if rejected else "a header alone"
        raise TableError("the table has no rows to read", expected="a header and rows", got=got, where=str(file))
    if given is None:
        given, said = guess_map(frame, file)
        log.warning("%s: no map given; columns by their names: %s", file.name, said)
    columns = Columns(frame, given, file)
    if given.images:
        names = dict.fromkeys(name for row in columns.paths for _, path in row for name in given.images.files(path))
        check_files(file.parent, given.images, list(names))
    return chain(rejected, columns.rejected, read_studies(columns, intensity))


def read_studies(columns: Columns, intensity: Intensity | None = None) -> Iterator[Study | Rejected]:
    """The studies of a table's columns, in the order of their first rows, and what was skipped of them."""
    rows_of: dict[str, list[int]] = {}
    for i, (study_id, patient_id) in enumerate(zip(columns.ids, columns.patients, strict=True)):
        if study_id is None or patient_id is None:
            lost = "the study id is blank" if study_id is None else "the patient id is blank, so no split can be safe"
            yield Rejected(columns.where(i), f"{lost}: the row is skipped")
        else:
            rows_of.setdefault(study_id, []).append(i)
    for study_id, rows in rows_of.items():
        yield from study_of_rows(columns, study_id, rows, intensity)


def study_of_rows(
    columns: Columns, study_id: str, rows: list[int], intensity: Intensity | None = None
) -> Iterator[Study | Rejected]:
    """The study that some rows describe, after what was skipped of them."""
    yield from _StudyReader(columns, study_id, rows, intensity).read()


class _StudyReader:
    """One study from its rows. What two rows say differently is skipped in both."""

    def __init__(self, columns: Columns, study_id: str, rows: list[int], intensity: Intensity | None) -> None:
        self.columns, self.study_id, self.rows, self.intensity = columns, study_id, rows, intensity
        self.rejected: list[Rejected] = []

    def read(self) -> Iterator[Study | Rejected]:
        c, where = self.columns, self.columns.where(self.rows[0])
        numbers = ", ".join(str(c.frame.index[i]) for i in self.rows[:5]) + ", ..." * (len(self.rows) > 5)
        if len({c.patients[i] for i in self.rows}) > 1:
            yield Rejected(where, f"rows {numbers} are one study of different patients: the study is skipped")
            return
        self.rows = list(self._new_rows())
        split = self._merge("split", c.splits) if c.splits is not None else None
        if c.splits is not None and split is None:
            yield from self.rejected
            yield Rejected(where, "no split, while the map names a column of splits: the study is skipped")
            return
        images = self._images()
        findings = {key: self._merge(column, states) for key, (column, states) in c.findings.items()}
        regions = self._boxes(images, findings) + self._masks(images, findings)
        study = Study(
            self.study_id,
            str(c.patients[self.rows[0]]),
            images=tuple(image for image, _ in images.values()),
            report=self._report(),
            record=self._record(),
            findings=tuple(
                Finding(label, state or State.NOT_MENTIONED, target, reader)
                for (target, label, reader), state in findings.items()
            ),
            regions=tuple(regions),
            outcomes=tuple(
                self._outcome(key, self._merge(column, values), kind)
                for key, (column, kind, values) in c.outcomes.items()
            ),
            split=split,
        )
        yield from self.rejected
        yield study

    def _outcome(self, key: Key, value: Any, kind: Kind) -> Outcome:
        target, name, reader = key
        time, event = value if isinstance(value, tuple) else (value, None)
        return Outcome(name, time, kind, target, reader, event)

    def _reject(self, where: str, reason: str) -> None:
        self.rejected.append(Rejected(where, reason))

    def _new_rows(self) -> Iterator[int]:
        """The first row, and those that say something else, or more; another is a repetition."""
        c = self.columns
        seen: set[object] = set()
        for n, i in enumerate(self.rows):
            new: set[object] = {path for _, path in c.paths[i]} | {part.box for part in c.drawn.get(i, ())}
            new |= {part.column + str(cell) for part in c.map.masks if (cell := c.frame[part.column].iloc[i])}
            new |= {(place, value) for place, values in enumerate(c.values()) if (value := values[i]) is not None}
            if n and new <= seen:
                first = c.frame.index[self.rows[0]]
                self._reject(c.where(i), f"repeats the study of row {first} and adds nothing: the row is skipped")
                continue
            seen |= new
            yield i

    def _merge(self, column: str, values: Values) -> Any:
        """What the rows say of the whole study."""
        said = {values[i] for i in self.rows if values[i] is not None}
        if len(said) > 1:
            numbers = ", ".join(str(self.columns.frame.index[i]) for i in self.rows if values[i] is not None)
            where = f"{self.columns.where(self.rows[0])}, column {column}"
            self._reject(where, f"rows {numbers} are one study and do not agree: all are skipped")
        return said.pop() if len(said) == 1 else None

    def _images(self) -> _Images:
        """Path as in the cell -> image, and the rows that name it."""
        images: _Images = {}
        rows_of: dict[str, list[tuple[int, int]]] = {}
        for i in self.rows:
            for number, path in self.columns.paths[i]:
                rows_of.setdefault(path, []).append((i, number))
        for n, (path, places) in enumerate(rows_of.items()):
            if image := self._image(path, f"{self.study_id}-{n}", *places[0]):
                images[path] = image, [i for i, _ in places]
        return images

    def _image(self, path: str, image_id: str, i: int, number: int) -> Image | None:
        c, part = self.columns, self.columns.map.images
        if part is None:
            return None
        listed = part.files(path)
        files = [find_file(c.root, part.folder, name) for name in listed]
        if None in files:
            path = listed[files.index(None)]
            linked = is_lost_link(c.root, part.folder, path)
            why = " (a link whose content is not on this machine: `datalad get` fetches it)" if linked else ""
            self._reject(c.where(i), f"there is no image {_looked(part.folder, path)}{why}: skipped")
            return None
        view = part.views[number] if part.views else None
        if part.view is not None:
            view = VIEWS.get(str(c.frame[part.view].iloc[i]).lower(), View.OTHER)
        found = [file for file in files if file is not None]
        source = found[0].relative_to(c.root).as_posix() if found[0].is_relative_to(c.root) else found[0].name
        source += f" and {len(found) - 1} more" if len(found) > 1 else ""
        try:
            image = read_picture(
                found,
                image_id,
                source,
                view=view,
                frame=frame_of(c.map.boxes, bool(c.map.masks)),
                part=part,
                intensity=self.intensity,
            )
            return replace(image, name=part.names[number] if part.names else image.name)
        except ImageError as error:
            self._reject(c.where(i), f"image {source}: {parse.reason(error)}: skipped")
            return None

    def _boxes(self, images: _Images, findings: _Findings) -> list[Region]:
        """The regions of all boxes; a box also says that its finding is present."""
        c, regions = self.columns, []
        places = [(drawn, path) for path in images for drawn in c.boxes.by_path.get(path, ())]
        for drawn in c.boxes.by_study.get(self.study_id, ()):
            places.append((drawn, next(iter(images)) if len(images) == 1 else ""))
        for i in self.rows:
            mine = [path for path, (_, rows) in images.items() if i in rows]
            places += [(drawn, mine[0] if len(mine) == 1 else "") for drawn in c.drawn.get(i, ())]
        for drawn, path in places:
            if path not in images:
                self._reject(drawn.where, f"the box lies in one of {len(images)} images, and which is unknown: skipped")
                continue
            image = images[path][0]
            if drawn.box is None:
                self._drawn_empty(drawn.target, drawn.label, drawn.reader, findings)
                continue
            box, why = drawn.within(image.geometry.original_shape)
            if why:
                self._reject(drawn.where, why)
            if box is not None and self._agrees(
                drawn.target, drawn.label, drawn.reader, findings, drawn.where, "a box"
            ):
                regions.append(
                    Region(drawn.label, image.image_id, box, None, drawn.target, drawn.reader, phrase=drawn.phrase)
                )
        return regions

    def _masks(self, images: _Images, findings: _Findings) -> list[Region]:
        c, regions = self.columns, []
        for part in c.map.masks:
            label, target = label_name(part.label), snake_case(part.target)
            for i in self.rows:
                cell, where = str(c.frame[part.column].iloc[i]), f"{c.where(i)}, column {part.column}"
                mine = [image for image, rows in images.values() if i in rows and part.image in (None, image.name)]
                if not cell or not mine:
                    continue  # an image that could not be read has been rejected, and its mask with it
                file = find_file(c.root, [part.folder], cell)
                try:
                    if file is None:
                        raise ImageError(f"there is no mask {_looked([part.folder], cell)}")
                    if len(mine) > 1:
                        raise ImageError(
                            f"the mask lies in one of {len(mine)} images, and which is unknown (`image` under masks says it)"
                        )
                    mask = read_mask(file, part, mine[0].geometry.original_shape)
                except ImageError as error:
                    self._reject(where, f"{parse.reason(error)}: skipped")
                    continue
                if not mask.any():
                    self._drawn_empty(target, label, part.reader, findings)
                elif self._agrees(target, label, part.reader, findings, where, "a mask"):
                    regions.append(Region(label, mine[0].image_id, None, mask, target, part.reader))
        return regions

    def _agrees(self, target: str, label: str, reader: str, findings: _Findings, where: str, what: str) -> bool:
        """Make a finding that was drawn present, where nothing else is said; False (and rejected) if it is absent."""
        key = self._key(target, label, reader)
        if findings.get(key) is State.ABSENT:
            self._reject(where, f"{what} of {target}/{label}, which the labels call absent: skipped")
            return False
        if target != "anatomy":
            findings[key] = findings.get(key) or State.PRESENT
        return True

    def _drawn_empty(self, target: str, label: str, reader: str, findings: _Findings) -> None:
        """What was looked for and not drawn is absent, where nothing else is said."""
        key = self._key(target, label, reader)
        if target != "anatomy":
            findings[key] = findings.get(key) or State.ABSENT

    def _key(self, target: str, label: str, reader: str) -> Key:
        """The finding a drawing belongs to: of the same reader, else of the one reader the labels have for it."""
        readers = [r for t, name, r in self.columns.findings if (t, name) == (target, label)]
        return (target, label, readers[0] if len(readers) == 1 else reader)

    def _report(self) -> Report | None:
        c = self.columns
        sections: dict[str, str] = {}
        for section, (column, values) in c.texts.items():
            text = self._merge(column, values)
            if text is not None and section == "file":
                text = self._text_file(text)
            if text is not None and text.strip():
                sections |= split_sections(text) if section in ("", "file") else {section: text}
        return Report(sections) if sections else None

    def _text_file(self, name: str) -> str | None:
        c, part = self.columns, self.columns.map.report
        folder = part.folder if part else "."
        if (file := find_file(c.root, [folder], name)) is None:
            self._reject(c.where(self.rows[0]), f"there is no report {_looked([folder], name)}: skipped")
            return None
        try:
            return decode(file, c.map.table.encoding)
        except InputError as error:
            self._reject(c.where(self.rows[0]), f"report {_looked([folder], name)}: {parse.reason(error)}: skipped")
            return None

    def _record(self) -> Record | None:
        c = self.columns
        if not c.record:
            return None
        values = {name: self._merge(column, cells) for name, (column, cells) in c.record.items()}
        return Record(values, c.unknown_time)


def _looked(folders: Sequence[str], name: str) -> str:
    """Where a file was looked for: with its name, where the cell looks like one."""
    shown = parse.file_name(name)
    if shown != name:
        return f"({shown})"
    return " or ".join(Path(folder, name).as_posix() for folder in folders)


SOURCE = Source("table", ABOUT, read, preprocessing=preprocessing)
