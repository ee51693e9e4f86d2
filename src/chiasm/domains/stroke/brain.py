"""The phantom's brain: a toy atlas of arterial territories, infarcts grown inside them, and MR volumes of both.

Millimetres like those of MNI152: x to the right, y to the front, z up. Volumes are [D, H, W] with axes to Superior,
Anterior, Right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chiasm.domains.chest.anatomy import Rng
from chiasm.domains.stroke.facts import Plane, StrokeAtlas
from chiasm.geometry import Geometry

Shape = tuple[int, int, int]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FIELD_MM = (150.0, 190.0, 152.0)
"""What the brain needs of each axis z, y, x; the voxel is the smallest cube that holds it all."""
SEQUENCES = ("flair", "dwi")
_CENTRE_MM = (2.0, -4.0, 0.0)
_SECOND_FOCUS_SHARE = 0.3
# plane -> axis, place in mm: as in the pictures of SOOP
_PLANES = {"axial": (0, 18.0), "sagittal": (2, -39.0), "coronal": (1, -18.0)}


@dataclass(frozen=True)
class Brain:
    """The template on one grid.

    Attributes:
        atlas: with the numbers of `chiasm.domains.stroke.territories.TERRITORIES`. voxel_mm: its cubes' side.
        z, y, x: [D, 1, 1], [1, H, 1], [1, 1, W] millimetres of voxel centres.
    """

    atlas: StrokeAtlas
    voxel_mm: float
    z: Floats
    y: Floats
    x: Floats

    @property
    def voxel_ml(self) -> float:
        return self.voxel_mm**3 / 1000

    @cached_property
    def gray(self) -> Floats:
        """[D, H, W] of a healthy FLAIR, 0 .. 255: cortex, white matter, dark ventricles, nothing outside."""
        values = np.where(self.atlas.tissue, np.where(self.atlas.cortex, 105.0, 85.0), 0.0)
        values[np.isin(self.atlas.regions, (31, 32))] = 25.0
        return np.asarray(ndimage.gaussian_filter(values, 1.5 / self.voxel_mm), np.float64)


@lru_cache(maxsize=4)
def build_brain(shape: Shape) -> Brain:
    """The template on a grid of this shape."""
    voxel = max(field / n for field, n in zip(FIELD_MM, shape, strict=True))
    first = [centre - voxel * (n - 1) / 2 for centre, n in zip(_CENTRE_MM, shape, strict=True)]
    axes = [np.asarray(a + voxel * np.arange(n), np.float64) for a, n in zip(first, shape, strict=True)]
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    affine = np.array([[0, 0, voxel, first[2]], [0, voxel, 0, first[1]], [voxel, 0, 0, first[0]], [0, 0, 0, 1.0]])
    geometry = Geometry.identity(shape, (voxel,) * 3, tuple(float(a) for a in affine.ravel()))
    return Brain(StrokeAtlas(_territories(z, y, x), geometry), voxel, z, y, x)


def _territories(z: Floats, y: Floats, x: Floats) -> NDArray[np.uint8]:
    """Left numbers (odd) everywhere first, later ones over earlier ones; then one more on the right."""
    side = np.abs(x)

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Bools:
        parts = zip((z, y, side), centre, radii, strict=True)
        return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in parts) <= 1)

    cerebrum = ball((14, 0, 0), (60, 88, 70)) & (z > -30)
    regions = np.zeros(cerebrum.shape, np.uint8)
    for number, where in (
        (9, cerebrum),
        (7, cerebrum & (y > 0)),
        (13, cerebrum & (y < -50)),
        (11, cerebrum & (z < 0) & (y > -50)),
        (1, cerebrum & (side < 20) & (y > -35) & (z > -12)),
        (19, cerebrum & (side < 45) & (y < -45) & (z < 45)),
        (17, cerebrum & (side < 36) & (y < -8) & (y > -50) & (z < -8)),
        (15, ball((6, 2, 38), (15, 22, 6)) & cerebrum),
        (5, ball((8, 5, 24), (15, 22, 11))),
        (21, ball((8, -18, 11), (12, 14, 11))),
        (31, ball((22, -4, 9), (8, 32, 5))),
        (29, ball((-40, -52, 0), (26, 34, 48)) & (z <= -30)),
        (27, ball((-40, -52, 0), (26, 34, 48)) & (z > -38) & (z <= -22)),
        (25, np.asarray((((y + 26) / 13) ** 2 + (side / 15) ** 2 <= 1) & (z > -66) & (z < -8))),
    ):
        regions[where] = number
    return np.where((regions > 0) & (x > 0), regions + 1, regions).astype(np.uint8)


def grow_lesion(brain: Brain, territories: tuple[int, ...], volume_ml: float, rng: Rng) -> Bools:
    """[D, H, W]: an infarct of exactly so many voxels in these territories, around one seed or two, its outline uneven.

    Raises:
        ValueError: the territories are smaller than the infarct.
    """
    allowed = np.argwhere(np.isin(brain.atlas.regions, territories))  # [n, 3]
    count = max(1, round(volume_ml / brain.voxel_ml))
    if count > len(allowed):
        raise ValueError(f"{volume_ml:.1f} ml do not fit into territories of {len(allowed) * brain.voxel_ml:.1f} ml")
    seeds = allowed[rng.integers(len(allowed), size=1 + int(rng.random() < _SECOND_FOCUS_SHARE))]
    away = (allowed[:, None] - seeds) * brain.voxel_mm  # [n, seeds, 3]
    radius = (3e3 * volume_ml / (4 * np.pi)) ** (1 / 3)
    waves = np.sin(away @ rng.normal(size=(3, 3)) / radius + rng.uniform(0, 2 * np.pi, 3)).mean(axis=-1)
    distance = (np.linalg.norm(away, axis=-1) * (1 + 0.3 * waves)).min(axis=1)
    lesion = np.zeros(brain.atlas.regions.shape, bool)
    lesion[tuple(allowed[np.argsort(distance, kind="stable")[:count]].T)] = True
    return lesion


def render(brain: Brain, lesion: Bools, sequence: str, rng: Rng) -> NDArray[np.uint8]:
    """[D, H, W] 0 .. 255: on FLAIR the infarct beside fainter old white matter spots, on DWI hardly anything else."""
    soft = ndimage.gaussian_filter(lesion.astype(np.float64), 1.0 / brain.voxel_mm)
    if sequence == "dwi":
        values = 0.5 * brain.gray + 140 * soft
    else:
        values = brain.gray + 85 * soft + 30 * _old_spots(brain, rng) * (1 - soft)
    grain = ndimage.gaussian_filter(rng.normal(size=lesion.shape), 5.0 / brain.voxel_mm)
    values += 8 * grain / grain.std() * brain.atlas.tissue  # no two brains are alike
    slope = rng.normal(0, 0.06, 3)  # the coil's sensitivity
    values = values * (1 + slope[0] * brain.z / 70 + slope[1] * brain.y / 90 + slope[2] * brain.x / 70)
    return np.asarray(np.clip(values + rng.normal(0, 5, lesion.shape), 0, 255), np.uint8)


def _old_spots(brain: Brain, rng: Rng) -> Floats:
    """White matter hyperintensities around the ventricles, on both sides, which say nothing of the outcome."""
    spots = np.zeros(brain.atlas.regions.shape)
    for _ in range(int(rng.poisson(4))):
        centre = (rng.uniform(18, 34), rng.uniform(-34, 30), rng.choice([-1, 1]) * rng.uniform(16, 30))
        squared = sum((axis - c) ** 2 for axis, c in zip((brain.z, brain.y, brain.x), centre, strict=True))
        spots = np.maximum(spots, np.exp(-squared / (2 * rng.uniform(2, 4) ** 2)))
    return spots * brain.atlas.tissue


def cut_planes(brain: Brain, volume: NDArray[np.uint8]) -> dict[str, Plane]:
    """The planes of a volume that are pictured in SOOP."""
    axes = (brain.z.ravel(), brain.y.ravel(), brain.x.ravel())
    planes = {}
    for name, (axis, place_mm) in _PLANES.items():
        index = int(np.abs(axes[axis] - place_mm).argmin())
        planes[name] = Plane(axis, index, np.asarray(np.take(volume, index, axis)[::-1]))
    return planes
