"""DICOM objects as images: one object as it is shown, or a CT or MR series as one volume.

An object comes as shown: rescaled, through its VOI LUT or window, MONOCHROME1 inverted, colour as luminance. Modality values
(HU) are kept of a volume, whose slices their own windows would make incomparable, and of a modality whose intensity rule is a
window (CT, unless told otherwise): one object's window makes scans incomparable too.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, iter_pixels
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from chiasm.errors import ImageError
from chiasm.formats.grayscale import (
    black_below_white,
    modality_values,
    numbers,
    padding_mask,
    voi_values,
)
from chiasm.formats.intensity import OFFSET, Intensity
from chiasm.formats.volume import canonical, slice_order
from chiasm.geometry import Geometry
from chiasm.study import Image, Values, View

Plane = tuple[NDArray[np.generic], NDArray[np.bool_] | None]
"""Values [H, W], and True where they are padding (None: nowhere)."""

# what pydicom and the decoders behind it raise at damaged data
_UNREADABLE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_TAIL = 64  # bytes: the end of a JPEG stream may be followed by padding
_SYNTAX = {(True, True): "1.2.840.10008.1.2", (False, True): "1.2.840.10008.1.2.1"}  # (implicit VR, little endian)
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as for pictures
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence")
_PLACE = (
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PhotometricInterpretation",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    *_RESCALE,
)
# segmentation, label map, dose: they have pixels, which are no picture of the patient
_NO_PICTURES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.2")
CHEST = "CHEST"
_PROJECTIONS = frozenset({"CR", "DX", "RG", "RF", "DR", "OT", "SC", ""})


@contextmanager
def unquoted() -> Iterator[None]:
    """Keep pydicom from quoting odd header values in warnings: a quoted value may be a name or an identifier."""
    with pydicom.config.disable_value_validation():
        yield


@unquoted()
def read_header(
    source: Path | bytes, tags: Sequence[str] | None = None, *, pixels: bool = False, where: str = ""
) -> pydicom.Dataset:
    """Open a DICOM object, with or without a file's preamble; its header only, and of `tags` only, unless told otherwise.

    Raises:
        ImageError: no such file, no DICOM, or damaged. The message quotes no value of the header.
    """
    where = where or ("" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise ImageError("The DICOM file is not there", expected="a DICOM file", got="no such file", where=where)
    wanted = None if tags is None else [*{*tags, "SOPClassUID", "SOPInstanceUID"}]

    def read(force: bool) -> pydicom.Dataset:
        file = BytesIO(source) if isinstance(source, bytes) else source
        return pydicom.dcmread(file, force=force, stop_before_pixels=not pixels, specific_tags=wanted)

    with _explained("The DICOM header is damaged", where, quote=False):
        try:
            dataset = read(force=False)
        except InvalidDicomError:  # no preamble: now any text parses, as an object of no class
            dataset = read(force=True)
            if not {"SOPClassUID", "SOPInstanceUID"} <= set(dataset.dir()):
                got = "a file without DICOM's mark"
                raise ImageError("The file is no DICOM file", expected="a DICOM file", got=got, where=where) from None
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = UID(_SYNTAX.get((bool(implicit), bool(little)), _BIG_ENDIAN))
    return dataset


@unquoted()
def read_dicom(
    source: Path | bytes, *, intensity: Intensity | None = None, image_id: str = "", name: str = ""
) -> Image:
    """Read one object: [H, W], or [D, H, W] when it has several frames.

    Gray passes the modality LUT or rescale and stays so where the rule of its modality is a window (see `Image.values`);
    else it passes the object's first VOI LUT, else its first window, and is then uint8; with none of them the modality values
    stay. Frames that have places in the patient become a volume like that of `read_series`. Frames without (ultrasound,
    angiography) stay in their order, shown like single images.

    Args:
        intensity: the rules of modalities; the defaults if None.
        image_id: SOPInstanceUID when left out.
        name: what to call the file in `Image.source` and in errors, instead of its path.

    Raises:
        ImageError: no DICOM, no pixels, a pixel format that cannot be decoded, damaged data, or (several frames) places
            that make no volume.
    """
    where = name or ("" if isinstance(source, bytes) else str(source))
    file = "" if isinstance(source, bytes) else Path(source).name
    with _explained("The DICOM object is damaged", where, quote=False):
        dataset = read_header(source, pixels=True, where=where)
        _check_pixels(dataset, where)
        pixels, geometry, values = _read_frames(dataset, intensity or Intensity(), where)
        return Image(
            image_id or str(dataset.get("SOPInstanceUID") or Path(file).stem),
            np.ascontiguousarray(pixels),
            geometry,
            view_of(dataset),
            str(dataset.get("Modality") or ""),
            name or file,
            values=values,
            bits=_plain_bits(dataset) if values is Values.GRAY else 0,
            body_part=body_part_of(dataset),
        )


def _read_frames(
    dataset: pydicom.Dataset, intensity: Intensity, where: str
) -> tuple[NDArray[np.generic], Geometry, Values]:
    count = int((numbers(dataset, "NumberOfFrames", where) or (1,))[0])
    headers = [_FrameHeader(dataset, index) for index in range(count)] if count > 1 else [dataset]
    placed = "PerFrameFunctionalGroupsSequence" in dataset and all(h.get("ImagePositionPatient") for h in headers)
    placed = placed and count > 1
    values, exact = _values_of(headers[0], intensity, volume=placed)
    planes = (
        _show(stored, header, voi=not placed, exact=exact, where=where)
        for stored, header in zip(_decode(dataset, where), headers, strict=True)
    )
    plane = _stack(planes, count, where) if count > 1 else next(planes)
    pixels = _bright(plane, dataset, exact, where)
    if placed:
        order, affine = _places(headers, where)
        return *canonical(pixels[order], affine, where), values
    return pixels, Geometry.identity(pixels.shape, pixel_spacing(dataset, where)[0] if count == 1 else ()), values


def _values_of(header: Any, intensity: Intensity, *, volume: bool) -> tuple[Values, bool]:
    """What the pixels are to be, and whether they must stay exactly: modality values to which a window is applied later."""
    modality, photometric = str(header.get("Modality") or ""), header.get("PhotometricInterpretation")
    windowed = bool(intensity.of(modality).windows)
    exact = windowed and photometric == "MONOCHROME2" and header.get("BitsStored") != 1
    exact = exact and (modality != "CT" or _carries_hu(header))
    return (Values.MODALITY if exact or (volume and not windowed) else Values.GRAY), exact


def _carries_hu(header: Any) -> bool:
    """Whether a CT is rescaled to Hounsfield units (PS3.3, C.11.1.1.2: "US" is unspecified)."""
    rescaled = any(header.get(keyword) not in (None, "") for keyword in ("RescaleIntercept", "ModalityLUTSequence"))
    return rescaled and str(header.get("RescaleType") or "HU").upper() in ("HU", "US")


def _plain_bits(header: Any) -> int:
    """The bits of values that are as stored, without a sign; 0 where a table, rescale or window changes them."""
    changed = any(header.get(k) for k in ("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "RescaleIntercept"))
    changed = changed or header.get("RescaleSlope") not in (None, "", 1)
    return 0 if changed or header.get("PixelRepresentation") else int(header.get("BitsStored") or 0)


def _bright(plane: Plane, header: Any, exact: bool, where: str) -> NDArray[np.generic]:
    """Values and padding as one array, black below white."""
    pixels, padding = plane
    if exact and (padding is None or not padding.all()):
        dark = 0 if pixels.dtype.kind == "u" else -OFFSET  # one value in every scan
        return pixels if padding is None else np.where(padding, pixels.dtype.type(dark), pixels)
    inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    return black_below_white(pixels, padding, inverted, where, _plain_bits(header))


@unquoted()
def read_series(
    paths: Sequence[Path], *, intensity: Intensity | None = None, image_id: str = "", name: str = ""
) -> Image:
    """Read the slices of one CT, MR or PET series as a volume [D, H, W] with axes to Superior, Anterior, Right.

    Slices are sorted by ImagePositionPatient along their normal. Values are modality values (HU). For the geometry see
    `chiasm.formats.volume.canonical`.

    Args:
        intensity: the rules of modalities; the defaults if None.
        image_id: SeriesInstanceUID when left out.
        name: what to call the series in `Image.source` and in errors, instead of the first path.

    Raises:
        ImageError: slices that differ in size, spacing or orientation, lie twice at one place, leave a gap, or have no
            place; and all that `read_dicom` raises.
    """
    where = name or f"{paths[0]} and {len(paths) - 1} more slices"

    def planes(order: NDArray[np.intp]) -> Iterator[Plane]:
        for index in order:
            dataset = read_header(paths[index], pixels=True, where=where)
            _check_pixels(dataset, where)
            yield _show(next(_decode(dataset, where)), dataset, voi=False, exact=exact, where=where)

    with _explained("A slice of the DICOM series is damaged", where, quote=False):
        headers = [read_header(path, _PLACE, where=where) for path in paths]
        order, affine = _places(headers, where)
        each = {_values_of(header, intensity or Intensity(), volume=True) for header in headers}
        values, exact = each.pop() if len(each) == 1 else (Values.GRAY, False)
        plane = _stack(planes(order), len(paths), where)
        pixels, geometry = canonical(_bright(plane, headers[0], exact, where), affine, where)
        return Image(
            image_id or str(headers[0].get("SeriesInstanceUID") or paths[0].stem),
            np.ascontiguousarray(pixels),
            geometry,
            dicom_modality=str(headers[0].get("Modality") or ""),
            source=name or paths[0].name,
            values=values,
            body_part=body_part_of(headers[0]),
        )


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


class _FrameHeader:
    """The header of one frame of an enhanced object: its own functional groups, then the shared ones, then the object's."""

    def __init__(self, dataset: pydicom.Dataset, index: int) -> None:
        own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
        groups = [*own, *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]]
        self._places = [
            element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value
        ]
        self._places.append(dataset)

    def get(self, keyword: str, default: Any = None) -> Any:
        return next((place.get(keyword) for place in self._places if keyword in place), default)


