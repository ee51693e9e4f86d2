"""Arrays of stored images that grow one image at a time: a .npy file, or a list in memory."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Pixels(Protocol):
    """What a writer of cohorts needs of an array of images of one shape."""

    count: int

    def append(self, pixels: NDArray[np.uint8]) -> int:
        """Keep one image, and return its index."""

    def finish(self) -> NDArray[np.uint8] | None:
        """Bring everything to its place; [n, *shape] of an array in memory, None of a file."""


class FileArray:
    """A .npy file that grows image by image; the header is written again with the final length."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.shape, self.count = shape, 0
        self.file: BinaryIO = path.open("wb")
        self._header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def _header(self) -> None:
        self.file.seek(0)  # NumPy leaves room in the header for the first axis to grow
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        )

    def append(self, pixels: NDArray[np.uint8]) -> int:
        self.file.write(np.ascontiguousarray(pixels).data)
        self.count += 1
        return self.count - 1

    def finish(self) -> None:
        self._header()
        self.file.close()


class MemoryArray:
    """Images of one shape in memory."""

    def __init__(self) -> None:
        self.count, self._images = 0, list[NDArray[np.uint8]]()

    def append(self, pixels: NDArray[np.uint8]) -> int:
        self._images.append(pixels)
        self.count += 1
        return self.count - 1

    def finish(self) -> NDArray[np.uint8]:
        """[n, *shape]"""
        return np.stack(self._images)
