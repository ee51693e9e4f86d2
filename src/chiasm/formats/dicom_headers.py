"""What the header of a DICOM object says: its kind, view, body part and pixel pitch, and the headers of its frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from chiasm.errors import ImageError
from chiasm.formats.grayscale import numbers
from chiasm.study import View

CHEST = "CHEST"
VOLUMES = ("CT", "MR", "PT")
"""Modalities whose images are slices of a volume."""
_PROJECTIONS = frozenset({"CR", "DX", "RG", "RF", "DR", "OT", "SC", ""})
_VOLUME_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.2"
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


@contextmanager
def unquoted() -> Iterator[None]:
    """Keep pydicom from quoting odd header values in warnings: a quoted value may be a name or an identifier."""
    with pydicom.config.disable_value_validation():
        yield


def kind_of(header: Any) -> str:
    """The name of the object's SOP class ("CT Image Storage"), or "unknown kind"."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return str(getattr(uid, "name", "")) or "unknown kind"


def image_type(header: Any) -> tuple[str, ...]:
    """The values of ImageType in capitals."""
    value = header.get("ImageType") or ()
    return tuple(str(word).strip().upper() for word in ([value] if isinstance(value, str) else value))


@unquoted()
def pixel_spacing(header: Any, where: str = "") -> tuple[tuple[float, ...], str]:
    """The pitch (row to row, column to column) in mm of one image, and in which plane it holds; ((), "") if unknown.

    The plane (PS3.3, 10.7.1.3): "patient" (cross-sections, or a detector's pitch divided by the stated magnification),
    "calibrated" (by a fiducial or by geometry), "detector" (the patient's organs are smaller by an unknown factor), "film"
    (a scanned one), "unstated".
    """
    pixel, imager = numbers(header, "PixelSpacing", where), numbers(header, "ImagerPixelSpacing", where)
    pixel, imager = (pair if len(pair) == 2 and min(pair) > 0 else () for pair in (pixel, imager))
    if pixel:
        if header.get("PixelSpacingCalibrationType") or (imager and not np.allclose(pixel, imager, rtol=1e-3)):
            return pixel, "calibrated"
        if imager:
            return pixel, "detector"
        return pixel, "unstated" if str(header.get("Modality") or "") in _PROJECTIONS else "patient"
    if imager:
        magnification = numbers(header, "EstimatedRadiographicMagnificationFactor", where)
        if magnification and magnification[0] > 0:
            return (imager[0] / magnification[0], imager[1] / magnification[0]), "patient"
        return imager, "detector"
    film = numbers(header, "NominalScannedPixelSpacing", where)
    return (film, "film") if len(film) == 2 and min(film) > 0 else ((), "")


@unquoted()
def body_part_of(header: Any) -> str:
    """BodyPartExamined in capitals, the names of the chest as one; "" where it says nothing."""
    said = " ".join(str(header.get("BodyPartExamined") or "").upper().split())
    return CHEST if re.search("CHEST|THORAX|LUNG", said) else said


@unquoted()
def view_of(header: Any) -> View:
    """The chest projection, by ViewPosition, else by the meaning of ViewCodeSequence; OTHER for every other body part."""
    if str(header.get("Modality") or "") not in _PROJECTIONS or (body_part_of(header) or CHEST) != CHEST:
        return View.OTHER
    codes = header.get("ViewCodeSequence") or []
    text = str(header.get("ViewPosition") or (codes[0].get("CodeMeaning") if codes else "") or "").strip().upper()
    if re.search("OBLIQUE|DECUBITUS", text):
        return View.OTHER
    patterns = {
        "PA|POSTERO-? ?ANTERIOR": View.PA,
        "AP|ANTERO-? ?POSTERIOR": View.AP,
        "LL|RL|LAT|.*LATERAL": View.LATERAL,
    }
    return next((view for pattern, view in patterns.items() if re.fullmatch(pattern, text)), View.OTHER)


class FrameHeader:
    """The header of one frame: what is given as its own, then its functional groups, the shared ones, and the object's."""

    def __init__(self, dataset: Dataset, index: int, own: Dataset | None = None) -> None:
        per_frame, shared = (dataset.get(group) or [] for group in GROUPS)
        groups = [*per_frame[index : index + 1], *shared[:1]]
        self._places = [
            element.value[0]
            for group in groups
            for element in group
            if element.VR == "SQ" and element.value and not element.tag.is_private
        ]
        self._places = [*([own] if own is not None else []), *self._places, dataset]

    def get(self, keyword: str, default: Any = None) -> Any:
        return next((place.get(keyword) for place in self._places if keyword in place), default)


def frame_headers(dataset: Dataset, count: int, where: str) -> tuple[list[Any], bool]:
    """A header for each of the frames of an object; and whether each has its place in the patient.

    An enhanced object says it frame by frame, whatever the number of its frames. A classic one says it of its first frame, at
    the top (of nuclear medicine, in the sequence of its detector); the others follow along the normal, at the distance that
    it states.

    Raises:
        ImageError: frames of a modality of volumes, or of an ultrasound volume, that have no place: a stack whose order,
            spacing and direction are unknown is no volume, and a picture still less.
    """
    if any(group in dataset for group in GROUPS):
        headers: list[Any] = [FrameHeader(dataset, index) for index in range(count)]
        placed = all(header.get("ImagePositionPatient") for header in headers)
    else:
        found = _classic_frames(dataset, count, where) if count > 1 else []
        headers, placed = found or [dataset] * count, bool(found)
    volume = str(dataset.get("Modality") or "") in VOLUMES or dataset.get("SOPClassUID") == _VOLUME_ULTRASOUND
    volume = volume or "RECON TOMO" in image_type(dataset)
    if count > 1 and volume and not placed:
        raise ImageError(
            "The file holds a stack of slices without their places",
            expected="ImagePositionPatient, ImageOrientationPatient, PixelSpacing and the distance between frames",
            got=f"{count} frames of {kind_of(dataset)}",
            where=where,
            remedy="export the series anew as single slices or as an enhanced object, or convert it with its vendor's tool",
        )
    return headers, placed


def _classic_frames(dataset: Dataset, count: int, where: str) -> list[Any]:
    """The frames of an object that says at its top where it lies; [] where it does not."""
    detector = (dataset.get("DetectorInformationSequence") or [None])[0]
    place: Any = dataset if detector is None or "ImagePositionPatient" in dataset else detector
    first = numbers(place, "ImagePositionPatient", where)
    directions = numbers(place, "ImageOrientationPatient", where)
    offsets = _offsets(dataset, count, where)
    if len(first) != 3 or len(directions) != 6 or not offsets or not numbers(dataset, "PixelSpacing", where):
        return []
    normal = np.cross(directions[:3], directions[3:])
    headers = []
    for index, offset in enumerate(offsets):
        own = Dataset()
        own.ImagePositionPatient = [float(x) for x in np.asarray(first) + offset * normal]
        own.ImageOrientationPatient = list(directions)
        headers.append(FrameHeader(dataset, index, own))
    return headers


def _offsets(dataset: Dataset, count: int, where: str) -> Sequence[float]:
    """How far each frame lies from the first, along the normal, in mm; () if the object does not say.

    The thickness of a slice stands for the distance only where nothing else does, as in cone-beam CT.
    """
    listed = numbers(dataset, "GridFrameOffsetVector", where)
    if len(listed) == count:
        return [offset - listed[0] for offset in listed]
    steps = (numbers(dataset, keyword, where) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    step = next((step[0] for step in steps if step and step[0]), 0.0)
    return [index * step for index in range(count)] if step else ()
