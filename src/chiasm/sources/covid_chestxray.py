"""The covid-chestxray-dataset (Cohen et al. 2020): figures of publications with case histories, labs and outcomes.

    metadata.csv                  a row an image: patientid, offset, age, finding, survival, ..., clinical_notes, filename
    images/                       any file names, any sizes
    lung-boxes.csv                optional: filename, lung, x, y, w, h in pixels of these images
    covid-severity-scores.csv     optional: filename, geographic_mean (0 .. 8), opacity_mean (0 .. 6) (Cohen et al. 2020)
    brixia-scores.csv             optional: filename, {S,J}-{A..F,Global} (Signoroni et al. 2021): two readers, six zones of
                                  0 .. 3 and their sum

A study is one image; the images of a patient, days apart, share the patient. What becomes of the columns:

- `finding` is a diagnosis in a tree ("Pneumonia/Viral/COVID-19"; the short names of older releases are put in their
  place in it). Target `findings`, reader "diagnosis": what lies on the way to the diagnosis is present; other branches
  of the same tree are absent, for the source names one cause; what lies below the diagnosis, or in another tree (ARDS
  beside pneumonia), is not mentioned. "No Finding" makes all absent; "todo" and "Unknown" say nothing.
- `clinical_notes` are case histories as much as reports: section "history". They often name the diagnosis or the
  outcome, so they leak when they are an input. `other_notes` (credits) are skipped.
- Labs and temperature were taken at an unknown time: a recipe must opt in. `pO2_saturation` mixes percent and mmHg,
  which no rule can tell apart (a pO2 of 60 to 100 mmHg is as usual as a saturation); it stays one column whose name says
  so.
- What happened is the target `outcome` (yes or no); `death` is the contrary of `survival`. "Not visible" and "Would have
  been stated" are no answers. Scores are the target `severity`, each reader's his own.
- `view`: "AP Supine" and the like are AP, "L" is lateral.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from chiasm.errors import ChiasmError, InputError
from chiasm.formats.cells import Files, Row, check_folder, read_rows, reason
from chiasm.formats.pixels import read_image
from chiasm.geometry import Geometry
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Rejected, Report, State, Study, View
from chiasm.vocabulary import canonical, snake_case

ABOUT = (
    "covid-chestxray-dataset: chest X-rays with case histories, labs, outcomes, severity and Brixia scores, lung boxes"
)
DICOM_MODALITY = {"X-ray": "DX", "CT": "CT"}
_COLUMNS = (
    "patientid",
    "offset",
    "sex",
    "age",
    "finding",
    "survival",
    "view",
    "modality",
    "filename",
    "clinical_notes",
)
_OUTCOMES = (
    *("intubated", "intubation_present", "went_icu", "in_icu", "needed_supplemental_O2", "extubated"),
    "survival",
)
_NO_ANSWER = ("not visible", "would have been stated")
_LABS = {  # column: (name, least, most); the bounds are those of a living patient, so that a wrong unit is noticed
    "temperature": ("temperature_c", 25.0, 45.0),
    "pO2_saturation": ("po2_saturation_mixed_units", 0.0, 700.0),
    "leukocyte_count": ("leukocytes_1e9_per_l", 0.0, 500.0),
    "neutrophil_count": ("neutrophils_1e9_per_l", 0.0, 500.0),
    "lymphocyte_count": ("lymphocytes_1e9_per_l", 0.0, 500.0),
}
_BRANCHES = {
    "Viral": ("COVID-19", "SARS", "MERS-CoV", "Influenza", "Varicella", "Herpes"),
    "Bacterial": (
        *("Streptococcus", "Klebsiella", "E.Coli", "Legionella", "Mycoplasma", "Mycoplasma Bacterial Pneumonia"),
        *("Chlamydophila", "Nocardia"),
    ),
    "Fungal": ("Pneumocystis", "Aspergillosis"),
}
_PATHS = {
    **{snake_case(branch): ("Pneumonia", branch) for branch in _BRANCHES},
    **{snake_case(leaf): ("Pneumonia", branch, leaf) for branch, leaves in _BRANCHES.items() for leaf in leaves},
    **{snake_case(leaf): ("Pneumonia", leaf) for leaf in ("Lipoid", "Aspiration")},
}
_NAMES = {
    **{kind: f"{kind}_pneumonia" for kind in ("viral", "bacterial", "fungal", "lipoid", "aspiration")},
    "mycoplasma_bacterial_pneumonia": "mycoplasma",
}
_log = logging.getLogger(__name__)

Diagnosis = tuple[str, ...]
"""The names from the root of a tree to the diagnosis: ("pneumonia", "viral_pneumonia", "covid_19")."""


def read(path: Path, *, modality: str = "X-ray") -> Iterator[Study | Rejected]:
    """One study an image.

    Args:
        modality: which images to take, by the column `modality`: "X-ray", "CT" or "all".

    Raises:
        InputError: no such folder, or another modality.
        TableError: metadata.csv is not there, or a table lacks a column.
    """
    if modality not in (*DICOM_MODALITY, "all"):
        choices = ", ".join([*DICOM_MODALITY, "all"])
        raise InputError("There is no such modality", expected=choices, got=modality, where="option modality")
    check_folder(path, "metadata.csv and images/")
    rows = list(read_rows(path / "metadata.csv", _COLUMNS, key="filename"))
    files = Files([path / "images"])
    regions: dict[str, list[Region]] = defaultdict(list)
    scores: dict[str, list[Outcome]] = defaultdict(list)
    yield from _read_lung_boxes(path / "lung-boxes.csv", regions)
    yield from _read_severity(path / "covid-severity-scores.csv", scores)
    yield from _read_brixia(path / "brixia-scores.csv", scores)
    _say_conflicts(row for row in rows if isinstance(row, Row))
    listed = [diagnoses for row in rows if isinstance(row, Row) for diagnoses in (_diagnoses(row) or ())]
    tree = sorted({diagnosis[:depth] for diagnosis in listed for depth in range(1, len(diagnosis) + 1)})
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            name = row.cells["filename"].strip()
            file = files.find(name)
            if modality not in (row.text("modality"), "all"):
                raise InputError(f"the modality is not {modality}", got=row.text("modality") or "none")
            yield _study(row, path, file, _findings(row, tree), regions.pop(name, []), scores.pop(name, []))
        except ChiasmError as error:
            yield Rejected(row.where, reason(error))
        yield from row.rejected
    for file in files.left():
        yield Rejected(str(file.relative_to(path)), "no row in metadata.csv")
    known = {row.cells["filename"].strip() for row in rows if isinstance(row, Row)}
    for name in sorted((regions.keys() | scores.keys()) - known):
        yield Rejected(f"{name} in the tables of boxes and scores", "no row in metadata.csv")
    if files.by_stem:
        _log.warning("%d images were found under another extension than the table gives", files.by_stem)


def _study(
    row: Row, path: Path, file: Path, findings: tuple[Finding, ...], regions: list[Region], scores: list[Outcome]
) -> Study:
    patient, name = row.text("patientid"), row.cells["filename"].strip()
    if patient is None:
        raise InputError("patientid is missing")
    pixels = read_image(file)
    image = Image(
        name,
        pixels,
        Geometry.identity(pixels.shape),
        view=_view(row.text("view")),
        dicom_modality=DICOM_MODALITY.get(row.text("modality") or "", "OT"),
        source=str(file.relative_to(path)),
    )
    labs = {name: row.number(column, low, high) for column, (name, low, high) in _LABS.items()}
    chart = {"age_years": row.age_years("age"), "sex": row.sex("sex"), "offset_days": row.number("offset")}
    note = row.text("clinical_notes")
    return Study(
        name,
        patient,
        (image,),
        Report({"history": note}) if note else None,
        Record({**chart, **labs}, frozenset(labs)),
        findings,
        tuple(regions),
        (*_outcomes(row), *scores),
    )


def _view(text: str | None) -> View:
    words = (text or "").upper().split()
    if not words:
        return View.OTHER
    return {"PA": View.PA, "AP": View.AP, "L": View.LATERAL, "LATERAL": View.LATERAL}.get(words[0], View.OTHER)


def _diagnoses(row: Row) -> list[Diagnosis] | None:
    """The diagnoses of a row: [] for "No Finding", None where nothing is said."""
    texts = [text for text in (row.text("finding") or "").split(",") if text.strip()]
    parts = [_PATHS.get(snake_case(text), tuple(text.split("/"))) for text in texts]
    paths = [tuple(canonical(_NAMES.get(snake_case(part), part)) for part in path if part.strip()) for path in parts]
    return [path for path in paths if path != ("normal",)] if paths else None


def _findings(row: Row, tree: Iterable[Diagnosis]) -> tuple[Finding, ...]:
    diagnoses = _diagnoses(row)
    if diagnoses is None:
        return ()
    findings = []
    for node in tree:
        near = [diagnosis for diagnosis in diagnoses if diagnosis[0] == node[0]]
        if any(diagnosis[: len(node)] == node for diagnosis in near):
            findings.append(Finding(node[-1], State.PRESENT, reader="diagnosis"))
        elif not diagnoses or (near and not any(node[: len(diagnosis)] == diagnosis for diagnosis in near)):
            findings.append(Finding(node[-1], State.ABSENT, reader="diagnosis"))
    return tuple(findings)


def _outcomes(row: Row) -> Iterator[Outcome]:
    for column in _OUTCOMES:
        if (value := row.yes_no(column, _NO_ANSWER)) is not None:
            died = column == "survival"
            yield Outcome("death" if died else snake_case(column), 1 - value if died else value)


def _say_conflicts(rows: Iterable[Row]) -> None:
    """Diagnoses may change from image to image, and sex may be mistyped; both stay as published."""
    seen: Mapping[str, dict[str, set[str]]] = {"finding": defaultdict(set), "sex": defaultdict(set)}
    for row in rows:
        for column, values in seen.items():
            if text := row.cells[column].strip():
                values[row.cells["patientid"].strip()].add(text)
    for column, values in seen.items():
        if count := sum(len(found) > 1 for found in values.values()):
            _log.warning("%d patients have images of different %s: kept as published", count, column)


def _read_lung_boxes(table: Path, regions: dict[str, list[Region]]) -> Iterator[Rejected]:
    for row in read_rows(table, ("filename", "lung", "x", "y", "w", "h")) if table.is_file() else ():
        if isinstance(row, Rejected):
            yield row
            continue
        x, y, w, h = (row.number(column) for column in "xywh")
        name, lung = row.text("filename"), row.text("lung")
        if name is None or lung is None or x is None or y is None or not w or not h or w < 0 or h < 0:
            yield from row.rejected or [Rejected(row.where, "a cell is missing, or the box has no area")]
            continue
        regions[name].append(
            Region(snake_case(lung), name, (x, y, x + w, y + h), target="anatomy", reader="lung-boxes")
        )


def _read_severity(table: Path, scores: dict[str, list[Outcome]]) -> Iterator[Rejected]:
    columns = {"geographic_mean": ("geographic", 8.0), "opacity_mean": ("opacity", 6.0)}
    for row in read_rows(table, ("filename", *columns), key="filename") if table.is_file() else ():
        if isinstance(row, Row):
            for column, (name, most) in columns.items():
                _score(row, column, name, most, "mean", scores)
        yield from [row] if isinstance(row, Rejected) else row.rejected


def _read_brixia(table: Path, scores: dict[str, list[Outcome]]) -> Iterator[Rejected]:
    zones = "ABCDEF"
    columns = [f"{reader}-{zone}" for reader in "SJ" for zone in (*zones, "Global")]
    for row in read_rows(table, ("filename", *columns), key="filename") if table.is_file() else ():
        if isinstance(row, Rejected):
            yield row
            continue
        for reader in "SJ":
            for zone in zones:
                _score(row, f"{reader}-{zone}", f"brixia_{reader}_{zone}".lower(), 3.0, reader, scores)
            _score(row, f"{reader}-Global", f"brixia_{reader}".lower(), 18.0, reader, scores)
        yield from row.rejected


def _score(row: Row, column: str, name: str, most: float, reader: str, scores: dict[str, list[Outcome]]) -> None:
    if (value := row.number(column, 0, most)) is not None:
        image = row.cells["filename"].strip()
        scores[image].append(Outcome(name, value, Kind.REGRESSION, target="severity", reader=reader))


SOURCE = Source("covid-chestxray", ABOUT, read)
