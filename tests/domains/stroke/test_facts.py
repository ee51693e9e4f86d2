"""Facts of a stroke lesion against hand computations on tiny masks; left and right above all."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chiasm.domains.stroke.facts import Plane, StrokeAtlas, measure_flair, measure_lesion
from chiasm.domains.stroke.territories import TERRITORIES, VENTRICLES
from chiasm.errors import ImageError
from chiasm.formats.atlas import store_atlas
from chiasm.geometry import Geometry


def grid(shape: tuple[int, int, int], mm: float = 2.0) -> Geometry:
    """A grid whose x runs symmetrically around 0, from the left (-x) to the right."""
    affine = np.zeros((4, 4))
    affine[0, 2] = affine[1, 1] = affine[2, 0] = mm
    affine[0, 3] = -mm * (shape[2] - 1) / 2
    affine[3, 3] = 1
    return Geometry.identity(shape, (mm,) * 3, tuple(affine.ravel()))


def drawn(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> NDArray[np.bool_]:
    lesion = np.zeros(shape, bool)
    lesion[tuple(np.array(voxels).T)] = True
    return lesion


def test_volume_and_midline_by_hand() -> None:
    shape = (3, 4, 6)  # x of the columns: -5, -3, -1, 1, 3, 5 mm
    facts = measure_lesion(drawn(shape, (0, 0, 0), (0, 0, 1), (2, 3, 1)), grid(shape))
    assert facts["lesion_volume_ml"] == pytest.approx(3 * 0.008)
    assert facts["midline_distance_mm"] == 3
    assert facts["hemisphere"] == "left"
    assert measure_lesion(drawn(shape, (1, 1, 5)), grid(shape))["hemisphere"] == "right"
    assert "cortical_share" not in facts


def test_an_oblique_voxel_counts_by_its_determinant() -> None:
    affine = np.array([[0, 0, 1.0, -2], [0, 1.5, 0, 0], [2.0, 0.7, 0, 0], [0, 0, 0, 1]])
    geometry = Geometry.identity((2, 2, 5), (2.0, 1.7, 1.0), tuple(affine.ravel()))
    assert measure_lesion(np.ones((2, 2, 5), bool), geometry)["lesion_volume_ml"] == pytest.approx(20 * 3.0 / 1000)


@pytest.mark.parametrize(("left", "side"), [(0, "right"), (1, "both"), (5, "both"), (9, "both"), (10, "left")])
def test_both_hemispheres_from_a_tenth(left: int, side: str) -> None:
    shape = (10, 1, 2)
    lesion = np.zeros(shape, bool)
    lesion[:left, 0, 0] = lesion[left:, 0, 1] = True
    assert measure_lesion(lesion, grid(shape))["hemisphere"] == side


def test_foci_touch_by_corners_and_count_from_their_floor() -> None:
    shape = (12, 12, 12)
    lesion = np.zeros(shape, bool)
    lesion[0:3, 0:3, 0:2] = True  # 18 voxels of 8 mm3 are .144 ml
    lesion[3, 3, 2] = True  # touches it by a corner alone: the same focus
    lesion[6:9, 6:9, 6:8] = True
    lesion[11, 11, 11] = True  # .008 ml: no focus beside larger ones
    assert measure_lesion(lesion, grid(shape))["foci"] == 2
    assert measure_lesion(drawn(shape, (5, 5, 5), (11, 11, 11)), grid(shape))["foci"] == 2  # the largest always count
    assert measure_lesion(drawn(shape, (5, 5, 5), (5, 5, 6), (11, 11, 11)), grid(shape))["foci"] == 1


def test_an_empty_lesion_has_a_volume_and_nothing_else() -> None:
    facts = measure_lesion(np.zeros((3, 3, 3), bool), grid((3, 3, 3)))
    assert facts.pop("lesion_volume_ml") == 0
    assert set(facts.values()) == {None}


@pytest.fixture(scope="module")
def atlas() -> StrokeAtlas:
    """60 mm wide, two hemispheres of the frontal branches 30 mm deep, with an insula, a ventricle, a deep region; below, stem."""
    regions = np.zeros((32, 32, 32), np.uint8)  # 2 mm
    regions[1:31, 1:31, 1:16], regions[1:31, 1:31, 16:31] = 7, 8
    regions[14:18, 14:18, 7:9] = 15
    regions[14:18, 14:18, 9:12] = 5
    regions[14:18, 14:18, 12:14] = 31
    regions[1:4, 1:31, 1:16] = 25
    return StrokeAtlas(regions, grid((32, 32, 32)))


def test_shares_of_territories_equal_the_voxels_counted_by_hand(atlas: StrokeAtlas) -> None:
    shape = atlas.regions.shape
    voxels = [
        (16, 16, 1),  # surface of the left frontal branches: cortical
        (16, 16, 15),  # their medial surface, at the midline: cortical
        (16, 16, 16),  # the right one
        (16, 16, 7),  # insula: cortical, however deep
        (16, 16, 10),  # lateral lenticulostriate: subcortical
        (20, 20, 22),  # 14 mm below the right surface: subcortical
        (16, 16, 12),  # ventricle
        (2, 16, 8),  # brain stem
        (0, 0, 0),  # outside
        (0, 0, 31),
    ]
    facts = measure_lesion(drawn(shape, *voxels), atlas.geometry, atlas)
    assert facts["cortical_share"] == pytest.approx(0.4)
    assert facts["subcortical_share"] == pytest.approx(0.2)
    assert facts["ventricle_share"] == pytest.approx(0.1)
    assert facts["infratentorial_share"] == pytest.approx(0.1)
    shares = {7: 0.2, 8: 0.2, 15: 0.1, 5: 0.1, 25: 0.1}
    for number in TERRITORIES:
        assert facts[f"territory_{number}_share"] == pytest.approx(shares.get(number, 0.0))
    assert facts["hemisphere"] == "both"


def test_the_cortex_ends_at_ten_millimetres(atlas: StrokeAtlas) -> None:
    row = atlas.cortex[24, 24]  # voxel k of the left side is 2 k mm from the first voxel outside, on either side
    np.testing.assert_array_equal(np.flatnonzero(row), [*range(1, 6), *range(11, 21), *range(26, 31)])
    assert atlas.cortex[15, 15, 7] and not atlas.cortex[15, 15, 10]
    assert not atlas.tissue[15, 15, 12] and atlas.tissue[2, 5, 5] and not atlas.tissue[0, 5, 5]


def test_a_lesion_on_another_grid_is_refused(atlas: StrokeAtlas) -> None:
    with pytest.raises(ImageError, match="another grid"):
        measure_lesion(np.ones((4, 4, 4), bool), grid((4, 4, 4)), atlas)
    mirrored = np.reshape(atlas.geometry.affine, (4, 4)) * np.array([[-1.0], [1], [1], [1]])
    geometry = Geometry.identity(atlas.regions.shape, (2.0,) * 3, tuple(mirrored.ravel()))
    with pytest.raises(ImageError, match="another grid") as caught:
        measure_lesion(np.ones(atlas.regions.shape, bool), geometry, atlas)
    assert "affine" in caught.value.got
    with pytest.raises(ImageError, match="in space"):
        measure_lesion(np.ones((2, 2, 2), bool), Geometry.identity((2, 2, 2)))


@pytest.mark.parametrize(
    ("axis", "where"),
    [(0, (8 - 1 - 5, 6)), (1, (7 - 1 - 4, 6)), (2, (7 - 1 - 4, 5))],  # rows from the top, columns from left or behind
)
def test_a_plane_shows_a_voxel_where_the_picture_has_it(axis: int, where: tuple[int, int]) -> None:
    lesion = drawn((7, 8, 9), (4, 5, 6))
    shape = tuple(n for a, n in enumerate(lesion.shape) if a != axis)
    shown = Plane(axis, (4, 5, 6)[axis], np.zeros(shape)).show(lesion)
    assert shown.shape == shape
    assert [tuple(place) for place in np.argwhere(shown)] == [where]
    assert not Plane(axis, 0, np.zeros(shape)).show(lesion).any()
    assert Plane(axis, 0, np.zeros((shape[0], shape[1] - 2))).show(lesion).shape == (shape[0], shape[1] - 2)


def test_flair_contrast_by_hand(atlas: StrokeAtlas) -> None:
    lesion = np.zeros(atlas.regions.shape, bool)
    lesion[10, 4:6, 4:6] = True  # 16 mm2 in the axial plane, 8 mm2 in the coronal one, nothing in the sagittal one
    pixels = np.zeros((32, 32))
    tissue = Plane(0, 10, pixels).show(atlas.tissue)
    pixels[tissue] = 100
    rows, columns = np.nonzero(tissue)
    pixels[rows[::2], columns[::2]] = 120
    inside = Plane(0, 10, pixels).show(lesion)
    pixels[inside] = 200
    other = pixels[tissue & ~inside]
    planes = {
        "axial": Plane(0, 10, pixels),
        "sagittal": Plane(2, 20, np.zeros((32, 32))),
        "coronal": Plane(1, 4, np.zeros((32, 32))),
    }
    facts = measure_flair(lesion, atlas.geometry, planes, atlas)
    assert facts == {
        "flair_visible": "axial",
        "flair_contrast": pytest.approx((200 - other.mean()) / other.std()),
        "flair_contrast_plane": "axial",
    }
    assert 8 < facts["flair_contrast"] < 10  # (200 - 110) / 10, about
    hidden = measure_flair(lesion, atlas.geometry, {"sagittal": planes["sagittal"]}, atlas)
    assert hidden == {"flair_visible": "not visible", "flair_contrast": None, "flair_contrast_plane": None}
    assert measure_flair(lesion, atlas.geometry, planes)["flair_contrast"] is None


def test_territories_are_numbered_odd_left_even_right() -> None:
    assert len(TERRITORIES) == 30 and set(VENTRICLES) == {31, 32}
    for number, name in (TERRITORIES | VENTRICLES).items():
        assert name.startswith("left " if number % 2 else "right ")
    assert len(set(TERRITORIES.values())) == 30
    assert "frontal" in TERRITORIES[7] and "basilar" in TERRITORIES[25]


@pytest.mark.parametrize("stored", [(4, 6, 3), (5, 9, 12), (12, 12, 12)])
def test_a_stored_atlas_has_the_region_at_the_centre_of_each_cell(stored: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    shape = (8, 12, 6)
    whole = StrokeAtlas(rng.integers(1, 33, shape).astype(np.uint8), grid(shape))
    regions, geometry = store_atlas(whole, stored)
    assert regions.shape == geometry.shape == stored
    inside = 0
    for cell in np.ndindex(stored):
        at = [int((i + 0.5 - o) // s) for i, o, s in zip(cell, geometry.offset, geometry.scale, strict=True)]
        if all(0 <= a < n for a, n in zip(at, shape, strict=True)):
            assert regions[cell] == whole.regions[tuple(at)]
            inside += 1
        else:
            assert regions[cell] == 0  # the frame that keeps the shape of the head
    assert inside >= min(np.prod(shape), np.prod(stored)) / 4
