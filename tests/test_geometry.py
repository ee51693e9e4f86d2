"""Geometry: every map returns, composes in order, and agrees with slow obvious code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.geometry import Geometry

sizes = st.integers(1, 40)


def _flipped(geometry: Geometry, axis: int) -> Geometry:
    scale = tuple(-1.0 if a == axis else 1.0 for a in range(len(geometry.shape)))
    offset = tuple(float(n) if a == axis else 0.0 for a, n in enumerate(geometry.shape))
    return geometry.then(geometry.shape, scale, offset)


@st.composite
def geometries(draw: st.DrawFn, steps: int = 5, ndim: int | None = None) -> Geometry:
    """The identity followed by some resizes, crops, pads and flips."""
    n = ndim or draw(st.integers(2, 3))
    shapes = st.tuples(*[sizes] * n)
    geometry = Geometry.identity(draw(shapes), draw(st.one_of(st.just(()), st.tuples(*[st.floats(0.1, 9)] * n))))
    for _ in range(draw(st.integers(0, steps))):
        kind = draw(st.sampled_from(["resize", "crop", "flip"]))
        if kind == "resize":
            geometry = geometry.resized(draw(shapes))
        elif kind == "crop":
            geometry = geometry.cropped(draw(st.tuples(*[st.integers(-20, 20)] * n)), draw(shapes))
        else:
            geometry = _flipped(geometry, draw(st.integers(0, n - 1)))
    return geometry


def close(actual: object, expected: object, geometry: Geometry) -> None:
    """Equal up to rounding, which grows with the scales that were passed through."""
    size = max(1.0, *map(abs, geometry.offset), *geometry.original_shape)
    least = min(1.0, *(abs(s) for s in geometry.scale))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * size / least)


@settings(max_examples=200)
@given(geometry=geometries(), seed=st.integers(0, 999))
def test_points_return_to_the_original_and_back(geometry: Geometry, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-50, 90, (2, 5, len(geometry.shape)))
    close(geometry.to_original(geometry.to_stored(points)), points, geometry)
    close(geometry.to_stored(geometry.to_original(points)), points, geometry)


@settings(max_examples=200)
@given(geometry=geometries(), seed=st.integers(0, 999))
def test_boxes_return_and_keep_their_corners_in_order(geometry: Geometry, seed: int) -> None:
    low = np.random.default_rng(seed).uniform(-10, 30, (4, 2))
    boxes = np.concatenate([low, low + np.random.default_rng(seed).uniform(0, 30, (4, 2))], axis=1)
    stored = geometry.boxes_to_stored(boxes)
    assert (stored[:, :2] <= stored[:, 2:]).all()
    close(geometry.boxes_to_original(stored), boxes, geometry)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * abs(geometry.scale[-1] * geometry.scale[-2])
    np.testing.assert_allclose(np.prod(stored[:, 2:] - stored[:, :2], axis=1), area, rtol=1e-6, atol=1e-6)


@settings(max_examples=100)
@given(geometry=geometries(), seed=st.integers(0, 999))
def test_steps_compose_in_their_order(geometry: Geometry, seed: int) -> None:
    """The whole map is one step after the other, each applied to points by itself."""
    rng = np.random.default_rng(seed)
    n = len(geometry.shape)
    points = rng.uniform(0, 30, (4, n))
    shape = tuple(int(k) for k in rng.integers(1, 30, n))
    start = tuple(int(k) for k in rng.integers(-9, 9, n))
    axis = int(rng.integers(n))
    stored = geometry.to_stored(points)
    close(geometry.resized(shape).to_stored(points), stored * np.array(shape) / geometry.shape, geometry)
    close(geometry.cropped(start, shape).to_stored(points), stored - start, geometry)
    mirrored = stored.copy()
    mirrored[:, axis] = geometry.shape[axis] - mirrored[:, axis]
    close(_flipped(geometry, axis).to_stored(points), mirrored, geometry)
    close(_flipped(_flipped(geometry, axis), axis).to_stored(points), stored, geometry)
    for step in (geometry.resized(shape), geometry.cropped(start, shape), _flipped(geometry, axis)):
        assert step.original_shape == geometry.original_shape
        assert step.spacing_mm == geometry.spacing_mm


@settings(max_examples=60)
@given(shape=st.tuples(sizes, sizes), seed=st.integers(0, 999))
def test_maps_agree_with_what_numpy_does_to_pixels(shape: tuple[int, int], seed: int) -> None:
    """Pixel centres go where slicing, padding, flipping and repeating bring the pixels."""
    rng = np.random.default_rng(seed)
    pixels = rng.permutation(np.arange(1, np.prod(shape) + 1)).reshape(shape)
    top, left = (int(rng.integers(0, n)) for n in shape)
    before, after = rng.integers(0, 4, (2, 2)) * [top == 0, left == 0]  # a side is cut or padded
    moved = np.pad(pixels[top:, left:], tuple(zip(before, after, strict=True)))
    geometry = Geometry.identity(shape).cropped(tuple(np.array([top, left]) - before), moved.shape)
    geometry = _flipped(geometry, 1)
    moved = np.repeat(np.repeat(moved[:, ::-1], 2, axis=0), 3, axis=1)
    geometry = geometry.resized(moved.shape)
    for y, x in itertools.product(*map(range, shape)):
        stored = np.floor(geometry.to_stored(np.array([y + 0.5, x + 0.5]))).astype(int)
        inside = ((stored >= 0) & (stored < moved.shape)).all()
        assert inside == (y >= top and x >= left)
        if inside:
            assert moved[tuple(stored)] == pixels[y, x]


def test_boxes_are_scaled_and_flipped_as_computed_by_hand() -> None:
    geometry = Geometry.identity((100, 200)).resized((50, 50))  # y by 1/2, x by 1/4
    np.testing.assert_allclose(geometry.boxes_to_stored(np.array([[20, 10, 40, 90]])), [[5, 5, 10, 45]])
    flipped = _flipped(Geometry.identity((100, 200)), 1)
    np.testing.assert_allclose(flipped.boxes_to_stored(np.array([[20, 10, 40, 90]])), [[160, 10, 180, 90]])
    volume = Geometry.identity((7, 100, 200)).resized((14, 50, 50))
    np.testing.assert_allclose(volume.boxes_to_stored(np.array([[20, 10, 40, 90]])), [[5, 5, 10, 45]])
    assert geometry.boxes_to_stored(np.zeros((0, 4))).shape == (0, 4)


def slow_map(geometry: Geometry, values: np.ndarray) -> np.ndarray:
    """Pixel by pixel: the multilinear mean of the cells around the pixel's centre."""
    result = np.zeros(geometry.original_shape)
    for index in np.ndindex(*geometry.original_shape):
        stored = [(i + 0.5) * s + o for i, s, o in zip(index, geometry.scale, geometry.offset, strict=True)]
        if any(not 0 <= p <= n for p, n in zip(stored, geometry.shape, strict=True)):
            continue
        total = 0.0
        cells = [p * g / n - 0.5 for p, g, n in zip(stored, values.shape, geometry.shape, strict=True)]
        corners = [(int(np.floor(c)), int(np.floor(c)) + 1) for c in cells]
        for corner in itertools.product(*corners):
            weight = np.prod([1 - abs(c - k) for c, k in zip(cells, corner, strict=True)])
            nearest = tuple(min(max(k, 0), g - 1) for k, g in zip(corner, values.shape, strict=True))
            total += weight * values[nearest]
        result[index] = total
    return result


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 999))
def test_maps_are_laid_on_the_original_like_the_slow_reference(data: st.DataObject, seed: int) -> None:
    ndim = data.draw(st.integers(2, 3))
    small = st.integers(1, 8 if ndim == 3 else 16)
    geometry = Geometry.identity(data.draw(st.tuples(*[small] * ndim)))
    for _ in range(data.draw(st.integers(0, 3))):
        shape, start = data.draw(st.tuples(*[small] * ndim)), data.draw(st.tuples(*[st.integers(-4, 4)] * ndim))
        step = data.draw(st.sampled_from([Geometry.resized, Geometry.cropped, _flipped]))
        geometry = step(
            geometry, *{Geometry.resized: (shape,), Geometry.cropped: (start, shape), _flipped: (ndim - 1,)}[step]
        )
    values = np.random.default_rng(seed).uniform(0, 1, data.draw(st.tuples(*[st.integers(1, 6)] * ndim)))
    centres = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in geometry.original_shape), indexing="ij"), axis=-1)
    stored = geometry.to_stored(centres)
    # a centre on the very edge may fall on either side by rounding
    clear = (np.minimum(np.abs(stored), np.abs(stored - geometry.shape)) > 1e-9).all(axis=-1)
    laid = geometry.map_to_original(values)
    assert laid.dtype == np.float32
    np.testing.assert_allclose(laid[clear], slow_map(geometry, values)[clear], atol=1e-5)


