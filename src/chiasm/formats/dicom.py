"""DICOM objects as images: one object as it is shown, or a CT, MR or PET series as one volume.

An object comes as shown: rescaled, through its VOI LUT or window, MONOCHROME1 inverted, colour as luminance. Modality values
(HU) are kept of a volume, whose slices their own windows would make incomparable, and of a modality whose intensity rule is a
window (CT, unless told otherwise): one object's window makes scans incomparable too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, iter_pixels
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from chiasm.errors import ImageError
from chiasm.formats.dicom_headers import (
    FrameHeader,
    body_part_of,
    frame_headers,
    image_type,
    kind_of,
    pixel_spacing,
    unquoted,
    view_of,
)
from chiasm.formats.dicom_series import PLACE, at_one_place, leave_out, stack_of
from chiasm.formats.grayscale import black_below_white, lut_of, modality_values, numbers, padding_mask, voi_values
from chiasm.formats.intensity import OFFSET, Intensity
from chiasm.formats.pixels import LUMINANCE, has_colours
from chiasm.formats.reading import check_deflated, check_size, explained, missing_note
from chiasm.formats.volume import Stack, canonical, interpolate
from chiasm.geometry import Geometry
from chiasm.study import Image, Rejected, Values

Plane = tuple[NDArray[np.generic], NDArray[np.bool_] | None]
"""Values [H, W], and True where they are padding (None: nowhere)."""

_TAIL = 64  # bytes: the end of a JPEG stream may be followed by padding
_SYNTAX = {(True, True): "1.2.840.10008.1.2", (False, True): "1.2.840.10008.1.2.1"}  # (implicit VR, little endian)
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIXELS = {"PixelData": 0, "FloatPixelData": 32, "DoubleFloatPixelData": 64}
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as for pictures
_NO_PICTURES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.2")
"""Segmentation, label map, dose: they have pixels, which are no picture of the patient."""


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

    with explained("The DICOM header is damaged", where):
        _check_inflated(source, where)
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


def _check_inflated(source: Path | bytes, where: str) -> None:
    """A deflated object is unpacked whole before a header can be read, so its size is looked at first."""
    if isinstance(source, bytes):
        start = source[:1024]
    else:
        with Path(source).open("rb") as file:
            start = file.read(1024)
    if _DEFLATED in start[132:]:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        length = int.from_bytes(content[140:144], "little")  # of the file's meta information, which is not deflated
        check_deflated(content[144 + length :], where, -15)


@unquoted()
def read_dicom(
    source: Path | bytes, *, intensity: Intensity | None = None, image_id: str = "", name: str = ""
) -> Image:
    """Read one object: [H, W], or [D, H, W] when it holds several frames or a mosaic of slices.

    Gray passes the modality LUT or rescale and stays so where the rule of its modality is a window (see `Image.values`);
    else it passes the object's first VOI LUT, else its first window, and is then uint8; with none of them the modality values
    stay. Frames that have places in the patient, and the slices of a Siemens mosaic, become a volume like that of
    `read_series`. Frames of which none is expected (ultrasound, angiography) stay in their order, shown like single images.

    Args:
        intensity: the rules of modalities; the defaults if None.
        image_id: SOPInstanceUID when left out.
        name: what to call the file in `Image.source` and in errors, instead of its path.

    Raises:
        ImageError: no DICOM, no pixels, a pixel format that cannot be decoded, damaged data, more pixels than the file has
            bytes for, or slices whose places make no volume.
    """
    where = name or ("" if isinstance(source, bytes) else str(source))
    file = "" if isinstance(source, bytes) else Path(source).name
    with explained("The DICOM object is damaged", where):
        dataset = read_header(source, pixels=True, where=where)
        count = _check_pixels(dataset, where)
        headers, placed = frame_headers(dataset, count, where)
        notes: list[Rejected] = []
        if "MOSAIC" in image_type(dataset):
            pixels, geometry, values = _mosaic(dataset, intensity or Intensity(), where)
        else:
            pixels, geometry, values = _frames(
                dataset, headers, placed and count > 1, intensity or Intensity(), notes, where
            )
        return Image(
            image_id or str(dataset.get("SOPInstanceUID") or Path(file).stem),
            np.ascontiguousarray(pixels),
            geometry,
            view_of(dataset),
            str(dataset.get("Modality") or ""),
            name or file,
            values=values,
            bits=_plain_bits(headers[0]) if values is Values.GRAY else 0,
            body_part=body_part_of(headers[0]),
            notes=tuple(notes),
        )


def _frames(
    dataset: pydicom.Dataset,
    headers: list[Any],
    placed: bool,
    intensity: Intensity,
    notes: list[Rejected],
    where: str,
) -> tuple[NDArray[np.generic], Geometry, Values]:
    count = len(headers)
    values, exact = _values_of(headers[0], intensity, volume=placed)
    planes = (
        _show(stored, header, voi=not placed, exact=exact, where=where, notes=notes)
        for stored, header in zip(_decode(dataset, where, notes), headers, strict=True)
    )
    plane = _stack(planes, count, where) if count > 1 else next(planes)
    pixels = _bright(plane, headers[0], exact, where)
    if placed:
        stack = stack_of(headers, list(range(count)), where)
        notes += [Rejected(where, f"frame {i + 1} of {count} is left out: {why}") for i, why in stack.left.items()]
        return *_placed(pixels[stack.order], stack, notes, where), values
    return pixels, Geometry.identity(pixels.shape, pixel_spacing(headers[0], where)[0] if count == 1 else ()), values


def _placed(
    pixels: NDArray[np.generic], stack: Stack, notes: list[Rejected], where: str
) -> tuple[NDArray[np.generic], Geometry]:
    """Ordered slices as a volume in space, interpolated where the stack says so."""
    if stack.planes is not None:
        pixels = interpolate(pixels, stack.planes)
        notes.append(Rejected(where, stack.note, taken=True))
    return canonical(pixels, stack.affine, where)


def _mosaic(dataset: pydicom.Dataset, intensity: Intensity, where: str) -> tuple[NDArray[np.generic], Geometry, Values]:
    """The slices that Siemens lays side by side as one picture; their number and order stand in its private header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is experimental; what is used of it has tests here
        from nibabel.nicom import csareader, dicomwrappers

    csa = csareader.get_csa_header(dataset)
    if not csareader.is_mosaic(csa) or csareader.get_slice_normal(csa) is None:
        raise ImageError(
            "The file holds a mosaic of slices, and does not say how they lie",
            expected="the private header (CSA) that the scanner writes",
            got="none, or one without the number and normal of the slices",
            where=where,
            remedy="export the series anew with its private tags, or convert it on the scanner",
        )
    mosaic = dicomwrappers.MosaicWrapper(dataset, csa)
    values, exact = _values_of(dataset, intensity, volume=True)
    next(_decode(dataset, where))  # its checks are the same as of every object
    plane = _show(mosaic.get_unscaled_data(), dataset, voi=False, exact=exact, where=where, notes=[])
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ mosaic.affine  # LPS to RAS
    return *canonical(_bright(plane, dataset, exact, where), affine, where), values


