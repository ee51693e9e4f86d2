"""The phantom's lesions: drawn at random, laid into the picture, and their true masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiasm.domains.chest.anatomy import Field, Rng, Thorax, soft

CARDIOMEGALY = "cardiomegaly"
PREVALENCE = {
    "pneumothorax": 0.14,
    "pleural_effusion": 0.22,
    "atelectasis": 0.16,
    "consolidation": 0.25,
    "mass": 0.14,
    "nodule": 0.18,
    CARDIOMEGALY: 0.22,
}
"""Share of studies for which each kind is drawn; a little less is laid, where a lung has no zone left."""
KINDS = tuple(PREVALENCE)
SIDES = ("right", "left")  # the patient's: right is the image's left
ZONES = {"upper": 0.24, "mid": 0.46, "lower": 0.66}
"""Zone of a lung -> v of its middle after a full breath."""
_PLACES = {"pneumothorax": ("upper",), "pleural_effusion": ("lower",), "atelectasis": ("mid", "lower")}
# smallest and largest half-axes (along, across) in fractions of the image's side; fluid and air are shaped by the chest
_RADII = {
    "consolidation": ((0.105, 0.150), (0.095, 0.135)),
    "mass": ((0.095, 0.130), (0.090, 0.125)),
    "nodule": ((0.066, 0.080), (0.064, 0.078)),
    "atelectasis": ((0.120, 0.160), (0.038, 0.052)),
}
_TWICE = 0.15  # share of the lung lesions that come in two places


@dataclass(frozen=True)
class Lesion:
    """One lesion.

    Attributes:
        side, zone: where, in words that agree with `u` and `v`.
        u, v: its centre in the chest's coordinates.
        along, across: half-axes in fractions of the image's side; for fluid and air `along` is the extent in u or v.
        tilt: of the long axis, in radians.
        contrast: 0.15 (hard to see) .. 1.
        turn: phase of an uneven outline, in radians.
    """

    name: str
    side: str
    zone: str
    u: float
    v: float
    along: float
    across: float
    tilt: float
    contrast: float
    turn: float


def draw_lesions(base: float, enlarged_heart: bool, rng: Rng) -> tuple[Lesion, ...]:
    """The lesions of a study's lungs, each in a zone of its own; `base` is v of the costophrenic angle."""
    free = [(side, zone) for side in SIDES for zone in ZONES]
    if enlarged_heart:
        free.remove(("left", "lower"))  # it would hide what lies there
    lesions: list[Lesion] = []
    for name, share in PREVALENCE.items():
        wanted = int(rng.random() < share)
        if name == CARDIOMEGALY or not wanted:
            continue
        if name != "pneumothorax":
            wanted += int(rng.random() < _TWICE)
        for _ in range(wanted):
            places = [place for place in free if place[1] in _PLACES.get(name, ZONES)]
            if places:
                side, zone = places[rng.integers(len(places))]
                free.remove((side, zone))
                lesions.append(_draw_lesion(name, side, zone, base, rng))
    return tuple(lesions)


def _draw_lesion(name: str, side: str, zone: str, base: float, rng: Rng) -> Lesion:
    sign = -1 if side == "right" else 1
    u = sign * (rng.uniform(0.40, 0.54) if zone == "upper" else rng.uniform(0.46, 0.64))
    v = ZONES[zone] * (0.35 + 0.65 * base) + rng.uniform(-0.045, 0.045)
    if name == "pneumothorax":
        along, across = rng.uniform(0.42, 0.66), rng.uniform(0.28, 0.42)  # depth in v, width in u
    elif name == "pleural_effusion":
        along, across = rng.uniform(0.26, 0.48), 0.0  # height in v
    else:
        along, across = (rng.uniform(low, high) for low, high in _RADII[name])
    steep = rng.uniform(0.1, 0.5) * rng.choice([-1, 1]) if name == "atelectasis" else rng.uniform(-0.8, 0.8)
    contrast, turn = rng.uniform(0.15, 1), rng.uniform(0, 2 * math.pi)
    return Lesion(name, side, zone, float(u), float(v), float(along), float(across), float(steep), contrast, turn)


@dataclass
class Canvas:
    """An image in the making: fields on which lesions are laid.

    Attributes:
        air: lung in the beam. tissue: soft tissue and bone.
        markings: vessels and interstitial pattern, shown in proportion to the air around them.
    """

    thorax: Thorax
    air: Field
    tissue: Field
    markings: Field


