import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.bootstrap import Estimate, Resamples, indicator, macro, share_interval, varies


def expanded(resamples: Resamples, values: np.ndarray, r: int) -> np.ndarray:
    """The slow way: the rows of resample r, a drawn patient's rows as often as the patient was drawn."""
    return np.repeat(values, resamples.weights[resamples.patients, r])


def test_all_rows_of_a_patient_are_drawn_together_and_a_resample_has_as_many_patients():
    ids = np.array(["c", "a", "b", "a", "c", "c"])
    resamples = Resamples.draw(ids, resamples=300, seed=1)
    assert resamples.patients.tolist() == [2, 0, 1, 0, 2, 2]
    assert (resamples.weights.sum(axis=0) == 3).all()
    assert (resamples.weights[:, 0] == 1).all()
    drawn = resamples.weights[:, 1:]
    assert drawn.min() == 0
    assert drawn.mean(axis=1) == pytest.approx(1, abs=0.15)


def test_the_draw_depends_on_patients_and_seed_not_on_the_order_of_rows():
    ids = np.array(["p1", "p2", "p2", "p3"])
    one, other = Resamples.draw(ids, 50, seed=3), Resamples.draw(ids[::-1], 50, seed=3)
    assert (one.weights == other.weights).all()
    assert one.key == other.key
    assert (one.weights != Resamples.draw(ids, 50, seed=4).weights).any()
    assert len({one.key, Resamples.draw(ids, 50, seed=4).key, Resamples.draw(ids, 51, seed=3).key}) == 3


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12))
def test_sums_equal_those_of_the_drawn_rows(seed, n, patients):
    rng = np.random.default_rng(seed)
    resamples = Resamples.draw(rng.integers(patients, size=n), resamples=5, seed=seed)
    values = rng.normal(size=(3, n))
    sums = resamples.draws(values, lambda s: s)
    assert sums.shape == (3, 6)
    for r in range(6):
        assert sums[:, r] == pytest.approx([expanded(resamples, row, r).sum() for row in values])


def test_blocks_and_threads_change_nothing():
    """So many patients that one block of columns is not all of them."""
    rng = np.random.default_rng(0)
    n = 30_000
    resamples = Resamples.draw(np.arange(n), resamples=40)
    groups = rng.integers(7, size=n)
    counts = resamples.draws(indicator(groups, 7), lambda s: s)
    slow = np.stack(
        [np.bincount(groups, weights=w, minlength=7) for w in resamples.weights[resamples.patients].T], axis=1
    )
    assert (counts == slow).all()


def test_the_identity_hands_out_the_row_weights():
    resamples = Resamples.draw(["a", "b", "a"], resamples=9)
    weights = resamples.draws(np.eye(3), lambda s: s)
    assert (weights == resamples.weights[[0, 1, 0]]).all()


def test_rows_can_be_chosen_by_number_or_mask_and_keep_their_resamples():
    resamples = Resamples.draw(["a", "b", "c", "b"], resamples=20)
    by_mask, by_number = resamples.at(np.array([False, True, False, True])), resamples.at([1, 3])
    assert by_mask.patients.tolist() == by_number.patients.tolist() == [1, 1]
    assert by_mask.key == resamples.key
    assert len(resamples.at([])) == 0
    two_images_of_a_study = resamples.at([0, 0, 2])
    assert two_images_of_a_study.draws(np.ones(3), lambda s: s[0])[0] == 3


def test_mean_counts_patients_leaves_out_nan_and_says_so():
    resamples = Resamples.draw(["a", "a", "b", "c"], resamples=400)
    metric = resamples.mean([1.0, 0.0, 0.5, np.nan], "share of cake").metric()
    assert metric.value == pytest.approx(0.5)
    assert metric.n == 2
    assert metric.protocol.startswith("share of cake; 1 of 4 undefined and left out; 95% interval: percentiles of 400")