def _values_of(header: Any, intensity: Intensity, *, volume: bool) -> tuple[Values, bool]:
    """What the pixels are to be, and whether they must stay exactly: modality values to which a window is applied later."""
    modality, photometric = str(header.get("Modality") or ""), header.get("PhotometricInterpretation")
    windowed = bool(intensity.of(modality).windows)
    exact = windowed and photometric == "MONOCHROME2" and header.get("BitsStored") != 1
    exact = exact and (modality != "CT" or _carries_hu(header))
    return (Values.MODALITY if exact or (volume and not windowed) else Values.GRAY), exact


def _carries_hu(header: Any) -> bool:
    """Whether a CT is rescaled to Hounsfield units (PS3.3, C.11.1.1.2: "US" is unspecified)."""
    rescaled = header.get("RescaleIntercept") not in (None, "") or lut_of(header, "ModalityLUTSequence") is not None
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
    paths: Sequence[Path],
    *,
    intensity: Intensity | None = None,
    image_id: str = "",
    name: str = "",
    names: Sequence[str] = (),
) -> Image:
    """Read the slices of one CT, MR or PET series as a volume [D, H, W] with axes to Superior, Anterior, Right.

    Slices are sorted by ImagePositionPatient along their normal. Values are modality values (HU). For the geometry see
    `chiasm.formats.volume.canonical`. What is no slice of the series is left out alone, and `Image.notes` says so: a file that
    is no DICOM image, a localizer, a copy (the one that can be decoded is taken), a slice that cannot be decoded, and what
    `chiasm.formats.volume.stack_slices` leaves out.

    Args:
        intensity: the rules of modalities; the defaults if None.
        image_id: SeriesInstanceUID when left out.
        name: what to call the series in `Image.source` and in errors, instead of the first path.
        names: of the files, instead of the ends of their paths.

    Raises:
        ImageError: slices of several series or of several volumes, that differ in size, spacing or orientation, leave a gap,
            or have no place; and all that `read_dicom` raises.
    """
    where = name or (f"{paths[0]} and {len(paths) - 1} more slices" if len(paths) > 1 else str(paths[0]))
    called = dict(zip(paths, names or [path.name for path in paths], strict=True))
    notes: list[Rejected] = []
    with explained("The DICOM series is damaged", where):
        headers = _slice_headers(called, notes, where)
        if len(headers) == 1 and len(paths) > 1:
            (path,) = headers
            image = read_dicom(path, intensity=intensity, image_id=image_id, name=name)
            return Image(**{**vars(image), "notes": (*notes, *image.notes)})
        each = {_values_of(header, intensity or Intensity(), volume=True) for header in headers.values()}
        values, exact = each.pop() if len(each) == 1 else (Values.GRAY, False)
        first = next(iter(headers.values()))
        plane, stack = _decoded_stack(headers, called, exact, notes, where)
        pixels, geometry = _placed(_bright(plane, first, exact, where), stack, notes, where)
        return Image(
            image_id or str(first.get("SeriesInstanceUID") or paths[0].stem),
            np.ascontiguousarray(pixels),
            geometry,
            dicom_modality=str(first.get("Modality") or ""),
            source=name or paths[0].name,
            values=values,
            body_part=body_part_of(first),
            notes=tuple(notes),
        )


