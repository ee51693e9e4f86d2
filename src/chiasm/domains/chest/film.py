"""The letters and lines on the phantom's chest, and what the film does to the picture: no anatomy, no disease."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from chiasm.domains.chest.anatomy import Field, Frame, Rng, Thorax, ellipse, soft


def white_noise(size: int, rng: Rng) -> Field:
    return rng.standard_normal((size, size), np.float32)


def strokes(frame: Frame, u: Field, v: Field, weight: Field | float, width: float) -> Field:
    """Soft lines through dense chest points u, v, each of `weight`; `width` in fractions of the side."""
    size = frame.size
    x, y = frame.to_frame(u, v)
    columns, rows = np.floor(x * size).astype(np.int64), np.floor(y * size).astype(np.int64)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    weights = np.broadcast_to(weight, u.shape)[inside]
    flat = np.bincount((rows * size + columns)[inside], weights, size * size).astype(np.float32)
    return gaussian_filter(flat.reshape(size, size), width * size) * np.float32(2.5 * width * size)


def mimics(t: Thorax, rng: Rng) -> Field:
    """What looks like a lesion and is none: nipples, a fold of skin, both on some chests."""
    field = np.zeros_like(t.u)
    if rng.random() < 0.2:
        nipples = ellipse(t.a - rng.uniform(0.5, 0.62), t.v - rng.uniform(0.66, 0.74), 0.055, 0.032)
        field += rng.uniform(0.08, 0.2) * soft((1.1 - nipples) / 0.5)
    if rng.random() < 0.2:
        depth, lean = t.a - rng.uniform(0.55, 0.8), rng.uniform(0.1, 0.3)
        fold = depth + lean * (t.v - 0.5) ** 2
        own = t.u < 0 if rng.random() < 0.5 else t.u >= 0
        field += (
            own
            * rng.uniform(0.05, 0.12)
            * soft(1 + fold / 0.25)
            * (fold < 0)
            * soft((0.95 - t.v) / 0.3)
            * soft(t.v / 0.1)
        )
    return field


def devices(t: Thorax, rng: Rng) -> Field:
    """Electrodes with leads, a central catheter, a pacemaker: none on most chests."""
    frame, field = t.frame, np.zeros_like(t.u)
    s = np.linspace(0, 1, 2 * frame.size)
    for _ in range(int(rng.integers(2, 4)) if rng.random() < 0.25 else 0):
        u, v = rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.9), rng.uniform(0.1, 0.85)
        disc = ellipse(t.u - np.float32(u), t.v - np.float32(v), 0.016 / frame.half_width, 0.016 / frame.length)
        field += 0.30 * soft((1.1 - disc) / 0.3) + 0.25 * soft((0.55 - disc) / 0.2)
        end, sag = rng.uniform(-1.2, 1.2), rng.uniform(-0.2, 0.2)
        lead = strokes(frame, u + (end - u) * s + sag * np.sin(np.pi * s), v * (1 - s) - 0.4 * s, 0.1, 0.004)
        field += np.minimum(lead, 0.18)
    if rng.random() < 0.15:
        bend, depth = rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.9)
        field += np.minimum(strokes(frame, -0.12 - bend * (1 - s) ** 2, depth * s - 0.3, 0.15, 0.005), 0.22)
    if rng.random() < 0.08:
        side = float(rng.choice([-1.0, 1.0]))
        box = np.maximum(np.abs(t.u - side * 0.72) / 0.15, np.abs(t.v - 0.17) / 0.065)
        lead = strokes(frame, side * 0.65 * (1 - s) ** 1.5 + 0.2 * s, 0.12 + 0.66 * s**2, 0.12, 0.004)
        field += 0.55 * soft((1.1 - box) / 0.2) + np.minimum(lead, 0.22)
    return field


_LETTERS = {
    "right": "11110 10001 10001 11110 10100 10010 10001",
    "left": "10000 10000 10000 10000 10000 10000 11111",
}


def marker(size: int, rng: Rng) -> Field:
    """A leaden letter, 1 on the letter: R beside the patient's right shoulder or L beside the left."""
    side = "right" if rng.random() < 0.5 else "left"
    letter = np.array([[int(bit) for bit in row] for row in _LETTERS[side].split()], np.float32)
    letter = np.kron(letter, np.ones((max(size // 64, 1),) * 2, np.float32))
    height, width = letter.shape
    top, inset = int(size * rng.uniform(0.02, 0.10)), int(size * rng.uniform(0.02, 0.10))
    start = inset if side == "right" else size - inset - width
    field = np.zeros((size, size), np.float32)
    field[top : top + height, start : start + width] = letter
    return field


def expose(attenuation: Field, rng: Rng) -> NDArray[np.uint8]:
    """[S, S] pixels: exposure, contrast and grain vary; some films are collimated."""
    size = len(attenuation)
    contrast, middle = rng.uniform(3.0, 3.8), rng.uniform(0.66, 0.78)
    gray = 1 / (1 + np.exp(-contrast * (attenuation - middle)))
    gray += rng.uniform(0.010, 0.025) * gaussian_filter(white_noise(size, rng), 0.5)
    if rng.random() < 0.2:
        top, bottom, left, right = (size * rng.uniform(0, 0.05, 4)).astype(int)
        window = np.full_like(gray, 0.06)
        window[top : size - bottom, left : size - right] = 1
        gray *= window
    return np.asarray(np.clip(255 * gray, 0, 255), np.uint8)
