"""Pixels of picture files as gray arrays, and `fit`, which brings an image to the size of the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageOps, TiffImagePlugin, UnidentifiedImageError

from chiasm.errors import ImageError
from chiasm.formats.reading import explained, fill_missing, missing_note
from chiasm.geometry import Geometry, Shape
from chiasm.study import Image, Rejected

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
EXPECTED = "a PNG, JPEG, TIFF or BMP image"
_WIDE = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}  # modes of more than 8 bits, always gray
_COLOURS = {"RGB", "RGBA", "YCbCr", "CMYK", "P", "PA", "LAB"}
_PHOTOMETRIC, _BITS, _FORMAT = 262, 258, 339  # tags of a TIFF
_UNSIGNED, _SIGNED = 1, 2
_COLOUR_LEVELS, _COLOUR_SHARE = 16, 0.01  # channels that differ by more, in more of the pixels, are no gray picture
LUMINANCE = "its colour channels differ, and are converted to luminance"
FLATTENED = (
    f"{LUMINANCE}; where each is an image of its own, write `channels: [NAME, NAME, NAME]` under images in the map"
)

for (_order, _zero, _form, _fill, _depth, _extra), _mode in list(TiffImagePlugin.OPEN_INFO.items()):
    # what Pillow leaves out: 0 is white, and 32 bits without a sign in the other byte order; `_wide` gives them their meaning
    if _zero == 1 and _mode[0] in _WIDE:
        for _white in (0, 1):
            for _signed in {_form, (1,)} if _form == (2,) and _depth == (32,) else {_form}:
                TiffImagePlugin.OPEN_INFO.setdefault((_order, _white, _signed, _fill, _depth, _extra), _mode)


def read_image(path: Path) -> NDArray[np.generic]:
    """Read one picture as gray [H, W], upright (EXIF orientation applied), whatever its colour mode.

    One bit or eight a channel come as uint8, 16-bit gray as uint16, other gray TIFFs as they are: int8, int32, uint32 or
    float32. The darkest stored value is black in all of them, also where the file says that it is white (TIFF). Colour is
    turned to luminance (ITU-R BT.601), 16 bits a channel by their upper 8. What is transparent lies over black.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, of several pages, or larger than Pillow's limit.
    """
    return _read(Path(path), None).pixels


def read_picture(path: Path, *, image_id: str = "", name: str = "", channels: int = 0) -> Image:
    """Read one picture as `read_image` does, as a noun; or with each colour channel as an image of its own [C, H, W].

    NaN is background, the lowest value. That, and colour that was turned to luminance, is said in `Image.notes`.

    Args:
        name: what to call the file in `Image.source` and in errors, instead of its path.
        channels: how many channels to keep; 0 for gray.

    Raises:
        ImageError: as `read_image`; another number of channels; infinite values.
    """
    read = _read(Path(path), channels, name)
    pixels, missing = fill_missing(read.pixels, name or str(path))
    notes = [missing_note(missing, pixels.size)] if missing else []
    notes += [FLATTENED] if read.flattened else []
    return Image(
        image_id,
        pixels,
        Geometry.identity(pixels.shape[-2:]),
        source=name or path.name,
        notes=tuple(Rejected(name or path.name, note, taken=True) for note in notes),
    )


def read_slices(paths: Sequence[Path], spacing_mm: Sequence[float], *, image_id: str = "", name: str = "") -> Image:
    """Read pictures, or the pages of one TIFF, as the slices of a volume [D, H, W], in this order and as they lie.

    Args:
        spacing_mm: from slice to slice, row to row and column to column.
        name: what to call the volume in `Image.source` and in errors, instead of its first path.

    Raises:
        ImageError: as `read_picture`; slices of several sizes or depths, a number that is missing among those of the files.
    """
    where = name or str(paths[0])
    if len(paths) == 1 and (count := _page_count(paths[0])) > 1:
        read = [_read(paths[0], 0, where, page) for page in range(count)]
    else:
        _check_numbers(paths, where)
        read = [_read(path, 0, f"{where}: {path.name}") for path in paths]
    kinds = sorted({" x ".join(map(str, (*one.pixels.shape, one.pixels.dtype))) for one in read})
    if len(kinds) > 1:
        raise ImageError("The slices are not of one size and kind", got=" and ".join(kinds), where=where)
    values, missing = fill_missing(np.stack([one.pixels for one in read]), where)
    notes = [missing_note(missing, values.size)] if missing else []
    notes += [FLATTENED] if any(one.flattened for one in read) else []
    return Image(
        image_id,
        values,
        Geometry.identity(values.shape, tuple(map(float, spacing_mm))),
        source=where if name else paths[0].name,
        notes=tuple(Rejected(name or paths[0].name, note, taken=True) for note in notes),
    )


def numbered(files: Iterable[Path]) -> list[Path]:
    """Files in the order of the numbers in their names: slice2 before slice10."""
    return sorted(files, key=lambda file: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name)])


def _check_numbers(paths: Sequence[Path], where: str) -> None:
    """Refuse slices one of whose numbers is missing: what lies beyond the gap would come too near."""
    numbers = [int(found[-1]) for path in paths if (found := re.findall(r"\d+", path.stem))]
    steps = sorted(set(np.diff(numbers).tolist())) if len(numbers) == len(paths) else []
    if len(steps) > 1 and len(set(numbers)) == len(numbers):
        got = f"numbers {min(numbers)} to {max(numbers)} in {len(numbers)} files"
        raise ImageError("The slices are not numbered evenly", expected="no number left out", got=got, where=where)


def _page_count(path: Path) -> int:
    with explained("The image is damaged", str(path)), Pillow.open(path, formats=FORMATS) as image:
        return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


class _Decoded(NamedTuple):
    """Pixels, and whether their colours were lost."""

    pixels: NDArray[np.generic]
    flattened: bool


def _read(path: Path, channels: int | None, name: str = "", page: int | None = None) -> _Decoded:
    """`channels`: how many to keep; 0 for gray; None for gray of which nobody asks what colours were lost."""
    where = name or str(path)
    if not path.is_file():
        raise ImageError("The image is not there", expected=EXPECTED, got="no such file", where=where)
    if not path.stat().st_size:
        raise ImageError("The image is empty", expected=EXPECTED, got="a file of 0 bytes", where=where)
    try:
        with explained("The image is damaged", where, expected=EXPECTED, remedy="copy or download the file again"):
            decoded = _decode(path, channels, where, page)
    except ImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            got = _head(path)
            raise ImageError(
                "The file is no image that can be read", expected=EXPECTED, got=got, where=where
            ) from error
        if isinstance(error.__cause__, Pillow.DecompressionBombError):
            limit = f"at most {2 * (Pillow.MAX_IMAGE_PIXELS or 0):,} pixels"
            raise ImageError("The image is too large", expected=limit, got="more", where=where) from error
        raise
    if decoded.pixels.ndim not in (2, 3) or not decoded.pixels.size:
        raise ImageError("The image has no pixels", expected="[H, W]", got=str(decoded.pixels.shape), where=where)
    return decoded


def _decode(path: Path, channels: int | None, where: str, page: int | None) -> _Decoded:
    # a file object: given a path, Pillow maps an uncompressed TIFF into memory and scrambles one lying on its side
    with path.open("rb") as file, Pillow.open(file, formats=FORMATS) as image:
        pages = getattr(image, "n_frames", 1)
        if page is not None:
            image.seek(page)
        elif pages > 1 and image.format != "MPO":  # an MPO's further pages are previews of its first
            raise ImageError(
                "The file holds several pages, and which one is meant is unknown",
                expected="one image a file",
                got=f"{pages} pages",
                where=where,
                remedy="save each page as a file of its own; pages that are slices: `volume: {spacing_mm: [...]}` in the map",
            )
        if channels:
            return _Decoded(_channels(image, channels, where), flattened=False)
        flattened = channels is not None and _is_colourful(image, path)
        image.draft("L", None)  # a colour JPEG then decodes its luminance only, at twice the speed
        return _Decoded(to_gray(image), flattened)


def _is_colourful(image: Pillow.Image, path: Path) -> bool:
    """Whether the colours of a picture say something that gray does not."""
    if image.mode not in _COLOURS:
        return False
    if image.format == "JPEG":  # its coarsest scale decodes at a fraction of the cost
        with Pillow.open(path, formats=FORMATS) as small:
            small.draft("RGB", (image.width // 8 or 1, image.height // 8 or 1))
            rgb = np.asarray(small.convert("RGB")).astype(np.int16)
    else:
        rgb = np.asarray(image.convert("RGBA").convert("RGB")).astype(np.int16)
    return has_colours(rgb)


def has_colours(rgb: NDArray[Any]) -> bool:
    """Whether the channels of [H, W, 3] (0 .. 255) differ by more than marks and compression make them."""
    spread = rgb.max(axis=-1).astype(np.float32) - rgb.min(axis=-1)
    return bool((spread > _COLOUR_LEVELS).mean() > _COLOUR_SHARE)


def _channels(image: Pillow.Image, count: int, where: str) -> NDArray[np.generic]:
    """[C, H, W] of a picture whose channels are images of their own."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P":
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    bands = upright.getbands()
    if len(bands) == count + 1 and bands[-1] == "A" and upright.getextrema()[-1] == (255, 255):
        bands = bands[:-1]  # a channel of opacity that says nothing
    if len(bands) != count:
        got = f"{len(bands)} channel{'s' * (len(bands) > 1)}"
        raise ImageError("The image has another number of channels", expected=f"{count} channels", got=got, where=where)
    return np.ascontiguousarray(np.stack([np.asarray(upright.getchannel(band)) for band in bands]))


