"""Arrays of stored images that grow one image at a time: a .npy file, or a list in memory.

One array holds the images of one shape, in 8 bits, or in 16 from the first image on that needs them: then those of 8 bits
stand among them as `chiasm.formats.intensity.widen` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from chiasm.formats.intensity import widen

AT_ONCE = 64
"""Images that are widened together: memory does not grow with the cohort."""


class Pixels(Protocol):
    """What a writer of cohorts needs of an array of images of one shape."""

    count: int

    def append(self, pixels: NDArray[Any]) -> int:
        """Keep one image, uint8 or uint16, and return its index."""

    def finish(self) -> NDArray[Any] | None:
        """Bring everything to its place; [n, *shape] of an array in memory, None of a file."""


class FileArray:
    """A .npy file that grows image by image; the header is written again with the final length."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.count = path, shape, 0
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.file: BinaryIO = path.open("wb")
        self._header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def _header(self) -> None:
        self.file.seek(0)  # NumPy leaves room in the header for the first axis to grow
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, {**described, "shape": (self.count, *self.shape)})

    def append(self, pixels: NDArray[Any]) -> int:
        if pixels.dtype == np.uint16 != self.dtype:
            self._widen()
        self._write(pixels if pixels.dtype == self.dtype else widen(pixels))
        self.count += 1
        return self.count - 1

    def _write(self, pixels: NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(pixels).data)

    def _widen(self) -> None:
        """Write the file again in 16 bits."""
        self._header()
        self.file.close()
        narrow: NDArray[np.uint8] = np.empty((0, *self.shape), np.uint8)
        if self.count:
            narrow = np.load(self.path, mmap_mode="r", allow_pickle=False)
        self.path.unlink()  # what is mapped stays until it is let go
        self.dtype, self.file = np.dtype(np.uint16), self.path.open("wb")
        self._header()
        for start in range(0, self.count, AT_ONCE):
            self._write(widen(narrow[start : start + AT_ONCE]))

    def finish(self) -> None:
        self._header()
        self.file.close()


class MemoryArray:
    """Images of one shape in memory."""

    def __init__(self) -> None:
        self.count, self._images = 0, list[NDArray[Any]]()

    def append(self, pixels: NDArray[Any]) -> int:
        self._images.append(pixels)
        self.count += 1
        return self.count - 1

    def finish(self) -> NDArray[Any]:
        """[n, *shape]"""
        wide = any(pixels.dtype == np.uint16 for pixels in self._images)
        return np.stack([widen(p) if wide and p.dtype == np.uint8 else p for p in self._images])
