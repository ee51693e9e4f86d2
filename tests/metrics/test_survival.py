"""Censored times against loops over pairs, against scikit-survival, and against numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.survival import censoring_curve, concordance, horizon, integrated_brier


def cohort(seed: int, n: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    t = rng.exponential(10, size=n)
    t = np.ceil(t / 4) if ties else t
    event = rng.random(n) < 0.6
    return t, event, (t + rng.normal(scale=5, size=n)).round(0 if ties else 6)


def signed(t: np.ndarray, event: np.ndarray) -> np.ndarray:
    return np.where(event, t, -t)


@given(st.integers(0, 10**6), st.integers(2, 25), st.booleans())
def test_concordance_of_every_resample_equals_a_loop_over_pairs(seed: int, n: int, ties: bool) -> None:
    t, event, x = cohort(seed, n, ties)
    patients = np.random.default_rng(seed).integers(6, size=n)
    resamples = Resamples.draw(patients, 5, seed=seed)
    found = concordance(signed(t, event), x, resamples)
    g = {s: np.prod([1 - ((t == u) & ~event).sum() / (((t > u) | ((t == u) & ~event)).sum()) for u in np.unique(t[~event]) if u < s]) for s in t}  # fmt: skip
    for r, w in enumerate(resamples.weights[resamples.patients].T.astype(float)):
        pairs = hits = uno_pairs = uno_hits = 0.0
        for i in range(n):
            for j in range(n):
                if event[i] and (t[i] < t[j] or (t[i] == t[j] and not event[j])):
                    right, weight = (x[i] < x[j]) + 0.5 * (x[i] == x[j]), w[i] * w[j]
                    pairs, hits = pairs + weight, hits + weight * right
                    uno_pairs, uno_hits = uno_pairs + weight / g[t[i]] ** 2, uno_hits + weight * right / g[t[i]] ** 2
        expected = (hits / pairs, uno_hits / uno_pairs) if pairs else (np.nan, np.nan)
        np.testing.assert_allclose([found[k].draws[r] for k in ("c_index", "c_index_ipcw")], expected, rtol=1e-9)


def test_the_censoring_curve_by_hand() -> None:
    # censored at 2 (of 5 at risk: the event at 2 comes first), at 4 (of 3, an event at 4 before it: of 2)
    t, event = np.array([1.0, 2, 2, 3, 4, 4, 7]), np.array([1, 1, 0, 0, 1, 0, 1], bool)
    at = np.array([1.0, 2, 3, 4, 7])
    # at risk of being lost: at 2 five of seven (1 and one of 2 had events), at 3 four, at 4 two (one had the event)
    left = [1, 1, 4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 / 2]
    np.testing.assert_allclose(censoring_curve(t, event, at), left)
    np.testing.assert_allclose(censoring_curve(t, event, at, right=True)[:2], [1, 4 / 5])


def test_the_brier_score_by_hand() -> None:
    """Two patients, nobody lost: at time t the score is the mean square of what was said too much."""
    survival = np.array([[1.0, 0.5, 0.2], [1.0, 0.9, 0.6]])
    found = integrated_brier([1.5, 9.0], survival, [0.0, 1.0, 2.0], Resamples.draw(list("ab"), 20))
    at = [0.0, (0.5**2 + 0.1**2) / 2, (0.2**2 + 0.4**2) / 2]
    assert found.draws[0] == pytest.approx(((at[0] + at[1]) / 2 + (at[1] + at[2]) / 2) / 2)


def test_who_is_lost_counts_until_then_and_others_for_two() -> None:
    # of three seen at the start one is lost at 1, so at 2 the one who is left stands for 1 / (1/2) = 2 of 3
    survival = np.array([[0.5, 0.5]] * 3)
    found = integrated_brier([0.5, -1.0, 9.0], survival, [0.9, 2.0], Resamples.draw(list("abc"), 20))
    assert found.draws[0] == pytest.approx((0.25 + (0.25 + 2 * 0.25) / 3) / 2)


def test_nobody_had_the_event() -> None:
    resamples = Resamples.draw(list("ab"), 20)
    assert concordance([-1.0, -2.0], [1.0, 2.0], resamples)["c_index"].metric().reason is not None
    assert integrated_brier([-1.0, -2.0], np.ones((2, 2)), [0.0, 1.0], resamples).metric().reason == "no event"


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_scikit_survival(seed: int) -> None:
    metrics: Any = pytest.importorskip("sksurv.metrics", reason="scikit-survival is not installed")
    t, event, x = cohort(seed, 200, ties=False)  # with ties it takes G(t) where the papers have G(t-)
    truth = np.array(list(zip(event, t, strict=True)), dtype=[("event", bool), ("time", float)])
    resamples = Resamples.draw(range(200), 3)
    found = concordance(signed(t, event), x, resamples)
    assert found["c_index"].draws[0] == pytest.approx(metrics.concordance_index_censored(event, t, -x)[0])
    inside = t < np.sort(t)[-3]  # beyond the last loss its weights are not defined
    assert found["c_index_ipcw"].draws[0] == pytest.approx(
        metrics.concordance_index_ipcw(truth, truth, -x, tau=None)[0], abs=0.02 if not inside.all() else 1e-9
    )
    grid = np.quantile(t, np.linspace(0.1, 0.8, 30))
    survival = np.exp(-grid / np.maximum(x, 1)[:, None])
    expected = metrics.integrated_brier_score(truth, truth, survival, grid)
    assert integrated_brier(signed(t, event), survival, grid, resamples).draws[0] == pytest.approx(expected)


def test_the_grid_ends_where_model_and_follow_up_do() -> None:
    assert horizon([5.0, -20.0], 10.0)[0] == 0
    assert horizon([5.0, -20.0], 10.0)[-1] == pytest.approx(10 * 98 / 99)
    assert horizon([5.0, -7.0], 10.0)[-1] < 7
