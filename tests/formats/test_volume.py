"""Volumes turned to one orientation, and slices put in order."""

import numpy as np
import pytest
from dicom_files import turns
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from chiasm.errors import ImageError
from chiasm.formats.volume import canonical, stack_slices


@settings(max_examples=100, deadline=None)
@given(turn=st.sampled_from(turns()), seed=st.integers(0, 999))
def test_oblique_volumes_keep_every_voxel_at_its_place(turn, seed: int) -> None:
    """The value at a turned index is the value at the same point of the world."""
    axes, signs = turn
    rng = np.random.default_rng(seed)
    values = rng.permutation(np.prod(shape := rng.integers(1, 6, 3))).reshape(shape)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * signs * rng.uniform(0.3, 5, 3)
    affine[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, 3)).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    turned, geometry = canonical(values, affine)
    back = np.array(geometry.affine).reshape(4, 4)
    assert geometry.shape == geometry.original_shape == turned.shape
    for index in np.ndindex(*turned.shape):
        original = np.linalg.solve(affine, back @ [*index, 1])[:3]
        np.testing.assert_allclose(original, original.round(), atol=1e-6)
        assert turned[index] == values[tuple(original.round().astype(int))]
    np.testing.assert_allclose(geometry.spacing_mm, np.linalg.norm(back[:3, :3], axis=0))
    assert (back[[2, 1, 0], [0, 1, 2]] > 0).all()


@pytest.mark.parametrize("broken", ["zero", "flat", "nan"])
def test_an_affine_that_makes_no_sense_is_refused(broken: str) -> None:
    affine = np.eye(4)
    if broken == "zero":
        affine[:, 1] = 0
    elif broken == "flat":
        affine[:3, 1] = affine[:3, 0]
    else:
        affine[0, 3] = np.nan
    with pytest.raises(ImageError, match="no sense") as caught:
        canonical(np.zeros((2, 2, 2)), affine, "a.nii")
    assert caught.value.where == "a.nii"


@settings(max_examples=100)
@given(
    count=st.integers(2, 30),
    step=st.floats(0.3, 10),
    seed=st.integers(0, 999),
)
def test_slices_are_put_in_order(count: int, step: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosines = Rotation.random(rng=rng).as_matrix()
    rows, columns, normal = cosines[:, 0], cosines[:, 1], cosines[:, 2]
    shuffled = rng.permutation(count)
    start = rng.uniform(-300, 300, 3)
    noise = rng.uniform(-0.01, 0.01, (count, 1)) * step  # headers round
    positions = start + (shuffled[:, None] * step + noise) * normal
    order, affine, left, planes, _ = stack_slices(
        positions, np.tile([*rows, *columns], (count, 1)), np.tile([0.7, 0.6], (count, 1))
    )
    assert not left and planes is None
    np.testing.assert_array_equal(shuffled[order], np.arange(count))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    np.testing.assert_allclose(lps[:3, 3], start, atol=0.011 * step)
    np.testing.assert_allclose(lps[:3, 0], step * normal, atol=0.021 * step)
    np.testing.assert_allclose(lps[:3, 1:3], np.stack([0.7 * columns, 0.6 * rows], axis=1), atol=1e-9)
