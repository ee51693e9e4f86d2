"""Volumes on paper: three planes of one, and a brain of glass. Axes run to Superior, Anterior, Right.

Pictures stand as the patient faces away: the left of a picture is the patient's left (or, seen from the side, the back).
"""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, zoom

_AXIS = {"axial": 0, "sagittal": 2, "coronal": 1}
_FAINT = 0.1
"""Share of the largest value below which colour fades out."""


def planes(
    volume: NDArray[Any], through: tuple[int, int, int], edges: NDArray[np.floating] | None = None
) -> dict[str, NDArray[Any]]:
    """Axial, sagittal and coronal plane of [D, H, W] through a voxel (z, y, x), head or front up: rows run down.

    Args:
        edges: [3] pixels to which each axis of the volume is stretched, linearly and for a mask by the nearest voxel; None
            leaves it as it is.
    """
    found = {}
    for view, axis in _AXIS.items():
        plane = _upright(np.take(volume, through[axis], axis))
        if edges is not None:
            size = np.maximum(1, np.round(np.delete(edges, axis)))
            order: Literal[0, 1] = 0 if plane.dtype == np.bool_ else 1
            plane = zoom(plane, size / plane.shape, order=order, mode="nearest", grid_mode=True)
        found[view] = plane
    return found


def _upright(plane: NDArray[Any]) -> NDArray[Any]:
    return plane[::-1]


def brightest(volume: NDArray[np.floating], where: NDArray[np.bool_] | None = None) -> tuple[int, int, int]:
    """(z, y, x) of the planes that hold most of a lesion, or, where none was drawn, most of what is bright.

    Bright is what exceeds half of the maximum and, in a picture that is bright all over, what is among the highest hundredth.
    """
    if where is None or not where.any():
        where = volume >= max(float(volume.max()) / 2, float(np.percentile(volume, 99)), 1e-9)
    z, y, x = (int(where.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))
    return z, y, x


def glass_brain(
    values: NDArray[np.floating], brain: NDArray[np.bool_], cell_mm: tuple[float, float, float], side: int = 360
) -> dict[str, bytes]:
    """View -> PNG of the maximum projection of [D, H, W] values >= 0 over the outline of the brain [D, H, W].

    Args:
        cell_mm: size of a voxel along each axis; side: pixels of the longest edge of the volume.
    """
    from matplotlib import colormaps
    from PIL import Image

    largest = float(values.max()) or 1.0
    edges = np.multiply(values.shape, cell_mm)
    pictures = {}
    for view, axis in _AXIS.items():
        height, width = (round(side * float(n) / float(edges.max())) for n in np.delete(edges, axis))

        def enlarge(plane: NDArray[np.generic], size: tuple[int, int] = (width, height)) -> NDArray[np.float32]:
            picture = Image.fromarray(_upright(plane).astype(np.float32))
            return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)

        heat = np.clip(enlarge(values.max(axis=axis)) / largest, 0, 1)
        inside = enlarge(gaussian_filter(brain.max(axis=axis).astype(np.float32), 0.7)) > 0.5
        outline = inside & ~binary_erosion(inside, iterations=2)
        rgb = np.full((height, width, 3), 0.05, np.float32)
        rgb[inside] = 0.12
        alpha = np.clip(heat / _FAINT, 0, 1)[..., None]
        rgb = (1 - alpha) * rgb + alpha * np.asarray(colormaps["inferno"](0.15 + 0.85 * heat), np.float32)[..., :3]
        rgb[outline] = 0.75
        out = io.BytesIO()
        Image.fromarray(np.round(255 * rgb).astype(np.uint8)).save(out, format="PNG")
        pictures[view] = out.getvalue()
    return pictures
