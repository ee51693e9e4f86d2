"""The phantom's outcome: its posteriors against slow integrals, against counting in a simulation, and against reality."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from chiasm import tensors
from chiasm.domains.chest.outcome import (
    LEVELS,
    MAX_BURDEN,
    MODALITIES,
    SUBSETS,
    UNOBSERVED_SHARE,
    UNSTATED_SHARE,
    VITALS,
    Latents,
    bayes,
    draw_latents,
    event_probability,
    posterior,
)


@pytest.fixture(scope="module")
def drawn() -> Latents:
    return draw_latents(20_000, seed=3)


@pytest.fixture(scope="module")
def known(drawn: Latents) -> dict[str, np.ndarray]:
    return bayes(drawn)


def illness_given(latents: Latents, row: int) -> tuple[float, float]:
    """Mean and deviation of the illness given the vitals, by the joint normal's covariance matrix instead of precisions."""
    loading = np.array([vital.loading for vital in VITALS.values()])
    seen = latents.observed[row]
    x = np.array([v.standardize(value) for v, value in zip(VITALS.values(), latents.vitals[row], strict=True)])[seen]
    covariance = np.outer(loading, loading) + np.diag(1 - loading**2)
    gain = loading[seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    return float(gain @ x), float(np.sqrt(1 - gain @ loading[seen]))


def integral(latents: Latents, row: int, subset: str) -> float:
    """P(event | subset) by adaptive quadrature: slow and obvious."""
    parts = subset.split("+")
    mean, deviation = illness_given(latents, row) if "record" in parts else (0.0, 1.0)
    levels = [latents.course[row]] if "text" in parts and latents.stated[row] else list(range(LEVELS))

    def given_burden(z: float, r: float) -> float:
        p = np.mean([event_probability(z, np.float64(level), r) for level in levels])
        return float(p * norm.pdf(r, mean, deviation))

    low, high = mean - 8 * deviation, mean + 8 * deviation
    if "image" in parts:
        return quad(lambda r: given_burden(latents.burden[row], r), low, high)[0]
    inner = dblquad(lambda z, r: given_burden(z, r), low, high, -MAX_BURDEN, MAX_BURDEN, epsabs=1e-6)[0]
    return inner / (2 * MAX_BURDEN)


@pytest.mark.parametrize("subset", SUBSETS)
def test_posterior_equals_the_slow_integral(drawn: Latents, known: dict[str, np.ndarray], subset: str) -> None:
    rows = [0, int(np.argmin(drawn.stated)), int(np.argmin(drawn.observed.sum(axis=1)))]
    for row in rows:
        assert known[subset][row] == pytest.approx(integral(drawn, row, subset), abs=5e-5)


def test_posterior_equals_counting_in_a_large_simulation() -> None:
    crowd = draw_latents(400_000, seed=11)
    one = crowd[np.array([5])]
    pulse = crowd.vitals[:, 0]
    for value, course in ((74.0, 1), (88.0, 2), (102.0, 4)):
        alike = (pulse == value) & (crowd.course == course) & (np.abs(crowd.burden - 0.8) < 0.3)
        n, share = alike.sum(), crowd.event[alike].mean()
        assert n > 150
        case = Latents(
            burden=np.array([0.8]),
            illness=one.illness,
            course=np.array([course]),
            stated=np.array([True]),
            vitals=np.array([[value, *one.vitals[0, 1:]]]),
            observed=np.array([[True, False, False, False, False]]),
            reported=np.array([True]),
            recorded=np.array([True]),
            event=one.event,
        )
        p = posterior(case, MODALITIES)[0]
        assert abs(share - p) < 3.5 * np.sqrt(p * (1 - p) / n) + 0.01


@pytest.mark.parametrize("subset", SUBSETS)
def test_among_studies_of_one_posterior_that_share_has_the_event(
    drawn: Latents, known: dict[str, np.ndarray], subset: str
) -> None:
    p = known[subset]
    for part in np.array_split(np.argsort(p), 10):
        spread = np.sqrt(np.mean(p[part] * (1 - p[part])) / len(part))
        assert abs(drawn.event[part].mean() - p[part].mean()) < 4 * spread


def test_more_modalities_tell_more(drawn: Latents, known: dict[str, np.ndarray]) -> None:
    area = {subset: roc_auc_score(drawn.event, p) for subset, p in known.items()}
    loss = {subset: log_loss(drawn.event, p) for subset, p in known.items()}
    for small in SUBSETS:
        for large in SUBSETS:
            if set(small.split("+")) < set(large.split("+")):
                assert area[small] < area[large] - 0.05
                assert loss[small] > loss[large]
    assert all(0.68 < area[name] < 0.75 for name in MODALITIES)
    assert max(area[name] for name in MODALITIES) - min(area[name] for name in MODALITIES) < 0.03
    assert 0.88 < area["image+text+record"] < 0.90


def test_latents_are_independent_and_as_declared(drawn: Latents) -> None:
    latents = np.stack([drawn.burden, drawn.course, drawn.illness])
    correlation = np.corrcoef(latents)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(len(drawn))
    assert np.abs(drawn.burden).max() <= MAX_BURDEN
    assert drawn.burden.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.bincount(drawn.course) / len(drawn), 1 / LEVELS, atol=0.02)
    assert 1 - drawn.stated.mean() == pytest.approx(UNSTATED_SHARE, abs=0.01)
    assert 1 - drawn.observed.mean() == pytest.approx(UNOBSERVED_SHARE, abs=0.01)
    for column, vital in zip(drawn.vitals.T, VITALS.values(), strict=True):
        assert np.corrcoef(vital.standardize(column), drawn.illness)[0, 1] == pytest.approx(vital.loading, abs=0.03)


