"""Pixels of picture files as gray arrays, and `fit`, which brings an image to the size of the store."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageOps, UnidentifiedImageError

from chiasm.errors import ImageError
from chiasm.geometry import Geometry, Shape

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
EXPECTED = "a PNG, JPEG, TIFF or BMP image"
_WIDE = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}  # modes of more than 8 bits, always gray
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, OverflowError)


def read_image(path: Path) -> NDArray[np.generic]:
    """Read one picture as gray [H, W], upright (EXIF orientation applied), whatever its colour mode.

    One bit or eight a channel come as uint8, 16-bit gray as uint16, 32-bit gray TIFF as int32 or float32. Colour is
    turned to luminance (ITU-R BT.601), 16 bits a channel by their upper 8. What is transparent lies over black.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, of several pages, or larger than Pillow's limit.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError("The image is not there", expected=EXPECTED, got="no such file", where=str(path))
    if not path.stat().st_size:
        raise ImageError("The image is empty", expected=EXPECTED, got="a file of 0 bytes", where=str(path))
    try:
        # a file object: given a path, Pillow maps an uncompressed TIFF into memory and scrambles one lying on its side
        with path.open("rb") as file, Pillow.open(file, formats=FORMATS) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and image.format != "MPO":  # an MPO's further pages are previews of its first
                raise ImageError(
                    "The file holds several pages, and which one is meant is unknown",
                    expected="one image a file",
                    got=f"{pages} pages",
                    where=str(path),
                    remedy="save each page as a file of its own",
                )
            image.draft("L", None)  # a colour JPEG then decodes its luminance only, at twice the speed
            pixels = _gray(image)
    except UnidentifiedImageError as error:
        raise ImageError(
            "The file is no image that can be read", expected=EXPECTED, got=_head(path), where=str(path)
        ) from error
    except Pillow.DecompressionBombError as error:
        limit = f"at most {2 * (Pillow.MAX_IMAGE_PIXELS or 0):,} pixels"
        raise ImageError("The image is too large", expected=limit, got=str(error), where=str(path)) from error
    except _UNREADABLE as error:
        raise ImageError(
            "The image is damaged",
            expected=EXPECTED,
            got=f"{type(error).__name__}: {error}",
            where=str(path),
            remedy="copy or download the file again",
        ) from error
    if pixels.ndim != 2 or not pixels.size:
        raise ImageError("The image has no pixels", expected="[H, W]", got=str(pixels.shape), where=str(path))
    return pixels


def _gray(image: Pillow.Image) -> NDArray[np.generic]:
    inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _WIDE:
        pixels = np.asarray(upright)
        return pixels.astype(pixels.dtype.newbyteorder("="))
    if upright.mode == "CMYK":  # Pillow takes every CMYK JPEG for one of Adobe's, whose inks are stored inverted
        upright = (ImageChops.invert(upright) if inverted else upright).convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    elif upright.mode == "P":
        upright = upright.convert("RGB")
    return np.array(upright.convert("L"))


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
