"""Files as studies that a model can read: nothing of them is left out without a word."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PIL

from chiasm.cohort.preprocessing import Preprocessing
from chiasm.encoding.plan import Plan
from chiasm.errors import InputError
from chiasm.formats.cells import parse_age_years
from chiasm.formats.dicom import read_header, read_series
from chiasm.formats.dicom_headers import VOLUMES
from chiasm.formats.nifti import SUFFIXES, read_nifti
from chiasm.formats.pixels import numbered, read_picture, read_slices, to_gray
from chiasm.geometry import Geometry
from chiasm.report.sections import split_sections
from chiasm.sources.dicom import read as read_dicom_folder
from chiasm.sources.dicom import read_study as read_dicom_study
from chiasm.sources.table.cells import SEXES
from chiasm.sources.table.schema import record_name
from chiasm.study import Image, Record, Report, Study, View

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ENDINGS = (*SUFFIXES, *PICTURES, ".dcm", ".dicom", ".ima")

Cells = dict[str, float | str | None]
Words = str | Mapping[str, str] | Report | None
Values = Mapping[str, float | str | None] | Record | None
_LARGEST = 1e12  # no value of a chart is larger
_PLAIN = {"f", "m", "o", "yes", "no", "y", "n", "true", "false", "left", "right", *map(str, range(10))}
"""Words that an error may list, for they tell of no patient."""


def read_study(
    path: Path, plan: Plan, report: Path | None = None, record: Path | None = None
) -> tuple[Study, tuple[str, ...]]:
    """One study of an image, DICOM or NIfTI file, or of a folder with images/ and, if any, report.txt and record.json.

    Slices of one CT, MR or PET series in images/ are one volume. A folder without images/ is read as the source `dicom` reads
    one: DICOM files of any depth and any names, of one study, with as many series as there are. A picture says its view by a
    word of its name: pa, ap or lateral.

    Returns:
        the study as a model of this plan can read it, and a sentence for each part that it does not read.

    Raises:
        InputError: nothing there, a part of it cannot be read, the record does not fit, or the model reads nothing of it.
    """
    unread: list[str] = []
    scan: Study | None = None
    if path.is_dir():
        files = sorted(f for f in (path / "images").glob("[!.]*") if f.is_file())
        report = report or (path / "report.txt" if (path / "report.txt").is_file() else None)
        record = record or (path / "record.json" if (path / "record.json").is_file() else None)
        scan = None if (path / "images").is_dir() else _read_dicom_folder(path, plan, unread)
        if not (files or scan or report or record):
            raise InputError(
                "the study folder is empty",
                expected="images/ with files, DICOM files, report.txt or record.json, any of them",
                got="; ".join(unread[:3]),
                where=str(path),
            )
    elif path.is_file():
        files = [path]
    else:
        raise InputError("no such input", expected="a file or a study folder", where=str(path))
    names = {path: name_of(path)} if path.is_file() else _image_names(files, name_of(path))
    images, values = _read_images(names, plan, unread)
    if scan is not None:
        readable = [image for image in scan.images if _is_readable(image, plan, unread)]
        images = [_with_sequence(image, plan, image.image_id.partition("/")[2], unread) for image in readable]
        values = Cells(scan.record.values if scan.record else {})
    values = {n: value for n, value in values.items() if n in _columns(plan) and not _cell(n, value, plan)[1]}
    if record is not None:
        values |= _read_record(record, plan, unread)
    sections = _read_report(report, plan, unread) if report is not None else {}
    known = any(value is not None for value in values.values())
    if not (images or known or sections.keys() & {*plan.text_sections}):
        inputs = [("an image", plan.image_shape), ("a report", plan.text_sections), ("a record", _columns(plan))]
        raise InputError(
            "the model reads nothing of this study",
            expected=", ".join(text for text, takes in inputs if takes),
            got="; ".join(unread),
            where=str(path),
        )
    study = Study(
        study_id=name_of(path),
        patient_id=name_of(path),
        images=tuple(images),
        report=Report(sections) if sections else None,
        record=Record(values) if known else None,
    )
    return study, tuple(unread)


def study_of(
    given: Study | NDArray[np.generic] | PIL.Image, plan: Plan, report: Words, record: Values
) -> tuple[Study, tuple[str, ...]]:
    """A study of what is in memory, as a model of this plan can read it, and a sentence for each column that it does not know.

    Args:
        given: a study; an image [H, W] or [H, W, 3] of colours, or a volume [D, H, W], of any real dtype; or a picture of Pillow.
        report: its text, its sections by name, or a `Report`; record: column -> value, or a `Record`. They take the place of those
            of a study.

    Raises:
        InputError: it is none of these, its shape is that of no image, or a value of the record does not fit its column.
    """
    unread: list[str] = []
    if not isinstance(given, Study):
        image = _image_of(given, plan)
        given = Study(image.image_id, image.image_id, images=(image,))
    if isinstance(report, str):
        report = Report(split_sections(report))
    elif report is not None and not isinstance(report, Report):
        report = Report(dict(report))
    values = record.values if isinstance(record, Record) else record
    if values is not None:
        plain: Any = values  # what is no mapping is told below
        if isinstance(values, Mapping):
            plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
        given = replace(given, record=Record(_fit_record(plain, plan, unread, "record=")))
    return given if report is None else replace(given, report=report), tuple(unread)


MEMORY_ID = "study"
"""The id of a study that is an image in memory."""


def _image_of(given: NDArray[np.generic] | PIL.Image, plan: Plan) -> Image:
    flat = len(plan.image_shape or ()) != 3
    if isinstance(given, PIL.Image):
        pixels = to_gray(given)
    elif isinstance(given, np.ndarray):
        colours = flat and given.ndim == 3 and given.shape[2] in (3, 4) and given.dtype == np.uint8
        pixels = to_gray(PIL.fromarray(given)) if colours else given
    else:
        raise InputError(
            "this is no study",
            expected="a chiasm.Study, a NumPy array or a picture of Pillow; files are answered by chiasm.predict",
            got=f"a {type(given).__name__}",
        )
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or not np.issubdtype(pixels.dtype, np.number):
        raise InputError(
            "the array is no image",
            expected="numbers [H, W], [H, W, 3] of colours in uint8, or a volume [D, H, W]",
            got=f"{pixels.dtype} {list(pixels.shape)}",
        )
    return _with_modality(Image(MEMORY_ID, pixels, Geometry.identity(pixels.shape)), plan, Path(MEMORY_ID))


def name_of(path: Path) -> str:
    """A folder's name; a file's without what says its format. Other dots stay: a UID is a name with dots."""
    name = Path(os.path.abspath(path)).name
    ending = max((e for e in ENDINGS if name.lower().endswith(e) and path.is_file()), key=len, default="")
    return name[: len(name) - len(ending)] or name


def _image_names(files: Sequence[Path], study: str) -> dict[Path, str]:
    """STUDY/IMAGE for the files of a folder; an image keeps its ending where another has the rest of its name."""
    shared = Counter(name_of(file) for file in files)
    return {file: f"{study}/{name_of(file) if shared[name_of(file)] == 1 else file.name}" for file in files}


def _read_images(names: Mapping[Path, str], plan: Plan, unread: list[str]) -> tuple[list[Image], Cells]:
    """Images of the plan's dimension, and what DICOM headers say of the patient (age, sex).

    Raises:
        InputError: one that cannot be read, or headers that contradict each other.
    """
    groups: dict[object, list[Path]] = {}
    slices = plan.preprocessing.get("slices_mm", ())
    for file in names:
        picture = slices and file.suffix.lower() in PICTURES
        groups.setdefault("slices" if picture else _series(file) or file, []).append(file)
    images, values, patients = [], Cells(), set()
    for group in groups.values():
        image, found, patient = _read_group(group, names[group[0]], plan)
        patients |= {patient} - {""}
        clash = [k for k, v in found.items() if v is not None and values.get(k) not in (None, v)]
        if clash or len(patients) > 1:
            what = f"different {', '.join(clash)}" if clash else f"{len(patients)} patients"
            raise InputError("the images are not of one study", expected="one patient", got=what, where=str(group[0]))
        values |= {k: v for k, v in found.items() if v is not None}
        if _is_readable(image, plan, unread):
            images.append(_with_sequence(_with_modality(image, plan, group[0]), plan, name_of(group[0]), unread))
    return images, values


def _with_sequence(image: Image, plan: Plan, called: str, unread: list[str]) -> Image:
    """The image with the name by which the model tells it apart, which must be part of what its file is called."""
    if not plan.sequences:
        return image
    words = re.split(r"[^a-z0-9]+", called.lower())
    named = [s for s in plan.sequences if {*re.split(r"[^a-z0-9]+", s.lower())} <= {*words}]
    longest = [s for s in named if len(s) == max(map(len, named))]
    if len(longest) != 1:
        unread.append(f"image {called}: which it is of {', '.join(plan.sequences)} is not part of its name")
        return image
    return replace(image, name=longest[0])


def _is_readable(image: Image, plan: Plan, unread: list[str]) -> bool:
    """Whether the model reads an image of this dimension; what it does not read of it is added to `unread`."""
    name, ndim = Path(image.source).name, len(image.geometry.shape)
    kinds = {2: "a single image", 3: "a volume"}
    if plan.image_shape is None:
        unread.append(f"image {name}: the model reads no images")
    elif ndim != len(plan.image_shape):
        unread.append(f"image {name}: {kinds[ndim]}, the model reads {kinds[len(plan.image_shape)]}")
    else:
        unread += [f"{note.where}: {note.reason}" for note in image.notes]
        return True
    return False


def _read_dicom_folder(folder: Path, plan: Plan, unread: list[str]) -> Study | None:
    """The one study of a folder of DICOM files, as its import would read it, its images named for their first files.

    Raises:
        InputError: it holds several studies.
    """
    own = ("report.txt", "record.json")
    studies: list[Study] = []
    for item in read_dicom_folder(folder, intensity=plan.intensity):
        if isinstance(item, Study):
            studies.append(item)
        elif item.where not in own:
            unread.append(f"{item.where}: {item.reason}")
    if len(studies) > 1:
        patients = len({study.patient_id for study in studies})
        raise InputError(
            "the folder holds several studies",
            expected="the DICOM files of one study",
            got=f"{len(studies)} studies of {patients} patient{'s' * (patients > 1)}",
            where=str(folder),
            remedy="give each study a folder of its own, and name all of them: chiasm predict RUN FOLDER FOLDER",
        )
    if not studies:
        return None
    name = name_of(folder)
    images = tuple(replace(i, image_id=f"{name}/{i.source.split(' and ')[0]}") for i in studies[0].images)
    return replace(studies[0], images=images)


def _with_modality(image: Image, plan: Plan, path: Path) -> Image:
    """The image with the modality whose rule the import would follow: its own, or of those that the model learned from.

    Raises:
        InputError: it says none, its name neither, and the modalities would make different images of it.
    """
    if image.dicom_modality or not plan.preprocessing:
        return image
    prepare = Preprocessing.from_dict(plan.preprocessing).prepare
    known = plan.preprocessing["modalities"].get(f"pixels_{len(image.geometry.shape)}d", ())
    named = [name for name in known if name.lower() in re.split(r"[^a-z]+", name_of(path).lower())]
    made = {name: prepare(replace(image, dicom_modality=name), str(path)) for name in (named or known)}
    first = next(iter(made), "")
    if any(m.scale is not made[first].scale or not np.array_equal(m.pixels, made[first].pixels) for m in made.values()):
        raise InputError(
            "the modality of the image is unknown, and the model reads each of its modalities in another way",
            expected=f"one of {', '.join(made)} as a word of the file's name, as in scan_{first.lower()}.nii.gz",
            where=str(path),
        )
    return replace(image, dicom_modality=first)


def _series(path: Path) -> str:
    """The series of a DICOM file that holds a slice of a volume; "" for every other file."""
    if path.suffix.lower() in PICTURES or path.name.lower().endswith(SUFFIXES):
        return ""
    header = read_header(path, ("Modality", "SeriesInstanceUID"))
    return str(header.get("SeriesInstanceUID") or "") if str(header.get("Modality")) in VOLUMES else ""


def _read_group(
    files: Sequence[Path], image_id: str, plan: Plan
) -> tuple[Image, Mapping[str, float | str | None], str]:
    """The image of a file or of the slices of a volume, and the record and patient that a DICOM header names."""
    path = files[0]
    if path.name.lower().endswith(SUFFIXES):
        return read_nifti(path, image_id=image_id, name=path.name), {}, ""
    if path.suffix.lower() in PICTURES:
        if slices := plan.preprocessing.get("slices_mm"):
            return read_slices(numbered(files), slices, image_id=image_id, name=path.name), {}, ""
        channels = len(plan.preprocessing.get("channels", ()))
        return (
            replace(read_picture(path, image_id=image_id, name=path.name, channels=channels), view=_view(path)),
            {},
            "",
        )
    study = read_dicom_study(path, intensity=plan.intensity)
    image = read_series(files, intensity=plan.intensity) if len(files) > 1 else study.images[0]
    patient = "" if study.patient_id.startswith("unknown-") else study.patient_id
    return replace(image, image_id=image_id), study.record.values if study.record else {}, patient


def _view(path: Path) -> View:
    """A picture has no header to say its view; a word of its name can: "pa", "ap" or "lateral"."""
    words = set(re.split(r"[^a-z]+", path.stem.lower())) & {View.PA.value, View.AP.value, View.LATERAL.value}
    return View(words.pop()) if len(words) == 1 else View.OTHER


def _read_report(path: Path, plan: Plan, unread: list[str]) -> dict[str, str]:
    sections = split_sections(_read_text(path))
    if not plan.text_sections:
        unread.append("report: the model reads none")
    elif not sections:
        unread.append("report: it is empty")
    elif other := [name for name in sections if name not in plan.text_sections]:
        unread.append(f"report: {', '.join(other)}; the model reads {', '.join(plan.text_sections)}")
    return sections


def _read_record(path: Path, plan: Plan, unread: list[str]) -> Cells:
    """The values of a JSON file under the names of the plan, as an import would have read them.

    What has one meaning is taken: 3, 3.0 and "3"; Female for f; an old name of a column (gender). A key that the plan does not
    know is said, for a misspelt one would be missing without a word.

    Raises:
        InputError: no JSON object, a key that comes twice, or a value that does not fit its column.
    """
    twice: list[str] = []

    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in given)
        twice.extend(key for key, count in counts.items() if count > 1)
        return dict(given)

    try:
        values = json.loads(_read_text(path), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the record cannot be read", expected="a JSON object", got=type(error).__name__, where=str(path)
        ) from None
    return _fit_record(values, plan, unread, str(path), twice)


def _fit_record(values: Any, plan: Plan, unread: list[str], where: str, twice: Sequence[str] = ()) -> Cells:
    """Columns and values under the names of the plan.

    Args:
        twice: keys that came twice.

    Raises:
        InputError: they are none, a key comes twice, or a value does not fit its column.
    """
    if not isinstance(values, dict) or not all(v is None or isinstance(v, int | float | str) for v in values.values()):
        raise InputError(
            "the record does not fit",
            expected='an object of columns and values, {"age_years": 63, "sex": "f"}',
            where=where,
        )
    if not _columns(plan):
        unread.append("record: the model reads none")
        return {}
    cells, faults = Cells(), [f"{key} comes twice" for key in twice]
    for key, value in values.items():
        name = key if key in _columns(plan) else record_name(key)
        if name not in _columns(plan):
            near = difflib.get_close_matches(name, _columns(plan), 1)
            what = key if re.fullmatch(r"\w{1,40}", key) else f"of {len(key)} characters"
            unread.append(f"record: unknown column {what}" + (f", did you mean {near[0]}?" if near else ""))
        elif name in cells:
            faults.append(f"{name} comes twice, under two names")
        else:
            cells[name], fault = _cell(name, value, plan)
            faults += [fault] if fault else []
    if faults:
        raise InputError(
            "the record does not fit the model",
            expected=f"columns {', '.join(_columns(plan))}; null or no entry where a value is missing",
            got="; ".join(faults),
            where=where,
        )
    return cells


def _cell(name: str, value: object, plan: Plan) -> tuple[float | str | None, str]:
    """A value as the model knows it, or why it does not; the value itself is never quoted."""
    text = value.strip() if isinstance(value, str) else value
    if text is None or text == "":
        return None, ""
    if name in plan.numeric:
        return _number(name, text)
    known = plan.categories[name]
    forms = [str(text), str(text).lower()]
    if not isinstance(text, bool):
        number, fault = _number(name, text)
        forms += [f"{number:g}", f"{number:.1f}"] if number is not None and not fault else []
    forms += [SEXES[forms[1]]] if name == "sex" and forms[1] in SEXES else []
    found = next((form for form in forms if form in known), None)
    # the words of other patients' charts are theirs: only what any chart may hold is listed
    words = f" {', '.join(known)}" if {*known} <= _PLAIN else f", of which the model knows {len(known)}"
    return found, "" if found is not None else f"{name} is none of the words{words}"


def _number(name: str, value: object) -> tuple[float | None, str]:
    try:
        if name == "age_years" and isinstance(value, str):
            number = parse_age_years(value)
        else:
            number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > _LARGEST:
        return None, f"{name} is not a number" if not math.isfinite(number) else f"{name} is no number of a chart"
    return number, ""


def _columns(plan: Plan) -> tuple[str, ...]:
    return (*plan.numeric, *plan.categories)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8 text", where=str(path), remedy="save it as UTF-8") from None
    except OSError as error:
        raise InputError("the file cannot be read", got=error.strerror or "", where=str(path)) from None
