"""Levels of a label: learned from training, truths put on them, answers read from them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.encoding.levels import NEVER, answers, curve_at, encode, expectation, find_levels, find_rates, place
from chiasm.study import Kind

ORDINAL, CLASSES, SURVIVAL = Kind.ORDINAL, Kind.MULTICLASS, Kind.SURVIVAL


def test_levels_are_what_training_has() -> None:
    assert find_levels([3, 0, 6, 3], ORDINAL) == (0.0, 3.0, 6.0)
    assert find_levels([2, 0, 2], CLASSES, ("a", "b", "c")) == ("a", "c")
    # as many of the 20 events in each interval, the last edge being the last event; -500 was censored
    times = [*range(1, 21), -500.0]
    assert find_levels(times, SURVIVAL) == tuple(range(2, 21, 2))
    assert find_levels([4.0, 4.0, 7.0, -1.0], SURVIVAL) == (4.0, 7.0), "no interval without an event"
    assert find_levels([-4.0], SURVIVAL) == ()


def test_a_truth_between_or_beyond_the_levels_has_its_place() -> None:
    codes, known = encode([0, 1, 2, 3, 6, 9], (0.0, 2.0, 6.0), ORDINAL)
    assert codes.tolist() == [0, 1, 1, 2, 2, 2]
    assert known.all()
    codes, known = encode([1, 2], ("a", "b"), CLASSES)
    assert codes[0] == 1
    assert known.tolist() == [True, False], "a class that training did not have teaches nothing"


def test_events_fall_into_an_interval_and_censorings_come_through_whole_ones() -> None:
    times = [0.0, 3.0, 5.0, 5.1, 10.0, 11.0, -4.9, -5.0, -10.0, -99.0]
    codes, known = encode(times, (5.0, 10.0), SURVIVAL)
    assert codes.tolist() == [0, 0, 0, 1, 1, -2, 0, -1, -2, -2]  # an event at 11 is known to have come through both
    assert known.tolist() == [True] * 6 + [False] + [True] * 3, "what was lost in the first interval says nothing"


def test_rates_of_levels_and_hazards_are_counted_with_half_a_case_more() -> None:
    shares = find_rates([0, 0, 2], (0.0, 1.0, 2.0), ORDINAL)
    np.testing.assert_allclose(shares, [2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5])
    # 5 at risk in the first interval (-4.9 is not), 1 event; of the 4 left one was censored at 5: 3 at risk, 2 events
    hazards = find_rates([3.0, 6.0, 7.0, -5.0, -12.0, -4.9], (5.0, 10.0), SURVIVAL)
    np.testing.assert_allclose(hazards, [(1 + 0.5) / (5 + 1), (2 + 0.5) / (3 + 1)])


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(0.1, 10))
def test_answers_are_probabilities_and_falling_curves(z: list[float], temperature: float) -> None:
    logits = np.array([[*z, NEVER]])
    p = answers(logits, CLASSES, temperature)
    assert p.sum() == pytest.approx(1)
    assert p[0, -1] == 0
    s = answers(logits, SURVIVAL)
    assert s[0, 0] == pytest.approx(1 / (1 + math.exp(z[0])))
    assert (np.diff(s[0]) <= 0).all()
    assert s[0, -1] == s[0, -2], "no hazard in an interval that is not there"


def test_expectations_of_levels_and_of_survival_equal_the_sum_by_hand() -> None:
    assert expectation(np.array([0.5, 0.25, 0.25, 0.0]), (0.0, 1.0, 6.0), ORDINAL) == 1.75
    # from 1 at 0 to .5 at 10 to .3 at 30: 7.5 + 8
    assert expectation(np.array([0.5, 0.3]), (10.0, 30.0), SURVIVAL) == pytest.approx(15.5)


def test_answers_move_to_other_levels() -> None:
    np.testing.assert_array_equal(
        place(np.array([[0.7, 0.3]]), (0.0, 6.0), (0.0, 2.0, 6.0), ORDINAL), [[0.7, 0.0, 0.3]]
    )
    curve = curve_at(np.array([[0.5, 0.3]]), (10.0, 30.0), np.array([0.0, 5.0, 10.0, 20.0, 30.0, 99.0]))
    np.testing.assert_allclose(curve, [[1.0, 0.75, 0.5, 0.4, 0.3, 0.3]])