def to_gray(image: Pillow.Image) -> NDArray[np.generic]:
    """An open picture as gray [H, W], upright; colour, bits and transparency as `read_image` says."""
    inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _WIDE or (upright.mode == "L" and tags.get(_FORMAT, (0,))[0] == _SIGNED):
        return _wide(np.asarray(upright), tags)
    if upright.mode == "CMYK":  # Pillow takes every CMYK JPEG for one of Adobe's, whose inks are stored inverted
        upright = (ImageChops.invert(upright) if inverted else upright).convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    elif upright.mode == "P":
        upright = upright.convert("RGB")
    return np.array(upright.convert("L"))


def _wide(pixels: NDArray[Any], tags: Mapping[int, Any]) -> NDArray[np.generic]:
    """Gray values as the file means them: Pillow reads 32 bits without a sign as signed, and 8 the other way round, and takes
    the lowest value for black in all of more than 8 bits."""
    values = pixels.astype(pixels.dtype.newbyteorder("="))
    bits, kind = int(tags.get(_BITS, (0,))[0]), int(tags.get(_FORMAT, (_UNSIGNED,))[0])
    if (bits, kind) == (32, _UNSIGNED) and values.dtype == np.int32:
        values = values.view(np.uint32)
    if (bits, kind) == (8, _SIGNED):
        values = values.view(np.int8)
    if tags.get(_PHOTOMETRIC) == 0:  # WhiteIsZero
        top = 2**bits - 1 if values.dtype.kind == "u" and bits else np.nanmax(values) + np.nanmin(values)
        values = values.dtype.type(top) - values
    return values


