"""The share of each cell of a grid that the regions of an image cover: exact areas, no sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.geometry import Geometry
from chiasm.study import Region


def cover(regions: Sequence[Region], geometry: Geometry, grid: tuple[int, ...]) -> NDArray[np.float32]:
    """The share of each cell, [h, w] or [d, h, w] over the stored pixels, that the union of the regions covers.

    All edges that matter (of cells, boxes and, where there are masks, of original pixels) cut each axis into intervals;
    within a product of intervals nothing changes, so the shares are sums of areas. What a box holds beyond the original
    frame covers nothing. In a volume a box goes through every slice. A region's mask counts before its box.
    """
    masked = any(region.mask is not None for region in regions)
    middles, weights = [], []
    for axis, n in enumerate(geometry.original_shape):
        scale, offset = geometry.scale[axis], geometry.offset[axis]
        cell = geometry.shape[axis] / grid[axis]
        cuts = [(np.arange(grid[axis] + 1) * cell - offset) / scale, np.array([0.0, n])]
        from_end = len(geometry.original_shape) - 1 - axis  # boxes come as (x, y): the last axis first
        if from_end < 2:
            cuts += [np.array([r.box[from_end], r.box[from_end + 2]]) for r in regions if r.box is not None]
        if masked:
            cuts.append(np.arange(n + 1.0))
        edges = np.unique(np.clip(np.concatenate(cuts), 0, n).round(9))  # no slivers of a rounding error's width
        middle = (edges[1:] + edges[:-1]) / 2
        place = np.floor((middle * scale + offset) / cell).astype(np.int64)
        width = np.diff(edges) * abs(scale) / cell
        weights.append(np.where(place == np.arange(grid[axis])[:, None], width, 0.0))  # [cells, intervals]
        middles.append(middle)
    covered = np.zeros([len(middle) for middle in middles], bool)
    for region in regions:
        if region.mask is not None:
            covered |= region.mask[np.ix_(*(middle.astype(np.int64) for middle in middles))]
        elif region.box is not None:
            x_min, y_min, x_max, y_max = region.box
            x, y = middles[-1], middles[-2]
            covered |= np.logical_and.outer((y > y_min) & (y < y_max), (x > x_min) & (x < x_max))
    share = covered.astype(np.float64)
    for axis, weight in enumerate(weights):
        share = np.moveaxis(np.tensordot(weight, share, (1, axis)), 0, axis)
    return np.clip(share, 0, 1).astype(np.float32)
