"""Which files of a folder or frames of an object are the slices of one volume, by their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError
from chiasm.formats.dicom_headers import GROUPS, image_type, kind_of
from chiasm.formats.grayscale import numbers
from chiasm.formats.volume import Stack, few, stack_slices
from chiasm.study import Rejected

_APART = {
    "EchoTime": "echo",
    "EffectiveEchoTime": "echo",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "TemporalPositionIdentifier": "time",
    "TemporalPositionIndex": "time",
    "TriggerTime": "phase",
    "NominalCardiacTriggerDelayTime": "phase",
    "InversionTime": "inversion time",
    "InversionTimes": "inversion time",
    "ImageType": "kind of image",
    "FrameType": "kind of image",
    "ContrastBolusAgent": "contrast",
    "KVP": "energy",
    "ConvolutionKernel": "kernel",
    "FrameReferenceTime": "time",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "time",
}
"""What tells the volumes of one series apart, and in a word; the first that does is named."""
PLACE = (
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PhotometricInterpretation",
    "BitsStored",
    "NumberOfFrames",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "DetectorInformationSequence",
    *GROUPS,
    *_APART,
)
"""The elements of a header that are needed to put slices in order."""


def leave_out(
    headers: Sequence[Any], paths: Sequence[Path], called: Mapping[Path, str], where: str
) -> tuple[list[int], list[Rejected]]:
    """The files of one series without localizers; and what was left out.

    Raises:
        ImageError: files of several series, or several files that hold a volume each.
    """
    series = Counter(str(header.get("SeriesInstanceUID") or "") for header in headers)
    if len(series) > 1:
        raise ImageError(
            "The files belong to several series, so they are not one volume",
            expected="the slices of one series (one SeriesInstanceUID)",
            got=f"{len(series)} series of {', '.join(map(str, sorted(series.values(), reverse=True)))} files",
            where=where,
            remedy="put each series in a folder of its own, and name each folder in a cell",
        )
    scouts = [i for i, header in enumerate(headers) if {"LOCALIZER", "SCOUT"} & {*image_type(header)}]
    kept = [i for i in range(len(headers)) if i not in scouts or len(scouts) == len(headers)]
    left = [Rejected(called[paths[i]], "left out of the series: a localizer") for i in scouts if i not in kept]
    whole = [i for i in kept if _frames(headers[i]) > 1 or "MOSAIC" in image_type(headers[i])]
    if whole and len(kept) > 1:
        raise _several(len(whole), "each file holds one", [headers[i] for i in whole], where)
    return kept, left


def at_one_place(headers: Sequence[Any]) -> list[list[int]]:
    """Groups of slices of one size that lie at one place, of two or more."""
    groups: dict[object, list[int]] = {}
    for i, header in enumerate(headers):
        if position := _vector(header, "ImagePositionPatient", 3):
            grid = (*_vector(header, "ImageOrientationPatient", 6), *_vector(header, "PixelSpacing", 2))
            place = (*np.round(position, 3), *np.round(grid, 3), header.get("Rows"), header.get("Columns"))
            groups.setdefault(place, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def stack_of(headers: Sequence[Any], slices: Sequence[object], where: str, *, lost: int = 0) -> Stack:
    """How slices or frames make a volume, by their headers; see `chiasm.formats.volume.stack_slices`.

    Args:
        slices: one thing for each header; its number is all that counts.
        lost: how many of the series could not be read.

    Raises:
        ImageError: they do not; of a series that holds several volumes it says what tells them apart.
    """
    places = [[_vector(header, *part) for part in _PARTS] for header in headers]
    lacking = {
        i: next(keyword for (keyword, _), vector in zip(_PARTS, place, strict=True) if not vector)
        for i, place in enumerate(places)
        if not all(place)
    }
    if lacking and not few(len(lacking), len(slices) - len(lacking)):
        got = f"{len(lacking)} of {len(headers)} slices without {next(iter(lacking.values()))}"
        raise ImageError("The slices make no volume", expected="a place for every slice", got=got, where=where)
    kept = [i for i in range(len(headers)) if i not in lacking]
    _check_single([headers[i] for i in kept], where)
    positions, orientations, pitches = (np.array([places[i][part] for i in kept]) for part in range(3))
    stack = stack_slices(
        positions, orientations, pitches, _kinds([headers[i] for i in kept]), where, lost=lost + len(lacking)
    )
    left = {kept[i]: why for i, why in stack.left.items()}
    left |= {i: f"it has no {keyword}" for i, keyword in lacking.items()}
    order: NDArray[np.intp] = np.array(kept)[stack.order]
    return stack._replace(order=order, left=dict(sorted(left.items())))


_PARTS = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))


def _vector(header: Any, keyword: str, length: int) -> tuple[float, ...]:
    """The numbers of an element; () where it has not so many."""
    found = numbers(header, keyword)
    return found if len(found) == length else ()


def _frames(header: Any) -> int:
    return int((numbers(header, "NumberOfFrames") or (1,))[0])


def _kinds(headers: Sequence[Any]) -> list[str]:
    """What the slices of a volume have in common, in words."""
    words = [
        [f"{header.get('Rows')} x {header.get('Columns')}", str(header.get("PhotometricInterpretation"))]
        for header in headers
    ]
    classes = [kind_of(header) if header.get("SOPClassUID") else "" for header in headers]
    return [
        " ".join([*own, *([kind] if len(set(classes)) > 1 else [])]) for own, kind in zip(words, classes, strict=True)
    ]


def _check_single(headers: Sequence[Any], where: str) -> None:
    """Refuse a series in which most places are taken more than once."""
    groups = at_one_place(headers)
    alone = len(headers) - sum(map(len, groups))
    if groups and len(groups) >= max(2, alone):
        times = sorted({len(group) for group in groups} | ({1} if alone else set()))
        every = f"{'every place' if not alone else 'most places'} {' or '.join(map(str, times))} times"
        raise _several(times[-1], every, headers, where)


def _several(count: int, how: str, headers: Sequence[Any], where: str) -> ImageError:
    """The error for a series of several volumes; it names the element that tells them apart, and no value."""
    said = {keyword: len({str(header.get(keyword)) for header in headers}) for keyword in _APART}
    by = next((keyword for keyword, values in said.items() if values == count), "") or next(
        (keyword for keyword, values in said.items() if values > 1), ""
    )
    told = f", told apart by their {_APART[by]} ({by})" if by else ""
    return ImageError(
        "There are several volumes in one series",
        expected="one volume a series",
        got=f"{count} volumes, {how}{told}",
        where=where,
        remedy="put the files of each volume in a folder of their own, and name these folders in a table, each as an image "
        "(docs/dicom.md); or convert the series (dcm2niix) and take the volumes that you need",
    )
