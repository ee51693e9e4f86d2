"""DICOM's grayscale pipeline: stored values -> modality values (HU where CT) -> as shown (VOI) -> black below white.

The formulas are those of DICOM PS3.3, C.11.1 (modality) and C.11.2 (VOI). A shown value is 0 .. 255; where an object asks
for no VOI, the modality values go on as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.errors import ImageError

Window = tuple[float, float]
"""Centre and width, in modality values."""


def numbers(header: Any, keyword: str, where: str = "") -> tuple[float, ...]:
    """The finite numbers of a DICOM element; () where it is absent or empty. ImageError where it holds something else."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return ()
        found = tuple(
            float(v) for v in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ImageError(f"{keyword} of the DICOM header is no number", where=where) from error
    if not np.isfinite(found).all():
        raise ImageError(f"{keyword} of the DICOM header is no finite number", where=where)
    return found


def padding_mask(stored: NDArray[Any], header: Any, where: str = "") -> NDArray[np.bool_] | None:
    """True where a stored value is PixelPaddingValue (or in its range): not image. None where the object pads nothing."""
    ends = numbers(header, "PixelPaddingValue", where) + numbers(header, "PixelPaddingRangeLimit", where)
    if not ends:
        return None
    if stored.dtype.kind == "i":
        ends = tuple(end - 2**16 if end >= 2**15 and stored.dtype.itemsize == 2 else end for end in ends)
    mask: NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    return mask


def modality_values(stored: NDArray[np.generic], header: Any, where: str = "") -> NDArray[np.generic]:
    """Apply the modality LUT or rescale slope and intercept: int16 or int32 where both are whole, else float32.

    Raises:
        ImageError: a damaged table, or a slope of 0.
    """
    if item := lut_of(header, "ModalityLUTSequence"):
        table, first, _ = _table(item, stored, where)
        return _look_up(stored, table.astype(np.uint16), first)
    slope = (numbers(header, "RescaleSlope", where) or (1.0,))[0]
    intercept = (numbers(header, "RescaleIntercept", where) or (0.0,))[0]
    if not slope:
        got = "RescaleSlope 0"
        raise ImageError("The rescale makes all pixels one value", expected="a slope", got=got, where=where)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2:
        whole = stored.astype(np.int64) * int(slope) + int(intercept)
        low, high = whole.min(), whole.max()
        fitting = (d for d in (np.int16, np.int32) if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
        return whole.astype(next(fitting, np.float32))
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def voi_values(values: NDArray[np.generic], header: Any, where: str = "") -> NDArray[np.generic]:
    """Apply the object's first VOI LUT, else its first window, to 0 .. 255; without either the values come back.

    An empty table and a window of width 0 or less say nothing, so the next one counts. A linear window narrower than one step
    is exact: values such as those of a quantitative map are no whole numbers.
    """
    if item := lut_of(header, "VOILUTSequence"):
        whole = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values
        table, first, bits = _table(item, whole, where)
        top = max(2**bits - 1, int(table.max()))  # some tables overflow the depth they announce
        return _look_up(whole, np.rint(table * (255 / top)).astype(np.uint8), first)
    if (window := _first_window(header)) is None:
        return values
    function = str(header.get("VOILUTFunction") or "LINEAR")
    return apply_window(values, window, "LINEAR_EXACT" if function == "LINEAR" and window[1] < 1 else function, where)


def _first_window(header: Any) -> Window | None:
    """The first window with two numbers and a width above 0."""
    for pair in zip(_listed(header.get("WindowCenter")), _listed(header.get("WindowWidth")), strict=False):
        try:
            center, width = (float(value) for value in pair)
        except (ValueError, TypeError, OverflowError):
            continue  # blank, or no number
        if width > 0 and np.isfinite((center, width)).all():
            return center, width
    return None


def _listed(value: Any) -> list[Any]:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def lut_of(header: Any, keyword: str) -> Any:
    """The first item of a LUT sequence that has a table; None if none has."""
    return next((i for i in header.get(keyword) or () if i.get("LUTDescriptor") and i.get("LUTData")), None)


def apply_window(
    values: NDArray[np.generic], window: Window, function: str = "LINEAR", where: str = ""
) -> NDArray[np.uint8]:
    """Map the window to 0 .. 255 (PS3.3, C.11.2.1.2 and C.11.2.1.3).

    Args:
        function: "LINEAR" (whose centre and width count in steps of 1, so that c = 128, w = 256 keeps 0 .. 255),
            "LINEAR_EXACT" or "SIGMOID".

    Raises:
        ImageError: an unknown function, or a width the function does not allow.
    """
    center, width = window
    least = 1.0 if function == "LINEAR" else 0.0
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or width < least or (width == 0 and least == 0):
        raise ImageError(
            "The window cannot be applied",
            expected="LINEAR of width >= 1, LINEAR_EXACT or SIGMOID of width > 0",
            got=f"{function} of width {width:g}",
            where=where,
            remedy="give a window of your own: --intensity MODALITY=CENTER,WIDTH",
        )
    x = values.astype(np.float64)
    if function == "SIGMOID":
        share = expit(4 * (x - center) / width)
    elif function == "LINEAR" and width == 1:
        share = (x > center - 0.5).astype(np.float64)
    else:
        step = 1.0 if function == "LINEAR" else 0.0
        share = np.clip((x - (center - step / 2)) / (width - step) + 0.5, 0, 1)
    shown: NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return shown


def black_below_white(
    pixels: NDArray[Any], padding: NDArray[np.bool_] | None, inverted: bool, where: str = "", bits: int = 0
) -> NDArray[np.generic]:
    """Invert MONOCHROME1, and show padding (pixels outside the field of view) as the darkest value.

    Args:
        bits: of values as stored, without a sign: white is the highest number of so many bits; 0: the highest of the image.

    Raises:
        ImageError: every pixel is padding.
    """
    if padding is not None and padding.all():
        raise ImageError("The image is empty", expected="pixels", got="padding only", where=where)
    if pixels.dtype == np.uint8:
        low, high = np.uint8(0), np.uint8(255)
    else:
        real = pixels if padding is None or not padding.any() else pixels[~padding]
        low, high = real.min(), real.max()
    if inverted and bits > 8:
        top = pixels.dtype.type(2**bits - 1)
        pixels, low = top - pixels, top - high
    elif inverted:
        pixels = high - pixels + low  # whole numbers wrap around and back
    return pixels if padding is None else np.where(padding, low, pixels)


def _table(item: Any, values: NDArray[np.generic], where: str) -> tuple[NDArray[np.int64], int, int]:
    """The entries of a LUT, the value that its first entry stands for, and the bits of an entry."""
    count, first, bits = (int(n) for n in numbers(item, "LUTDescriptor", where) or (0, 0, 0))
    count = count or 2**16
    if first >= 2**15 and values.dtype.kind != "u":  # "US or SS": the reader could not know that it is signed
        first -= 2**16
    data = item.get("LUTData")
    if isinstance(data, bytes):
        entries = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1").astype(np.int64)
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
        if len(entries) in (count // 2, (count + 1) // 2) and count > 1:  # two 8-bit entries a word
            entries = entries.astype("<u2").view(np.uint8).astype(np.int64)
    if len(entries) < count or not 1 <= bits <= 16:
        got = f"{len(entries)} entries of {bits} bits where {count} are announced"
        raise ImageError("The look-up table of the DICOM header is damaged", got=got, where=where)
    return entries[:count], first, bits


def _look_up(values: NDArray[np.generic], table: NDArray[np.generic], first: int) -> NDArray[np.generic]:
    return table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