@contextmanager
def _explained(what: str, where: str, *, quote: bool = True) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except _UNREADABLE as error:
        got = f"{type(error).__name__}: {error}" if quote else type(error).__name__
        raise ImageError(what, got=got, where=where) from error


def kind_of(header: Any) -> str:
    """The name of the object's SOP class ("CT Image Storage"), or "unknown kind"."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return uid.name if uid else "unknown kind"


def _check_pixels(dataset: pydicom.Dataset, where: str) -> None:
    kind, photometric = kind_of(dataset), str(dataset.get("PhotometricInterpretation") or "")
    if not any(keyword in dataset for keyword in _PIXELS):
        raise ImageError("The DICOM object has no pixels", expected="an image", got=kind, where=where)
    if dataset.get("SOPClassUID") in _NO_PICTURES:
        raise ImageError("The DICOM object is no image", expected="an image", got=kind, where=where)
    if photometric not in (*_GRAY, *_COLOUR):
        expected = ", ".join((*_GRAY, *_COLOUR))
        raise ImageError("The colour model is unknown", expected=expected, got=photometric or "none", where=where)
    bits, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if "PixelData" in dataset and high is not None and bits is not None and high != bits - 1:
        got = f"bit {high} for {bits} bits"
        raise ImageError("The pixels are packed in a retired way", expected=f"HighBit {bits - 1}", got=got, where=where)


def _decode(dataset: pydicom.Dataset, where: str) -> Iterator[NDArray[np.generic]]:
    """The frames as stored, gray [H, W]; colour and single bits are uint8, as shown."""
    syntax = dataset.file_meta.TransferSyntaxUID.name
    photometric, bits = dataset.PhotometricInterpretation, dataset.get("BitsStored")
    with _explained(f"The pixels cannot be decoded ({syntax})", where):
        _check_ends(dataset, where)
        for frame in iter_pixels(dataset):
            frame = frame.astype(frame.dtype.newbyteorder("="), copy=False)
            if photometric in _GRAY:
                shallow = bits in (1, 8) and frame.dtype.kind == "u"
                gray = (frame.astype(np.uint8) * (255 if bits == 1 else 1)) if shallow else frame
            else:
                rgb = apply_color_lut(frame, dataset) if photometric == "PALETTE COLOR" else frame
                top = 255 if rgb.dtype.itemsize == 1 else 2 ** (16 if photometric == "PALETTE COLOR" else bits) - 1
                gray = np.rint(rgb[..., :3] @ (_LUMA * (255 / top))).astype(np.uint8)
            if gray.ndim != 2 or not gray.size:
                raise ImageError("The image is no plane", expected="[H, W]", got=str(gray.shape), where=where)
            yield gray


def _check_ends(dataset: pydicom.Dataset, where: str) -> None:
    """JPEG decoders fill what is missing of a stream with gray, and say nothing."""
    if dataset.file_meta.TransferSyntaxUID not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return
    count = int(dataset.get("NumberOfFrames") or 1)
    offsets = [dataset.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    frames = generate_frames(
        dataset.PixelData, number_of_frames=count, extended_offsets=tuple(offsets) if all(offsets) else None
    )
    for number, frame in enumerate(frames, start=1):
        if b"\xff\xd9" not in frame[-_TAIL:]:
            got = f"frame {number} of {count} without an end"
            raise ImageError("The pixels are truncated", expected="whole JPEG streams", got=got, where=where)


def _show(stored: NDArray[np.generic], header: Any, *, voi: bool, exact: bool, where: str) -> Plane:
    bits = int(header.get("BitsStored") or 0)
    if header.get("PhotometricInterpretation") not in _GRAY or bits == 1:
        return stored, None
    values = modality_values(stored, header, where)
    if voi and not exact:
        values = voi_values(values, header, where)
    if values is stored and stored.dtype == np.uint8 and bits < 8 and not exact:  # the highest of few bits is white too
        values = np.rint(stored.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ImageError("The pixels are not all numbers", expected="finite values", where=where)
    return values, padding_mask(stored, header, where)


def _stack(planes: Iterable[Plane], count: int, where: str) -> Plane:
    """Planes one by one into [D, H, W] of a dtype that holds them all."""
    stack: NDArray[np.generic] = np.empty(0)
    mask: NDArray[np.bool_] | None = None
    for index, (plane, padding) in enumerate(planes):
        if not index:
            stack = np.empty((count, *plane.shape), plane.dtype)
        if plane.shape != stack.shape[1:] or (plane.dtype == np.uint8) != (stack.dtype == np.uint8):
            raise ImageError("Not all frames are of one size and kind", where=where)
        if not np.can_cast(plane.dtype, stack.dtype):
            common = np.result_type(plane.dtype, stack.dtype)
            stack = stack.astype(np.float32 if common.kind == "f" else common)
        stack[index] = plane
        if padding is not None:
            mask = np.zeros(stack.shape, bool) if mask is None else mask
            mask[index] = padding
    return stack, mask


def _places(headers: Sequence[Any], where: str) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The order of slices in space, and the affine of that stack: see `slice_order`."""
    kinds = {(h.get("Rows"), h.get("Columns"), str(h.get("PhotometricInterpretation"))) for h in headers}
    if len(kinds) > 1:
        got = " and ".join(sorted(f"{rows} x {columns} {colour}" for rows, columns, colour in kinds))
        raise ImageError("The slices make no volume", expected="slices of one size and kind", got=got, where=where)
    table: list[NDArray[np.float64]] = []
    for keyword, length in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        found = [numbers(header, keyword, where) for header in headers]
        if lacking := sum(len(vector) != length for vector in found):
            got = f"{lacking} of {len(headers)} slices without {keyword}"
            raise ImageError("The slices make no volume", expected="a place for every slice", got=got, where=where)
        table.append(np.array(found))
    positions, orientations, pitches = table
    return slice_order(positions, orientations, pitches, where)
