"""What is stored of an image under each rule, against values worked out by hand; and what is shown of the store."""

from dataclasses import replace

import numpy as np
import pytest

from chiasm.errors import ImageError, InputError
from chiasm.formats.intensity import Intensity, Rule, Scale, narrow, shown_values, to_store, widen
from chiasm.geometry import Geometry
from chiasm.study import Image, Values

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def stored(pixels, rule: str = "percentile", **about) -> np.ndarray:
    image = Image("i", np.asarray(pixels), Geometry.identity(np.shape(pixels)), **about)
    return to_store(image, Rule.parse(rule))[0]


def scale(pixels, rule: str = "percentile", **about) -> Scale:
    image = Image("i", np.asarray(pixels), Geometry.identity(np.shape(pixels)), **about)
    return to_store(image, Rule.parse(rule))[1]


# --- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text", "windows"),
    [
        ("percentile", "percentile", ()),
        ("40,400", "40,400", ((40, 400),)),
        ("40, 400 ; -600,1500", "40,400;-600,1500", ((40, 400), (-600, 1500))),
        ((40, 80.5), "40,80.5", ((40, 80.5),)),
        ([[40, 400], [-600, 1500]], "40,400;-600,1500", ((40, 400), (-600, 1500))),
    ],
)
def test_a_rule_is_a_word_or_windows_and_comes_back_from_its_text(value, text, windows) -> None:
    rule = Rule.parse(value)
    assert (str(rule), rule.windows) == (text, windows)
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize("value", ["", "40", "a,b", "40,0", "40,1", "40,nan", "bright", (1, 2, 3), 5, None, "1,2;3"])
def test_what_is_no_rule_is_refused(value) -> None:
    with pytest.raises(InputError, match="no intensity rule"):
        Rule.parse(value)


def test_rules_are_the_defaults_but_for_those_given() -> None:
    intensity = Intensity.parse({"ct": "40,80", "DX": "bits"})
    assert intensity.to_dict() == {"CT": "40,80", "DX": "bits", "SEG": "mask", "other": "percentile"}
    assert Intensity.parse(intensity.to_dict()) == intensity
    assert intensity.of("MR").kind == intensity.of("").kind == "percentile"
    assert Intensity.parse({"other": "stored"}).of("MR").kind == "stored"
    with pytest.raises(InputError, match="different numbers of windows"):
        Intensity.parse({"CT": "40,80;40,400", "DX": "1,2;3,4;5,6"})


# --- CT ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_hounsfield_units_are_stored_with_an_offset(dtype) -> None:
    hu = (
        np.array([[-3000, -1024, -1000, 0, 40, 3071, 70000]], dtype)
        if dtype != np.int16
        else np.array([[-3000, 40]], dtype)
    )
    expected = [[0, 0, 24, 1024, 1064, 4095, 65535]] if dtype != np.int16 else [[0, 1064]]
    np.testing.assert_array_equal(stored(hu, "40,400", values=Values.MODALITY), expected)
    assert scale(hu, "40,400", values=Values.MODALITY) is Scale.MODALITY


def test_the_same_tissue_has_the_same_value_whatever_the_share_of_bone_in_the_scan() -> None:
    few, much = np.full((20, 20), 40, np.int16), np.full((20, 20), 40, np.int16)
    few[0, :2], much[5:] = 1200, 1200
    few[1], much[0] = -1000, -1000
    seen = [stored(hu, str(Intensity().of("CT")), values=Values.MODALITY)[hu == 40] for hu in (few, much)]
    assert {int(v) for values in seen for v in values} == {1064}


