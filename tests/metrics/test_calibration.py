import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from chiasm.encoding.levels import NEVER
from chiasm.errors import ChiasmError
from chiasm.metrics import calibration as cal
from chiasm.metrics.bootstrap import Resamples


def calibrated(n: int, seed: int = 0, temperature: float = 1.0, shift: float = 0.0):
    """Labels drawn from sigmoid(z), and the logits of a model that says temperature * z + shift instead."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 2 - 1
    return rng.random(n) < expit(z), temperature * z + shift


def test_ece_is_the_mean_gap_of_equal_bins():
    """Three bins of two: gaps .1 + .1, -.4 + -.3 and 0."""
    p = np.array([0.1, 0.1, 0.6, 0.7, 1.0, 1.0])
    labels = np.array([0, 0, 1, 1, 1, 1])
    resamples = Resamples.draw(range(6), 100)
    assert cal.ece(labels, p, resamples, bins=3).draws[0] == pytest.approx((0.2 + 0.7 + 0) / 6)
    table = cal.reliability(labels, p, resamples, bins=3)
    assert table.probability == pytest.approx([0.1, 0.65, 1.0])
    assert table.observed.tolist() == [0, 1, 1]
    assert table.n.tolist() == [2, 2, 2]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_ece_equals_the_slow_sum_over_the_bins_of_the_table(seed, n, bins, digits):
    rng = np.random.default_rng(seed)
    p, labels = np.round(rng.random(n), digits), rng.random(n) < 0.4
    resamples = Resamples.draw(rng.integers(7, size=n), 6, seed=seed)
    table, found = cal.reliability(labels, p, resamples, bins=bins), cal.ece(labels, p, resamples, bins=bins)
    slow = np.sum(table.n / n * np.abs(table.probability - table.observed))
    assert found.draws[0] == pytest.approx(slow)
    assert table.n.sum() == n
    assert len(table.n) <= bins
    assert (np.diff(table.probability) > 0).all()  # equal probabilities were not parted
    assert np.sum(table.n * table.observed) == pytest.approx(labels.sum())
    assert abs(p.mean() - labels.mean()) - 1e-9 <= found.draws[0] <= 1


def test_many_equal_probabilities_pull_no_other_into_their_bin():
    """95 sure answers with 5 wrong, 5 answers of 0 that are all wrong: .95 |90/95 - 1| + .05 |1 - 0|."""
    labels, p = np.r_[np.ones(90), np.zeros(5), np.ones(5)], np.r_[np.ones(95), np.zeros(5)]
    resamples = Resamples.draw(range(100), 20)
    assert cal.ece(labels, p, resamples).draws[0] == pytest.approx(0.1)
    assert cal.ece(1 - labels, 1 - p, resamples).draws[0] == pytest.approx(0.1)
    assert cal.reliability(labels, p, resamples).n.tolist() == [5, 95]
    middle = np.r_[np.full(10, 0.2), np.full(80, 0.5), np.full(10, 0.9)]
    assert cal.reliability(labels, middle, resamples).n.tolist() == [10, 80, 10]


@given(st.integers(0, 10**6), st.integers(1, 80), st.sampled_from([1, 3, 5, 10, 15]), st.integers(0, 2))
def test_the_mirror_image_has_the_same_error(seed, n, bins, digits):
    rng = np.random.default_rng(seed)
    p, labels = np.round(rng.beta(0.4, 0.2, size=n), digits), rng.random(n) < 0.6
    if bins % 2 == 0:  # a mass at .5 in the very middle belongs to neither side
        p = p[p != 0.5]
        labels = labels[: len(p)]
    resamples = Resamples.draw(range(len(p)), 3)
    mirrored = cal.ece(~labels, 1 - p, resamples, bins=bins)
    assert cal.ece(labels, p, resamples, bins=bins).draws == pytest.approx(mirrored.draws, nan_ok=True)


def test_bins_hold_equal_shares():
    labels, logits = calibrated(1500)
    table = cal.reliability(labels, expit(logits - 3), Resamples.draw(range(1500), 100))
    assert table.n.tolist() == [100] * 15


def test_overconfidence_costs_and_the_fitted_temperature_mends_it():
    labels, logits = calibrated(6000, temperature=3.0)
    resamples = Resamples.draw(range(6000), 200)
    temperature = cal.fit_temperature(labels, logits)
    assert temperature == pytest.approx(3, rel=0.1)
    before, after = (cal.ece(labels, expit(logits / t), resamples).metric() for t in (1, temperature))
    assert before.low > after.high
    assert after.value < 0.02


def test_the_ece_interval_allows_for_the_error_that_chance_makes():
    """Perfect probabilities: the value is above 0 by chance, and percentiles of resamples would all lie higher still."""
    labels, logits = calibrated(400)
    estimate = cal.ece(labels, expit(logits), Resamples.draw(range(400), 300))
    metric = estimate.metric()
    assert np.percentile(estimate.draws[1:], 2.5) > 0.8 * estimate.draws[0]
    assert metric.value == estimate.draws[0], "the figure on the sample"
    assert metric.low <= metric.corrected == metric.shown < 0.7 * estimate.draws[0]
    assert "15 bins of equal mass" in metric.protocol
    assert (
        f"less what chance alone adds to it, 2 x value - mean of resamples, cut at 0: {metric.corrected:.4f}"
        in metric.protocol
    )


def test_reliability_intervals_cover_the_truth():
    labels, logits = calibrated(3000, seed=3)
    table = cal.reliability(labels, expit(logits), Resamples.draw(range(3000), 300))
    covered = (table.low <= table.probability) & (table.probability <= table.high)
    assert covered.sum() >= 12
    assert (table.high - table.low > 0.01).all()


@given(st.integers(0, 10**4), st.floats(0.3, 4))
def test_temperature_is_the_minimum_and_scales_with_the_logits(seed, factor):
    labels, logits = calibrated(300, seed=seed)
    t = cal.fit_temperature(labels, logits, bounds=(0.05, 20))
    assert cal.fit_temperature(labels, logits * factor, bounds=(0.05, 20)) == pytest.approx(t * factor, rel=1e-3)
    smooth = np.where(labels, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((~labels).sum() + 2))

    def loss(temperature: float) -> float:
        p = expit(logits / temperature)
        return -np.mean(smooth * np.log(p) + (1 - smooth) * np.log(1 - p))

    assert loss(t) <= min(loss(t * 1.01), loss(t / 1.01))


def test_a_temperature_stays_within_its_bounds():
    labels, logits = calibrated(300)
    assert cal.fit_temperature(labels, 100 * logits) == pytest.approx(4, rel=1e-4)
    assert cal.fit_temperature(labels, logits / 100) == pytest.approx(0.25, rel=1e-4)
    assert cal.fit_softmax_temperature(labels, 100 * np.stack([-logits, logits], axis=1)) == pytest.approx(4, rel=1e-4)


def test_a_perfectly_told_small_sample_does_not_become_certain():
    labels, logits = np.array([0, 0, 0, 1, 1, 1]), np.array([-9.0, -8, -7, 7, 8, 9])
    t = cal.fit_temperature(labels, logits)
    assert 0.7 < expit(7 / t) < 0.9


def test_one_class_has_no_temperature_and_a_mask_is_respected():
    assert cal.fit_temperature([1, 1, 1], [0.3, 0.2, 0.1]) is None
    labels, logits = calibrated(200)
    mask = np.arange(200) % 2 == 0
    spoiled = np.where(mask, logits, np.nan)
    assert cal.fit_temperature(labels, spoiled, mask) == cal.fit_temperature(labels[mask], logits[mask])
    with pytest.raises(ChiasmError, match="NaN"):
        cal.fit_temperature(labels, spoiled)


def test_the_calibration_line_equals_scikit_learn_on_the_sample_and_nearly_on_resamples():
    labels, logits = calibrated(2000, temperature=2.0, shift=0.7)
    resamples = Resamples.draw(np.arange(2000) // 2, 8)
    line = cal.calibration_line(labels, logits, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(logits[:, None], labels, sample_weight=weights)
        close = 1e-5 if r == 0 else 0.01
        assert line["slope"].draws[r] == pytest.approx(model.coef_[0, 0], abs=close)
        assert line["intercept"].draws[r] == pytest.approx(model.intercept_[0], abs=close)
    assert line["slope"].draws[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        ([1, 1, 1], [1, 2, 3]),
        ([0, 0, 1], [1, 2, 3]),
        ([1, 0, 0], [1, 2, 3]),
        ([0, 1, 0], [1, 1, 1]),
        ([0, 0, 1], [1, 2, 2]),
        ([0, 1, 0], [0.3, 0.1 + 0.2, 0.3]),
        ([1, 0, 1], [0.3, 0.1 + 0.2, 0.3]),
    ],
)
def test_without_overlap_there_is_no_line(labels, logits):
    for estimate in cal.calibration_line(labels, logits, Resamples.draw(range(3), 10)).values():
        assert estimate.metric().reason.startswith("one class only, or")


def test_without_a_row_everything_is_undefined_or_empty():
    resamples = Resamples.draw(range(3), 10)
    hidden = ([0, 1, 0], [0.1, 0.2, 0.3], resamples, [False] * 3)
    assert cal.ece(*hidden).metric().reason == "no patient here has this truth"
    assert len(cal.reliability(*hidden).n) == 0
    assert cal.calibration_line(*hidden)["slope"].metric().value is None


def test_one_temperature_for_all_levels_is_found_again() -> None:
    """Truths drawn from softmax(z / 2.5): what mends z is a temperature of 2.5."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=4, size=(4000, 5))
    z[:, 4] = NEVER  # a label with fewer levels than another of its target
    p = softmax(z / 2.5, axis=1)
    codes = np.minimum((rng.random(4000)[:, None] > p.cumsum(axis=1)).sum(axis=1), 3)
    assert cal.fit_softmax_temperature(codes, z) == pytest.approx(2.5, rel=0.06)
    assert cal.fit_softmax_temperature(np.zeros(5, int), z[:5]) is None


def test_a_few_studies_told_apart_do_not_call_for_certainty() -> None:
    found = cal.fit_softmax_temperature([0, 1, 2], 3 * np.eye(3))
    assert found is not None
    assert softmax(3 / found * np.eye(3), axis=1).max() < 0.9


def test_a_resample_of_one_logit_has_no_line():
    """Three patients: many resamples hold one of them alone, whose information is singular but for rounding."""
    logits, labels = np.array([0.3, -0.7, 1.1, 0.2]), np.array([1, 0, 0, 1])
    for estimate in cal.calibration_line(labels, logits, Resamples.draw(["a", "b", "c", "c"], 300)).values():
        assert not np.isinf(estimate.draws).any()
        assert np.isnan(estimate.draws).any()
        assert np.abs(estimate.draws[np.isfinite(estimate.draws)]).max() < 1e6
