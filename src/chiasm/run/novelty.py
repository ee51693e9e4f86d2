"""What training looked like, by which a study of another kind is told: headers, pixels, ranges of the chart (novelty.json).

Kept beside the weights of each fold model, with the arrays of its cloud (novelty.safetensors).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from chiasm.atomic import whole_file, write_json
from chiasm.documents import STRICT, Document, read_document, to_json
from chiasm.formats.dicom_headers import CHEST
from chiasm.metrics.novelty import Cloud
from chiasm.run.folder import readable
from chiasm.run.ranges import Range
from chiasm.study import View

HEADER = ("dicom_modality", "body_part", "view")
"""Columns of a cohort's images that a header fills."""
_SILENT = {"dicom_modality": ("", "OT", "SC"), "body_part": ("",), "view": ("", View.OTHER.value)}
_RADIOGRAPHS = ("CR", "DX", "DR", "RG")
_CODE = re.compile(r"[A-Z0-9_ -]{1,16}")
_VIEWS = {View.PA: "PA", View.AP: "AP", View.LATERAL: "lateral"}


@dataclass(frozen=True)
class PixelFit:
    """How the pixels of training are told from others.

    Attributes:
        threshold: distance that `coverage` of held-out patients stay within. patients, images: that were looked at.
    """

    __pydantic_config__ = STRICT

    threshold: float
    coverage: float
    patients: int
    images: int


@dataclass(frozen=True)
class Novelty(Document):
    """What novelty.json says of a fold model.

    Attributes:
        headers: of `HEADER`, what those of training images say; columns that say nothing are left out.
        pixels: None where the model reads no images, or too few patients have one.
        ranges: record column -> the range of training, of numeric columns with enough values.
        disagreement: binary target -> label -> how far the answers of the image alone and of the text alone lie apart at most in
            95 % of validation patients of all fold models who have both; empty where these are too few.
    """

    SCHEMA: ClassVar[int] = 1

    headers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pixels: PixelFit | None = None
    ranges: dict[str, Range] = field(default_factory=dict)
    disagreement: dict[str, dict[str, float]] = field(default_factory=dict)


def write_novelty(folder: Path, novelty: Novelty, cloud: Cloud | None) -> None:
    """Write a fold model's novelty.json and, where its training has images, novelty.safetensors."""
    if cloud is not None:
        with whole_file(folder / "novelty.safetensors") as partial:
            save_file({f.name: np.ascontiguousarray(getattr(cloud, f.name)) for f in fields(Cloud)}, partial)
    write_json(folder / "novelty.json", to_json(novelty))


def read_novelty(folder: Path) -> tuple[Novelty | None, Cloud | None]:
    """What `write_novelty` wrote; (None, None) of a run that was trained before there was this check.

    Raises:
        RunError: damaged, or of another schema.
    """
    if not (folder / "novelty.json").is_file():
        return None, None
    novelty = read_document(folder / "novelty.json", Novelty, "train again")
    if novelty.pixels is None:
        return novelty, None
    with readable(folder / "novelty.safetensors"):
        return novelty, Cloud(**load_file(folder / "novelty.safetensors"))


# --- headers -----------------------------------------------------------------------------------------------------------


def headers_of(images: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """What the headers of images say, by column of `HEADER`: each word once, silence and what is no code left out.

    A view is a projection of the chest, so an image that has one shows a chest, whether its file says so or not.
    """
    words: dict[str, set[str]] = {column: set() for column in HEADER}
    for image in images:
        for column in HEADER:
            words[column] |= {_said(column, image[column])} - {""}
        words["body_part"] |= {CHEST} if _said("view", image["view"]) else set()
    return {column: tuple(sorted(found)) for column, found in words.items() if found}


def check_header(image: Mapping[str, str], known: Sequence[Mapping[str, Sequence[str]]]) -> list[str]:
    """A sentence for each thing that an image's header says and that no image of these trainings says.

    What the header or training leaves open is no difference. CR, DX, DR and RG are one kind of image.
    """
    sentences = []
    for column in HEADER:
        words = sorted({word for headers in known for word in headers.get(column, ())})
        said = _said(column, image[column])
        alike = {said, *(_RADIOGRAPHS if column == "dicom_modality" and said in _RADIOGRAPHS else ())}
        if said and words and not alike & set(words):
            told = {"dicom_modality": "", "body_part": "body part ", "view": "view "}[column]
            shown = [word if column != "view" else _VIEWS[View(word)] for word in (said, *words)]
            sentences.append(f"the file says {told}{shown[0]}; the model was trained on {', '.join(shown[1:])}")
    return sentences


def _said(column: str, word: str) -> str:
    """What a header says; "" where it is silent, or says what is no code and could be anything."""
    return "" if word in _SILENT[column] or (column != "view" and not _CODE.fullmatch(word)) else word
