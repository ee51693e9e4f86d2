"""A volume of 4 x 5 x 6 voxels: axes run up, to the front, to the right."""

import io

import numpy as np
import pytest
from PIL import Image

from chiasm.summary.volumes import brightest, glass_brain, planes


def test_planes_stand_upright_with_the_left_of_the_patient_on_the_left() -> None:
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    found = planes(volume, (1, 2, 3))
    assert list(found) == ["axial", "sagittal", "coronal"]
    assert found["axial"].tolist() == volume[1, ::-1].tolist(), "the front is up, the left of the patient on the left"
    assert found["sagittal"].tolist() == volume[::-1, :, 3].tolist(), "the head is up, the back on the left"
    assert found["coronal"].tolist() == volume[::-1, 2].tolist(), "the head is up"


def test_a_plane_is_stretched_to_its_millimetres() -> None:
    volume = np.zeros((2, 4, 4), np.float32)
    volume[:, 1] = 8.0
    found = planes(volume, (0, 1, 0), np.array([8.0, 8.0, 4.0]))
    assert {view: plane.shape for view, plane in found.items()} == {
        "axial": (8, 4),
        "sagittal": (8, 8),
        "coronal": (8, 4),
    }
    # voxel 1 of 4 covers 2..3 of 8 from behind, and fades by a quarter at each half voxel
    assert found["sagittal"][0].tolist() == [0.0, 2.0, 6.0, 6.0, 2.0, 0.0, 0.0, 0.0]
    mask = planes(volume > 0, (0, 1, 0), np.array([8.0, 8.0, 4.0]))["sagittal"]
    assert mask[0].tolist() == [False, False, True, True, False, False, False, False]


def test_the_planes_are_those_with_most_of_the_lesion() -> None:
    lesion = np.zeros((4, 5, 6), bool)
    lesion[2, 1, 1:5] = lesion[3, 1, 4] = lesion[2, 3, 4] = True
    assert brightest(np.zeros(lesion.shape), lesion) == (2, 1, 4)
    assert brightest(lesion * 255.0) == (2, 1, 4), "bright voxels stand for a lesion nobody drew"
    assert brightest(lesion * 255.0, np.zeros(lesion.shape, bool)) == (2, 1, 4)
    everywhere = np.full((10, 10, 10), 200.0)  # bright all over: the highest hundredth counts
    everywhere[7, 3, :] = 250.0
    assert brightest(everywhere)[:2] == (7, 3)


def _gray(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("L"), float)


def test_a_brain_of_glass_shows_the_highest_value_on_each_line_of_sight() -> None:
    brain = np.zeros((20, 20, 20), bool)
    brain[2:18, 2:18, 2:18] = True
    values = np.zeros(brain.shape, np.float32)
    values[14, 8, 5] = 1.0
    found = {view: _gray(png) for view, png in glass_brain(values, brain, (2.0, 1.0, 1.0), side=200).items()}
    assert {view: picture.shape for view, picture in found.items()} == {
        "axial": (100, 100),
        "sagittal": (200, 100),
        "coronal": (200, 100),
    }, "in millimetres, rows first"
    for view, (row, column) in {
        "axial": (1 - 8.5 / 20, 5.5 / 20),
        "sagittal": (1 - 14.5 / 20, 8.5 / 20),
        "coronal": (1 - 14.5 / 20, 5.5 / 20),
    }.items():
        picture = found[view]
        inner = picture.copy()
        h, w = picture.shape
        inner[: h // 6], inner[-h // 6 :], inner[:, : w // 6], inner[:, -w // 6 :] = 0, 0, 0, 0  # without the outline
        at = np.unravel_index(inner.argmax(), inner.shape)
        assert np.divide(at, picture.shape) == pytest.approx((row, column), abs=0.04), view
        assert picture[h // 2, w // 10 : w // 6].max() > 180, "the outline"
        assert picture[0, 0] < picture[3 * h // 4, 3 * w // 4] < 60, "outside is darker than inside"


def test_nothing_to_see_is_an_empty_brain() -> None:
    brain = np.ones((8, 8, 8), bool)
    for png in glass_brain(np.zeros(brain.shape, np.float32), brain, (1.0, 1.0, 1.0), side=64).values():
        assert _gray(png)[20:40, 20:40].max() < 60
