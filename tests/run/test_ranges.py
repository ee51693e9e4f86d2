"""A value of the chart is read against those of training: what is like them is never noted, what is a slip is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.run.ranges import ENOUGH, Range, check_number, check_word, fit_range, join_ranges

AGES = np.arange(20.0, 91.0)
SPO2 = np.linspace(40, 100, 61)
CRP = np.geomspace(1, 300, 50)
HEIGHT = np.linspace(148, 196, 49)
TEMPERATURE = np.linspace(35.2, 40.1, 50)


def said(name: str, value: float, values: np.ndarray) -> str:
    own = fit_range(values)
    assert own is not None
    return check_number(name, value, own)


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        ("age_years", 63, AGES),
        ("age_years", 95, AGES),
        ("crp_mg_l", 330, CRP),
        ("spo2", 91.5, SPO2),
        ("spo2", 35, SPO2),
    ],
)
def test_a_value_like_those_of_training_is_not_noted(name, value, values):
    assert said(name, value, values) == ""


@pytest.mark.parametrize(
    ("name", "value", "values", "expected"),
    [
        ("age_years", 600, AGES, "record: age_years lies above the range of training (to 108); it looks like months where years were learned"),
        ("age_years", 20000, AGES, "days where years were learned"),
        ("age_years", 5000.0, np.arange(20.0, 30.0), "lies above the range of training"),
        ("spo2", 0.95, SPO2, "like a fraction where percent was learned"),
        ("saturation", 95, SPO2 / 100, "like percent where a fraction was learned"),
        ("height_cm", 1.75, HEIGHT, "like metres where centimetres were learned"),
        ("height_m", 175, HEIGHT / 100, "like centimetres where metres were learned"),
        ("temperature_c", 98.6, TEMPERATURE, "like degrees Fahrenheit where Celsius was learned"),
        ("temperature_c", 310, TEMPERATURE, "like kelvin where degrees Celsius were learned"),
        ("weight_kg", 180, np.linspace(45, 120, 40), "like pounds where kilograms were learned"),
        ("creatinine", 9000, np.linspace(40, 200, 40), "100 times too large, as in another unit"),
        ("crp_mg_l", -9, CRP, "record: crp_mg_l is negative, which no value of training is"),
        ("age_years", -1, AGES, "is negative"),
        ("base_excess", -60, np.linspace(-12, 12, 30), "lies below the range of training (from -18)"),
    ],
)  # fmt: skip
def test_a_slip_is_noted_with_the_unit_it_looks_like(name, value, values, expected):
    found = said(name, value, values)
    assert expected in found
    assert str(value) not in found.replace("100 times", ""), "the value of a patient is not quoted"


def test_ranges_reach_beyond_the_quartiles_and_need_enough_patients():
    assert fit_range([10.0, *[20.0] * 8, 30]) == Range(10, 30, 5, 35), (
        "quartiles that are one say nothing of what is far"
    )
    assert fit_range(np.arange(10.0, 21.0)) == Range(10, 20, 7.5, 22.5)
    assert fit_range(np.arange(1.0, 12.0)) == Range(1, 11, 0.25, 13.5), "a quarter of the least"
    assert fit_range(np.zeros(ENOUGH)) == Range(0, 0, 0, 1)
    assert fit_range(np.arange(ENOUGH - 1.0)) is None


def test_one_slip_in_training_does_not_widen_the_range():
    assert "months" in said("age_years", 600, np.append(AGES, [600.0, 640.0]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=ENOUGH, max_size=40))
def test_a_range_holds_the_usual_values_of_its_training(values):
    own = fit_range(values)
    assert own is not None and own.low <= own.least <= own.most <= own.high
    first, third = np.quantile(values, [0.25, 0.75])
    assert all(check_number("x", value, own) == "" for value in values if first <= value <= third)


@given(st.floats(0.1, 50), st.integers(0, 2**31))
def test_few_new_values_of_a_like_kind_are_noted(spread, seed):
    rng = np.random.default_rng(seed)
    own = fit_range(rng.normal(1000, spread, 200))
    assert own is not None
    assert sum(bool(check_number("x", value, own)) for value in rng.normal(1000, spread, 1000)) <= 10


def test_ranges_of_several_trainings_join():
    joint = join_ranges([{"a": Range(1, 2, 0, 3)}, {"a": Range(0, 1.5, -1, 2), "b": Range(5, 6, 4, 7)}, {}])
    assert joint == {"a": Range(0, 2, -1, 3), "b": Range(5, 6, 4, 7)}


def test_a_word_that_training_never_had():
    assert check_word("sex", "f", ("f", "m")) == ""
    assert check_word("sex", "x", ("f", "m")) == "record: sex is none of the words of training (f, m)"