def test_windows_are_applied_when_stored_values_are_shown_one_channel_each() -> None:
    tables = shown_values(Scale.MODALITY, ((40.0, 80.0), (-600.0, 1500.0)))
    hu = np.array([-1024, -600, 0, 40, 79, 80, 300])
    brain = np.clip((hu - 39.5) / 79 + 0.5, 0, 1) * 255
    lung = np.clip((hu + 600.5) / 1499 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(tables[:, hu + 1024], [brain, lung], rtol=1e-5)
    assert tables.dtype == np.float32


@pytest.mark.parametrize("rule", ["40,400", "stored"])
def test_a_ct_that_carries_no_hounsfield_units_stays_as_stored(rule) -> None:
    np.testing.assert_array_equal(stored(RAMP // 2, rule), RAMP // 2)
    dark = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    np.testing.assert_array_equal(stored(dark, rule), dark)
    assert (scale(RAMP, rule), scale(dark, rule)) == (Scale.UINT8, Scale.UINT16)
    for unfit in (np.array([[-5, 5]]), np.array([[0, 70000]]), np.array([[0.5, 1]])):
        with pytest.raises(ImageError, match="cannot be kept as they are"):
            stored(unfit, rule)


# --- other gray values -------------------------------------------------------------------------------------------------


def test_eight_bits_are_kept_as_they_are() -> None:
    assert np.shares_memory(stored(RAMP), RAMP)
    np.testing.assert_array_equal(stored(np.full((3, 3), 7, np.uint8)), 7)


def test_more_bits_are_stretched_between_percentiles_and_kept_in_sixteen() -> None:
    values = np.arange(0, 2001, dtype=np.int16).reshape(3, -1) - 500  # percentiles .5 and 99.5 are -490 and 1490
    found = stored(values)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found.ravel()[:11], 0)
    np.testing.assert_array_equal(found.ravel()[-11:], 65535)
    for value in (-489, 0, 500, 777, 1489):
        assert found[values == value].item() == round((value + 490) / 1980 * 65535)


def test_bits_stored_make_the_range() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64) // 2
    np.testing.assert_array_equal(stored(values, "bits", bits=12), np.rint(values * (65535 / 4095)))
    np.testing.assert_array_equal(stored(values, "bits"), values)  # 16 by the dtype
    np.testing.assert_array_equal(stored(RAMP // 2, "bits", bits=7), np.rint(RAMP // 2 * (255 / 127)))


def test_a_constant_is_black_and_a_sparse_mask_is_not() -> None:
    np.testing.assert_array_equal(stored(np.full((4, 4), -1000.0)), 0)
    mask = np.zeros((100, 100), np.int16)
    mask[50, 50] = 1
    np.testing.assert_array_equal(stored(mask), mask * 255)
    np.testing.assert_array_equal(stored(mask > 0), mask * 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_a_label_map_is_as_bright_whatever_its_dtype(dtype) -> None:
    labels = np.zeros((4, 10, 10), dtype)
    labels[1, 5, 3:6], labels[2, 2, 2:5] = 1, 2
    found = stored(labels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.choose(labels.astype(int), [0, 128, 255]))
    for top in (1, 3, 255):
        mask = (labels > 0).astype(dtype) * dtype(top)
        np.testing.assert_array_equal(stored(mask), (mask > 0) * 255)
    np.testing.assert_array_equal(stored(labels, "mask"), (labels > 0) * 255)


def test_a_dark_picture_is_no_label_map() -> None:
    dark = np.random.default_rng(0).integers(0, 90, (30, 30)).astype(np.uint8)
    dark[0, 0] = 0
    np.testing.assert_array_equal(stored(dark), dark)
    np.testing.assert_array_equal(stored(np.array([[0, 3, 9]], np.uint8)), [[0, 3, 9]])  # three pixels say nothing
    half = np.array([[0.0, 0.5] * 100])
    assert scale(half) is Scale.UINT16


def test_what_a_cohort_stored_is_stored_again_as_it_is() -> None:
    for pixels in (RAMP // 3, RAMP.astype(np.uint16), (RAMP > 9).astype(np.uint8)):
        np.testing.assert_array_equal(stored(pixels, "mask", values=Values.STORED), pixels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rule", ["percentile", "40,400", "stored", "mask"])
def test_nan_and_infinity_are_refused(bad: float, dtype: type, rule: str) -> None:
    values = np.ones((4, 5), dtype)
    values[2, 3] = bad
    image = Image("i", values, Geometry.identity((4, 5)), values=Values.MODALITY)
    with pytest.raises(ImageError, match="1 NaN or infinite of 20") as caught:
        to_store(image, Rule.parse(rule), where="scan.tif")
    assert caught.value.where == "scan.tif"


def test_what_is_no_number_is_refused() -> None:
    image = Image("i", np.ones((2, 2), complex), Geometry.identity((2, 2)))
    for values in (image.pixels, np.array([["a"]]), np.zeros((0, 4), np.float32)):
        with pytest.raises(ImageError, match="no image"):
            to_store(replace(image, pixels=values), Rule("percentile"))
    with pytest.raises(ImageError, match="too wide"):
        stored(np.array([[-1.7e308, 0.5, 1.7e308]]))


# --- the store ---------------------------------------------------------------------------------------------------------


def test_eight_bits_among_sixteen_are_shown_as_they_were() -> None:
    wide = widen(RAMP)
    assert (wide.dtype, wide.min(), wide.max()) == (np.uint16, 0, 65535)
    np.testing.assert_array_equal(narrow(wide), RAMP)
    for kind in (Scale.UINT8, Scale.UINT16):
        np.testing.assert_array_equal(shown_values(kind, ((40.0, 400.0),))[0][wide], RAMP)
    np.testing.assert_allclose(shown_values(Scale.UINT16, ())[0][[0, 1, 65535]], [0, 1 / 257, 255])