def test_a_study_is_the_same_however_many_are_drawn() -> None:
    few, many = draw_latents(40, seed=9), draw_latents(700, seed=9)
    for name, values in vars(few).items():
        np.testing.assert_array_equal(values, getattr(many, name)[:40], err_msg=name)
    assert not np.array_equal(few.burden, draw_latents(40, seed=10).burden)


def test_missing_reports_and_records_reveal_nothing_and_change_nothing_else() -> None:
    whole, holes = draw_latents(1500, seed=1), draw_latents(1500, seed=1, missing=0.4)
    for name, values in vars(holes).items():
        if name not in ("reported", "recorded"):
            np.testing.assert_array_equal(values, getattr(whole, name), err_msg=name)
    assert whole.reported.all()
    assert whole.recorded.all()
    assert holes.reported.mean() == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(holes.reported, holes.recorded)[0, 1] == pytest.approx(0, abs=0.1)
    p = bayes(holes)
    silent, unseen = ~holes.reported, ~holes.recorded
    assert np.ptp(p["text"][silent]) < 1e-12
    assert np.ptp(p["record"][unseen]) < 1e-12
    np.testing.assert_allclose(p["image+text"][silent], p["image"][silent])
    np.testing.assert_allclose(p["text+record"][unseen], p["text"][unseen])
    assert (p["image+text"][holes.reported & holes.stated] != p["image"][holes.reported & holes.stated]).all()


@given(st.sampled_from(sorted(VITALS)), st.floats(-2.5, 2.5))
@settings(deadline=None)
def test_a_vital_goes_back_to_its_standard_score(name: str, x: float) -> None:
    vital = VITALS[name]
    value = vital.measure(np.array([x]))
    step = 0.5 * 10.0**-vital.decimals / (vital.deviation * (value[0] if vital.log else 1))
    assert abs(vital.standardize(value)[0] - x) <= 1.1 * step
    assert vital.low <= value[0] <= vital.high


def test_modalities_are_those_of_the_tensors() -> None:
    assert MODALITIES == tensors.MODALITIES
    assert SUBSETS[0] == "image"
    assert SUBSETS[-1] == "image+text+record"
    assert len(set(SUBSETS)) == 7