def _slice_headers(called: dict[Path, str], notes: list[Rejected], where: str) -> dict[Path, Any]:
    """The headers of the slices of one series; what else there is among the files is noted."""
    headers: dict[Path, Any] = {}
    for path, name in called.items():
        try:
            header = read_header(path, PLACE, where=name)
            with explained("The DICOM header is damaged", name):
                if not header.get("Rows") or header.get("SOPClassUID") in _NO_PICTURES:
                    raise ImageError("The DICOM object is no image", got=kind_of(header), where=name)
            headers[path] = FrameHeader(header, 0)
        except ImageError as error:
            notes.append(Rejected(name, f"left out of the series: {error.what}"))
    if not headers:
        raise ImageError("No file is a DICOM image", expected="the slices of one series", where=where)
    kept, left = leave_out(list(headers.values()), list(headers), called, where)
    notes += left
    paths = list(headers)
    headers = {paths[i]: headers[paths[i]] for i in kept}
    paths = list(headers)
    for copies in at_one_place(list(headers.values())):
        kept_one = paths[copies[0]]
        for other in (paths[i] for i in copies[1:]):
            better = _better_copy(kept_one, other)
            if better is None:
                break
            worse, kept_one = (kept_one if better is other else other), better
            notes.append(Rejected(called[worse], f"left out of the series: a copy of {called[better]}"))
            headers.pop(worse)
    return headers


def _better_copy(first: Path, other: Path) -> Path | None:
    """Which of two slices at one place is to be kept, where one is a copy of the other; None where they differ."""
    pixels = []
    for path in (first, other):
        try:
            pixels.append(next(_decode(read_header(path, pixels=True), "")))
        except ImageError:
            return other if path is first else first
    return first if np.array_equal(pixels[0], pixels[1]) else None


