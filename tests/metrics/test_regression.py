import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from chiasm.errors import ChiasmError
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.regression import agreement


@given(st.integers(0, 10**6), st.integers(2, 40))
def test_every_resample_equals_the_drawn_rows(seed, n):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, size=n) + 1e4  # small spread far from 0: raw squares would round it away
    predicted = 0.1 * truth + rng.normal(size=n)
    resamples = Resamples.draw(rng.integers(8, size=n), 10, seed=seed)
    found = agreement(truth, predicted, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        x, y = np.repeat(truth, weights), np.repeat(predicted, weights)
        assert found["mae"].draws[r] == pytest.approx(np.abs(x - y).mean())
        if np.ptp(x) and np.ptp(y):
            assert found["r"].draws[r] == pytest.approx(pearsonr(x, y).statistic, abs=1e-8)
        else:
            assert np.isnan(found["r"].draws[r])


def test_by_hand_with_a_mask():
    found = agreement([1, 2, 4, np.nan], [1, 3, 3, np.nan], Resamples.draw(list("abcd"), 50), [True, True, True, False])
    assert found["mae"].metric().value == pytest.approx(2 / 3)
    assert found["r"].metric().value == pytest.approx(8 / 3 / np.sqrt(14 / 3 * 8 / 3))
    assert found["r"].metric().n == 3


def test_what_never_varies_has_no_r():
    found = agreement([1, 1, 1], [0.1, 0.2, 0.3], Resamples.draw(list("abc"), 50))
    assert found["mae"].metric().value == pytest.approx(0.8)
    assert found["r"].metric().reason == "truth or prediction never varies"
    rounded = agreement([1, 2, 3], [0.3, 0.1 + 0.2, 0.3], Resamples.draw(list("abc"), 50))
    assert rounded["r"].metric().reason == "truth or prediction never varies"
    nobody = agreement([1, 2], [1, 2], Resamples.draw(list("ab"), 50), [False, False])
    assert {e.metric().reason for e in nobody.values()} == {"no patient here has this truth"}


def test_damaged_input_is_an_error():
    with pytest.raises(ChiasmError, match="1 of 2"):
        agreement([1, 2], [1, np.nan], Resamples.draw(list("ab"), 5))
    with pytest.raises(ValueError, match="one length"):
        agreement([1, 2], [1], Resamples.draw(list("ab"), 5))
