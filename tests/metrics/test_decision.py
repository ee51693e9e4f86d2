import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.decision import decision_curve, net_benefit


def test_net_benefit_of_ten_patients_equals_the_sum_by_hand() -> None:
    """10 patients, 4 with the event. From .2 on one treats 3 with and 2 without it: .3 - .2 * .25 = .25."""
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    p = [0.9, 0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.05, 0.0]
    found = net_benefit(labels, p, [0.2, 0.5], Resamples.draw(range(10), 50))
    assert found["net_benefit_0.2"].draws[0] == pytest.approx(0.3 - 0.2 * 0.25)
    assert found["net_benefit_0.5"].draws[0] == pytest.approx(0.2 - 0.1)
    assert "acting on everybody: 0.2500" in found["net_benefit_0.2"].metric().protocol  # .4 - .6 * .25


@given(st.integers(0, 10**6))
def test_every_resample_equals_the_drawn_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 30), rng.random(30).round(1)
    resamples = Resamples.draw(rng.integers(8, size=30), 5, seed=seed)
    found = net_benefit(y, p, [0.3], resamples)["net_benefit_0.3"].draws
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        rows = np.repeat(np.arange(30), weights)
        acted = p[rows] >= 0.3
        expected = ((acted & (y[rows] == 1)).sum() - (acted & (y[rows] == 0)).sum() * 3 / 7) / len(rows)
        assert found[r] == pytest.approx(expected)


def test_a_perfect_model_is_worth_the_prevalence_and_a_curve_is_its_points() -> None:
    y = np.repeat([0, 1], [70, 30])
    resamples = Resamples.draw(range(100), 50)
    curve = decision_curve(y, y.astype(float), resamples)
    np.testing.assert_allclose(curve.y, 0.3)
    said = np.random.default_rng(0).random(100)
    curve = decision_curve(y, said, resamples)
    at = int(np.argmin(np.abs(curve.x - 0.41)))
    assert curve.y[at] == pytest.approx(
        net_benefit(y, said, [curve.x[at]], resamples)[f"net_benefit_{curve.x[at]:g}"].draws[0]
    )
