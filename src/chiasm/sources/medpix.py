"""MedPix 2.0 (Siragusa et al. 2025): CT and MR pictures with captions, in cases with a history and findings.

    Descriptions.json             a list with an entry an image: image, U_id (the case), Type (CT or MR), Location Category, and
                                  Description: Caption, Age, Sex, Modality, Plane
    Case_topic.json               optional: a list with an entry a case: U_id and Case: History, Findings, diagnosis, ...
    images/                       named as in Descriptions.json, with any extension

A study is one image, a patient one case. The caption belongs to the image (section "caption", the description's target);
"history" and "findings" belong to the case, are the same for all its images, and the findings may speak of other images
and name the diagnosis. Diagnosis, differential, treatment, discussion, title and topic never become inputs or targets.

What the fields hold is not always what they say: "N/A", null, "IN PROGRESS" and a form left unfilled are missing; age "0"
is what an unknown age was entered as (the histories tell of adults; infants are entered as 1) and is missing. Images
tagged Drawing, Photograph or Gross Pathology are pictures of CT and MR like the others, and are kept.

The target `location` is the Location Category, one label a category: the image's own is present, the others absent.

Under most pictures stands a footer of one or two lines (a number, the uploader's name, a date). It is found as rows of
thin strokes at the lower edge and cropped (`chiasm.formats.crop`) when a picture is stored, and when one is predicted;
`Geometry` knows the crop. The word "MedPix" in a corner and window settings
inside the picture stay, as does a footer too faint to see (below a gray value of 16).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chiasm.errors import ChiasmError, InputError, TableError
from chiasm.formats.cells import Files, Row, check_folder, reason
from chiasm.formats.pixels import read_image
from chiasm.geometry import Geometry
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Record, Rejected, Report, State, Study
from chiasm.vocabulary import snake_case

ABOUT = "MedPix 2.0: CT and MR images with captions, case histories and case findings"
_FORM = "History (can include gestational age, or age in days, weeks, months):"
_UNFILLED = {"in progress", "replace this - description of the image or findings", "hx not provided"}
_log = logging.getLogger(__name__)


def preprocessing(*, crop_footer: bool = True) -> dict[str, Any]:
    """What an import does to the pictures: the footer is cropped, unless told otherwise."""
    return {"crop": "footer" if crop_footer else ""}


def read(path: Path) -> Iterator[Study | Rejected]:
    """One study an image, in the order of Descriptions.json.

    Raises:
        InputError: no such folder.
        TableError: Descriptions.json is not there, or a file is not of this layout.
    """
    check_folder(path, "Descriptions.json and images/")
    rows = _read_entries(path / "Descriptions.json", "Description", ("image", "U_id", "Caption"))
    cases: dict[str, Row] = {}
    if (path / "Case_topic.json").is_file():
        for row in _read_entries(path / "Case_topic.json", "Case", ("U_id", "History", "Findings")):
            if (case := row.text("U_id")) is None or case in cases:
                yield Rejected(row.where, "U_id is missing or repeats an earlier one")
            else:
                cases[case] = row
    else:
        _log.warning("there is no Case_topic.json: studies have captions alone")
    categories = sorted({category for row in rows if (category := row.text("Location Category"))})
    files, seen = Files([path / "images"]), set()
    unknown_ages = 0
    for row in rows:
        try:
            name, case = row.text("image"), row.text("U_id")
            file = files.find(name or "")
            if name is None or case is None or name in seen:
                raise InputError("U_id is missing, or the image repeats an earlier one")
            seen.add(name)
            image = _image(name, file, row.text("Type") or "", path)
        except ChiasmError as error:
            yield Rejected(row.where, reason(error))
            continue
        age = row.age_years("Age")
        unknown_ages += age == 0
        yield Study(
            name,
            case,
            (image,),
            _report(row, cases.get(case), name),
            Record({"age_years": age or None, "sex": row.sex("Sex")}),
            _location(row, categories),
        )
        yield from row.rejected
    for file in files.left():
        yield Rejected(str(file.relative_to(path)), "no entry in Descriptions.json")
    if unknown_ages:
        _log.warning('%d ages of "0" stand for an unknown age: treated as missing', unknown_ages)


def _image(name: str, file: Path, modality: str, path: Path) -> Image:
    pixels = read_image(file)
    dicom_modality = modality if modality in ("CT", "MR") else "OT"
    geometry = Geometry.identity(pixels.shape)
    return Image(name, pixels, geometry, dicom_modality=dicom_modality, source=str(file.relative_to(path)))


def _report(row: Row, case: Row | None, image_id: str) -> Report | None:
    sections = {"history": case and _words(case, "History"), "findings": case and _words(case, "Findings")}
    sections["caption"] = _words(row, "Caption")
    filled = {name: text for name, text in sections.items() if text}
    return Report(filled, image_id) if filled else None


def _words(row: Row, column: str) -> str | None:
    text = (row.text(column) or "").removeprefix(_FORM).strip()
    return None if not text or text.lower().rstrip(". ") in _UNFILLED else text


def _location(row: Row, categories: list[str]) -> tuple[Finding, ...]:
    own = row.text("Location Category")
    return tuple(
        Finding(snake_case(name), State.PRESENT if name == own else State.ABSENT, target="location", reader="medpix")
        for name in (categories if own else ())
    )


def _read_entries(path: Path, inner: str, keys: tuple[str, ...]) -> list[Row]:
    """The entries of a list, each with what is inside its `inner` as one row of texts; what is no text or number is left out.

    Raises:
        TableError: not there, no JSON list, or one of `keys` is in no entry.
    """
    expected = f"a JSON list of entries with {', '.join(keys)}"
    try:
        entries: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        got = "no such file" if isinstance(error, OSError) else type(error).__name__
        raise TableError("The file cannot be read", expected=expected, got=got, where=str(path)) from None
    if not isinstance(entries, list):
        got = type(entries).__name__
        raise TableError("The file is not of this layout", expected=expected, got=got, where=str(path))
    rows: list[Row] = []
    found: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        outer: dict[str, Any] = entry if isinstance(entry, dict) else {}
        cells = {**outer, **(outer[inner] if isinstance(outer.get(inner), dict) else {})}
        found |= cells.keys()
        texts = {key: str(value) for key, value in cells.items() if isinstance(value, str | int | float)}
        rows.append(Row(f"{path.name}: entry {number}", texts))
    if lacking := [key for key in keys if key not in found]:
        got = ", ".join(sorted(found)) or "nothing"
        raise TableError(f"No entry has {', '.join(lacking)}", expected=expected, got=got, where=str(path))
    return rows


SOURCE = Source("medpix", ABOUT, read, preprocessing=preprocessing)
