"""Sets of levels against what a person would do with pencil and paper, and the promise they make against simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.conformal import conformal_quantile, least_patients, nonconformity, prediction_set


def test_the_radius_is_the_score_of_rank_coverage_times_n_plus_one() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert conformal_quantile(scores, range(19), 0.9) == 18.0  # ceil(.9 * 20)
    assert conformal_quantile(scores, range(19), 0.95) == 19.0
    assert conformal_quantile(scores[:18], range(18), 0.95) is None, "18 patients are one too few"
    assert [least_patients(c) for c in (0.5, 0.9, 0.95, 0.99)] == [1, 9, 19, 99]


@given(st.floats(0.5, 0.99))
def test_least_patients_is_where_a_radius_begins(coverage: float) -> None:
    n = least_patients(coverage)
    assert conformal_quantile(np.arange(n), range(n), coverage) is not None
    assert conformal_quantile(np.arange(n - 1), range(n - 1), coverage) is None


def test_a_patient_with_many_studies_weighs_no_more_than_another() -> None:
    scores = [*range(9), *[100.0] * 50]  # ten patients; the last has fifty studies
    patients = [*range(9), *[9] * 50]
    assert conformal_quantile(scores, patients, 0.5) == 5.0  # .5 * 11 = 5.5 patients: the sixth
    scores[9:] = [-1.0] * 50  # the same patient is the least strange: it is the first of six, not the first fifty
    assert conformal_quantile(scores, patients, 0.5) == 4.0


def test_levels_join_from_the_mode_to_the_more_probable_neighbour() -> None:
    p = np.array([[0.1, 0.2, 0.4, 0.25, 0.05], [0.6, 0.1, 0.1, 0.1, 0.1]])
    # .4, then .25 on the right, then .2, then .1, then .05
    np.testing.assert_allclose(nonconformity(p, ordinal=True)[0], [0.85, 0.65, 0.0, 0.4, 0.95])
    np.testing.assert_allclose(nonconformity(p, ordinal=True)[1], [0.0, 0.6, 0.7, 0.8, 0.9])
    assert prediction_set(p, np.array([0.5, 0.0]), ordinal=True).tolist() == [
        [False, False, True, True, False],
        [True, False, False, False, False],
    ]
    assert prediction_set(p, np.array([0.8, 0.3])).tolist()[0] == [False, True, True, True, False]
    alone = [True, False, False, False, False]
    assert prediction_set(p, np.array([0.8, 0.3]))[1].tolist() == alone, (
        "no level is near enough: the most probable one is held"
    )


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_an_ordinal_set_has_no_hole_and_holds_the_mode(weights: list[float], r: float) -> None:
    p = np.array([weights]) / sum(weights)
    inside = np.flatnonzero(prediction_set(p, np.array([r]), ordinal=True)[0])
    assert p[0].argmax() in inside
    assert (np.diff(inside) == 1).all()


@pytest.mark.parametrize("ordinal", [False, True])
def test_new_patients_are_covered_as_stated(ordinal: bool) -> None:
    """Mean coverage over draws of validation and test is 1 - alpha to 1 - alpha + 1 / (n + 1), up to ties at 0."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        z = rng.normal(size=(150, 1)) + np.arange(4) * rng.normal(size=(150, 1))
        truth = (rng.random(150)[:, None] > np.cumsum(np.exp(z) / np.exp(z).sum(1, keepdims=True), axis=1)).sum(axis=1)
        said = np.exp(0.5 * z + rng.normal(size=z.shape))  # a poor model of it
        said /= said.sum(axis=1, keepdims=True)
        s = nonconformity(said, ordinal)[np.arange(150), truth]
        found = conformal_quantile(s[:49], range(49), 0.8)
        assert found is not None
        inside = prediction_set(said[49:], np.full(101, found), ordinal)[np.arange(101), truth[49:]]
        covered.append(inside.mean())
    assert 0.79 < np.mean(covered) < 0.83