def test_the_interval_is_that_of_the_slow_way():
    rng = np.random.default_rng(5)
    resamples = Resamples.draw(rng.integers(30, size=80), resamples=500)
    values = rng.normal(size=80)
    slow = [expanded(resamples, values, r).mean() for r in range(1, 501)]
    metric = resamples.mean(values, "mean").metric()
    assert (metric.low, metric.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def test_patients_with_many_alike_rows_widen_the_interval():
    """400 rows of 20 patients know no more than 20 numbers."""
    values = np.repeat(np.random.default_rng(0).normal(size=20), 20)
    by_patient = Resamples.draw(np.repeat(np.arange(20), 20)).mean(values, "mean").metric()
    by_row = Resamples.draw(np.arange(400)).mean(values, "mean").metric()
    assert (by_patient.high - by_patient.low) > 3 * (by_row.high - by_row.low)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        metric = Resamples.draw(np.arange(100), resamples=300, seed=trial).mean(rng.normal(size=100), "mean").metric()
        covered += metric.low <= 0 <= metric.high
    assert 180 <= covered <= 198


def estimate_of(draws, **changes) -> Estimate:
    fields = {"protocol": "p", "detail": "", "reason": "why", "interval": "percentile", "key": "k"} | changes
    return Estimate(np.asarray(draws, float), np.arange(5), **fields)


def test_undefined_resamples_are_left_out_and_counted():
    metric = estimate_of([0.5, 0.1, np.nan, 0.9, 0.5, 0.5]).metric()
    assert metric.low == pytest.approx(np.percentile([0.1, 0.9, 0.5, 0.5], 2.5))
    assert "5 resamples of patients, 1 of them undefined and left out" in metric.protocol


@pytest.mark.parametrize(
    ("estimate", "why"),
    [
        (estimate_of([0.5, np.nan, np.nan, 0.5, 0.5][:4]), "undefined in 2 of 3 resamples"),
        (estimate_of([0.5, 0.4, 0.6], interval="none"), "meaningless"),
        (Resamples.draw(["a", "a"], 100).mean([1.0, 0.0], "mean"), "one patient"),
    ],
)
def test_where_there_is_no_interval_the_protocol_says_why(estimate, why):
    metric = estimate.metric()
    assert metric.value == 0.5
    assert metric.low is None
    assert f"no interval: {why}" in metric.protocol or why in metric.protocol


def test_an_undefined_value_has_a_reason():
    assert estimate_of([np.nan, 0.5]).metric().reason == "why"
    empty = Resamples.draw(["a", "b"], 10).at([]).mean([], "mean").metric()
    assert (empty.value, empty.n, empty.reason) == (None, 0, "no patient here has this truth")
    assert Resamples.draw(["a", "b"], 10).mean([np.nan, np.nan], "mean").metric().value is None


def test_the_basic_interval_mirrors_the_percentiles_and_stops_at_0():
    draws = np.linspace(0.12, 0.3, 101)
    low, high = np.percentile(draws, [2.5, 97.5])
    metric = estimate_of([0.2, *draws], interval="basic").metric()
    assert (metric.low, metric.high) == (pytest.approx(0.4 - high), pytest.approx(0.4 - low))
    assert estimate_of([0.1, *draws], interval="basic").metric().low == 0
    assert metric.value == 0.2
    assert metric.shown == metric.corrected == pytest.approx(0.4 - 0.21), "2 value - mean: corrected as the interval is"
    assert metric.to_json()["corrected"] == metric.corrected


@pytest.mark.parametrize("value", [0.02, 0.1, 0.5])
def test_a_corrected_value_lies_within_its_interval_and_never_below_0(value):
    rng = np.random.default_rng(0)
    for draws in (value + rng.exponential(0.1, 200), value * rng.random(200), np.full(200, value)):
        metric = estimate_of([value, *draws], interval="basic").metric()
        assert 0 <= metric.low <= metric.corrected <= metric.high


def test_a_difference_of_corrected_figures_says_that_it_is_not():
    one, other = (estimate_of([0.2, *np.linspace(low, 0.3, 50)], interval="basic") for low in (0.1, 0.2))
    assert (one - other).metric().value == 0
    assert "uncorrected" in (one - other).metric().protocol


def test_a_difference_is_paired():
    """Two scores that differ by a constant: each varies by patient, the difference not at all."""
    values = np.random.default_rng(0).normal(size=50)
    resamples = Resamples.draw(np.arange(50), 200)
    metric = (resamples.mean(values + 0.25, "mean") - resamples.mean(values, "mean")).metric()
    assert (metric.value, metric.low, metric.high) == pytest.approx((0.25, 0.25, 0.25))
    assert metric.protocol.startswith("paired difference of mean;")


def test_what_cannot_be_compared_is_refused():
    values = np.ones(4)
    with pytest.raises(ValueError, match="for each row"):
        Resamples.draw("abcd", 10)
    other, other_seed = (Resamples.draw(list("abcd"), 10, seed=seed) for seed in (0, 1))
    with pytest.raises(ValueError, match="same patients"):
        other.mean(values, "mean") - other_seed.mean(values, "mean")
    with pytest.raises(ValueError, match="one protocol"):
        other.mean(values, "mean") - other.mean(values, "median")
    with pytest.raises(ValueError, match="same patients"):
        macro({})


def test_a_difference_of_rounding_is_none():
    a = estimate_of([0.1 + 0.2, 0.3, 0.7 + 0.1])
    assert (a - estimate_of([0.3, 0.1 + 0.2, 0.8])).draws.tolist() == [0, 0, 0]


@pytest.mark.parametrize("values", [[0.1, 0.1, 0.1], [0.1 + 0.2, 0.3], [1e6 + 1e-8, 1e6], [0.0, 0.0], []])
def test_rounding_is_no_variation(values):
    assert not varies(np.array(values))
    assert varies(np.array([*values, 2.0]) if values else np.array([0.0, 1e-300]))


def test_a_single_precision_constant_does_not_vary():
    jitter = np.float32(0.3) + np.float32(3e-8) * np.arange(3, dtype=np.float32)
    assert not varies(jitter)
    assert varies(jitter.astype(np.float64))


def test_an_interval_from_a_standard_error_is_wilsons():
    """.8 of 25 with an error of .08 = sqrt(.8 x .2 / 25), so the sample size is 25; t of 24 degrees is 2.063899."""
    q, n = 2.063899, 25
    half = q * np.sqrt(0.8 * 0.2 / n + q**2 / (4 * n**2))
    low, high = share_interval(0.8, 0.08, 25)
    assert (low, high) == pytest.approx(((0.8 + q**2 / (2 * n) - half) / (1 + q**2 / n), (0.8 + q**2 / (2 * n) + half) / (1 + q**2 / n)), abs=1e-6)  # fmt: skip
    low, high = share_interval(1.0, 0.0, 20)
    assert (low, high) == (pytest.approx(20 / (20 + 2.093024**2), abs=1e-6), 1)
    assert share_interval(0.5, 0.0, 20)[0] < 0.4


def test_the_interval_of_a_standard_error_goes_by_the_rarer_class():
    metric = estimate_of([0.8, 0.7, 0.9], classes=(10, 50), error=0.1).metric()
    assert (metric.low, metric.high) == share_interval(0.8, 0.1, 10)
    assert "Wilson's at the standard error 0.1000 of patients, t of 9 degrees" in metric.protocol


def test_macro_leaves_out_labels_of_too_few_patients():
    rare, often = estimate_of([0.2, 0.4, 0.3], classes=(4, 40)), estimate_of([0.6, 0.5, 0.7], classes=(40, 40))
    metric = macro({"rare": rare, "often": often}).metric()
    assert (metric.value, metric.events) == (0.6, None)
    assert "left out: rare (4 patients of a class; at least 5 are needed)" in metric.protocol
    assert macro({"a": rare, "b": rare}).draws == pytest.approx(rare.draws), "computed, for tests over folds"
    assert macro({"a": rare, "b": rare}).metric().value is None


def test_macro_is_the_mean_over_defined_labels_and_names_them():
    nan = np.nan
    a, b = estimate_of([0.2, 0.4, nan, 0.6]), estimate_of([0.6, 0.4, 0.2, 0.8], detail="threshold 0.3")
    whole = macro({"a": a, "b": b, "c": estimate_of([nan, 0.9, 0.9, 0.9])})
    assert whole.draws == pytest.approx([0.4, 0.4, nan, 0.7], nan_ok=True)
    assert whole.metric().protocol.startswith("mean over a, b of p; undefined and left out: c (why); 95%")
    nothing = macro({"c": estimate_of([nan, 0.9])}).metric()
    assert (nothing.value, nothing.reason) == (None, "undefined for every label")
