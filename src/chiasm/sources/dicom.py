"""A folder of DICOM files, of any depth and any names, grouped by the UIDs in their headers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chiasm.errors import ImageError, InputError
from chiasm.formats.cells import CellError, parse_age_years, parse_sex, reason, walk
from chiasm.formats.dicom import read_dicom, read_header, read_series
from chiasm.formats.dicom_headers import VOLUMES, kind_of, unquoted
from chiasm.formats.grayscale import numbers
from chiasm.formats.intensity import Intensity
from chiasm.formats.reading import explained
from chiasm.sources.registry import Source
from chiasm.sources.table.join import Joined
from chiasm.study import Image, Record, Rejected, Study

ABOUT = "a folder of DICOM files, grouped by study; the slices of a CT, MR or PET series become one volume"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_TAGS = (
    *_UIDS,
    "Modality",
    "AccessionNumber",
    "PatientID",
    "PatientAge",
    "PatientSex",
    "PatientBirthDate",
    "StudyDate",
    "InstanceNumber",
    "Rows",
)


@dataclass(frozen=True)
class _File:
    """What grouping needs to know of one DICOM file: `name` is its path below the source folder, `text` header values."""

    path: Path
    name: str
    text: Mapping[str, str]
    number: int


def preprocessing(*, window: Sequence[float] | str | None = None) -> dict[str, Any]:
    """What an import does to pixels: `window` is the rule of CT, as in --window."""
    return {} if window is None else {"intensity": {"CT": window}}


def read(
    path: Path,
    *,
    labels: str | Path | None = None,
    map: str | Path | Mapping[str, Any] | None = None,
    intensity: Intensity | None = None,
    pseudonymize: bool = True,
) -> Iterator[Study | Rejected]:
    """Read every study below a folder (or of one file), one at a time.

    Headers are read first, without pixels; then the pixels of one study after the other. A series of several CT, MR or PET
    slices is one volume of modality values; every other object is an image as it is shown, or of modality values where the
    intensity rule of its modality is a window. Record: `age_years` (PatientAge,
    else from the dates of birth and study), `sex`. Names are never read. The order is that of the file names.

    Args:
        labels: a table with labels, reports and chart values, which are joined to the studies by StudyInstanceUID,
            AccessionNumber or PatientID, the first of them that it has a column of. What a table says of a patient holds of
            each of the patient's studies.
        map: which column of that table is what (docs/table.md); None to guess by their names.
        intensity: the rules of modalities; the defaults if None.
        pseudonymize: keep a hash of PatientID instead of the ID. Whoever has a list of IDs can find them again:
            it keeps IDs out of sight, it is no anonymization. UIDs of studies, series and objects stay.

    Yields:
        A `Study`, after a `Rejected` for each file, series or header value that was skipped.

    Raises:
        InputError: no such path. TableError: the table or its map does not fit.
    """
    joined = Joined(Path(labels), map) if labels is not None else None
    if map is not None and labels is None:
        raise InputError("a map without a table", expected="labels, the table that the map describes", where="map")
    return _read(path, joined, intensity, pseudonymize)


def _read(
    path: Path, joined: Joined | None, intensity: Intensity | None, pseudonymize: bool
) -> Iterator[Study | Rejected]:
    if not path.exists():
        raise InputError("The DICOM folder is not there", expected=ABOUT, got="no such path", where=str(path))
    objects: dict[str, list[_File]] = {}
    for found in _scan(path):
        if isinstance(found, Rejected):
            yield found
        else:
            objects.setdefault(found.text["SOPInstanceUID"], []).append(found)
    studies: dict[str, list[_File]] = {}
    for copies in objects.values():
        whole = next((file for file in copies if _is_whole(file)), copies[0]) if len(copies) > 1 else copies[0]
        for other in (file for file in copies if file is not whole):
            yield Rejected(other.name, f"the same object as {whole.name} (one SOPInstanceUID)")
        studies.setdefault(whole.text["StudyInstanceUID"], []).append(whole)
    yield from joined.rejected if joined else ()
    for files in studies.values():
        for item in _read_study(files, intensity, pseudonymize):
            if joined is None or isinstance(item, Rejected):
                yield item
            else:
                names = {file.text[joined.key] for file in files} - {""}
                yield from joined.join(item, names.pop() if len(names) == 1 else "", files[0].name)
    yield from joined.left() if joined else ()


def _is_whole(file: _File) -> bool:
    """Whether the pixels of an object can be read: of several copies one may be truncated."""
    try:
        read_dicom(file.path, name=file.name)
    except ImageError:
        return False
    return True


def read_study(path: Path, *, intensity: Intensity | None = None, pseudonymize: bool = True) -> Study:
    """One DICOM file as a study of one image: what a predictor is handed. What it lacks of UIDs is made of its name.

    Raises:
        ImageError: the file cannot be read as an image; see `chiasm.formats.dicom.read_dicom`.
    """
    file = _file(path, path.name, lenient=True)
    image = read_dicom(path, intensity=intensity, name=path.name)
    record, _ = _record([file])
    patient, _ = _patient([file], pseudonymize)
    return Study(file.text["StudyInstanceUID"], patient, (image,), record=record)


def _scan(path: Path) -> Iterator[_File | Rejected]:
    for file in [path] if path.is_file() else walk(path):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            yield _file(file, name)
        except ImageError as error:
            yield Rejected(name, reason(error))


@unquoted()
def _file(path: Path, name: str, *, lenient: bool = False) -> _File:
    header = read_header(path, _TAGS, where=name)
    with explained("The DICOM header is damaged", name):
        if not header.get("Rows"):
            raise ImageError("The DICOM object has no pixels", got=kind_of(header), where=name)
        text = {tag: str(header.get(tag) or "").strip() for tag in _TAGS}
    lacking = [uid for uid in _UIDS if not text[uid]]
    if lacking and not lenient:
        raise ImageError("The DICOM object cannot be grouped", expected=" and ".join(_UIDS), where=name)
    text |= dict.fromkeys(lacking, path.stem)
    return _File(path, name, text, int((numbers(header, "InstanceNumber", name) or (0,))[0]))


def _read_study(files: list[_File], intensity: Intensity | None, pseudonymize: bool) -> Iterator[Study | Rejected]:
    patient, fault = _patient(files, pseudonymize)
    if fault:
        yield fault
    if not patient:
        return
    record, faults = _record(files)
    yield from faults
    series: dict[str, list[_File]] = {}
    for file in sorted(files, key=lambda file: (file.number, file.name)):
        series.setdefault(file.text["SeriesInstanceUID"], []).append(file)
    images: list[Image] = []
    for members in sorted(series.values(), key=lambda members: min(file.name for file in members)):
        for group in _groups(members):
            name = group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more"
            try:
                if len(group) > 1:
                    paths, names = [file.path for file in group], [file.name for file in group]
                    images.append(read_series(paths, intensity=intensity, name=name, names=names))
                else:
                    images.append(read_dicom(group[0].path, intensity=intensity, name=name))
            except ImageError as error:
                yield Rejected(name, reason(error))
    if images:
        yield Study(files[0].text["StudyInstanceUID"], patient, tuple(images), record=record)


def _groups(series: list[_File]) -> list[list[_File]]:
    """The files of a series that make a volume together, or an image each."""
    return [series] if series[0].text["Modality"] in VOLUMES else [[file] for file in series]


def _patient(files: list[_File], pseudonymize: bool) -> tuple[str, Rejected | None]:
    """The patient of a study ("" where its files disagree), and what is to be said of it."""
    known = {file.text["PatientID"] for file in files} - {""}
    where = files[0].name
    if len(known) > 1:
        return "", Rejected(where, f"{len(files)} files of one study belong to {len(known)} patients: all are skipped")
    if not known:
        alone = "no PatientID: the study counts as a patient of its own, who may have other studies in another split"
        return f"unknown-{files[0].text['StudyInstanceUID']}", Rejected(where, alone, taken=True)
    name = known.pop()
    return (hashlib.sha256(name.encode()).hexdigest()[:16] if pseudonymize else name), None


def _record(files: list[_File]) -> tuple[Record, list[Rejected]]:
    """Age and sex of a study, and what of its headers was skipped."""
    where, faults = files[0].name, []
    values: dict[str, float | str | None] = {}
    for column, tag, parse in (("age_years", "PatientAge", parse_age_years), ("sex", "PatientSex", parse_sex)):
        values[column] = None
        said = {file.text[tag] for file in files if file.text[tag]}
        if column == "age_years" and not said:
            said = {
                age for file in files if (age := _age_by_dates(file.text["PatientBirthDate"], file.text["StudyDate"]))
            }
        if len(said) > 1:
            faults.append(Rejected(where, f"{tag}: {len(said)} different values in one study: treated as missing"))
        elif said:
            try:
                values[column] = parse(said.pop())
            except CellError as error:
                values[column] = error.value
                faults.append(Rejected(where, f"{tag}: {error}", error.value is not None))
    return Record(values), faults


def _age_by_dates(born: str, studied: str) -> str:
    """An age as DICOM writes it, in whole years, or in months below two; "" without dates, no age where they make none."""
    if not (born and studied):
        return ""
    try:
        start, end = (datetime.strptime(day, "%Y%m%d").date() for day in (born, studied))
    except ValueError:
        return "dates of another form"
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    return "a birth after the study" if months < 0 else f"{months // 12:03d}Y" if months >= 24 else f"{months:03d}M"


SOURCE = Source("dicom", ABOUT, read, preprocessing=preprocessing)