def test_two_volumes_lie_in_one_space_whatever_was_stored_of_them() -> None:
    affine = (2.0, 0, 0, -90, 0, 2.0, 0, -126, 0, 0, 2.0, -72, 0, 0, 0, 1)
    a = Geometry.identity((9, 10, 11), affine=affine)
    nudged = Geometry.identity((9, 10, 11), affine=(2.0, 0, 0, -90.0005, *affine[4:]))
    assert a.same_space(a.resized((4, 5, 6))) and a.same_space(nudged)
    assert not a.same_space(Geometry.identity((9, 10, 11), affine=(2.0, 0, 0, -89, *affine[4:])))
    assert not a.same_space(Geometry.identity((9, 10, 12), affine=affine))


def test_a_cell_lies_on_its_pixels() -> None:
    """One hot cell of an 8 x 8 grid over a letterboxed image: its centre is that of the region it stands for."""
    geometry = Geometry.identity((100, 50)).resized((64, 32)).cropped((0, -16), (64, 64))
    values = np.zeros((8, 8))
    values[3, 4] = 1  # stored y 24..32, x 32..40 -> original y 37.5..50, x 25..37.5
    laid = geometry.map_to_original(values)
    y, x = np.indices(laid.shape) + 0.5
    np.testing.assert_allclose((laid * y).sum() / laid.sum(), 43.75, atol=0.05)
    np.testing.assert_allclose((laid * x).sum() / laid.sum(), 31.25, atol=0.05)
    np.testing.assert_array_equal(geometry.map_to_original(np.ones((4, 4))), 1)


def test_what_was_cropped_away_is_zero() -> None:
    laid = Geometry.identity((10, 8)).cropped((2, 3), (5, 4)).map_to_original(np.ones((2, 2)))
    expected = np.zeros((10, 8))
    expected[2:7, 3:7] = 1
    np.testing.assert_array_equal(laid, expected)


@settings(max_examples=100)
@given(geometry=geometries(), affine=st.booleans())
def test_a_geometry_comes_back_from_its_json(geometry: Geometry, affine: bool) -> None:
    if affine:
        geometry = Geometry.identity(
            geometry.original_shape, geometry.spacing_mm, tuple(np.linspace(-1, 1, 16).tolist())
        )
    assert Geometry.from_json(geometry.to_json()) == geometry


def test_numpy_numbers_are_numbers_in_json() -> None:
    shape = tuple(np.array([4, 5]))
    geometry = Geometry.identity(shape, tuple(np.array([0.5, 0.25], np.float32)))
    back = Geometry.from_json(geometry.to_json())
    assert back == Geometry.identity((4, 5), (0.5, 0.25))
    assert all(type(n) is int for n in back.shape)


def test_axes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Geometry.identity((4, 5)).resized((4, 5, 6))
