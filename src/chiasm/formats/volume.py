"""One orientation for every volume, whatever scanner or file format it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError
from chiasm.geometry import Geometry

_TOLERANCE = 0.05  # of the distance between slices: many headers round positions
_DRIFT_MM = 0.1
_FAR = 5  # distances between slices: what lies further from the others is no end of their stack
_RATIO = 3.0  # of the two distances of one series, at most


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


class Stack(NamedTuple):
    """How slices make a volume.

    Attributes:
        order: [n] the slices, from the first to the last of the stack.
        affine: [4, 4], (plane, row, column) -> RAS+ mm.
        left: slice -> why it is no part of the volume.
        planes: [d] the place of each plane among the ordered slices, where planes are to be interpolated; None where the
            slices are the planes. note: why, and how.
    """

    order: NDArray[np.intp]
    affine: NDArray[np.float64]
    left: dict[int, str]
    planes: NDArray[np.float64] | None = None
    note: str = ""


def few(left: int, kept: int) -> bool:
    """Whether so few slices may be left out of a series alone: one, or a tenth."""
    return kept > left and left <= max(1, kept // 10)


def stack_slices(
    positions: NDArray[np.float64],
    orientations: NDArray[np.float64],
    pitches: NDArray[np.float64],
    kinds: Sequence[str] = (),
    where: str = "",
    *,
    lost: int = 0,
) -> Stack:
    """Sort the slices of a series along their normal and find where the stack lies (DICOM PS3.3, C.7.6.2.1.1).

    Slices that shift evenly from one to the next (a tilted gantry) are accepted: the affine then shears. Places may be rounded
    by half a unit of the last decimal that they have. A few slices of another kind, direction or pitch, and one slice that
    lies off the grid of all others, are left out alone. Where the distance between slices changes once, as in a CT of the
    head, planes are interpolated at the smaller distance; so is one plane whose slice was left out. A gap is refused.

    Args:
        positions: [n, 3] ImagePositionPatient, the centre of the first pixel, LPS mm.
        orientations: [n, 6] ImageOrientationPatient: the direction of rows, then of columns.
        pitches: [n, 2] PixelSpacing: row to row, column to column, mm.
        kinds: what else the slices of a volume have in common, in words; nothing if empty.
        where: names the series in an error.
        lost: slices of the series that could not be read.

    Raises:
        ImageError: fewer than two slices, mixed kinds, orientations or spacings, slices at one place, or uneven distances.
    """
    kept, left = _alike(positions, orientations, pitches, kinds or [""] * len(positions), where)
    rows, columns = orientations[kept[0], :3], orientations[kept[0], 3:]
    order = kept[np.argsort(positions[kept] @ np.cross(rows, columns), kind="stable")]
    along, unit = positions[order] @ np.cross(rows, columns), _last_decimal(positions[kept])
    gaps = np.diff(along)
    if (same := int((gaps <= _TOLERANCE * np.median(gaps)).sum())) or along[-1] <= along[0]:
        remedy = "keep one of each: the series may hold several echoes, times or phases"
        raise _no_volume(f"{max(same, 1)} slices at the place of another", where, remedy)
    planes, note = None, ""
    if not _even(positions[order], along, unit):
        if (odd := _odd_slice(positions[order], along, unit)) is not None:
            left[int(order[odd])] = "its place lies off the grid of the other slices"
            order, along = np.delete(order, odd), np.delete(along, odd)
        if not _even(positions[order], along, unit):
            planes, note = _interpolated(positions[order], along, unit, len(left) + lost, where)
    places = np.arange(len(along)) if planes is None else (along - along[0]) / _step(along, planes)
    slope, start = np.polyfit(places, positions[order], 1)
    affine = np.eye(4)
    affine[:3] = np.stack([slope, columns * pitches[kept[0], 0], rows * pitches[kept[0], 1], start], axis=1)
    affine[:2] *= -1  # LPS to RAS
    return Stack(order, affine, left, planes, note)


def interpolate(stack: NDArray[np.generic], planes: NDArray[np.float64]) -> NDArray[np.generic]:
    """Planes [d, H, W] at places between the slices [n, H, W], linear along the stack; of the stack's dtype."""
    below = np.clip(np.floor(planes + 1e-6).astype(int), 0, len(stack) - 1)
    above = np.minimum(below + 1, len(stack) - 1)
    result = np.empty((len(planes), *stack.shape[1:]), stack.dtype)
    for n, (low, high, share) in enumerate(zip(below, above, np.clip(planes - below, 0, 1), strict=True)):
        plane = stack[low] * (1 - share) + stack[high] * share
        result[n] = plane if stack.dtype.kind == "f" else np.rint(plane)
    return result


