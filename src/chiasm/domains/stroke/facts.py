"""Measurements on the mask of a stroke lesion: how large, where, in which territory, how bright on FLAIR.

The facts feed writers and plain baselines, never a network. All are of the lesion as it was drawn, at the resolution at
which it was drawn. The midsagittal plane is x = 0: the lesion must lie in a space such as MNI152.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chiasm.domains.stroke.territories import TERRITORIES, VENTRICLES
from chiasm.errors import ImageError
from chiasm.formats.atlas import Atlas
from chiasm.formats.nifti import read_nifti
from chiasm.geometry import Geometry

MASK = "lesion-mask"
"""Name of the image that is the lesion as a reader drew it."""
Facts = dict[str, float | str | None]
Bools = NDArray[np.bool_]

CORTEX_MM = 10.0
"""How deep below the surface of its hemisphere a cerebral territory still counts as cortical: the ribbon with its folds."""
FOCUS_ML = 0.1
"""A component counts as a focus from this volume; the largest one always does."""
BOTH_SHARE = 0.1
"""From this share in the smaller of its two sides a lesion is in both hemispheres."""
VISIBLE_MM2 = 10.0
"""From this area in a pictured plane a lesion is visible there."""

_CEREBRAL = (1, 2, *range(7, 21))  # territories that reach the cerebral cortex
_INSULAR = (15, 16)
_INFRATENTORIAL = tuple(range(25, 31))


@dataclass(frozen=True)
class StrokeAtlas(Atlas):
    """The atlas of arterial territories and ventricles (`chiasm.domains.stroke.territories`)."""

    names: Mapping[int, str] = field(default_factory=lambda: TERRITORIES | VENTRICLES)

    @cached_property
    def cortex(self) -> Bools:
        """[D, H, W]: a cerebral territory within `CORTEX_MM` of its hemisphere's surface, medial or lateral; and the insula."""
        shell = np.zeros(self.regions.shape, bool)
        for side in (1, 0):  # odd numbers are left
            hemisphere = ndimage.binary_fill_holes((self.regions > 0) & (self.regions % 2 == side))
            shell |= hemisphere & (_depth_mm(hemisphere, self.geometry.spacing_mm) <= CORTEX_MM)
        return np.asarray((shell & np.isin(self.regions, _CEREBRAL)) | np.isin(self.regions, _INSULAR))

    @cached_property
    def tissue(self) -> Bools:
        """[D, H, W]: brain without its ventricles."""
        return np.asarray(np.isin(self.regions, list(TERRITORIES)))


def read_atlas(volume: Path) -> StrokeAtlas:
    """Read an atlas of numbered arterial territories.

    Raises:
        ImageError: it cannot be read, or holds other numbers than 0 .. 32.
    """
    image = read_nifti(volume)
    found = np.unique(image.pixels)
    if not np.isin(found, [0, *TERRITORIES, *VENTRICLES]).all() or len(found) < 2:
        raise ImageError(
            "This is no atlas of arterial territories",
            expected=f"whole numbers 0 .. {max(VENTRICLES)}",
            got=f"{len(found)} values from {found[0]:g} to {found[-1]:g}",
            where=str(volume),
        )
    return StrokeAtlas(image.pixels.astype(np.uint8), image.geometry)


def measure_lesion(lesion: Bools, geometry: Geometry, atlas: StrokeAtlas | None = None) -> Facts:
    """Volume, side, foci, distance to the midline and, with an atlas, shares of territories and tissues.

    Args:
        lesion: [D, H, W]. geometry: the identity, with the affine.

    Returns:
        lesion_volume_ml; hemisphere ("left", "right", "both", by x of the voxels); foci (components of 26 neighbours);
        midline_distance_mm (of the nearest voxel centre); with an atlas also territory_<n>_share for each of `TERRITORIES`
        and four shares that add up to 1 with what lies outside the atlas: cortical (see `StrokeAtlas.cortex`), subcortical (the
        rest above the tentorium), infratentorial (brain stem and cerebellum) and ventricle. All but the volume are None
        for an empty lesion.

    Raises:
        ImageError: the lesion lies on another grid than the atlas, or says nothing of its place in space.
    """
    if not geometry.affine:
        raise ImageError("The lesion does not say where it lies in space", expected="an affine", got="none")
    names = ["hemisphere", "foci", "midline_distance_mm"]
    if atlas is not None:
        _check_grid(lesion, geometry, atlas)
        names += ["cortical_share", "subcortical_share", "infratentorial_share", "ventricle_share"]
        names += [f"territory_{n}_share" for n in TERRITORIES]
    facts: Facts = {"lesion_volume_ml": 0.0, **dict.fromkeys(names)}
    affine = np.reshape(geometry.affine, (4, 4))
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    voxels = np.argwhere(lesion)  # [n, 3]
    if not len(voxels):
        return facts
    x_mm = voxels @ affine[0, :3] + affine[0, 3]
    left = float(np.mean(np.where(x_mm == 0, 0.5, x_mm < 0)))
    window = tuple(slice(low, high + 1) for low, high in zip(voxels.min(axis=0), voxels.max(axis=0), strict=True))
    facts |= {
        "lesion_volume_ml": len(voxels) * voxel_ml,
        "hemisphere": "both" if BOTH_SHARE <= left <= 1 - BOTH_SHARE else "left" if left > 0.5 else "right",
        "foci": float(_count_foci(lesion[window], voxel_ml)),
        "midline_distance_mm": float(np.abs(x_mm).min()),
    }
    return facts if atlas is None else facts | _shares(tuple(voxels.T), atlas)


