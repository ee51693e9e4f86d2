"""DICOM objects and series, made here or shipped with pydicom, against values worked out by hand."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import dicom_object, encapsulated, lossless_jpeg, lut_item, save, slices, turns
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from chiasm.errors import ImageError
from chiasm.formats.dicom import read_dicom, read_series
from chiasm.formats.intensity import Intensity
from chiasm.study import Rejected, View

RNG = np.random.default_rng(0)


def shipped(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert found is not None
    return Path(found)


def shown(data: Dataset, **options: object) -> np.ndarray:
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return read_dicom(file.getvalue(), **options).pixels


def windowed(data: Dataset) -> Intensity:
    return Intensity.parse({data.Modality: (100, 200)})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
def test_without_rescale_and_window_values_stay(dtype: type) -> None:
    info = np.iinfo(dtype)
    pixels = np.array([[info.min, info.max, 3], [4, 5, 6]], dtype)
    result = shown(dicom_object(pixels))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, pixels)


def test_eight_bits_stored_in_sixteen_are_shown_as_eight() -> None:
    pixels = np.array([[0, 255], [7, 128]], np.uint16)
    result = shown(dicom_object(pixels, BitsStored=8))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, pixels)


def test_bits_above_the_stored_ones_are_no_pixels() -> None:
    """Old objects keep an overlay there; the sign of 12 bits is bit 11."""
    values = np.array([[-2048, -1, 0], [1, 5, 2047]], np.int16)
    data = dicom_object(values, BitsStored=12)
    data.PixelData = ((values & 0x0FFF) | 0x5000).astype("<i2").tobytes()
    np.testing.assert_array_equal(shown(data), values)
    data = dicom_object(np.array([[7, 4095]], np.uint16), BitsStored=12)
    data.PixelData = (np.array([[7, 4095]]) | 0xA000).astype("<u2").tobytes()
    np.testing.assert_array_equal(shown(data), [[7, 4095]])


def test_single_bits_are_black_and_white() -> None:
    bits = RNG.integers(0, 2, (8, 16)).astype(np.uint8)
    data = dicom_object(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    data.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
    np.testing.assert_array_equal(shown(data), bits * 255)


def test_float_pixels() -> None:
    values = np.array([[-0.5, 2.25], [1e6, 0]], np.float32)
    data = dicom_object(values.view(np.uint32))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(shown(data), values)
    data.FloatPixelData = np.array([[np.inf, 2.25], [1e6, 0]], np.float32).tobytes()
    with pytest.raises(ImageError, match="not all numbers"):
        shown(data)


@pytest.mark.parametrize("inverted", [False, True])
def test_nan_is_background_and_said(inverted: bool) -> None:
    """Maps of diffusion and perfusion have NaN outside the brain: it is black, whichever way gray runs."""
    values = np.array([[np.nan, 2.25], [-3, 7]], np.float32)
    data = dicom_object(np.zeros((2, 2), np.uint32))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.FloatPixelData = values.tobytes()
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    image = read_dicom(as_bytes(data), name="a.dcm")
    np.testing.assert_array_equal(image.pixels, [[-3, 1.75], [7, -3]] if inverted else [[-3, 2.25], [-3, 7]])
    said = "1 of 4 values are NaN: taken as background, the lowest value of the image"
    assert image.notes == (Rejected("a.dcm", said, taken=True),)


def test_what_says_nothing_of_the_gray_scale_falls_back_to_what_does() -> None:
    """An empty table, a window of width 0, and a window narrower than the steps of whole numbers."""
    stored = np.array([[0, 40, 80, 200]], np.uint16)
    windowed40 = [[0, 129, 255, 255]]
    empty = Dataset()
    empty.add_new("LUTDescriptor", "SS", None)
    empty.add_new("LUTData", "OW", None)
    for elements in (
        {"VOILUTSequence": [empty], "WindowCenter": 40, "WindowWidth": 80},
        {"WindowCenter": [0, 40], "WindowWidth": [0, 80]},
        {"WindowCenter": [5, 40], "WindowWidth": [-1, 80]},
        {"WindowCenter": ["", "40"], "WindowWidth": ["", "80"]},
        {"ModalityLUTSequence": [empty], "WindowCenter": 40, "WindowWidth": 80},
        {"VOILUTSequence": [], "WindowCenter": 40, "WindowWidth": 80},
    ):
        np.testing.assert_array_equal(shown(dicom_object(stored, **elements)), windowed40)
    for elements in ({"VOILUTSequence": [empty]}, {"WindowCenter": 0, "WindowWidth": 0}, {"WindowCenter": 5}):
        np.testing.assert_array_equal(shown(dicom_object(stored, **elements)), stored)
    fractions = dicom_object(stored, RescaleSlope=0.005, RescaleIntercept=0, WindowCenter=0.5, WindowWidth=0.8)
    np.testing.assert_array_equal(shown(fractions), [[0, 32, 96, 255]])  # 255 (v - .5) / .8 + 127.5, clipped
    with pytest.raises(ImageError, match="all pixels one value"):
        shown(dicom_object(stored, RescaleSlope=0, RescaleIntercept=5))


def test_rescale_then_window() -> None:
    stored = np.array([[0, 1024, 1064, 1104, 4000]], np.uint16)
    data = dicom_object(stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024)
    np.testing.assert_array_equal(shown(data), [[-1024, 0, 40, 80, 2976]])
    data.WindowCenter, data.WindowWidth = [40, 500], [80, 2000]
    np.testing.assert_array_equal(shown(data), [[0, 0, 129, 255, 255]])


def test_a_look_up_table_goes_before_a_window_and_neither_touches_values_that_a_rule_will_window() -> None:
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    data = dicom_object(
        stored, WindowCenter=2, WindowWidth=2, VOILUTSequence=[lut_item(np.array([0, 85, 170, 255]), 0, 8)]
    )
    np.testing.assert_array_equal(shown(data), [[0, 85, 170, 255]])
    np.testing.assert_array_equal(shown(data, intensity=windowed(data)), stored)


def test_modality_table_then_window() -> None:
    data = dicom_object(np.array([[0, 1, 2]], np.uint8), WindowCenter=128, WindowWidth=256)
    data.ModalityLUTSequence = [lut_item(np.array([255, 100, 0]), 0, 16)]
    np.testing.assert_array_equal(shown(data), [[255, 100, 0]])


def test_monochrome1_is_inverted() -> None:
    stored = np.array([[0, 1000, 4095]], np.uint16)
    data = dicom_object(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(shown(data), [[4095, 3095, 0]])
    np.testing.assert_array_equal(
        shown(data, intensity=windowed(data)), [[4095, 3095, 0]]
    )  # no window fits what is inverted
    data = dicom_object(np.array([[0, 10, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(shown(data), [[255, 245, 0]])


def test_padding_is_black() -> None:
    stored = np.array([[0, 500, 900, 63536]], np.uint16).view(np.int16)
    data = dicom_object(stored, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024, Modality="CT")
    np.testing.assert_array_equal(shown(data), [[-1024, -524, -124, -1024]])
    data.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_array_equal(shown(data), [[-124, -624, -1024, -1024]])


COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [10, 200, 90]]], np.uint8)
LUMA = COLOURS @ np.array([0.299, 0.587, 0.114])


def test_colour_is_luminance() -> None:
    np.testing.assert_allclose(shown(dicom_object(COLOURS)), LUMA, atol=0.51)
    image = read_dicom(as_bytes(dicom_object(COLOURS)), name="a.dcm")
    said = "its colour channels differ, and are converted to luminance"
    assert image.notes == (Rejected("a.dcm", said, taken=True),)  # Doppler, for one
    assert not read_dicom(as_bytes(dicom_object(np.repeat(COLOURS[..., :1], 3, axis=2)))).notes
    planes = dicom_object(COLOURS, PlanarConfiguration=1)
    planes.PixelData = COLOURS.transpose(2, 0, 1).tobytes()
    np.testing.assert_allclose(shown(planes), LUMA, atol=0.51)
    deep = dicom_object(COLOURS.astype(np.uint16) * 16, BitsStored=12)
    np.testing.assert_allclose(shown(deep), LUMA * 16 * 255 / 4095, atol=0.51)
    ycc = np.asarray(Pillow.fromarray(COLOURS).convert("YCbCr"))
    np.testing.assert_allclose(shown(dicom_object(ycc, PhotometricInterpretation="YBR_FULL")), LUMA, atol=2)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours_are_looked_up(bits: int) -> None:
    data = dicom_object(np.array([[0, 1, 2], [2, 1, 9]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for channel, name in enumerate(("Red", "Green", "Blue")):
        entries = np.array([10, 200, 90, 0], np.uint16)[(np.arange(4) + channel) % 4] * (257 if bits == 16 else 1)
        data.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [4, 0, bits])
        data.add_new(f"{name}PaletteColorLookupTableData", "OW", entries.astype(f"<u{bits // 8}").tobytes())
    colours = np.array([[10, 200, 90], [200, 90, 0], [90, 0, 10], [0, 10, 200]]) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(shown(data), colours[[[0, 1, 2], [2, 1, 3]]], atol=0.51)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    ("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 12), (np.int16, 16)]
)
def test_lossless_syntaxes(syntax: str, dtype: type, bits: int) -> None:
    half = 2 ** (bits - 1)
    low, high = (-half, half) if dtype == np.int16 else (0, 2 * half)
    pixels = RNG.integers(low, high, (33, 41)).astype(dtype)
    data = dicom_object(pixels, BitsStored=bits)
    data.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(shown(data), pixels)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
def test_lossless_jpeg(bits: int, syntax: str) -> None:
    pixels = RNG.integers(0, 2**bits, (21, 34)).astype(np.uint8 if bits == 8 else np.uint16)
    pixels[5:15, 5:20] = 2**bits - 1
    data = encapsulated(dicom_object(pixels, BitsStored=bits), lossless_jpeg(pixels, bits), syntax)
    np.testing.assert_array_equal(shown(data), pixels)


def test_signed_lossless_jpeg() -> None:
    pixels = RNG.integers(-(2**15), 2**15, (12, 17)).astype(np.int16)
    data = encapsulated(dicom_object(pixels), lossless_jpeg(pixels.view(np.uint16), 16), "1.2.840.10008.1.2.4.70")
    np.testing.assert_array_equal(shown(data), pixels)


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "MR_small_RLE", "MR_small_bigendian"]
)
def test_the_same_scan_in_other_syntaxes(name: str) -> None:
    plain = read_dicom(shipped("MR_small.dcm"))
    other = read_dicom(shipped(f"{name}.dcm"))
    assert other.pixels.dtype.isnative
    np.testing.assert_array_equal(other.pixels, plain.pixels)
    assert other.geometry == plain.geometry


def test_jpeg_ls_and_twelve_bit_jpeg_by_their_neighbours() -> None:
    lossy = read_dicom(shipped("JPGExtended.dcm")).pixels.astype(float)
    other = read_dicom(shipped("JPEG2000.dcm")).pixels.astype(float)
    assert np.corrcoef(lossy.ravel(), other.ravel())[0, 1] > 0.95  # one scan, two lossy codes
    near = read_dicom(shipped("JPEGLSNearLossless_16.dcm")).pixels
    assert (near.dtype, near.shape, near.max()) == (np.uint16, (50, 10), 65535)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"])
def test_a_cut_jpeg_stream_in_a_whole_file_is_an_error(syntax: str) -> None:
    """The decoders themselves return such an image, gray from the cut on."""
    pixels = RNG.integers(0, 255, (40, 40)).astype(np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG")
    stream = file.getvalue() if syntax.endswith("50") else lossless_jpeg(pixels, 8)
    for end in range(2, len(stream) - 1, len(stream) // 30):
        with pytest.raises(ImageError):
            shown(encapsulated(dicom_object(pixels), stream[:end], syntax))


@pytest.mark.parametrize("mode", ["L", "YCbCr"])
def test_baseline_jpeg(mode: str) -> None:
    y, x = np.mgrid[:48, :64]
    gray = np.rint(127 + 60 * np.sin(y / 9) + 60 * np.cos(x / 7)).astype(np.uint8)
    pixels = gray if mode == "L" else np.stack([gray, 255 - gray, gray[::-1]], axis=-1)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=97, subsampling=0)
    data = dicom_object(pixels)
    if mode != "L":
        data.PhotometricInterpretation = "YBR_FULL"
    data = encapsulated(data, file.getvalue(), "1.2.840.10008.1.2.4.50")
    expected = gray if mode == "L" else pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(shown(data), expected, atol=3)


def test_frames_without_places_stay_in_order() -> None:
    frames = RNG.integers(0, 255, (5, 6, 7)).astype(np.uint8)
    image = read_dicom(as_bytes(dicom_object(frames, Modality="US", NumberOfFrames=5)))
    np.testing.assert_array_equal(image.pixels, frames)
    assert image.geometry.original_shape == (5, 6, 7)
    assert image.geometry.spacing_mm == ()
    coloured = np.stack([COLOURS, COLOURS[::-1]])
    data = dicom_object(COLOURS, Modality="US")
    data.NumberOfFrames, data.PixelData = 2, coloured.tobytes()
    np.testing.assert_allclose(shown(data), [LUMA, LUMA[::-1]], atol=0.51)


def as_bytes(data: Dataset) -> bytes:
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def enhanced(volume: np.ndarray, affine: np.ndarray, order: np.ndarray) -> Dataset:
    """An enhanced CT whose frames are the slices of `slices(volume, affine)` in another order, each with its rescale."""
    plain = slices(volume, affine)
    data = dicom_object(volume[order], Modality="CT", NumberOfFrames=len(volume))
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = plain[0].PixelSpacing
    plane.ImageOrientationPatient = plain[0].ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        place, values, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = plain[index].ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = 1, int(index) * 10
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [values]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    return data


AXIAL = np.array([[0, 0, -0.5, 60], [0, -0.75, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])  # slice, row, column -> RAS


def test_enhanced_frames_make_the_volume_of_the_series(tmp_path: Path) -> None:
    volume = RNG.integers(-1000, 1000, (5, 8, 9)).astype(np.int16)
    image = read_dicom(as_bytes(enhanced(volume, AXIAL, np.array([3, 0, 4, 1, 2]))))
    plain = slices(volume, AXIAL, RescaleSlope=1)
    for index, data in enumerate(plain):
        data.RescaleIntercept = index * 10
    series = read_series([save(data, tmp_path / f"{index}") for index, data in enumerate(plain)])
    np.testing.assert_array_equal(image.pixels, series.pixels)
    assert image.geometry == series.geometry


def test_axial_series_by_hand(tmp_path: Path) -> None:
    volume = RNG.integers(0, 4096, (4, 6, 5)).astype(np.uint16)
    files = slices(volume, AXIAL, RescaleSlope=1, RescaleIntercept=-1024)
    paths = [save(data, tmp_path / f"{name}.dcm") for name, data in zip("cadb", files, strict=True)]
    image = read_series(sorted(paths))
    # rows run to posterior and columns to the left, so both turn around; slices run to superior already
    np.testing.assert_array_equal(image.pixels, volume[:, ::-1, ::-1].astype(int) - 1024)
    assert image.pixels.dtype == np.int16
    np.testing.assert_allclose(image.geometry.spacing_mm, (3, 0.75, 0.5), rtol=1e-5)
    affine = np.array(image.geometry.affine).reshape(4, 4)
    np.testing.assert_allclose(affine[:3, :3], [[0, 0, 0.5], [0, 0.75, 0], [3, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(affine[:3, 3], [60 - 0.5 * 4, 80 - 0.75 * 5, -100], atol=1e-5)
    assert image.dicom_modality == "CT"
    assert image.image_id == files[0].SeriesInstanceUID


@settings(max_examples=48, deadline=None)
@given(turn=st.sampled_from(turns()), seed=st.integers(0, 99))
def test_every_orientation_becomes_the_same_volume(tmp_path_factory: pytest.TempPathFactory, turn, seed: int) -> None:
    """However a series was acquired, a voxel holds what lies at its place in the world, and axes run to S, A, R."""
    axes, signs = turn
    rng = np.random.default_rng(seed)
    shape, pitch = rng.integers(2, 6, 3), rng.uniform(0.4, 4, 3)
    affine = np.eye(4)
    affine[:3, :3] = np.zeros((3, 3))
    for axis in range(3):
        affine[axes[axis], axis] = signs[axis] * pitch[axis]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    volume = np.rint(world @ [1, 30, 900]).astype(np.int32)
    volume = (volume - volume.min()).astype(np.uint16)
    folder = tmp_path_factory.mktemp("series")
    objects = slices(volume, affine)
    paths = [save(objects[index], folder / str(n)) for n, index in enumerate(rng.permutation(shape[0]))]
    image = read_series(paths)
    back = np.array(image.geometry.affine).reshape(4, 4)
    assert (np.argmax(np.abs(back[:3, :3]), axis=0) == [2, 1, 0]).all()
    assert (back[[2, 1, 0], [0, 1, 2]] > 0).all()
    index = np.stack(np.meshgrid(*map(np.arange, image.pixels.shape), indexing="ij"), axis=-1)
    place = index @ back[:3, :3].T + back[:3, 3]
    original = np.rint((place - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    np.testing.assert_array_equal(image.pixels, volume[tuple(np.moveaxis(original, -1, 0))])


def test_slices_of_their_own_rescale_and_window_keep_their_values(tmp_path: Path) -> None:
    volume = np.full((3, 2, 2), 100, np.uint16)
    objects = slices(volume, AXIAL, WindowCenter=1, WindowWidth=2)
    for index, data in enumerate(objects):
        data.RescaleSlope, data.RescaleIntercept = 0.5 * (index + 1), 0
    paths = [save(data, tmp_path / str(index)) for index, data in enumerate(objects)]
    values = read_series(paths).pixels
    np.testing.assert_array_equal(values[:, 0, 0], [50, 100, 150])
    assert values.dtype == np.float32


def test_tilted_gantry_shears_and_keeps_every_place(tmp_path: Path) -> None:
    affine = AXIAL.copy()
    affine[1, 0] = 1.2  # each slice lies 1.2 mm further to the front
    volume = RNG.integers(0, 100, (4, 5, 5)).astype(np.uint16)
    paths = [save(data, tmp_path / str(index)) for index, data in enumerate(slices(volume, affine))]
    image = read_series(paths)
    back = np.array(image.geometry.affine).reshape(4, 4)
    np.testing.assert_allclose((back @ [3, 4, 4, 1])[:3], (affine @ [3, 0, 0, 1])[:3], atol=1e-4)
    assert image.pixels[3, 4, 4] == volume[3, 0, 0]


def series_error(tmp_path: Path, objects: list[Dataset]) -> str:
    paths = [save(data, tmp_path / f"{index}.dcm") for index, data in enumerate(objects)]
    with pytest.raises(ImageError) as caught:
        read_series(paths, name="the series")
    assert caught.value.where in ("the series", "3.dcm")  # or the slice that is damaged
    return caught.value.got


def test_what_makes_no_volume_is_said(tmp_path: Path) -> None:
    volume = RNG.integers(0, 100, (6, 5, 4)).astype(np.uint16)

    def fresh() -> list[Dataset]:
        return slices(volume, AXIAL)

    whole = fresh()
    assert series_error(tmp_path / "a", whole[:2] + whole[3:]) == "6 mm between slices 2 and 3 of 5, 3 mm between most"
    assert "2 series of 6, 1 files" in series_error(tmp_path / "b", [*whole, fresh()[2]])
    assert series_error(tmp_path / "d", whole[:1]) == "1 slice"
    turned = slices(volume, AXIAL[:, [1, 0, 2, 3]], SeriesInstanceUID=whole[0].SeriesInstanceUID)
    assert "2 orientations" in series_error(tmp_path / "e", [*whole, *turned])
    nowhere = fresh()
    for data in nowhere[:2]:
        del data.ImagePositionPatient
    assert series_error(tmp_path / "f", nowhere) == "2 of 6 slices without ImagePositionPatient"
    odd = fresh()
    for data in odd[:3]:
        data.PixelSpacing = [2, 2]
    assert "pixel spacings from 0.5 to 2 mm" in series_error(tmp_path / "g", odd)
    small = slices(np.zeros((3, 6, 6), np.uint16), AXIAL, SeriesInstanceUID=whole[0].SeriesInstanceUID)
    assert "5 x 4 MONOCHROME2 and 6 x 6" in series_error(tmp_path / "h", [*whole, *small])
    odd = fresh()
    for n, data in enumerate(odd):
        data.ImagePositionPatient = [data.ImagePositionPatient[0] + 5 * (n % 2), *data.ImagePositionPatient[1:]]
    assert "sideways by up to" in series_error(tmp_path / "i", odd)
    odd = fresh()
    for data in odd[2:4]:
        data.PixelData = data.PixelData[:-2]
    assert "bytes announced" in series_error(tmp_path / "j", odd)


def test_ids_and_names(tmp_path: Path) -> None:
    data = dicom_object(np.zeros((2, 3), np.uint8), ViewPosition="PA")
    path = save(data, tmp_path / "x.dcm")
    image = read_dicom(path)
    assert (image.image_id, image.source, image.dicom_modality) == (data.SOPInstanceUID, "x.dcm", "CR")
    assert image.view is View.PA
    image = read_dicom(path, image_id="a", name="sub/x.dcm")
    assert (image.image_id, image.source) == ("a", "sub/x.dcm")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_of_the_header(syntax: str) -> None:
    pixels = RNG.integers(-99, 99, (4, 5)).astype(np.int16)
    data = dicom_object(pixels, PixelPaddingValue=-99)
    data.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(shown(data), np.where(pixels == -99, pixels[pixels > -99].min(), pixels))


def test_without_a_preamble() -> None:
    pixels = RNG.integers(0, 99, (4, 5)).astype(np.uint16)
    data = dicom_object(pixels)
    del data.file_meta
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_dicom(file.getvalue()).pixels, pixels)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    def error(content: bytes) -> ImageError:
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ImageError) as caught:
            read_dicom(tmp_path / "x", name="folder/x")
        assert caught.value.where == "folder/x"
        return caught.value

    pixels = np.zeros((2, 2), np.uint16)
    for content in (b"", b"a,b\n1,2\n" * 50, bytes(500), b"\x89PNG\r\n" + bytes(range(256))):
        assert "no DICOM file" in error(content).what
    for name, kind in (("reportsi", "Basic Text SR"), ("rtstruct", "RT Structure Set"), ("DICOMDIR", "Directory")):
        path = (
            shipped(f"{name}.dcm") if name != "DICOMDIR" else shipped("MR_small.dcm").parent / "dicomdirtests/DICOMDIR"
        )
        problem = error(path.read_bytes())
        assert "no pixels" in problem.what
        assert kind in problem.got
    assert error(shipped("liver_1frame.dcm").read_bytes()).got == "Segmentation Storage"
    assert "HSV" in error(as_bytes(dicom_object(pixels, PhotometricInterpretation="HSV"))).got
    assert "retired" in error(as_bytes(dicom_object(pixels, BitsStored=12, HighBit=15))).what
    no_pixels = dicom_object(pixels)
    del no_pixels.PixelData
    assert "no pixels" in error(as_bytes(no_pixels)).what
    for syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"):
        assert (
            "cannot be decoded"
            in error(as_bytes(encapsulated(dicom_object(pixels), b"no such stream\xff\xd9", syntax))).what
        )
    with pytest.raises(ImageError, match="not there"):
        read_dicom(tmp_path / "missing.dcm")


@pytest.mark.parametrize("kind", ["plain", "rle", "j2k", "jpeg", "lossless jpeg"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_cut_file_is_an_error_or_the_whole_image(kind: str) -> None:
    pixels = RNG.integers(0, 255, (40, 40)).astype(np.uint8)
    data = dicom_object(pixels)
    if kind == "jpeg":
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, "JPEG")
        data = encapsulated(data, file.getvalue(), "1.2.840.10008.1.2.4.50")
    elif kind == "lossless jpeg":
        data = encapsulated(data, lossless_jpeg(pixels, 8), "1.2.840.10008.1.2.4.70")
    elif kind != "plain":
        data.compress({"rle": RLELossless, "j2k": JPEG2000Lossless}[kind])
    content = as_bytes(data)
    expected = read_dicom(content).pixels
    refused = 0
    ends = range(1, len(content), max(1, len(content) // 120))
    for end in ends:
        try:
            result = read_dicom(content[:end])
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(result.pixels, expected)
    assert refused > 0.9 * len(ends)


@pytest.mark.parametrize("compressed", [False, True])
def test_announced_frames_and_sides_are_compared_with_the_bytes_before_memory_is_taken(compressed: bool) -> None:
    pixels = RNG.integers(0, 255, (4, 8, 8)).astype(np.uint8)
    for elements in (
        {"NumberOfFrames": 2**31 - 1},
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": -4},
        {"Rows": 0},
    ):
        data = dicom_object(pixels, Modality="US", NumberOfFrames=4)
        if compressed:
            data.compress(RLELossless)
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        with pytest.raises(ImageError):
            read_dicom(as_bytes(data))


def test_a_deflated_object_is_not_unpacked_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom_object(np.zeros((512, 512), np.uint16))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = as_bytes(data)
    assert len(content) < 5000
    assert read_dicom(content).pixels.shape == (512, 512)
    monkeypatch.setenv("CHIASM_MAX_IMAGE_GB", "0.0001")
    with pytest.raises(ImageError, match="larger than may be read") as caught:
        read_dicom(content)
    assert "CHIASM_MAX_IMAGE_GB" in caught.value.remedy


def test_whatever_a_library_raises_is_explained() -> None:
    """An unknown value representation, a text in place of a number; a class of two values is a class all the same."""
    data = dicom_object(np.zeros((4, 4), np.uint16))
    good = as_bytes(data)
    uid = str(data.SOPClassUID).encode()
    assert read_dicom(good.replace(uid, uid[:5] + b"\\" + uid[6:])).pixels.shape == (4, 4)
    for old, new in (
        (b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ"),
        (b"\x28\x00\x11\x00US", b"\x28\x00\x11\x00LO"),
    ):
        assert old in good
        with pytest.raises(ImageError) as caught:
            read_dicom(good.replace(old, new), name="bad.dcm")
        assert caught.value.where == "bad.dcm"


def test_no_error_or_warning_quotes_a_value() -> None:
    """Values of a wrong form or length, in a readable and in a damaged object."""
    content = as_bytes(dicom_object(np.zeros((2, 2), np.uint16), RescaleSlope="1234", RescaleIntercept="0"))
    said = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for old, new in ((b"CR", b"J^"), (b"1234", b"Jane"), (b"4711", b"J\\ne")):
            assert old in content
            for end in (len(content), len(content) - 2, 400):
                try:
                    read_dicom(content.replace(old, new)[:end])
                except ImageError as error:
                    said.append(str(error))
    assert any("RescaleSlope" in text for text in said)
    assert not [text for text in [*said, *(str(warning.message) for warning in heard)] if "J" in text]