_KINDS = {
    b"GIF8": "a GIF",
    b"RIFF": "a WebP or another RIFF file",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
}


def _head(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256)
    if start[128:132] == b"DICM":
        return "a DICOM file"
    known = (name for magic, name in _KINDS.items() if start.startswith(magic))
    return next(known, "text" if not re.search(rb"[^\t\n\r -~]", start) else "data of another kind, or a damaged head")


def fit(pixels: NDArray[np.generic], geometry: Geometry, shape: Shape) -> tuple[NDArray[np.generic], Geometry]:
    """Resize [H, W] or [D, H, W] to fill `shape` as far as its proportions allow, and pad the rest with zeros, centred.

    Proportions are those in millimetres where `geometry` knows the spacing, else those of the pixels at hand. The filter is a
    triangle as wide as two target pixels (linear when enlarging), so shrinking does not alias.

    Args:
        geometry: of `pixels`; what comes back is its composition with the resize and the padding.

    Returns:
        uint8 for uint8, else float32; and the geometry from the original frame to these pixels.
    """
    if pixels.shape != geometry.shape or len(shape) != pixels.ndim:
        got = f"pixels {pixels.shape}, geometry {geometry.shape}, target {shape}"
        raise ImageError("Pixels, geometry and target shape do not belong together", expected="equal axes", got=got)
    spacing = geometry.spacing_mm or tuple(map(abs, geometry.scale))
    extent = [n * mm / abs(s) for n, mm, s in zip(pixels.shape, spacing, geometry.scale, strict=True)]
    per_mm = min(n / e for n, e in zip(shape, extent, strict=True))
    inner = tuple(min(n, max(1, round(per_mm * e))) for n, e in zip(shape, extent, strict=True))
    before = tuple((n - i) // 2 for n, i in zip(shape, inner, strict=True))
    result = np.zeros(shape, np.uint8 if pixels.dtype == np.uint8 else np.float32)
    result[tuple(slice(b, b + i) for b, i in zip(before, inner, strict=True))] = _resize(pixels, inner)
    return result, geometry.resized(inner).cropped(tuple(-b for b in before), shape)


def _resize(pixels: NDArray[np.generic], shape: Shape) -> NDArray[np.generic]:
    if pixels.ndim == 3:  # each slice, then all voxel columns at once as one picture [D, H * W]
        slices = np.stack([_resize(plane, shape[1:]) for plane in pixels])
        return _resize(slices.reshape(len(slices), -1), (shape[0], shape[1] * shape[2])).reshape(shape)
    if pixels.shape == shape:
        return pixels
    picture = Pillow.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Pillow.Resampling.BILINEAR))
