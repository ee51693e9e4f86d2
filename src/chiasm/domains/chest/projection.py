"""The phantom as a radiograph: the PA view with its lesions, and the lateral view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from chiasm.domains.chest.anatomy import (
    AIR,
    VERTEBRA_V,
    Body,
    Field,
    Frame,
    Rng,
    Thorax,
    bones,
    build_thorax,
    ellipse,
    heart_field,
    lung_air,
    mediastinum,
    ramp,
    soft,
    soft_tissue,
)
from chiasm.domains.chest.film import devices, expose, marker, mimics, strokes, white_noise
from chiasm.domains.chest.lesions import Canvas, Lesion, lay

Mask = NDArray[np.bool_]


def lung_base(burden: float) -> float:
    """v of the costophrenic angle: a burdened lung is small."""
    return 0.98 - 0.05 * burden


def render_pa(
    frame: Frame, body: Body, burden: float, heart_share: float, lesions: Sequence[Lesion], rng: Rng
) -> tuple[NDArray[np.uint8], list[Mask], Mask]:
    """Draw the PA view.

    Args:
        burden: lung volume, haze and interstitial pattern, in [-MAX_BURDEN, MAX_BURDEN].
        heart_share: width of the heart over the width of the thorax.

    Returns:
        pixels: [S, S]; masks: one [S, S] per lesion; heart: [S, S] mask of the heart.
    """
    thorax = build_thorax(frame, lung_base(burden))
    heart, middle = heart_field(thorax, heart_share), mediastinum(thorax)
    canvas = Canvas(
        thorax,
        air=lung_air(thorax) * (1 - 0.85 * heart) * (1 - 0.75 * middle),
        tissue=soft_tissue(thorax, body) + bones(thorax, body) + 0.12 * heart + 0.14 * middle,
        markings=_vessels(frame, rng) + _interstitium(thorax.v, burden, rng),
    )
    masks = [lay(lesion, canvas) for lesion in lesions]
    attenuation = np.maximum(
        _develop(canvas, burden) + mimics(thorax, rng) + devices(thorax, rng), 1.6 * marker(frame.size, rng)
    )
    return expose(attenuation, rng), masks, np.asarray(heart > 0.5)


def _develop(canvas: Canvas, burden: float) -> Field:
    """Attenuation: lung is dark, hazier with the burden, crossed by its markings."""
    return canvas.tissue - AIR * canvas.air * (0.92 - 0.06 * burden - canvas.markings)


def _interstitium(v: Field, burden: float, rng: Rng) -> Field:
    """A net of lines, denser towards the base, whose contrast grows with the burden."""
    size = len(v)
    noise = white_noise(size, rng)
    net = gaussian_filter(noise, 0.008 * size) - gaussian_filter(noise, 0.016 * size)
    net = 1 - np.abs(net) / net.std()
    return np.asarray(0.06 * (burden + 1.9) * net * (0.5 + 0.6 * np.clip(v, 0, 1)))


def _vessels(frame: Frame, rng: Rng) -> Field:
    """Vessels that fan out from the hila, fork, and thin."""
    rays, steps = 20, 40
    t = np.linspace(0, 1, steps)
    side = np.array([-1.0, 1.0])[:, None, None]
    angle = np.linspace(-1.45, 1.75, rays)[:, None] + rng.normal(0, 0.12, (2, rays, 1))
    length = rng.uniform(0.40, 0.75, (2, rays, 1))
    fork = (np.arange(rays) % 2)[:, None] * rng.normal(0, 0.5, (2, rays, 1)) * np.clip(t - 0.3, 0, 1)
    direction = angle + rng.normal(0, 0.25, (2, rays, 1)) * t + fork
    u = side * (0.18 + 0.95 * length * t * np.cos(direction))
    v = 0.45 + 0.78 * length * t * np.sin(direction)
    gap = length / steps * frame.half_width * frame.size  # pixels between points: where they crowd, each weighs less
    return np.minimum(strokes(frame, u, v, 0.20 * (1 - 0.75 * t) * gap, 0.006), 0.4)


def render_lateral(
    frame: Frame, body: Body, burden: float, heart_share: float, lesions: Sequence[Lesion], rng: Rng
) -> NDArray[np.uint8]:
    """[S, S] the lateral view, front to the left: here u runs from the breastbone (-1) to the back (1)."""
    u, v = frame.chest()
    base = lung_base(burden)
    above = np.clip(1 - v / 0.5, 0, 1) ** 2
    front, back = -0.80 + 0.60 * above, 0.80 - 0.40 * above
    dome = base - 0.20 + 0.28 * np.clip(u + 0.1, 0, 0.8) ** 2 + 0.10 * np.clip(-u - 0.3, 0, 1)
    lungs = ramp((u - front) / 0.4) * ramp((back - u) / 0.25) * ramp((dome - v) / 0.10) * ramp(v / 0.15)
    belly = soft((v - dome) / 0.06)
    x, y = u + 0.28, v - base + 0.27
    heart = ellipse(x * 0.97 + y * 0.45, y * 0.97 - x * 0.12, 0.14 + 0.7 * heart_share, 0.06 + 0.32 * heart_share)
    heart = soft((1.08 - heart) / 0.2) * (1 - belly)
    arch = soft((1.1 - ellipse(u - 0.10, v - 0.36, 0.24, 0.14)) / 0.6)
    spine = soft((0.17 - np.abs(u - 0.64 + 0.25 * above - 0.05 * np.sin(3 * v))) / 0.06)
    vertebrae = spine * (0.10 + 0.05 * np.cos(2 * np.pi * (v / VERTEBRA_V + body.rib_phase)))
    sternum = soft((0.04 - np.abs(u - front + 0.07)) / 0.03) * soft((v - 0.08) / 0.1) * soft((0.75 - v) / 0.1)
    slope = (v - 0.35 * u) / body.rib_gap
    ribs = soft((0.22 - np.abs(slope - np.round(slope))) / 0.1) * (lungs > 0)
    flesh = ramp((u + 1.0 + body.wall) / 0.3) * ramp((1.05 + body.wall - u) / 0.3)
    shoulders = soft((0.24 - v) / 0.35)
    trachea = soft((0.06 - np.abs(u - 0.08 - 0.15 * v)) / 0.03) * soft((0.40 - v) / 0.1)
    tissue = flesh * (0.88 + 0.20 * belly + 0.22 * shoulders - 0.12 * trachea)
    tissue += vertebrae + 0.05 * ribs + 0.10 * heart + 0.05 * arch + 0.14 * sternum
    air = lungs * (1 - 0.65 * heart) * (1 - 0.3 * arch) * (1 - 0.35 * spine) * (1 - 0.25 * shoulders)
    thorax = Thorax(frame, u, v, np.abs(u), back, front, dome, base)
    canvas = Canvas(thorax, air, tissue, markings=0.6 * _interstitium(v, burden, rng))
    for lesion in lesions:
        if lesion.name == "pleural_effusion":
            level = base + 0.02 - 0.7 * lesion.along * (0.7 + 0.3 * np.clip(u, 0, 1) ** 2)
            canvas.air *= 1 - (0.25 + 0.5 * lesion.contrast) * soft((v - level) / 0.07 + 0.5)
        elif lesion.name != "pneumothorax":  # its rim lies flat against this beam
            lay(replace(lesion, u=rng.uniform(-0.35, 0.45)), canvas)
    return expose(_develop(canvas, burden), rng)
