"""Rescale, look-up tables, windows and inversion against the formulas of the standard."""

import math

import numpy as np
import pytest
from dicom_files import lut_item
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from chiasm.errors import ImageError
from chiasm.formats.grayscale import apply_window, black_below_white, modality_values, numbers, padding_mask, voi_values


def header(**elements: object) -> Dataset:
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def one_pixel(x: float, center: float, width: float, function: str) -> float:
    """PS3.3 C.11.2.1.2.1 and C.11.2.1.3, one value at a time, before rounding."""
    if function == "SIGMOID":
        return 255 / (1 + math.exp(min(700, -4 * (x - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if x <= center - width / 2:
        return 0
    if x > center + width / 2:
        return 255
    return ((x - center) / width + 0.5) * 255


@settings(max_examples=200)
@given(
    values=st.lists(st.integers(-2000, 4000), min_size=1, max_size=20),
    center=st.integers(-500, 1500),
    width=st.integers(1, 3000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_follow_the_standard(values: list[int], center: int, width: int, function: str) -> None:
    shown = apply_window(np.array(values, np.int16), (center, width), function)
    expected = [one_pixel(x, center, width, function) for x in values]
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown, expected, atol=0.5 + 1e-6)


def test_a_window_by_hand() -> None:
    values = np.array([-1000, 0, 1, 39, 40, 41, 79, 80, 3000])
    np.testing.assert_array_equal(apply_window(values, (40, 80)), [0, 0, 3, 126, 129, 132, 255, 255, 255])
    np.testing.assert_array_equal(
        apply_window(values, (40, 80), "LINEAR_EXACT"), [0, 0, 3, 124, 128, 131, 252, 255, 255]
    )
    np.testing.assert_array_equal(apply_window(np.arange(256), (128, 256)), np.arange(256))
    np.testing.assert_array_equal(apply_window(np.array([9, 10]), (10, 1)), [0, 255])


@settings(max_examples=50)
@given(center=st.integers(-100, 300), width=st.integers(2, 500), seed=st.integers(0, 99))
def test_windows_agree_with_pydicom(center: int, width: int, seed: int) -> None:
    stored = np.random.default_rng(seed).integers(0, 4096, (5, 6)).astype(np.uint16)
    data = header(
        PhotometricInterpretation="MONOCHROME2",
        BitsStored=12,
        PixelRepresentation=0,
        WindowCenter=center,
        WindowWidth=width,
    )
    np.testing.assert_allclose(voi_values(stored, data), apply_voi_lut(stored, data) * 255 / 4095, atol=0.5 + 1e-6)


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0.5, "LINEAR"), (0, "SIGMOID"), (9, "CUBIC")])
def test_a_window_that_is_none_is_refused(width: float, function: str) -> None:
    with pytest.raises(ImageError, match="window") as caught:
        apply_window(np.zeros((2, 2)), (10, width), function, "a.dcm")
    assert caught.value.where == "a.dcm"
    assert "--intensity" in caught.value.remedy


def test_the_first_window_counts() -> None:
    data = header(WindowCenter=[40, 600], WindowWidth=[80, 2000])
    np.testing.assert_array_equal(voi_values(np.array([[0, 40]]), data), [[0, 129]])


def test_without_window_nothing_changes() -> None:
    values = np.array([[-5.5, 1e4]], np.float32)
    assert voi_values(values, header()) is values
    assert voi_values(values, header(WindowCenter=40)) is values  # a centre alone is no window


@settings(max_examples=60)
@given(
    count=st.sampled_from([2, 7, 255, 256, 300, 4096, 65536]),
    first=st.integers(-200, 3000),
    bits=st.sampled_from([8, 10, 12, 16]),
    seed=st.integers(0, 99),
)
def test_voi_look_up_tables(count: int, first: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2**bits, count)
    values = rng.integers(-1000, 5000, (4, 5)).astype(np.int16)
    shown = voi_values(values, header(VOILUTSequence=[lut_item(table, first, bits)], WindowCenter=1, WindowWidth=2))
    for x, y in zip(values.ravel(), shown.ravel(), strict=True):
        entry = table[min(max(int(x) - first, 0), count - 1)]
        assert abs(y - entry * 255 / (2**bits - 1)) <= 0.5 + 1e-9


def test_a_table_that_overflows_its_depth_is_not_cut() -> None:
    data = header(VOILUTSequence=[lut_item(np.array([0, 1023, 4092]), 0, 10)])
    np.testing.assert_array_equal(voi_values(np.array([[0, 1, 2]]), data), [[0, 64, 255]])


def test_two_entries_in_a_word() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 8])
    item.add_new("LUTData", "OW", bytes([10, 20, 30, 40]))
    np.testing.assert_array_equal(
        voi_values(np.array([[0, 1, 2, 3, 9]]), header(VOILUTSequence=[item])), [[10, 20, 30, 40, 40]]
    )
    item.add_new("LUTData", "US", [10 + 20 * 256, 30 + 40 * 256])
    np.testing.assert_array_equal(
        voi_values(np.array([[0, 1, 2, 3, 9]]), header(VOILUTSequence=[item])), [[10, 20, 30, 40, 40]]
    )


