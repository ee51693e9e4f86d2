"""Images that are the same picture twice: equal pixels, and copies that were scaled, re-encoded or shifted a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

FAR_BITS = 10
"""Hamming distance of two perceptual hashes (of 64 bits) up to which a pair is looked at."""
CORRELATION = 0.99
"""Pearson correlation of the stored pixels from which a pair counts as the same picture."""
SHIFT_SHARE = 0.05
"""How far, in shares of its sides, a copy may be shifted."""
_THUMBNAIL = 16
_THUMBNAIL_CORRELATION = 0.97
_REDUCED = 48
_REDUCED_CORRELATION = 0.96  # half a reduced pixel of the shift is left
_PEAKS = 3
_TILE = (64, 8192)  # hash pairs compared at once: small enough to stay in a processor's cache

Read = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Pair:
    """Two images (by number) that show the same picture; `shift_px` moves the second onto the first."""

    first: int
    second: int
    correlation: float
    shift_px: tuple[int, ...]


def identical(pixel_hashes: NDArray[np.str_]) -> list[list[int]]:
    """Groups of two or more images with the same stored pixels."""
    _, group, count = np.unique(pixel_hashes, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.cumsum(count)[:-1])
    return [members.tolist() for members in groups if len(members) > 1]


def near_identical(hashes: NDArray[np.uint64], owners: NDArray[np.int64], read: Read) -> list[Pair]:
    """Pairs of images of different owners whose pixels correlate by at least `CORRELATION`, shifted if need be.

    Perceptual hashes propose, thumbnails of 16 x 16 and pictures of about 48 x 48 sort out, stored pixels confirm. On chest X-rays, which are all
    alike, the hash alone proposes dozens of false pairs in a few hundred images.

    Args:
        hashes: [n] 64 bits each. Identical images belong in here once.
        owners: [n] the patient of each image; -1 for one that several patients have.
        read: image number -> its stored pixels, [S, S] or [D, H, W], all of one shape.
    """
    thumbnails = _Thumbnails(read, len(hashes))
    found = []
    for first, second in _near_hashes(hashes):
        other = (owners[first] != owners[second]) | (owners[first] < 0)
        first, second = first[other], second[other]
        for a, b in thumbnails.alike(first, second):
            one, two = read(a), read(b)
            if correlate(_reduced(one), _reduced(two))[0] < _REDUCED_CORRELATION:
                continue  # slices of brains laid over each other are alike by the ten thousand
            correlation, shift = correlate(one, two)
            if correlation >= CORRELATION:
                found.append(Pair(a, b, correlation, shift))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _near_hashes(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every pair (first < second) within `FAR_BITS`, tile by tile: 5e9 pairs of 100,000 images take seconds."""
    high, wide = _TILE
    hashes = np.asarray(hashes, np.uint64)
    different, bits = np.empty((high, wide), np.uint64), np.empty((high, wide), np.uint8)
    for top in range(0, len(hashes), high):
        rows = hashes[top : top + high, None]
        for left in range(top, len(hashes), wide):
            columns = hashes[None, left : left + wide]
            tile = np.s_[: len(rows), : columns.shape[1]]
            np.bitwise_xor(rows, columns, out=different[tile])
            np.bitwise_count(different[tile], out=bits[tile])
            near = np.flatnonzero(bits[tile] <= FAR_BITS)  # np.nonzero of two axes takes ten times as long
            first, second = np.divmod(near, columns.shape[1])
            later = first + top < second + left
            if later.any():
                yield first[later] + top, second[later] + left


class _Thumbnails:
    """Standardized 16 x 16 reductions, made when first asked for; an image without contrast has none (all zero)."""

    def __init__(self, read: Read, count: int) -> None:
        self._read = read
        self._values = np.zeros((count, _THUMBNAIL**2), np.float32)
        self._known = np.zeros(count, bool)

    def alike(
        self, first: NDArray[np.int64], second: NDArray[np.int64], step: int = 1 << 14
    ) -> Iterator[tuple[int, int]]:
        """The pairs whose thumbnails correlate."""
        for image in np.unique(np.concatenate([first, second])):
            if not self._known[image]:
                self._values[image] = _standardized(_thumbnail(self._read(int(image))))
                self._known[image] = True
        for start in range(0, len(first), step):
            a, b = first[start : start + step], second[start : start + step]
            same = np.einsum("ij,ij->i", self._values[a], self._values[b]) >= _THUMBNAIL_CORRELATION
            yield from zip(a[same].tolist(), b[same].tolist(), strict=True)


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    plane = pixels if pixels.ndim == 2 else pixels.mean(axis=0).astype(np.uint8)
    small = Pillow.fromarray(plane).resize((_THUMBNAIL, _THUMBNAIL), Pillow.Resampling.BOX)
    return np.asarray(small, np.float32)


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with sides of about `_REDUCED`, by whole steps; a smaller one, or a volume, as it is."""
    step = min(pixels.shape) // _REDUCED
    return pixels if pixels.ndim == 3 or step < 2 else np.asarray(Pillow.fromarray(pixels).reduce(step))


def _standardized(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flat, of mean 0 and length 1, so that a product is a Pearson correlation; zeros for a constant."""
    flat = values.ravel() - values.mean()
    length = float(np.linalg.norm(flat))
    return np.asarray(flat / length if length > 1e-3 * flat.size**0.5 else flat * 0, np.float32)


def correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[float, tuple[int, ...]]:
    """Pearson correlation of two images of one shape, and the shift of the second (in stored pixels) that it holds for.

    Where they do not correlate as they are, the shift is the best of the highest peaks of the phase correlation
    (Kuglin & Hines 1975) within `SHIFT_SHARE`, and the correlation that of the part both show.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    still = (0,) * a.ndim
    as_they_are = float(_standardized(a) @ _standardized(b))
    if as_they_are >= CORRELATION:
        return min(as_they_are, 1.0), still
    found = [(_shifted_correlation(a, b, shift), shift) for shift in _peaks(a, b)]
    return max((as_they_are, still), *found)


def _shifted_correlation(a: NDArray[np.float32], b: NDArray[np.float32], shift: tuple[int, ...]) -> float:
    mine = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, a.shape, strict=True))
    other = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shift, a.shape, strict=True))
    return min(1.0, float(_standardized(a[mine]) @ _standardized(b[other])))


def _peaks(a: NDArray[np.float32], b: NDArray[np.float32]) -> list[tuple[int, ...]]:
    """The shifts of `b` onto `a` with the highest phase correlation."""
    axes = tuple(range(a.ndim))
    window = np.ones((), np.float32)
    for n in a.shape:  # without a window the borders, which do not move, make the highest peak
        window = np.multiply.outer(window, np.hanning(n).astype(np.float32))
    cross = np.fft.rfftn((a - a.mean()) * window) * np.conj(np.fft.rfftn((b - b.mean()) * window))
    surface = np.fft.irfftn(cross / np.maximum(np.abs(cross), 1e-9), a.shape, axes)
    offsets = [np.r_[0 : r + 1, -r:0] for r in (max(1, int(n * SHIFT_SHARE)) for n in a.shape)]
    near = surface[np.ix_(*offsets)]
    best = np.argsort(near, axis=None)[-_PEAKS:]
    places = zip(*np.unravel_index(best, near.shape), strict=True)
    return [tuple(int(axis[i]) for axis, i in zip(offsets, place, strict=True)) for place in places]
