"""The anatomical frame of a frontal chest radiograph: where lungs lie in the image, and which part of them a word names.

It is fixed: lungs of the size and place that frontal films give them (of the phantom's bodies, `anatomy.draw_body`), so it asks for no
box and no network. A finding of the lungs seen outside of it is more likely to be a shortcut (a marker, a border, the exposure).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.vocabulary import FINDINGS

Floats = NDArray[np.float64]

CENTRE, RADII = (0.42, -0.05), (0.28, 0.50)
"""Middle of the image's right lung, and its half-axes (across, along), where the image reaches from -1 to 1."""
SIDES = ("right", "left")  # the patient's: right is the image's left
EDGES = {"upper": (-1.0, -0.3), "mid": (-0.3, 0.15), "lower": (0.15, 1.0)}
"""Zone -> its upper and lower edge, in the same frame."""
ZONES = {"apex": "upper", "upper": "upper", "mid": "mid", "hilum": "mid", "lower": "lower", "base": "lower"}
"""Zone as a report names it -> zone of the frame; lobes are not zones, and the others name no height."""
_LOBES = {"upper": ("upper",), "middle": ("mid", "lower"), "lingula": ("mid", "lower"), "lower": ("mid", "lower")}
_ELSEWHERE = ("cardiomegaly", "enlarged_cardiomediastinum", "hernia", "fracture", "support_devices", "normal")
IN_LUNGS = tuple(name for name in FINDINGS if name not in _ELSEWHERE)
"""Findings of lung and pleura; a finding that the vocabulary does not know may lie anywhere."""


def lung_field(grid: tuple[int, int]) -> Floats:
    """[h, w] in (0, 1]: how likely a cell of the image is one of lung, an ellipse with a soft edge for each."""
    x, y = _centres(grid)
    lungs = [((x - side * CENTRE[0]) / RADII[0]) ** 2 + ((y - CENTRE[1]) / RADII[1]) ** 2 for side in (-1, 1)]
    return np.asarray(np.exp(-np.minimum(*lungs)))


def place_field(
    sides: Sequence[str], zones: Sequence[str], lobes: Sequence[str], grid: tuple[int, int]
) -> Floats | None:
    """[h, w] of 0 and 1: the part of the image that a report's words name; None where they name no part.

    >>> place_field(["left"], ["base"], [], (4, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    x, y = _centres(grid)
    across = np.zeros(grid, bool) if set(sides) & set(SIDES) and "both" not in sides else np.ones(grid, bool)
    for side, there in (("right", x < 0), ("left", x > 0)):
        across |= there & (side in sides)
    heights = {ZONES[zone] for zone in zones if zone in ZONES} | {z for lobe in lobes for z in _LOBES.get(lobe, ())}
    along = np.ones(grid, bool)
    if heights:
        along = np.any([(y >= EDGES[z][0]) & (y < EDGES[z][1]) for z in heights], axis=0)
    found = across & along
    return None if found.all() else found.astype(np.float64)


def _centres(grid: tuple[int, int]) -> tuple[Floats, Floats]:
    """[h, w] x and y of the middle of each cell, from -1 to 1."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in grid]
    y, x = np.meshgrid(*axes, indexing="ij")
    return x, y
