"""Where a stored pixel lies in the original image: one invertible record per image, 2-D and 3-D.

Coordinates are continuous: pixel i of an axis covers [i, i + 1), its centre is i + 0.5. A resize by s is then x' = s x,
with no half-pixel offset, and a box (x_min, y_min, x_max, y_max) has exclusive maxima. Array axes come in the order
(y, x) or (z, y, x); boxes come in the order (x, y).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """An axis-wise map `stored = scale * original + offset` between two pixel grids.

    Every step of a cohort (crop, resize, pad, flip: a negative scale) is such a map, so their composition is too.

    Attributes:
        original_shape: (H, W) or (D, H, W) of the frame that boxes and masks refer to.
        shape: of the pixels at hand.
        scale, offset: one number per array axis.
        spacing_mm: pixel pitch of the original per array axis, or () if unknown.
        affine: 4 x 4 voxel-to-world (RAS+, mm) of the original volume, row by row, or () for 2-D. It maps (z, y, x, 1),
            array indices in array-axis order, whole numbers at voxel centres.
    """

    original_shape: Shape
    shape: Shape
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    spacing_mm: tuple[float, ...] = ()
    affine: tuple[float, ...] = ()

    @classmethod
    def identity(cls, shape: Shape, spacing_mm: tuple[float, ...] = (), affine: tuple[float, ...] = ()) -> Geometry:
        n = len(shape)
        return cls(tuple(shape), tuple(shape), (1.0,) * n, (0.0,) * n, spacing_mm, affine)

    def then(self, shape: Shape, scale: tuple[float, ...], offset: tuple[float, ...]) -> Geometry:
        """Follow with one more map onto a grid of `shape`: x -> scale * x + offset."""
        return Geometry(
            self.original_shape,
            tuple(shape),
            tuple(a * b for a, b in zip(self.scale, scale, strict=True)),
            tuple(o * b + c for o, b, c in zip(self.offset, scale, offset, strict=True)),
            self.spacing_mm,
            self.affine,
        )

    def resized(self, shape: Shape) -> Geometry:
        """Stretch to `shape` (each axis on its own; pad first to keep proportions)."""
        scale = tuple(new / old for new, old in zip(shape, self.shape, strict=True))
        return self.then(shape, scale, (0.0,) * len(shape))

    def cropped(self, start: Shape, shape: Shape) -> Geometry:
        """Cut the window of `shape` that begins at `start`; a negative start or a larger shape pads."""
        return self.then(shape, (1.0,) * len(shape), tuple(-float(s) for s in start))

    def same_space(self, other: Geometry) -> bool:
        """Whether the originals are one grid of voxels in one world: shape and affine, to a thousandth of a millimetre."""
        alike = self.original_shape == other.original_shape and len(self.affine) == len(other.affine)
        return alike and np.allclose(self.affine, other.affine, rtol=0, atol=1e-3)

    def to_stored(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map [..., ndim] points in array-axis order from the original frame to these pixels."""
        return np.asarray(points, np.float64) * self.scale + self.offset

    def to_original(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `to_stored`."""
        return (np.asarray(points, np.float64) - self.offset) / self.scale

    def boxes_to_stored(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map [n, 4] boxes of the original to boxes on these pixels (not clipped)."""
        return _corners(boxes, self.to_stored, len(self.shape))

    def boxes_to_original(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map [n, 4] boxes on these pixels back to the original (not clipped)."""
        return _corners(boxes, self.to_original, len(self.shape))

    def map_to_original(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Lay a map of any grid [h, w] or [d, h, w] over these pixels onto the original frame, linear between cell centres.

        Original pixels that the stored image never showed (cropped away) are 0.
        """
        result = np.asarray(values, np.float32)
        for axis, n in enumerate(self.original_shape):
            cells = result.shape[axis]
            stored = (np.arange(n) + 0.5) * self.scale[axis] + self.offset[axis]
            cell = np.clip(stored * (cells / self.shape[axis]) - 0.5, 0, cells - 1)
            below = cell.astype(np.intp)
            lower, upper = (np.take(result, np.minimum(below + i, cells - 1), axis) for i in (0, 1))
            column = (-1, *(1,) * (result.ndim - 1 - axis))
            result = lower + (upper - lower) * (cell - below).astype(np.float32).reshape(column)
            shown = (stored >= 0) & (stored <= self.shape[axis])
            result = np.where(shown.reshape(column), result, np.float32(0))
        return result

    def to_json(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"), default=lambda number: number.item())

    @classmethod
    def from_json(cls, text: str) -> Geometry:
        return cls(**{key: tuple(value) for key, value in json.loads(text).items()})


def _corners(
    boxes: NDArray[np.floating], move: Callable[[NDArray[np.float64]], NDArray[np.float64]], ndim: int
) -> NDArray[np.float64]:
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)[..., ::-1]  # (y, x)
    full = np.zeros((*corners.shape[:2], ndim))
    full[..., -2:] = corners
    moved = move(full)[..., -2:][..., ::-1]  # (x, y)
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=-1)