def _decoded_stack(
    headers: dict[Path, Any], called: dict[Path, str], exact: bool, notes: list[Rejected], where: str
) -> tuple[Plane, Stack]:
    """The pixels of the slices in the order of their stack; without those that cannot be decoded."""
    broken: dict[Path, Rejected] = {}
    while True:
        paths = [path for path in headers if path not in broken]
        stack = stack_of([headers[path] for path in paths], paths, where, lost=len(broken))
        found: list[Rejected] = []
        reading = paths[0]

        def planes(
            order: NDArray[np.intp], paths: list[Path] = paths, found: list[Rejected] = found
        ) -> Iterator[Plane]:
            nonlocal reading
            for index in order:
                reading = paths[index]
                dataset = read_header(reading, pixels=True, where=called[reading])
                _check_pixels(dataset, called[reading])
                stored, header = next(_decode(dataset, called[reading])), FrameHeader(dataset, 0)
                yield _show(stored, header, voi=False, exact=exact, where=called[reading], notes=found)

        try:
            plane = _stack(planes(stack.order), len(stack.order), where)
        except ImageError as error:
            broken[reading] = Rejected(called[reading], f"left out of the series: {error.what}: {error.got}")
            if len(broken) > max(1, len(headers) // 10):
                raise
            continue
        left = [Rejected(called[paths[i]], f"left out of the series: {why}") for i, why in stack.left.items()]
        notes += [*broken.values(), *left, *found]
        return plane, stack


def _check_pixels(dataset: pydicom.Dataset, where: str) -> int:
    """The number of frames, where the object is an image and has the bytes that its header announces."""
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
    count = int((numbers(dataset, "NumberOfFrames", where) or (1,))[0]) or 1
    sides = [int((numbers(dataset, side, where) or (0,))[0]) for side in ("Rows", "Columns")]
    if count < 1 or min(sides) < 1:
        got = f"{count} frames of {sides[0]} x {sides[1]}"
        raise ImageError("The DICOM object has no pixels", expected="an image", got=got, where=where)
    keyword = next(keyword for keyword in _PIXELS if keyword in dataset)
    depth = _PIXELS[keyword] or int((numbers(dataset, "BitsAllocated", where) or (8,))[0])
    samples = int((numbers(dataset, "SamplesPerPixel", where) or (1,))[0])
    stored = -(-count * sides[0] * sides[1] * samples * depth // 8)
    if photometric == "YBR_FULL_422":  # two pixels share their colour
        stored = stored * 2 // 3
    compressed = bool(dataset.file_meta.TransferSyntaxUID.is_compressed) and not _is_deflated(dataset)
    check_size(stored, len(dataset.get(keyword) or b""), where, compressed=compressed)
    if compressed and count > len(dataset.PixelData) // 8:  # each frame has a head of 8 bytes
        got = f"{count:,} frames in {len(dataset.PixelData):,} bytes"
        raise ImageError("The file is truncated, or its header is damaged", got=got, where=where)
    return count


def _is_deflated(dataset: pydicom.Dataset) -> bool:
    return str(dataset.file_meta.TransferSyntaxUID) == _DEFLATED.decode()


def _decode(dataset: pydicom.Dataset, where: str, notes: list[Rejected] | None = None) -> Iterator[NDArray[np.generic]]:
    """The frames as stored, gray [H, W]; colour and single bits are uint8, as shown. `notes` takes that colours were lost."""
    syntax = dataset.file_meta.TransferSyntaxUID.name
    photometric, bits = dataset.PhotometricInterpretation, dataset.get("BitsStored")
    with explained(f"The pixels cannot be decoded ({syntax})", where, quote=True):
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
                if notes is not None and not notes and has_colours(rgb[..., :3] * (255 / top)):
                    notes.append(Rejected(where, LUMINANCE, taken=True))
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


def _show(
    stored: NDArray[np.generic], header: Any, *, voi: bool, exact: bool, where: str, notes: list[Rejected]
) -> Plane:
    bits = int(header.get("BitsStored") or 0)
    if header.get("PhotometricInterpretation") not in _GRAY or bits == 1:
        return stored, None
    values = modality_values(stored, header, where)
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(0, bool)
    if missing.any():  # what programs write outside the body
        notes.append(Rejected(where, missing_note(int(missing.sum()), missing.size), taken=True))
        values = np.where(missing, values.dtype.type(0), values)
    if voi and not exact:
        values = voi_values(values, header, where)
    if values is stored and stored.dtype == np.uint8 and bits < 8 and not exact:  # the highest of few bits is white too
        values = np.rint(stored.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ImageError("The pixels are not all numbers", expected="finite values", where=where)
    padding = padding_mask(stored, header, where)
    return values, (padding if not missing.any() else missing if padding is None else padding | missing)


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