def _shares(voxels: tuple[NDArray[np.int64], ...], atlas: StrokeAtlas) -> Facts:
    regions = atlas.regions[voxels]
    share = np.bincount(regions, minlength=max(VENTRICLES) + 1) / len(regions)
    cortical = float(atlas.cortex[voxels].mean())
    infratentorial = float(share[list(_INFRATENTORIAL)].sum())
    return {
        "cortical_share": cortical,
        "subcortical_share": max(0.0, float(share[list(TERRITORIES)].sum()) - infratentorial - cortical),
        "infratentorial_share": infratentorial,
        "ventricle_share": float(share[list(VENTRICLES)].sum()),
        **{f"territory_{n}_share": float(share[n]) for n in TERRITORIES},
    }


def _count_foci(lesion: Bools, voxel_ml: float) -> int:
    labels, _ = ndimage.label(lesion, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:] * voxel_ml
    return int(np.sum(sizes >= min(FOCUS_ML, sizes.max())))


def _depth_mm(inside: Bools, spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Distance of each voxel centre to the nearest one outside; what lies beyond the grid is outside."""
    padded = np.pad(inside, 1)
    return np.asarray(ndimage.distance_transform_edt(padded, sampling=spacing_mm)[1:-1, 1:-1, 1:-1], np.float64)


def _check_grid(lesion: Bools, geometry: Geometry, atlas: StrokeAtlas) -> None:
    if lesion.shape != atlas.regions.shape or not geometry.same_space(atlas.geometry):
        raise ImageError(
            "The lesion lies on another grid than the atlas",
            expected=f"{atlas.regions.shape} with the atlas' affine",
            got=f"{lesion.shape}" + " with another affine" * (lesion.shape == atlas.regions.shape),
        )


@dataclass(frozen=True)
class Plane:
    """One plane of a volume, pictured: rows from top (superior, or anterior) to bottom, columns from the left or from behind.

    Attributes:
        axis, index: of the volume [D, H, W]. pixels: [h, w], truncated at the right if narrower than the volume.
    """

    axis: int
    index: int
    pixels: NDArray[np.generic]

    def show(self, volume: Bools) -> Bools:
        """[h, w]: the same plane of another volume on the same grid."""
        height, width = self.pixels.shape
        return np.asarray(np.take(volume, self.index, self.axis)[::-1][:height, :width])


def measure_flair(
    lesion: Bools, geometry: Geometry, planes: Mapping[str, Plane], atlas: StrokeAtlas | None = None
) -> Facts:
    """Where the lesion meets a pictured plane, and how bright it is there.

    Returns:
        flair_visible: names of the planes with `VISIBLE_MM2` or more of it, "axial, coronal", or "not visible";
        flair_contrast: (mean inside - mean of the other brain tissue) / its standard deviation, in flair_contrast_plane,
        the plane that shows most of it; both None where it is not visible, and the contrast where no atlas says what
        is brain.
    """
    areas: dict[str, float] = {}
    for name, plane in planes.items():
        pixel_mm2 = np.prod([mm for axis, mm in enumerate(geometry.spacing_mm) if axis != plane.axis])
        areas[name] = float(plane.show(lesion).sum() * pixel_mm2)
    visible = [name for name, area in areas.items() if area >= VISIBLE_MM2]
    facts: Facts = {"flair_visible": ", ".join(visible) or "not visible"}
    facts |= {"flair_contrast": None, "flair_contrast_plane": None}
    if not visible or atlas is None:
        return facts
    best = max(visible, key=lambda name: areas[name])
    inside, tissue = planes[best].show(lesion), planes[best].show(atlas.tissue)
    pixels = planes[best].pixels.astype(np.float64)
    other = pixels[tissue & ~inside]
    if other.size and other.std() > 0:
        facts |= {"flair_contrast": float((pixels[inside].mean() - other.mean()) / other.std())}
    return facts | {"flair_contrast_plane": best}
