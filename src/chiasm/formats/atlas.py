"""An atlas: numbered and named regions of the space in which all volumes of a cohort lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chiasm.formats.pixels import fit
from chiasm.geometry import Geometry


@dataclass(frozen=True)
class Atlas:
    """Numbered regions; 0 is outside.

    Attributes:
        regions: [D, H, W] whole numbers, axes to Superior, Anterior, Right. geometry: with the affine.
        names: number -> name, of regions that the grid may be too coarse to show too.
    """

    regions: NDArray[np.uint8]
    geometry: Geometry
    names: Mapping[int, str] = field(default_factory=dict)


def store_atlas(atlas: Atlas, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], Geometry]:
    """The regions on the grid of stored volumes: of each cell the region at its centre; and where that grid lies."""
    _, geometry = fit(np.zeros(atlas.regions.shape, np.uint8), atlas.geometry, shape)
    regions = atlas.regions
    for axis, n in enumerate(shape):
        at = np.floor((np.arange(n) + 0.5 - geometry.offset[axis]) / geometry.scale[axis]).astype(np.int64)
        inside = (at >= 0) & (at < atlas.regions.shape[axis])
        taken = np.take(regions, np.clip(at, 0, atlas.regions.shape[axis] - 1), axis)
        regions = taken * np.expand_dims(inside, tuple(i for i in range(len(shape)) if i != axis)).astype(np.uint8)
    return regions, geometry
