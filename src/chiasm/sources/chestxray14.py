"""NIH ChestX-ray14 (Wang et al. 2017), with the published boxes and, beside them, RSNA's reviewed lung opacities.

    Data_Entry_2017*.csv          a row an image: Finding Labels, Patient ID, age, sex, view
    images/ or images_*/images/   PNG or JPEG, of any size
    BBox_List_2017.csv            optional: boxes of some findings
    rsna*.csv                     optional: boxes and reviewed negatives, matched to NIH images (column Image Index)
    train_val_list.txt, test_list.txt    optional: the published split

Two truths stay two. NIH's labels, mined from report text, are the target `findings` (reader "nih"): of the 14, what is
listed is present and the rest is absent; "No Finding" makes all 14 absent and is no label itself. What radiologists of
the RSNA drew is the target `lung_opacity` (reader "rsna"): an image in their table has it or has it not, and of an image
that is not in their table nothing is known.

Both kinds of boxes were published in a frame of 1024 x 1024 pixels, whatever the size of the image at hand; that frame
is the original of every `Geometry` here. A box may carry a finding that the image's text-mined labels lack: both are
kept as published. The published split has no validation set: a tenth of its training patients, by hash, becomes one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chiasm.errors import ChiasmError, InputError, TableError
from chiasm.formats.cells import Files, Row, check_folder, find_table, read_rows, reason
from chiasm.formats.pixels import read_image
from chiasm.geometry import Geometry
from chiasm.sources.registry import Source
from chiasm.splits import split_of
from chiasm.study import Finding, Image, Record, Region, Rejected, State, Study, View
from chiasm.vocabulary import canonical, scheme

ABOUT = "NIH ChestX-ray14: chest X-rays, 14 text-mined labels, NIH boxes, RSNA lung opacity boxes"
FRAME = (1024, 1024)
LABELS = tuple(name for name in scheme("chestxray14") if name != "normal")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_RSNA_COLUMNS = ("Image Index", "x", "y", "width", "height", "Target")
_log = logging.getLogger(__name__)


@dataclass
class _Beside:
    """What the tables beside Data_Entry say, by image id.

    Attributes:
        opacity: RSNA's verdict.
        split: "train" or "test" as published; empty where the lists are not there.
    """

    boxes: dict[str, list[Region]] = field(default_factory=lambda: defaultdict(list))
    opacity: dict[str, State] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    seed: int = 0


def read(path: Path, *, seed: int = 0) -> Iterator[Study | Rejected]:
    """One study an image, in the order of the table; a patient's images share the patient.

    Args:
        seed: of the validation set that is taken out of the published split's training patients.

    Raises:
        InputError: no such folder, or no Data_Entry table in it.
        TableError: a table lacks a column.
    """
    check_folder(path, "Data_Entry_2017*.csv and images/")
    table = find_table(path, "Data_Entry_2017*.csv")
    if table is None:
        raise InputError("There is no table of the images", expected="Data_Entry_2017*.csv", where=str(path))
    files = Files(sorted(folder for folder in path.glob("images*") if folder.is_dir()))
    beside = _Beside(split=_read_split(path), seed=seed)
    yield from _read_nih_boxes(path, beside)
    yield from _read_rsna(path, beside)
    known = set()
    for row in read_rows(table, _COLUMNS, key="Image Index"):
        if isinstance(row, Rejected):
            yield row
            continue
        image_id = Path(row.cells["Image Index"].strip()).stem
        known.add(image_id)
        try:
            yield _study(row, image_id, files.find(row.cells["Image Index"].strip()), path, beside)
        except ChiasmError as error:
            yield Rejected(row.where, reason(error))
        yield from row.rejected
    for file in files.left():
        yield Rejected(str(file.relative_to(path)), f"no row in {table.name}")
    for image_id in sorted((beside.boxes.keys() | beside.opacity.keys()) - known):
        yield Rejected(f"{image_id} in the box tables", f"no row in {table.name}")
    if files.by_stem:
        _log.warning("%d images were found under another extension than the table gives", files.by_stem)
    if beside.split and (unlisted := len(known - beside.split.keys())):
        _log.warning("%d images are in neither list of the published split", unlisted)


def _study(row: Row, image_id: str, file: Path, path: Path, beside: _Beside) -> Study:
    patient = row.text("Patient ID")
    if patient is None:
        raise InputError("Patient ID is missing")
    pixels = read_image(file)
    image = Image(
        image_id,
        pixels,
        Geometry.identity(FRAME).resized(pixels.shape),
        view={"PA": View.PA, "AP": View.AP}.get((row.text("View Position") or "").upper(), View.OTHER),
        dicom_modality="DX",
        source=str(file.relative_to(path)),
    )
    findings = _findings(row)
    if image_id in beside.opacity:
        findings.append(Finding("lung_opacity", beside.opacity[image_id], target="lung_opacity", reader="rsna"))
    published = beside.split.get(image_id)
    if published == "train" and split_of(patient, beside.seed) == "validation":
        published = "validation"
    record = Record(
        {
            "age_years": row.age_years("Patient Age"),
            "sex": row.sex("Patient Gender"),
            "follow_up_number": row.number("Follow-up #", low=0),
        }
    )
    regions = tuple(beside.boxes.get(image_id, ()))
    return Study(image_id, patient, (image,), None, record, tuple(findings), regions, split=published)


def _findings(row: Row) -> list[Finding]:
    text = row.text("Finding Labels")
    if text is None:  # nothing is said, so nothing is denied
        return []
    listed = {canonical(name) for name in text.split("|")}
    if unknown := listed - {*LABELS, "normal"}:
        row.reject("Finding Labels", f"{len(unknown)} words are none of the 14 findings: skipped")
        if not listed & {*LABELS, "normal"}:
            return []
    if "normal" in listed and len(listed) > 1:
        row.reject("Finding Labels", '"No Finding" beside findings: the findings are taken')
    return [Finding(name, State.PRESENT if name in listed else State.ABSENT, reader="nih") for name in LABELS]


def _read_nih_boxes(path: Path, beside: _Beside) -> Iterator[Rejected]:
    """Add the boxes of the published list, whose header "Bbox [x,y,w,h]" falls apart at its commas into four names."""
    table = find_table(path, "BBox_List_2017*.csv")
    if table is None:
        return
    for row in read_rows(table, ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")):
        if isinstance(row, Rejected):
            yield row
            continue
        label = canonical(row.cells["Finding Label"])
        if label in LABELS:
            yield from _add_box(row, ("Bbox [x", "y", "w", "h]"), label, "findings", "nih", beside)
        else:
            yield Rejected(row.where, "the label of the box is none of the 14 findings")


def _read_rsna(path: Path, beside: _Beside) -> Iterator[Rejected]:
    """Add boxes and verdicts: Target 1 is an opacity with its box, Target 0 an image reviewed and found free of it."""
    table = find_table(path, "rsna*.csv", "RSNA*.csv")
    if table is None:
        return
    clashing = set()
    for row in read_rows(table, _RSNA_COLUMNS):
        if isinstance(row, Rejected):
            yield row
            continue
        image_id, target = Path(row.cells["Image Index"].strip()).stem, row.yes_no("Target")
        if target is None:
            yield from row.rejected or [Rejected(row.where, "Target is missing")]
            continue
        state = State.PRESENT if target else State.ABSENT
        if beside.opacity.setdefault(image_id, state) is not state:
            clashing.add(image_id)
        if target:
            yield from _add_box(row, ("x", "y", "width", "height"), "lung_opacity", "lung_opacity", "rsna", beside)
    for image_id in sorted(clashing):
        yield Rejected(f"{image_id} in {table.name}", "Target is both 0 and 1: both are skipped")
        del beside.opacity[image_id]
        beside.boxes[image_id] = [region for region in beside.boxes[image_id] if region.reader != "rsna"]


def _add_box(
    row: Row, columns: tuple[str, str, str, str], label: str, target: str, reader: str, beside: _Beside
) -> Iterator[Rejected]:
    x, y, width, height = (row.number(column) for column in columns)
    if x is None or y is None or width is None or height is None or width <= 0 or height <= 0:
        yield from row.rejected or [Rejected(row.where, "the box has no area, or a number is missing")]
        return
    image_id = Path(row.cells["Image Index"].strip()).stem
    beside.boxes[image_id].append(Region(label, image_id, (x, y, x + width, y + height), target=target, reader=reader))


def _read_split(path: Path) -> dict[str, str]:
    """Image id -> "train" or "test"; {} where the lists are not there."""
    split: dict[str, str] = {}
    names = {"train_val_list.txt": "train", "test_list.txt": "test"}
    there = {name: part for name, part in names.items() if (path / name).is_file()}
    if 0 < len(there) < len(names):
        _log.warning("only %s of the published split is there: it is not used", *there)
        return {}
    for name, part in there.items():
        for line in (path / name).read_text("utf-8").split():
            if split.setdefault(Path(line).stem, part) != part:
                raise TableError("The two lists of the split share an image", where=str(path / name))
    return split


SOURCE = Source("chestxray14", ABOUT, read)
