"""The body of the phantom chest: where its organs lie, and how much of the beam they take.

Two coordinate systems. The frame's: fractions of the image's side, (x, y) from its upper left corner. The chest's: u is the
distance from the midline in half-widths of the thorax, positive towards the image's right, which is the patient's left;
v runs from 0 at the lung's apex to about 1 at the costophrenic angle. Organs are drawn in the chest's coordinates, so
they move together with pose and body size.

An image is `tissue - AIR * air`: attenuation by soft tissue and bone, lessened where the beam passes through lung.
Fields are [S, S] float32, one number a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
Rng = np.random.Generator

AIR = 0.74
_APEX_V = 0.36  # above it the thorax closes to the apex
VERTEBRA_V = 0.088


@dataclass(frozen=True)
class Body:
    """What a patient keeps from one study to the next.

    Attributes:
        half_width, length: of the thorax, in fractions of the image's side.
        heart_share: width of the heart over the width of the thorax, when it is not enlarged.
        wall: thickness of the soft tissue beside the ribs, in half-widths.
        rib_gap, rib_slope, rib_phase: of the posterior ribs, in v.
        sex: "f" or "m"; breast shadows go with it. age_years: shows in no picture.
    """

    half_width: float
    length: float
    heart_share: float
    wall: float
    rib_gap: float
    rib_slope: float
    rib_phase: float
    sex: str
    age_years: int


def draw_body(rng: Rng) -> Body:
    return Body(
        half_width=rng.uniform(0.385, 0.425),
        length=rng.uniform(0.66, 0.72),
        heart_share=rng.uniform(0.40, 0.50),
        wall=rng.uniform(0.08, 0.20),
        rib_gap=rng.uniform(0.092, 0.106),
        rib_slope=rng.uniform(0.10, 0.20),
        rib_phase=rng.uniform(0, 1),
        sex="f" if rng.random() < 0.5 else "m",
        age_years=int(np.clip(np.round(rng.normal(58, 16)), 18, 97)),
    )


@dataclass(frozen=True)
class Frame:
    """Where a thorax lies in an image of `size` x `size` pixels.

    Attributes:
        center: of chest point (0, 0.5), half_width, length: in fractions of the side. tilt: in radians.
    """

    size: int
    center: tuple[float, float]
    half_width: float
    length: float
    tilt: float

    def chest(self) -> tuple[Field, Field]:
        """(u, v) at the pixels' centres."""
        along = (np.arange(self.size, dtype=np.float32) + np.float32(0.5)) / np.float32(self.size)
        x, y = along[None, :] - self.center[0], along[:, None] - self.center[1]
        cos, sin = float(np.cos(self.tilt)), float(np.sin(self.tilt))
        return (cos * x + sin * y) / self.half_width, (cos * y - sin * x) / self.length + np.float32(0.5)

    def to_frame(self, u: NDArray[np.floating], v: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
        """Chest (u, v) -> frame (x, y): the inverse of `chest`."""
        a, b = self.half_width * u, self.length * (v - 0.5)
        cos, sin = float(np.cos(self.tilt)), float(np.sin(self.tilt))
        return self.center[0] + cos * a - sin * b, self.center[1] + sin * a + cos * b


def draw_frame(size: int, body: Body, rng: Rng) -> Frame:
    zoom = rng.uniform(0.95, 1.05)
    center = 0.5 + rng.uniform(-0.03, 0.03), 0.48 + rng.uniform(-0.03, 0.03)
    return Frame(size, center, zoom * body.half_width, zoom * body.length, rng.uniform(-0.05, 0.05))


def ramp(x: Field) -> Field:
    """0 below 0, 1 above 1, a quarter circle between: the thickness of a rounded edge."""
    x = np.clip(x, 0, 1)
    return np.sqrt(x * (2 - x))


def soft(x: Field) -> Field:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def ellipse(x: Field, y: Field, radius_x: float, radius_y: float) -> Field:
    """Distance from the origin, 1 on the ellipse."""
    return np.sqrt((x / radius_x) ** 2 + (y / radius_y) ** 2)


@dataclass(frozen=True)
class Thorax:
    """The PA thorax at the pixels of a frame.

    Attributes:
        u, v: chest coordinates; a: |u|.
        lateral, medial: edges of the lung in a; floor: of the diaphragm in v. Each at the pixel's own u and v.
        base: v of the costophrenic angle.
    """

    frame: Frame
    u: Field
    v: Field
    a: Field
    lateral: Field
    medial: Field
    floor: Field
    base: float


def build_thorax(frame: Frame, base: float) -> Thorax:
    u, v = frame.chest()
    a = np.abs(u)
    above = np.clip(1 - v / _APEX_V, 0, 1) ** 2
    swell = 0.16 * np.sin(np.clip(v - _APEX_V, 0, 0.65) * (np.pi / 1.3))
    lateral = 0.36 + 0.48 * np.sqrt(1 - above) + swell
    lift = np.where(u < 0, np.float32(0.045), np.float32(0))  # the liver under the right dome
    floor = base - lift - 0.15 * (1 - ((a - 0.44) / 0.56) ** 2)
    return Thorax(frame, u, v, a, lateral, 0.13 + 0.20 * above, floor, base)


def lung_air(t: Thorax) -> Field:
    """Depth of lung in the beam, 0 (none) .. 1, without heart and lesions."""
    sides = ramp((t.lateral - t.a) / 0.34) * ramp((t.a - t.medial) / 0.24)
    return sides * ramp((t.floor - t.v) / 0.16) * ramp(t.v / 0.12)


def heart_field(t: Thorax, share: float) -> Field:
    """The heart, 1 inside and soft at its edge; `share` is its width over the thorax's, which is two half-widths."""
    x, y = t.u - 0.36 * share, t.v - (t.base - 0.17 - 0.10 * share)
    along, across = x * 0.94 + y * 0.34, y * 0.94 - x * 0.34  # its axis points down to the patient's left
    return soft((1.06 - ellipse(along, across, share, 0.16 + 0.20 * share)) / 0.12)


def mediastinum(t: Thorax) -> Field:
    """Great vessels, aortic knob, pulmonary trunk and hila."""
    u, v, a = t.u, t.v, t.a
    column = soft((0.21 - a + 0.10 * np.clip(v - 0.3, 0, 1)) / 0.12) * soft((v + 0.35) / 0.3)
    knob = soft((1.1 - ellipse(u - 0.14, v - 0.28, 0.14, 0.075)) / 0.5)
    trunk = soft((1.1 - ellipse(u - 0.16, v - 0.43, 0.15, 0.10)) / 0.5)
    hila = soft(1.3 - ellipse(a - 0.23, v - 0.46, 0.14, 0.13))
    return np.asarray(np.maximum(np.maximum(column, 0.8 * knob), np.maximum(0.7 * trunk, 0.5 * hila)))


def bones(t: Thorax, body: Body) -> Field:
    """Ribs, clavicles, spine and scapulae."""
    v, a = t.v, t.a
    inside = soft((t.lateral + 0.07 - a) / 0.08) * soft((v + 0.04) / 0.08) * (0.35 + 0.65 * soft((0.95 - v) / 0.2))
    posterior = (v - body.rib_slope * a * a) / body.rib_gap + body.rib_phase
    anterior = (v + 0.52 * a) / (1.12 * body.rib_gap) + 1.7 * body.rib_phase
    ribs = 0.17 * _bars(posterior) * soft((a - 0.1) / 0.1) + 0.10 * _bars(anterior) * soft((a - 0.42) / 0.2)
    axis = 0.075 - 0.10 * a + 0.05 * np.sin(5 * a - 1)
    clavicles = 0.20 * soft((0.034 - np.abs(v - axis)) / 0.016) * soft((a - 0.06) / 0.06) * soft((1.15 - a) / 0.1)
    spine = (0.08 + 0.05 * np.cos(2 * np.pi * (v / VERTEBRA_V + body.rib_phase))) * soft((0.13 - a) / 0.05)
    edge = a - 0.86 - 0.22 * (v - 0.1)
    scapulae = soft((edge + 0.05) / 0.05) * soft((0.42 - edge) / 0.1) * soft((v + 0.02) / 0.1) * soft((0.55 - v) / 0.15)
    return np.asarray(ribs * inside + clavicles + spine + 0.07 * scapulae)


def _bars(phase: Field) -> Field:
    """One rib a period: a tube, brighter along its cortex."""
    x = np.abs(phase - np.round(phase)) / 0.22
    return soft((1.15 - x) / 0.3) * (0.65 + 0.35 * np.minimum(x, 1) ** 2)


def soft_tissue(t: Thorax, body: Body) -> Field:
    """The body around the lungs: 0 in the air beside it, about 1 within, more below the diaphragm."""
    v, a = t.v, t.a
    sides = ramp((1.04 + body.wall + 0.4 * np.clip(0.30 - v, 0, 1) + 0.25 * np.clip(v - 1.0, 0, 1) - a) / 0.30)
    shoulders = ramp((v + 0.30 - 0.17 * np.maximum(a - 0.28, 0)) / 0.16)
    neck = ramp((0.36 - a + 0.3 * np.clip(v + 0.3, 0, 1)) / 0.2) * (v < 0)
    trunk = sides * np.maximum(shoulders, neck)
    shape = 0.92 + 0.5 * body.wall + 0.16 * soft((v - t.floor) / 0.10)
    if body.sex == "f":
        shape = shape + 0.10 * soft((1.08 - ellipse(a - 0.56, v - 0.74, 0.40, 0.24)) / 0.22)
    trachea = soft((0.075 - a) / 0.03) * soft((0.36 - v) / 0.06)
    return trunk * (shape - 0.13 * trachea)