def test_first_value_of_a_table_is_signed_where_the_pixels_are() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [3, 2**16 - 1, 8])  # -1 read as unsigned
    item.add_new("LUTData", "US", [10, 20, 30])
    np.testing.assert_array_equal(
        modality_values(np.array([[-1, 0, 1]], np.int16), header(ModalityLUTSequence=[item])), [[10, 20, 30]]
    )


@pytest.mark.parametrize("data", [bytes(2), bytes(6)])
def test_a_damaged_table_is_refused(data: bytes) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [9, 0, 8])
    item.add_new("LUTData", "OW", data)
    with pytest.raises(ImageError, match="look-up table"):
        voi_values(np.zeros((2, 2), np.uint16), header(VOILUTSequence=[item]))


def test_modality_look_up_table_goes_before_rescale() -> None:
    data = header(
        ModalityLUTSequence=[lut_item(np.array([100, 300, 65535]), 5, 16)], RescaleSlope=2, RescaleIntercept=1
    )
    np.testing.assert_array_equal(
        modality_values(np.array([[0, 5, 6, 7, 99]], np.uint16), data), [[100, 100, 300, 65535, 65535]]
    )


def test_hounsfield_units_stay_whole_numbers() -> None:
    stored = np.array([[0, 24, 1024, 4095]], np.uint16)
    values = modality_values(stored, header(RescaleSlope="1", RescaleIntercept="-1024"))
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, [[-1024, -1000, 0, 3071]])
    large = modality_values(np.array([[0, 65535]], np.uint16), header(RescaleSlope=3, RescaleIntercept=-5))
    np.testing.assert_array_equal(large, [[-5, 196600]])
    half = modality_values(np.array([[3]], np.uint16), header(RescaleSlope="0.5"))
    assert (half.dtype, half.item()) == (np.float32, 1.5)


@pytest.mark.parametrize("value", ["Doe^Jane", float("nan"), [1.0, "Doe^Jane"], [float("inf")]])
def test_what_is_no_number_is_named_but_not_quoted(value: object) -> None:
    with pytest.raises(ImageError, match="RescaleSlope") as caught:
        numbers({"RescaleSlope": value}, "RescaleSlope", "a.dcm")
    assert "Doe" not in str(caught.value)
    assert caught.value.where == "a.dcm"


def test_numbers_of_an_element() -> None:
    assert numbers({}, "PixelSpacing") == ()
    assert numbers({"PixelSpacing": ""}, "PixelSpacing") == ()
    assert numbers(header(PixelSpacing=[0.5, 0.25]), "PixelSpacing") == (0.5, 0.25)
    assert numbers(header(RescaleSlope="2.5"), "RescaleSlope") == (2.5,)


def test_inversion_keeps_the_range() -> None:
    for dtype in (np.uint16, np.int16, np.float32):
        values = np.array([[3, 10], [4, 7]], dtype)
        np.testing.assert_array_equal(black_below_white(values, None, True), [[10, 3], [9, 6]])
        np.testing.assert_array_equal(black_below_white(values, None, False), values)
    extremes = np.array([[-32768, 32767, 0]], np.int16)
    np.testing.assert_array_equal(black_below_white(extremes, None, True), [[32767, -32768, -1]])
    np.testing.assert_array_equal(black_below_white(np.array([[0, 200]], np.uint8), None, True), [[255, 55]])


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_the_darkest_and_has_no_say_in_the_range(inverted: bool) -> None:
    stored = np.array([[-2000, -1000], [400, -2000]], np.int16)
    mask = padding_mask(stored, {"PixelPaddingValue": -2000})
    np.testing.assert_array_equal(mask, [[True, False], [False, True]])
    shown = black_below_white(stored, mask, inverted)
    np.testing.assert_array_equal(shown, [[-1000, 400], [-1000, -1000]] if inverted else [[-1000, -1000], [400, -1000]])


def test_padding_ranges() -> None:
    stored = np.array([[0, 5, 10, 11]], np.uint16)
    assert padding_mask(stored, {}) is None
    mask = padding_mask(stored, {"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 5})
    np.testing.assert_array_equal(mask, [[False, True, True, False]])
    signed = padding_mask(np.array([[-2000, 0]], np.int16), {"PixelPaddingValue": 2**16 - 2000})  # read as unsigned
    np.testing.assert_array_equal(signed, [[True, False]])
    with pytest.raises(ImageError, match="padding only"):
        black_below_white(stored, np.ones_like(stored, bool), False, "a.dcm")
