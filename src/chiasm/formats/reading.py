"""What every reader of files of others needs: their libraries' exceptions explained, and sizes checked before memory is taken."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ChiasmError, ImageError, InputError

LIMIT = "CHIASM_MAX_IMAGE_GB"
"""The environment variable with the most memory that one image or table may take, in GB."""
_LIMIT_GB = 4.0
_PLAUSIBLE, _LARGE = 2000, 2**28  # no picture above 256 MB is compressed to less than one part in 2,000


@contextmanager
def explained(
    what: str,
    where: str,
    *,
    expected: str = "",
    remedy: str = "",
    quote: bool = False,
    error: type[InputError] = ImageError,
) -> Iterator[None]:
    """Turn whatever a library raises at a damaged file into an error that says so.

    Args:
        quote: whether the library's message goes into the error: only where it cannot quote what the file holds.

    Raises:
        InputError: an `error`, in place of any exception that is not the project's own.
    """
    try:
        yield
    except ChiasmError:
        raise
    except Exception as fault:  # a damaged file makes a library raise anything, even NotImplementedError
        got = f"{type(fault).__name__}: {fault}" if quote else type(fault).__name__
        raise error(what, expected=expected, got=got, where=where, remedy=remedy) from fault


def most_bytes() -> int:
    """The memory that one file may take when it is read.

    Raises:
        InputError: the environment variable is no number above 0.
    """
    text = os.environ.get(LIMIT, "")
    try:
        limit = float(text or _LIMIT_GB)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{LIMIT} is no size", expected="gigabytes, a number above 0", got=text)
    return int(limit * 2**30)


def check_size(
    announced: int, present: int, where: str, *, compressed: bool = False, error: type[InputError] = ImageError
) -> None:
    """Compare what a header announces with what is there, before any memory is taken for it.

    Args:
        announced: bytes of the pixels in memory. present: bytes in the file. compressed: whether these may be fewer.

    Raises:
        InputError: an `error`: fewer bytes are there than announced, or more are announced than may be read.
    """
    few = announced > _PLAUSIBLE * present and announced > _LARGE if compressed else announced > present
    if few:
        got = f"{announced:,} bytes announced, {present:,} in the file"
        raise error("The file is truncated, or its header is damaged", got=got, where=where)
    if announced > (most := most_bytes()):
        raise error(
            "The file is larger than may be read",
            expected=f"at most {most / 2**30:g} GB in memory",
            got=f"{announced / 2**30:.3g} GB",
            where=where,
            remedy=f"set the environment variable {LIMIT} to the gigabytes that one file may take",
        )


def check_deflated(stream: bytes, where: str, wbits: int, *, error: type[InputError] = ImageError) -> None:
    """Make sure that a compressed stream does not unpack to more than may be read; what is damaged of it is left to its reader.

    Args:
        wbits: as of `zlib.decompressobj`: 31 for gzip, -15 for a bare deflate stream.
    """
    unpacker, total, most = zlib.decompressobj(wbits), 0, most_bytes()
    piece = stream
    while piece and not unpacker.eof:
        try:
            total += len(unpacker.decompress(piece, 2**24))
        except zlib.error:
            return
        if total > most:
            check_size(total, total, where, error=error)
        piece = unpacker.unconsumed_tail


def fill_missing(values: NDArray[np.generic], where: str) -> tuple[NDArray[np.generic], int]:
    """Values with NaN, which programs write outside the body, at the lowest number; and how many there were.

    Raises:
        ImageError: infinite values, or no number at all.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values, 0
    missing = np.isnan(values)
    if missing.all() or np.isinf(values).any():
        got = "NaN alone" if missing.all() else f"{int(np.isinf(values).sum()):,} infinite of {values.size:,}"
        raise ImageError("The pixels are not all numbers", expected="finite values", got=got, where=where)
    return np.where(missing, values[~missing].min(), values), int(missing.sum())


def missing_note(count: int, of: int) -> str:
    """What is said of an image with NaN."""
    return f"{count:,} of {of:,} values are NaN: taken as background, the lowest value of the image"