def lay(lesion: Lesion, canvas: Canvas) -> NDArray[np.bool_]:
    """Draw a lesion of a lung into the canvas; return its [S, S] mask.

    A mask ends where there is no air to replace: at the chest wall, the diaphragm, the heart.
    """
    aerated = canvas.air > 0.2
    if lesion.name == "pneumothorax":
        return _lay_pneumothorax(lesion, canvas) & aerated
    if lesion.name == "pleural_effusion":
        return _lay_effusion(lesion, canvas) & aerated
    if lesion.name in ("mass", "nodule"):
        return _lay_ball(lesion, canvas)
    return _lay_opacity(lesion, canvas) & aerated


def _own_side(lesion: Lesion, u: Field) -> NDArray[np.bool_]:
    return np.asarray(u < 0 if lesion.side == "right" else u >= 0)


def _lay_pneumothorax(lesion: Lesion, canvas: Canvas) -> NDArray[np.bool_]:
    """A dark rim without markings beside and above a lung whose edge shows as a thin line."""
    t = canvas.thorax
    width = lesion.across * np.sqrt(np.clip(1 - t.v / lesion.along, 0, 1)) + 1e-3
    depth = (t.lateral - t.a) / width
    own = _own_side(lesion, t.u) & (t.v > 0) & (t.v < lesion.along)
    rim = own * soft((1 - depth) / 0.12)
    line = (
        own * soft(1 - np.abs(depth - 1) * width / 0.035) * soft((lesion.along - t.v) / 0.05) * soft(canvas.air / 0.2)
    )
    canvas.air += (0.02 + 0.26 * lesion.contrast) * rim * soft(canvas.air / 0.4)
    canvas.tissue += (0.05 + 0.15 * lesion.contrast) * line
    canvas.markings *= 1 - (0.4 + 0.6 * lesion.contrast) * rim
    return np.asarray(rim > 0.5)


def _lay_effusion(lesion: Lesion, canvas: Canvas) -> NDArray[np.bool_]:
    """Fluid above the diaphragm under a meniscus that climbs the chest wall."""
    t = canvas.thorax
    level = t.base - lesion.along * (0.62 + 0.38 * np.clip((t.a - 0.45) / 0.5, -0.6, 1) ** 2)
    fluid = _own_side(lesion, t.u) * soft((t.v - level) / 0.07 + 0.5)
    canvas.air *= 1 - (0.25 + 0.70 * lesion.contrast) * fluid
    return np.asarray(fluid > 0.5)


def _axes(lesion: Lesion, t: Thorax) -> tuple[Field, Field]:
    """Coordinates along and across the lesion, 1 at its half-axes."""
    x, y = (t.u - lesion.u) * t.frame.half_width, (t.v - lesion.v) * t.frame.length
    cos, sin = math.cos(lesion.tilt), math.sin(lesion.tilt)
    return (cos * x + sin * y) / lesion.along, (cos * y - sin * x) / lesion.across


def _lay_ball(lesion: Lesion, canvas: Canvas) -> NDArray[np.bool_]:
    """A mass or nodule: sharp, as bright as it is thick."""
    p, q = _axes(lesion, canvas.thorax)
    inside = 1 - p * p - q * q
    canvas.tissue += (0.06 + 0.36 * lesion.contrast) * np.cbrt(np.clip(inside, 0, 1))
    return np.asarray(inside > 0)


def _lay_opacity(lesion: Lesion, canvas: Canvas) -> NDArray[np.bool_]:
    """A fuzzy, uneven consolidation, or a lens-shaped band of atelectasis."""
    p, q = _axes(lesion, canvas.thorax)
    if lesion.name == "atelectasis":
        r = np.sqrt(p**4 + q * q)
        field = (0.10 + 0.60 * lesion.contrast) * soft((1.15 - r) / 0.45)
    else:
        angle, turn = np.arctan2(q, p), lesion.turn
        r = np.sqrt(p * p + q * q) * (1 + 0.14 * np.sin(2 * angle + turn) + 0.10 * np.sin(3 * angle + 2 * turn))
        patches = 0.85 + 0.15 * np.sin(9 * p + turn) * np.sin(9 * q)
        field = (0.12 + 0.66 * lesion.contrast) * soft((1.2 - r) / 0.6) * patches
    canvas.air *= 1 - field
    return np.asarray(r < 1)
