"""Paired tests: by hand, against scipy where they must agree, and on truth that is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from chiasm.metrics.paired import bootstrap_p, corrected_t, holm

numbers = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 6))


def test_the_corrected_t_by_hand():
    """d = .02 .04 .00 .06: mean .03, s^2 = .002 / 3; four folds, so n_test / n_train = 1/3 and the factor is 7/12.

    Error = sqrt(7/12 x .002/3) = .0197203; t = .03 / .0197203 = 1.521278 with 3 degrees of freedom, whose 97.5% point is
    3.182446: the interval is .03 -+ .062759.
    """
    found = corrected_t([0.02, 0.04, 0.00, 0.06], 1 / 3)
    assert (found.value, found.t, found.df) == (pytest.approx(0.03), pytest.approx(1.521278, abs=1e-6), 3)
    assert (found.low, found.high) == (pytest.approx(-0.032759, abs=1e-6), pytest.approx(0.092759, abs=1e-6))
    assert found.p == pytest.approx(0.2255, abs=1e-4)


@given(st.lists(numbers, min_size=2, max_size=12).filter(lambda d: np.ptp(d) > 1e-3))
def test_without_the_share_it_is_the_plain_t_and_with_it_never_surer(d):
    plain, corrected = corrected_t(d, 0.0), corrected_t(d, 0.25)
    expected = stats.ttest_1samp(d, 0.0)
    assert plain.t == pytest.approx(expected.statistic)
    assert plain.p == pytest.approx(expected.pvalue)
    assert corrected.p >= plain.p - 1e-12
    assert corrected.high - corrected.low > plain.high - plain.low
    factor = np.sqrt((1 / len(d) + 0.25) * len(d))
    assert corrected.t == pytest.approx(plain.t / factor)


@given(st.lists(numbers, min_size=2, max_size=12).filter(lambda d: np.ptp(d) > 1e-3))
def test_turning_the_models_round_turns_the_difference_round(d):
    one, other = corrected_t(d, 0.25), corrected_t([-x for x in d], 0.25)
    assert (one.value, one.low, one.p) == (
        pytest.approx(-other.value),
        pytest.approx(-other.high),
        pytest.approx(other.p),
    )


def test_equal_models_differ_by_nothing_and_undefined_folds_are_left_out():
    same = corrected_t(np.zeros(10), 1 / 9)
    assert (same.value, same.low, same.high, same.t, same.p) == (0, None, None, None, None)
    assert corrected_t([0.1, np.nan], 1) is None
    assert corrected_t([0.1, np.nan, 0.3], 1) == corrected_t([0.1, 0.3], 1)
    assert corrected_t([0.5, 0.5], 1).p is None


@pytest.mark.parametrize("d", [[0.1, 0.1, 0.1], [0.1 + 0.2, 0.3, 0.3], [0.7, 0.7 + 1e-16, 0.7]])
def test_differences_that_are_equal_but_for_rounding_have_no_t(d):
    found = corrected_t(d, 0.25)
    assert (found.low, found.high, found.t, found.p) == (None,) * 4
    assert found.value == pytest.approx(d[0])


def test_what_differs_from_nothing_by_rounding_is_nothing():
    found = corrected_t([1e-17, -3e-17, 5e-17], 0.25)
    assert (found.value, found.t, found.p) == (0, None, None)
    assert bootstrap_p(np.full(999, 1e-17)) == 1


def test_its_error_of_the_first_kind_is_held_where_the_plain_t_is_not():
    """Scores of overlapping trainings: correlation rho = n_test / (n_test + n_train) between folds, no true difference."""
    rng, j, rho = np.random.default_rng(0), 10, 0.2
    d = np.sqrt(rho) * rng.normal(size=(2000, 1)) + np.sqrt(1 - rho) * rng.normal(size=(2000, j))
    corrected = np.mean([corrected_t(row, rho / (1 - rho)).p < 0.05 for row in d])
    plain = np.mean([corrected_t(row, 0.0).p < 0.05 for row in d])
    assert corrected == pytest.approx(0.05, abs=0.015)
    assert plain > 0.2


def test_the_bootstrap_p_meets_the_interval():
    """Of 999 resamples 24 are not above 0: p is 2 x 25 / 1000, and the 95% interval just touches 0."""
    draws = np.concatenate([-np.ones(24), np.ones(975)])
    assert bootstrap_p(draws) == pytest.approx(0.05)
    assert bootstrap_p(-draws) == pytest.approx(0.05)
    assert bootstrap_p(np.ones(999)) == pytest.approx(0.002)
    assert bootstrap_p(np.zeros(999)) == 1
    assert bootstrap_p([np.nan, np.nan, 1.0]) is None


def test_holm_multiplies_sorted_p_values_and_never_lets_them_fall():
    """.01 x 3, .02 x 2 and .04 x 1, in whatever order they come; .03 x 2 does not fall below .04."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_lies_between_one_test_and_bonferroni(p):
    adjusted = np.array(holm(p))
    assert np.all(adjusted >= np.array(p)) and np.all(adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12)
    assert np.array_equal(np.argsort(adjusted[np.argsort(p, kind="stable")], kind="stable"), np.arange(len(p)))
