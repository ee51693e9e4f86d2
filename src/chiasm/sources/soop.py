"""The Stroke Outcome Optimization Project (Absher et al., Scientific Data 2024; OpenNeuro ds004889) with lesion masks.

    participants.tsv                                                      age, sex, NIHSS, ..., mRS at discharge
    derivatives/lesion_masks/sub-*/*_desc-lesion_mask.nii.gz              drawn by experts, in MNI152 space, 1 mm
    derivatives/flair_slices/sub-*/*_desc-triplanar_FLAIR.jpg             three planes of the FLAIR side by side
    atlas/*.nii.gz, atlas/*.txt                                           arterial territories (Liu et al. 2023)

The lesion mask is the image that a model reads, and it is named so: who wants a prediction must draw one. The FLAIR planes
are kept beside it for people and for writers.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from chiasm.domains.stroke.facts import MASK, Facts, Plane, StrokeAtlas, measure_flair, measure_lesion, read_atlas
from chiasm.domains.stroke.territories import TERRITORIES, VENTRICLES
from chiasm.errors import ImageError, TableError
from chiasm.formats.cells import Row, check_folder, find_table, read_rows, reason
from chiasm.formats.nifti import read_nifti
from chiasm.formats.pixels import read_image
from chiasm.geometry import Geometry
from chiasm.sources.registry import Source
from chiasm.study import Image, Kind, Outcome, Record, Rejected, Study

ABOUT = "stroke: lesion masks drawn by experts, FLAIR planes, chart, mRS at discharge (SOOP, OpenNeuro ds004889)"
NOTES = (
    "The image `lesion-mask` was drawn by an expert on the MRI: predicting needs such a mask.",
    "mRS is that at discharge, and is missing more often after mild strokes.",
    "Etiology is a diagnosis made after work-up: an input only where a recipe opts in.",
    "Of the people without a chart, some are second scans of others: keep them out of a pre-training that these test.",
)
MRS = "gs_rankin_6isdeath"
_COLUMNS = ("sex", "age", "race", "acuteischaemicstroke", "priorstroke", "bmi", "nihss", MRS, "etiology")
_LAYOUT = {
    "axial": (0, 68, (0, 189), (0, 157)),
    "sagittal": (2, 39, (53, 189), (157, 346)),
    "coronal": (1, 94, (53, 189), (346, 497)),
}
"""Plane -> axis and index of the volume [D, H, W], rows and columns of the picture; found by correlating masks with pictures."""
_PICTURE = (189, 497)
_GRID = (136, 189, 157)
log = logging.getLogger(__name__)


def read(path: Path, *, flair: bool = True) -> Iterator[Study | Rejected]:
    """Read one study a person; someone with a chart but without a mask is a study without image.

    Outcomes: target `outcome` has mrs_gt_2, target `mrs` the mRS itself (0 .. 6), target `nihss` the NIHSS, which stands in
    the record too: a recipe that has it as a target cannot have it as an input.

    Args:
        flair: keep the three FLAIR planes as images beside the mask.

    Raises:
        InputError: no folder; TableError: no participants.tsv, or the atlas' table does not count as `TERRITORIES` does.
        ImageError: the atlas cannot be read.
    """
    root = check_folder(path, "participants.tsv and derivatives/lesion_masks")
    atlas = find_atlas(root)
    if atlas is None:
        log.warning("no atlas/*.nii.gz: no shares of arterial territories, no cortical share, no FLAIR contrast")
    for row in read_rows(root / "participants.tsv", ("participant_id", *_COLUMNS), key="participant_id"):
        if isinstance(row, Rejected):
            yield row
        else:
            yield from _read_person(root, row, atlas, flair)


def find_atlas(path: Path) -> StrokeAtlas | None:
    """The arterial territories of a SOOP folder.

    Raises:
        TableError: its table does not count as `TERRITORIES` does. ImageError: it cannot be read.
    """
    volume, table = find_table(path / "atlas", "*.nii.gz", "*.nii"), find_table(path / "atlas", "*.txt")
    if volume is None:
        return None
    if (
        table is not None
    ):  # number|short name|long name|group: some short names stand for both sides, so they are not used
        names = {n: name.removesuffix("s").split() for n, name in (TERRITORIES | VENTRICLES).items()}
        for line in csv.reader(table.read_text("utf-8-sig").splitlines(), delimiter="|"):
            number, words = line[0], line[2].split() if len(line) > 2 else []
            known = names.get(int(number), []) if number.isdigit() else []
            if not known or known[0] not in words:
                raise TableError(
                    "the atlas counts its regions in another way",
                    expected="NUMBER|SHORT NAME|LONG NAME of the 30 arterial territories and two ventricles",
                    got=f"region {number}",
                    where=f"atlas/{table.name}",
                )
    return read_atlas(volume)


def _read_person(root: Path, row: Row, atlas: StrokeAtlas | None, flair: bool) -> Iterator[Study | Rejected]:
    subject = row.text("participant_id") or ""
    record, outcomes = _record(row), _outcomes(row)
    images: list[Image] = []
    facts: Facts = {}
    masks = root / "derivatives" / "lesion_masks" / subject
    if (file := find_table(masks, "*_mask.nii.gz", "*_mask.nii")) is not None:
        try:
            images, facts = _read_images(root, subject, file, atlas, flair)
        except ImageError as error:
            row.reject(f"image {file.name}", reason(error))
    yield from row.rejected
    known = any(value is not None for value in record.values.values())
    if images or known:
        yield Study(
            subject, subject, images=tuple(images), record=record if known else None, outcomes=outcomes, facts=facts
        )
    elif not row.rejected:
        yield Rejected(row.where, "neither a lesion mask nor a value in any column")


def _record(row: Row) -> Record:
    values: dict[str, float | str | None] = {
        "age_years": row.age_years("age"),
        "sex": row.sex("sex"),
        "race": row.text("race"),
        "acute_ischaemic_stroke": row.yes_no("acuteischaemicstroke"),
        "prior_stroke": row.yes_no("priorstroke"),
        "bmi_kg_m2": row.number("bmi", 5, 150),
        "nihss": row.number("nihss", 0, 42),
        "etiology": row.text("etiology"),
    }
    return Record(values, frozenset({"etiology"}))


def _outcomes(row: Row) -> tuple[Outcome, ...]:
    mrs, nihss = row.number(MRS, 0, 6), row.number("nihss", 0, 42)
    bad = None if mrs is None else float(mrs > 2)
    return (
        Outcome("mrs_gt_2", bad),
        Outcome("mrs", mrs, Kind.ORDINAL, "mrs"),
        Outcome("nihss", nihss, Kind.REGRESSION, "nihss"),
    )


def _read_images(
    root: Path, subject: str, file: Path, atlas: StrokeAtlas | None, flair: bool
) -> tuple[list[Image], Facts]:
    """The mask, of which a stored cell holds the lesion's share (the rule of SEG); the FLAIR planes; and the facts."""
    mask = read_nifti(file, image_id=f"{subject}-{MASK}", dicom_modality="SEG")
    lesion = np.asarray(mask.pixels != 0)
    if not lesion.any():
        raise ImageError("The lesion mask is empty")
    images = [replace(mask, source=file.relative_to(root).as_posix(), name=MASK)]
    facts = measure_lesion(lesion, mask.geometry, atlas)
    picture = find_table(root / "derivatives" / "flair_slices" / subject, "*_FLAIR.*")
    if picture is not None and lesion.shape == _GRID:
        planes = cut_planes(picture)
        facts |= measure_flair(lesion, mask.geometry, planes, atlas)
        for name, plane in planes.items() if flair else ():
            image_id, source = f"{subject}-flair-{name}", picture.relative_to(root).as_posix()
            geometry = Geometry.identity(plane.pixels.shape, (1.0, 1.0))
            images.append(
                Image(image_id, plane.pixels, geometry, dicom_modality="MR", source=source, name=f"FLAIR {name}")
            )
    return images, facts


def cut_planes(picture: Path) -> dict[str, Plane]:
    """The three planes of a FLAIR picture, 1 mm a pixel; the patient's left is on the left. The coronal one lacks 6 columns.

    Raises:
        ImageError: no picture of 497 x 189 pixels.
    """
    pixels = read_image(picture)
    if pixels.shape != _PICTURE:
        got = " x ".join(map(str, pixels.shape[::-1]))
        raise ImageError(
            "The FLAIR picture is not of the usual size", expected="497 x 189", got=got, where=picture.name
        )
    return {
        name: Plane(axis, index, pixels[slice(*rows), slice(*columns)])
        for name, (axis, index, rows, columns) in _LAYOUT.items()
    }


SOURCE = Source("soop", ABOUT, read, notes=NOTES, atlas=find_atlas)