def _no_volume(got: str, where: str, remedy: str = "") -> ImageError:
    expected = "parallel slices of one spacing, evenly spaced"
    return ImageError("The slices make no volume", expected=expected, got=got, where=where, remedy=remedy)


def _alike(
    positions: NDArray[np.float64],
    orientations: NDArray[np.float64],
    pitches: NDArray[np.float64],
    kinds: Sequence[str],
    where: str,
) -> tuple[NDArray[np.intp], dict[int, str]]:
    """The slices of one kind, direction and pitch that most are of; and why the few others are none of them."""
    groups: list[list[int]] = []
    for i, kind in enumerate(kinds):
        for group in groups:
            first = group[0]
            near = np.allclose(orientations[i], orientations[first], atol=1e-3)
            if kind == kinds[first] and near and np.allclose(pitches[i], pitches[first], rtol=1e-3):
                group.append(i)
                break
        else:
            groups.append([i])
    groups.sort(key=len, reverse=True)
    kept, others = groups[0], [group[0] for group in groups[1:]]
    if len(positions) < 2:
        raise _no_volume(f"{len(positions)} slice", where, "read it as an image of its own")
    why = {other: _difference(kept[0], other, orientations, pitches, kinds) for other in others}
    if not few(len(positions) - len(kept), len(kept)):
        directions = len(np.unique(orientations.round(2), axis=0))
        if len(set(kinds)) > 1:
            got = " and ".join(sorted(set(kinds)))
        elif directions > 1:
            got = f"slices of {directions} orientations"
        else:
            got = f"pixel spacings from {pitches.min():g} to {pitches.max():g} mm"
        raise _no_volume(got, where, "keep the slices of each in a series of their own")
    return np.array(kept), {i: why[group[0]] for group in groups[1:] for i in group}


def _difference(
    kept: int, other: int, orientations: NDArray[np.float64], pitches: NDArray[np.float64], kinds: Sequence[str]
) -> str:
    if kinds[kept] != kinds[other]:
        return f"a slice of {kinds[other]} among slices of {kinds[kept]}"
    if not np.allclose(orientations[kept], orientations[other], atol=1e-3):
        return "a slice of another direction than the others, as of a localizer"
    return f"a pixel spacing of {pitches[other].max():g} mm among slices of {pitches[kept].max():g} mm"


def _last_decimal(positions: NDArray[np.float64]) -> float:
    """The unit of the last decimal that positions are given with, mm."""
    units = (10.0**-digits for digits in range(7))
    return next((u for u in units if np.allclose(positions / u, np.rint(positions / u), rtol=0, atol=1e-4)), 0.0)


def _slack(step: float, unit: float) -> float:
    """How far a slice may lie from its place on a grid, mm."""
    return max(_TOLERANCE * step, min(0.6 * unit, step / 4))


def _even(positions: NDArray[np.float64], along: NDArray[np.float64], unit: float) -> bool:
    """Whether slices lie on a line, at one distance."""
    count = np.arange(len(along))
    step, first = np.polyfit(count, along, 1)
    if np.abs(along - first - step * count).max() > _slack(step, unit):
        return False
    return _drift(positions, along) <= _DRIFT_MM + _slack(step, unit)


def _drift(positions: NDArray[np.float64], along: NDArray[np.float64]) -> float:
    """How far the slices lie from the line on which most of them lie, mm."""
    slope, start = np.polyfit(along, positions, 1)
    return float(np.linalg.norm(positions - start - along[:, None] * slope, axis=1).max())


