"""The anatomical frame of a frontal chest radiograph: where lungs and heart lie in the image, and which part of them a word names.

It is fixed: organs of the size and place that frontal films give them (of the phantom's bodies, `anatomy.draw_body`), so it asks for no
box and no network. A finding of an organ seen outside of it is more likely to be a shortcut (a marker, a border, the exposure).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from chiasm.vocabulary import FINDINGS

Floats = NDArray[np.float64]

CENTRE, RADII = (0.42, -0.05), (0.28, 0.50)
"""Middle of the image's right lung, and its half-axes (across, along), where the image reaches from -1 to 1."""
HEART_CENTRE, HEART_RADII = (0.14, 0.34), (0.36, 0.36)
"""Of the heart, in the same frame."""
SIDES = ("right", "left")  # the patient's: right is the image's left
EDGES = {"upper": -1.0, "mid": -0.3, "lower": 0.15}
"""Zone -> its upper edge, in the same frame."""
PARTS = tuple((side, zone) for side in SIDES for zone in EDGES)
"""The image in parts, by the words of a report."""
ZONES = {"apex": "upper", "upper": "upper", "mid": "mid", "hilum": "mid", "lower": "lower", "base": "lower"}
"""Zone as a report names it -> zone of the frame; lobes are not zones, and the others name no height."""
_LOBES = {"upper": ("upper",), "middle": ("mid", "lower"), "lingula": ("mid", "lower"), "lower": ("mid", "lower")}
IN_HEART = ("cardiomegaly", "enlarged_cardiomediastinum")
_ANYWHERE = ("hernia", "fracture", "support_devices", "normal")
IN_LUNGS = tuple(name for name in FINDINGS if name not in (*IN_HEART, *_ANYWHERE))
"""Findings of lung and pleura."""


def organ_field(finding: str, grid: tuple[int, int]) -> Floats:
    """[h, w] in (0, 1]: how likely a finding lies in a cell, an ellipse with a soft edge for each lung or for the heart.

    A finding of neither, or one that the vocabulary does not know, may lie anywhere: 1.
    """
    x, y = _centres(grid)
    if finding in IN_HEART:
        squares = (((x, y)[i] - HEART_CENTRE[i]) ** 2 / HEART_RADII[i] ** 2 for i in (0, 1))
        return np.asarray(np.exp(-sum(squares)))
    if finding not in IN_LUNGS:
        return np.ones(grid)
    lungs = [((x - side * CENTRE[0]) / RADII[0]) ** 2 + ((y - CENTRE[1]) / RADII[1]) ** 2 for side in (-1, 1)]
    return np.asarray(np.exp(-np.minimum(*lungs)))


def frame_parts(grid: tuple[int, int]) -> NDArray[np.int64]:
    """[h, w]: the number in `PARTS` of the part in which each cell lies; all of the image is dealt out."""
    x, y = _centres(grid)
    return np.asarray((x > 0) * len(EDGES) + np.searchsorted(list(EDGES.values())[1:], y, side="right"), np.int64)


def name_parts(sides: Collection[str], zones: Collection[str], lobes: Collection[str]) -> list[bool] | None:
    """Which of `PARTS` a report's words of place mean; None where they leave out none.

    >>> [f"{side} {zone}" for (side, zone), named in zip(PARTS, name_parts(["left"], ["base"], [])) if named]
    ['left lower']
    """
    own = SIDES if "both" in sides or not set(sides) & set(SIDES) else sides
    heights = {ZONES[zone] for zone in zones if zone in ZONES} | {z for lobe in lobes for z in _LOBES.get(lobe, ())}
    named = [side in own and zone in (heights or EDGES) for side, zone in PARTS]
    return None if all(named) else named


def _centres(grid: tuple[int, int]) -> tuple[Floats, Floats]:
    """[h, w] x and y of the middle of each cell, from -1 to 1."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in grid]
    y, x = np.meshgrid(*axes, indexing="ij")
    return x, y
