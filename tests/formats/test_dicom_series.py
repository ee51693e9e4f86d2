"""Series as real folders hold them: strays, localizers, copies, odd places, several volumes; values worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, slices
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from chiasm.errors import ImageError
from chiasm.formats.dicom import read_dicom, read_series
from chiasm.study import Image

CUBES = np.array(
    [[0, 0, -1, 60], [0, -1, 0, 80], [5, 0, 0, -100], [0, 0, 0, 1.0]]
)  # slice, row, column -> RAS, 5 mm steps


def ramp(count: int, **elements: object) -> list[Dataset]:
    """Slices whose every pixel is ten times their number."""
    volume = np.stack([np.full((6, 5), 10 * n, np.int16) for n in range(count)])
    return slices(volume, CUBES, RescaleSlope=1, RescaleIntercept=0, **elements)


def placed(count: int, places: list[float]) -> list[Dataset]:
    objects = ramp(count)
    for data, place in zip(objects, places, strict=True):
        data.ImagePositionPatient = [*data.ImagePositionPatient[:2], round(place, 4)]
    return objects


def read(folder: Path, objects: list[Dataset]) -> Image:
    return read_series(
        [save(data, folder / f"{n:02}.dcm") for n, data in enumerate(objects)], name="s", names=names(len(objects))
    )


def names(count: int) -> list[str]:
    return [f"s/{n:02}.dcm" for n in range(count)]


def levels(image: Image) -> list[int]:
    return image.pixels[:, 0, 0].tolist()


def step(image: Image) -> float:
    return image.geometry.spacing_mm[0]


# --- what is no slice is lost alone -------------------------------------------------------------------------------------


def localizer(data: Dataset) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def turned(data: Dataset) -> None:
    data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def larger(data: Dataset) -> None:
    data.Rows, data.Columns, data.PixelData = 12, 10, bytes(240)


def coarser(data: Dataset) -> None:
    data.PixelSpacing = [3, 3]


def nowhere(data: Dataset) -> None:
    del data.ImagePositionPatient


def far(data: Dataset) -> None:
    data.ImagePositionPatient = [-60, -80, 900]


def between(data: Dataset) -> None:
    data.ImagePositionPatient = [-60, -80, -87.7]


def aside(data: Dataset) -> None:
    data.ImagePositionPatient = [-20, -80, -110]


@pytest.mark.parametrize("spoil", [localizer, turned, larger, coarser, nowhere, far, between, aside])
def test_one_file_that_is_no_slice_of_the_volume_is_lost_alone(spoil: Callable, tmp_path: Path) -> None:
    objects = ramp(9)
    extra = ramp(9, SeriesInstanceUID=objects[0].SeriesInstanceUID)[4]
    spoil(extra)
    image = read(tmp_path, [extra, *objects])
    assert levels(image) == [10 * n for n in range(9)]
    assert step(image) == pytest.approx(5)
    (note,) = image.notes
    assert note.where == "s/00.dcm" and note.reason.startswith("left out of the series: ") and not note.taken


def test_files_that_are_no_dicom_image_are_said_one_by_one(tmp_path: Path) -> None:
    paths = [save(data, tmp_path / f"{n}.dcm") for n, data in enumerate(ramp(4))]
    (tmp_path / "069.xml").write_text("<LidcReadMessage/>")
    (tmp_path / "LICENSE").write_text("free\n" * 99)
    image = read_series([*paths, tmp_path / "069.xml", tmp_path / "LICENSE"], name="s")
    assert levels(image) == [0, 10, 20, 30]
    assert {note.where: note.reason for note in image.notes} == dict.fromkeys(
        ("069.xml", "LICENSE"), "left out of the series: The file is no DICOM file"
    )


def test_a_slice_whose_place_is_wrong_leaves_a_plane_that_is_interpolated_and_said(tmp_path: Path) -> None:
    objects = ramp(9)
    far(objects[4])
    image = read(tmp_path, objects)
    assert levels(image) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert [(note.where, note.taken) for note in image.notes] == [("s/04.dcm", False), ("s", True)]
    assert image.notes[1].reason == "the plane between slices 4 and 5 is interpolated, where a slice was left out"


def test_a_slice_that_cannot_be_decoded_is_lost_alone(tmp_path: Path) -> None:
    objects = ramp(9)
    objects[8].PixelData = objects[8].PixelData[:-4]
    image = read(tmp_path, objects)
    assert levels(image) == [10 * n for n in range(8)]
    assert [note.where for note in image.notes] == ["s/08.dcm"]


@pytest.mark.parametrize("broken", [0, 1])
def test_of_two_copies_the_one_that_can_be_read_is_taken(broken: int, tmp_path: Path) -> None:
    """The same object twice, or sent again under another UID."""
    objects = ramp(5)
    copies = [ramp(5, SeriesInstanceUID=objects[0].SeriesInstanceUID)[2], objects[2]]
    copies[broken].PixelData = copies[broken].PixelData[:-4]
    image = read(tmp_path, [*copies, *objects[:2], *objects[3:]])
    assert levels(image) == [0, 10, 20, 30, 40]
    (note,) = image.notes
    assert note.where == f"s/0{broken}.dcm" and note.reason == f"left out of the series: a copy of s/0{1 - broken}.dcm"


# --- places -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "digits"), [(0.625, 1), (1.25, 1), (0.35, 1), (2.5, 0), (0.3125, 2)])
def test_rounded_places_are_those_of_an_even_stack(spacing: float, digits: int, tmp_path: Path) -> None:
    places = [round(-100 + n * spacing, digits) for n in range(40)]
    image = read(tmp_path, placed(40, places))
    assert levels(image) == [10 * n for n in range(40)]
    assert step(image) == pytest.approx(spacing, rel=0.01)
    assert not image.notes


def test_a_distance_that_changes_once_is_resampled_and_said(tmp_path: Path) -> None:
    """A head CT: 4 mm at the base, 7 mm above it."""
    places = [*range(0, 21, 4), *range(27, 49, 7)]
    image = read(tmp_path, placed(len(places), list(map(float, places))))
    assert step(image) == pytest.approx(4)
    planes = np.arange(13) * 4
    expected = np.interp(planes, places, np.arange(len(places)) * 10)
    np.testing.assert_allclose(levels(image), expected, atol=0.5)
    (note,) = image.notes
    assert note.taken and note.reason == "the distance between slices changes from 4 to 7 mm: interpolated at 4 mm"


@pytest.mark.parametrize(
    "places",
    [
        [0, 5, 10, 20, 25, 30, 35],  # one is missing
        [0, 5, 10, 15, 20, 35, 40, 45],  # two are missing
        [0, 5, 10, 15, 20, 25, 35],  # one before the last
        [0, 4, 8, 12, 19, 26, 33, 37, 41, 45],  # changes twice
        [0, 2, 4, 6, 14, 22, 30],  # four times the distance
    ],
)
def test_a_gap_is_refused(places: list[float], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no volume") as caught:
        read(tmp_path, placed(len(places), places))
    assert "between slices" in caught.value.got and "missing" in caught.value.remedy


# --- several series, several volumes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 2.5, 200.0])
def test_slices_of_two_series_are_refused(shift: float, tmp_path: Path) -> None:
    other = ramp(6)
    for data in other:
        data.ImagePositionPatient = [*data.ImagePositionPatient[:2], float(data.ImagePositionPatient[2]) + shift]
    with pytest.raises(ImageError, match="several series") as caught:
        read(tmp_path, [*ramp(4), *other])
    assert caught.value.got == "2 series of 6, 4 files"
    assert "1.2" not in str(caught.value)  # a UID is an identifier


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("EchoTime", [2.4, 4.9], "2 volumes, every place 2 times, told apart by their echo (EchoTime)"),
        ("DiffusionBValue", [0.0, 500.0, 1000.0], "3 volumes, every place 3 times, told apart by their b-value"),
        ("TriggerTime", [0, 40, 80, 120], "4 volumes, every place 4 times, told apart by their phase (TriggerTime)"),
        ("AcquisitionNumber", [1, 2], "told apart by their acquisition"),
    ],
)
def test_several_volumes_of_one_series_are_refused_by_what_tells_them_apart(
    keyword: str, values: list[float], said: str, tmp_path: Path
) -> None:
    uid, objects = generate_uid(), []
    for number, value in enumerate(values):
        for data in ramp(4, SeriesInstanceUID=uid):
            setattr(data, keyword, value)
            data.PixelData = (np.frombuffer(data.PixelData, np.int16) + number).tobytes()
            objects.append(data)
    with pytest.raises(ImageError, match="several volumes in one series") as caught:
        read(tmp_path, objects)
    assert said in caught.value.got
    assert "folder of their own" in caught.value.remedy


def test_a_folder_with_one_multi_frame_file_is_that_file(tmp_path: Path) -> None:
    data = ramp(1)[0]
    data.NumberOfFrames, data.PixelData = 3, np.repeat(np.arange(3, dtype=np.int16), 30).tobytes()
    data.SpacingBetweenSlices = 2
    path = save(data, tmp_path / "a.dcm")
    (tmp_path / "README").write_text("words")
    image = read_series([path, tmp_path / "README"], name="s")
    np.testing.assert_array_equal(image.pixels, read_dicom(path).pixels)
    assert [note.where for note in image.notes] == ["README"]
