"""One orientation for every volume, whatever scanner or file format it comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError
from chiasm.geometry import Geometry

_TOLERANCE = 0.05  # of the distance between slices: many headers round positions
_DRIFT_MM = 0.1


def canonical(
    values: NDArray[np.generic], affine: NDArray[np.float64], where: str = ""
) -> tuple[NDArray[np.generic], Geometry]:
    """Turn and flip a volume so that its axes run to Superior, Anterior, Right: [D, H, W], index 0 lowest, hindmost, left.

    No value is interpolated: an oblique volume keeps its grid, and each axis takes the nearest direction. The turned grid
    is the original frame that boxes, masks and maps of the volume refer to.

    Args:
        values: 3-D, axes in any order.
        affine: [4, 4], array index (in the order of the axes, whole numbers at voxel centres) -> RAS+ millimetres.
        where: names the volume in an error.

    Returns:
        The volume, and the identity with its spacing and affine: the latter's columns stand in array order too, so that
        it maps (z, y, x, 1).

    Raises:
        ImageError: the affine is not finite or flattens the volume.
    """
    from nibabel import orientations

    pitch = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * np.prod(pitch) or not pitch.all():
        raise ImageError(
            "The place of the volume in space makes no sense",
            expected="three independent axes, in millimetres",
            got=f"axes of {', '.join(f'{mm:g}' for mm in pitch)} mm",
            where=where,
        )
    target = orientations.axcodes2ornt(("S", "A", "R"))
    turn = orientations.ornt_transform(orientations.io_orientation(affine), target)
    turned = orientations.apply_orientation(values, turn)
    affine = affine @ orientations.inv_ornt_aff(turn, values.shape)
    spacing = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return turned, Geometry.identity(turned.shape, spacing, tuple(float(x) for x in affine.ravel()))


def slice_order(
    positions: NDArray[np.float64], orientations: NDArray[np.float64], pitches: NDArray[np.float64], where: str = ""
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Sort the slices of a series along their normal and find where the stack lies (DICOM PS3.3, C.7.6.2.1.1).

    Slices that shift evenly from one to the next (a tilted gantry) are accepted: the affine then shears.

    Args:
        positions: [n, 3] ImagePositionPatient, the centre of the first pixel, LPS mm.
        orientations: [n, 6] ImageOrientationPatient: the direction of rows, then of columns.
        pitches: [n, 2] PixelSpacing: row to row, column to column, mm.
        where: names the series in an error.

    Returns:
        order [n] of the slices, and affine [4, 4]: (slice, row, column) -> RAS+ mm.

    Raises:
        ImageError: fewer than two slices, mixed orientations or spacings, two slices at one place, or uneven distances.
    """

    def refuse(got: str, remedy: str = "") -> ImageError:
        expected = "parallel slices of one spacing, evenly spaced"
        return ImageError("The slices make no volume", expected=expected, got=got, where=where, remedy=remedy)

    if len(positions) < 2:
        raise refuse(f"{len(positions)} slice", "read it as an image of its own")
    if not np.allclose(orientations, orientations[0], atol=1e-3):
        count = len(np.unique(orientations.round(2), axis=0))
        raise refuse(f"slices of {count} orientations", "keep the slices of each orientation in a series of their own")
    if not np.allclose(pitches, pitches[0], rtol=1e-3):
        raise refuse(f"pixel spacings from {pitches.min():g} to {pitches.max():g} mm")
    rows, columns = orientations[0, :3], orientations[0, 3:]
    along = positions @ np.cross(rows, columns)
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    step = float(np.median(gaps))
    if (same := int((gaps <= _TOLERANCE * step).sum())) or step <= 0:
        remedy = "keep one of each: the series may hold several echoes, times or phases"
        raise refuse(f"{max(same, 1)} slices at the place of another", remedy)
    if (np.abs(gaps - step) > _TOLERANCE * step).any():
        worst = int(np.argmax(np.abs(gaps - step)))
        place = f"{gaps[worst]:g} mm between slices {worst + 1} and {worst + 2} of {len(positions)}"
        raise refuse(f"{place}, {step:g} mm between most", "look for slices that are missing, or of another spacing")
    steps = (positions[order[-1]] - positions[order[0]]) / (len(positions) - 1)
    even = positions[order[0]] + np.arange(len(positions))[:, None] * steps
    if (drift := float(np.linalg.norm(positions[order] - even, axis=1).max())) > _DRIFT_MM + _TOLERANCE * step:
        raise refuse(f"slices shifted sideways by up to {drift:g} mm")
    affine = np.eye(4)
    affine[:3] = np.stack([steps, columns * pitches[0, 0], rows * pitches[0, 1], positions[order[0]]], axis=1)
    affine[:2] *= -1  # LPS to RAS
    return order, affine