def _holes(along: NDArray[np.float64], unit: float) -> int:
    """How many places of an even grid are empty; -1 where the slices are on none."""
    gaps = np.diff(along)
    step = float(np.median(gaps))
    counts = np.rint(gaps / step)
    return int(counts.sum()) - len(gaps) if np.abs(gaps - counts * step).max() <= 2 * _slack(step, unit) else -1


def _odd_slice(positions: NDArray[np.float64], along: NDArray[np.float64], unit: float) -> int | None:
    """The one slice without which all others lie evenly, or leave one place empty; None where there is no such one."""
    found = []
    for i in range(len(along)) if len(along) > 3 else ():
        rest, where = np.delete(positions, i, axis=0), np.delete(along, i)
        step = float(np.median(np.diff(where)))
        off = (along[i] - where[0]) / step
        beyond = max(where[0] - along[i], along[i] - where[-1]) / step
        slope, start = np.polyfit(where, rest, 1)
        aside = float(np.linalg.norm(positions[i] - start - along[i] * slope))
        odd = (
            abs(off - round(off)) * step > _slack(step, unit) or beyond > _FAR or aside > _DRIFT_MM + _slack(step, unit)
        )
        if odd and _even(rest, where, unit):
            found.append((0, i))
        elif (
            odd
            and len(where) > 3
            and _holes(where, unit) == 1
            and _drift(rest, where) <= _DRIFT_MM + _slack(step, unit)
        ):
            found.append((1, i))
    best = [i for holes, i in found if holes == min(found)[0]]
    return best[0] if len(best) == 1 else None


def _interpolated(
    positions: NDArray[np.float64], along: NDArray[np.float64], unit: float, left: int, where: str
) -> tuple[NDArray[np.float64], str]:
    """The planes between slices that lie at two distances, or around one that was left out; and the words for it.

    Raises:
        ImageError: the distances are uneven in another way, so slices are missing.
    """
    gaps = np.diff(along)
    most = float(np.median(gaps))
    if (drift := _drift(positions, along)) > _DRIFT_MM + _slack(most, unit):
        raise _no_volume(f"slices shifted sideways by up to {drift:g} mm", where)
    worst = int(np.argmax(np.abs(gaps - most)))
    if left and _holes(along, unit) == 1:
        step = (along[-1] - along[0]) / len(along)
        note = f"the plane between slices {worst + 1} and {worst + 2} is interpolated, where a slice was left out"
    elif (pair := _two_steps(gaps, unit)) is not None:
        step = min(pair)
        note = (
            f"the distance between slices changes from {pair[0]:.3g} to {pair[1]:.3g} mm: interpolated at {step:.3g} mm"
        )
    else:
        place = (
            f"{gaps[worst]:g} mm between slices {worst + 1} and {worst + 2} of {len(along)}, {most:g} mm between most"
        )
        raise _no_volume(place, where, "look for slices that are missing, or of another spacing")
    count = int((along[-1] - along[0]) / step + 1e-3) + 1
    return np.interp(along[0] + step * np.arange(count), along, np.arange(len(along))), note


def _two_steps(gaps: NDArray[np.float64], unit: float) -> tuple[float, float] | None:
    """The two distances of slices that change once, each between three slices or more."""
    for change in range(2, len(gaps) - 1):
        steps = float(gaps[:change].mean()), float(gaps[change:].mean())
        near = all(
            np.abs(part - step).max() <= 2 * _slack(step, unit)
            for part, step in zip((gaps[:change], gaps[change:]), steps, strict=True)
        )
        if near and max(steps) <= _RATIO * min(steps):
            return steps
    return None


def _step(along: NDArray[np.float64], planes: NDArray[np.float64]) -> float:
    """The distance between interpolated planes, mm."""
    first, last = np.interp([planes[0], planes[-1]], np.arange(len(along)), along)
    return float(last - first) / (len(planes) - 1)
