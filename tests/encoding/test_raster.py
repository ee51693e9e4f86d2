import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.encoding.raster import cover
from chiasm.geometry import Geometry
from chiasm.study import Region

FINE = 8  # quarters of an original pixel are whole numbers of these parts, so the reference below is exact


def slow_cover(regions: list[Region], geometry: Geometry, grid: tuple[int, int]) -> np.ndarray:
    """Every original pixel in FINE x FINE parts, one after another."""
    height, width = geometry.original_shape
    share = np.zeros(grid, np.float64)
    cell = np.array(geometry.shape) / grid
    area = abs(geometry.scale[0] * geometry.scale[1]) / FINE**2 / cell.prod()
    for i in range(height * FINE):
        for j in range(width * FINE):
            y, x = (i + 0.5) / FINE, (j + 0.5) / FINE
            inside = any(
                r.mask[int(y), int(x)] if r.mask is not None else r.box[0] < x < r.box[2] and r.box[1] < y < r.box[3]  # type: ignore[index]
                for r in regions
            )
            row, column = np.floor(geometry.to_stored(np.array([y, x])) / cell).astype(int)
            if inside and 0 <= row < grid[0] and 0 <= column < grid[1]:
                share[row, column] += area
    return share


quarters = st.integers(-8, 40).map(lambda n: n / 4)


@st.composite
def boxes(draw: st.DrawFn) -> Region:
    x, y = sorted(draw(st.tuples(quarters, quarters))), sorted(draw(st.tuples(quarters, quarters)))
    return Region("a", "i", (x[0], y[0], x[1] + 0.25, y[1] + 0.25))


@st.composite
def masks(draw: st.DrawFn) -> Region:
    bits = draw(st.lists(st.booleans(), min_size=48, max_size=48))
    return Region("a", "i", mask=np.array(bits).reshape(6, 8))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.one_of(boxes(), masks()), min_size=0, max_size=3),
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, -1.0, -2.0])] * 2),
    st.tuples(*[st.integers(-6, 12)] * 2),
    st.sampled_from([(2, 2), (4, 2), (1, 3)]),
)
def test_cover_equals_the_slow_reference(
    regions: list[Region], scale: tuple[float, float], offset: tuple[int, int], grid: tuple[int, int]
) -> None:
    geometry = Geometry((6, 8), (8, 12), scale, offset)
    np.testing.assert_allclose(cover(regions, geometry, grid), slow_cover(regions, geometry, grid), atol=1e-6)


def test_overlapping_boxes_count_once() -> None:
    geometry = Geometry.identity((4, 4))
    two = [Region("a", "i", (0, 0, 2, 2)), Region("a", "i", (1, 0, 3, 2))]
    assert cover(two, geometry, (1, 1)).tolist() == [[6 / 16]]
    assert cover(two, geometry, (2, 2)).tolist() == [[1.0, 0.5], [0.0, 0.0]]


def test_the_frame_of_publication_and_the_letterbox() -> None:
    # a box of 256 x 512 published at 1024 x 1024, an image read at 512, stored at 224
    geometry = Geometry.identity((1024, 1024)).resized((512, 512)).resized((224, 224))
    share = cover([Region("a", "i", (0, 0, 256, 512))], geometry, (14, 14))
    assert share[:7, :3].min() == 1
    assert share[:7, 3].tolist() == pytest.approx([0.5] * 7)
    assert share.sum() == pytest.approx(14 * 14 / 8)
    wide = Geometry.identity((100, 200)).resized((112, 224)).cropped((-56, 0), (224, 224))
    full = cover([Region("a", "i", (-50, -50, 300, 300))], wide, (4, 4))
    assert full.tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]  # beyond the frame there is nothing to cover


def test_a_volume_takes_masks_by_slice_and_boxes_through_all() -> None:
    geometry = Geometry.identity((4, 8, 8)).resized((8, 8, 8))
    mask = np.zeros((4, 8, 8), bool)
    mask[1, :4, :4] = True
    share = cover([Region("a", "i", mask=mask)], geometry, (2, 2, 2))
    assert share.tolist() == [[[0.5, 0], [0, 0]], [[0, 0], [0, 0]]]
    share = cover([Region("a", "i", (4.0, 0.0, 8.0, 8.0))], geometry, (2, 2, 2))
    assert share.tolist() == [[[0, 1], [0, 1]]] * 2


def test_an_empty_mask_covers_nothing() -> None:
    geometry = Geometry.identity((4, 4))
    assert not cover([Region("a", "i", mask=np.zeros((4, 4), bool))], geometry, (2, 2)).any()
    assert not cover([], geometry, (2, 2)).any()
