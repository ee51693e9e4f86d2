"""The phantom's brain: sides, voxels, infarcts of exact volume, planes where SOOP has them."""

import numpy as np
import pytest

from chiasm.domains.stroke.brain import FIELD_MM, build_brain, cut_planes, grow_lesion, render
from chiasm.domains.stroke.outcome import PLACES
from chiasm.domains.stroke.territories import TERRITORIES, VENTRICLES

SHAPES = [(32, 32, 32), (48, 64, 56), (40, 48, 72)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_atlas_fits_its_grid_with_left_on_the_left(shape: tuple[int, int, int]) -> None:
    brain = build_brain(shape)
    regions, affine = brain.atlas.regions, np.reshape(brain.atlas.geometry.affine, (4, 4))
    assert regions.shape == shape
    assert not any(np.take(regions, i, axis).any() for axis in range(3) for i in (0, -1)), "the brain is cut off"
    assert min(n * brain.voxel_mm - mm for n, mm in zip(shape, FIELD_MM, strict=True)) == pytest.approx(0, abs=1e-9)
    assert abs(np.linalg.det(affine[:3, :3])) == pytest.approx(brain.voxel_mm**3)
    voxels = np.argwhere(regions)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(world[:, 0], brain.x.ravel()[voxels[:, 2]])
    np.testing.assert_allclose(world[:, 2], brain.z.ravel()[voxels[:, 0]])
    numbers = regions[tuple(voxels.T)]
    assert set(numbers.tolist()) <= TERRITORIES.keys() | VENTRICLES.keys()
    np.testing.assert_array_equal(world[:, 0] > 0, numbers % 2 == 0)  # even numbers are the right
    frontal, occipital = (world[np.isin(numbers, n), 1].mean() for n in ((7, 8), (19, 20)))
    assert frontal > 20 > -20 > occipital
    assert world[np.isin(numbers, (29, 30)), 2].mean() < -30  # the cerebellum is below
    assert 0.2 < brain.atlas.cortex.sum() / brain.atlas.tissue.sum() < 0.8


@pytest.mark.parametrize("shape", SHAPES)
def test_an_infarct_has_exactly_its_volume_and_stays_in_its_place(shape: tuple[int, int, int]) -> None:
    brain, rng = build_brain(shape), np.random.default_rng(0)
    for place in PLACES:
        for volume_ml in (1.0, place.most_ml):
            lesion = grow_lesion(brain, place.territories, volume_ml, rng)
            assert lesion.sum() == max(1, round(volume_ml / brain.voxel_ml))
            assert set(np.unique(brain.atlas.regions[lesion]).tolist()) <= set(place.territories)
    with pytest.raises(ValueError, match="do not fit"):
        grow_lesion(brain, (5,), 500.0, rng)


def test_an_infarct_is_bright_on_both_sequences_and_no_two_brains_are_alike() -> None:
    brain = build_brain((48, 64, 56))
    healthy = brain.atlas.tissue
    pictures = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        lesion = grow_lesion(brain, PLACES[2].territories, 60.0, rng)
        for sequence in ("flair", "dwi"):
            volume = render(brain, lesion, sequence, rng)
            assert (volume.dtype, volume.shape) == (np.uint8, lesion.shape)
            inside, other = volume[lesion].astype(float), volume[healthy & ~lesion].astype(float)
            assert inside.mean() > other.mean() + 2.5 * other.std()
            assert volume[brain.atlas.regions == 0].mean() < 15
            pictures.append(volume.ravel())
    assert np.corrcoef(pictures[0], pictures[2])[0, 1] < 0.98  # nor near duplicates


def test_planes_are_those_of_the_pictures() -> None:
    brain = build_brain((48, 64, 56))
    volume = np.arange(48 * 64 * 56, dtype=np.int64).reshape(48, 64, 56) % 251
    planes = cut_planes(brain, volume.astype(np.uint8))
    for name, millimetres in (("axial", brain.z), ("sagittal", brain.x), ("coronal", brain.y)):
        wanted = {"axial": 18, "sagittal": -39, "coronal": -18}[name]
        assert abs(millimetres.ravel()[planes[name].index] - wanted) <= brain.voxel_mm / 2
        np.testing.assert_array_equal(planes[name].show(volume.astype(bool)), planes[name].pixels > 0)
