import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from chiasm.errors import ChiasmError
from chiasm.metrics import classification as c
from chiasm.metrics.bootstrap import Resamples


def value(estimate) -> float:
    return float(estimate.draws[0])


def sample(seed: int, n: int, grid: int, patients: int = 10):
    """Labels, scores with many ties, and resamples of patients with several rows each."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < rng.uniform(0.05, 0.95)
    scores = np.round(rng.random(n) + labels * rng.uniform(-0.5, 1), grid)
    return labels, scores, Resamples.draw(rng.integers(patients, size=n), resamples=8, seed=seed)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(0, 3))
def test_every_resample_equals_scikit_learn_with_its_weights(seed, n, grid):
    labels, scores, resamples = sample(seed, n, grid)
    found = c.ranking(labels, scores, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        drawn = labels[weights > 0]
        if not drawn.any() or drawn.all():
            assert np.isnan([found["auroc"].draws[r], found["auprc"].draws[r]]).all()
        else:
            assert found["auroc"].draws[r] == pytest.approx(sk.roc_auc_score(labels, scores, sample_weight=weights))
            slow = sk.average_precision_score(labels, scores, sample_weight=weights)
            assert found["auprc"].draws[r] == pytest.approx(slow)


def test_a_large_sample_in_blocks_equals_scikit_learn():
    rng = np.random.default_rng(0)
    n = 20_000
    labels = rng.random(n) < 0.1
    scores = (labels + rng.normal(size=n)).astype(np.float32)
    resamples = Resamples.draw(rng.integers(9_000, size=n), resamples=60)
    found = c.ranking(labels, scores, resamples)
    for r in (0, 1, 31, 60):
        weights = resamples.weights[resamples.patients, r]
        assert found["auroc"].draws[r] == pytest.approx(sk.roc_auc_score(labels, scores, sample_weight=weights), 1e-12)
        slow = sk.average_precision_score(labels, scores, sample_weight=weights)
        assert found["auprc"].draws[r] == pytest.approx(slow, 1e-12)


def test_auroc_and_auprc_of_five_scores_equal_the_count_of_pairs():
    """Scores 4 3 2 2 1 with labels 1 0 1 0 0: of 6 pairs 4 are right and one is tied."""
    found = c.ranking([1, 0, 1, 0, 0], [4, 3, 2, 2, 1], Resamples.draw(range(5), 10))
    assert value(found["auroc"]) == pytest.approx(4.5 / 6)
    assert value(found["auprc"]) == pytest.approx((1 / 1 + 2 / 4) / 2)


@given(st.integers(0, 10**6), st.integers(2, 40))
def test_auroc_looks_at_order_only_and_flips_with_the_scores(seed, n):
    labels, scores, resamples = sample(seed, n, 1)
    assume(labels.any() and not labels.all())
    auroc = value(c.ranking(labels, scores, resamples)["auroc"])
    assert 0 <= auroc <= 1
    assert value(c.ranking(labels, np.exp(3 * scores) - 7, resamples)["auroc"]) == pytest.approx(auroc)
    assert value(c.ranking(labels, -scores, resamples)["auroc"]) == pytest.approx(1 - auroc)
    assert value(c.ranking(~labels, scores, resamples)["auroc"]) == pytest.approx(1 - auroc)


def test_a_constant_score_knows_nothing():
    labels = np.array([1, 0, 0, 0])
    found = c.ranking(labels, np.ones(4), Resamples.draw(range(4), 10))
    assert value(found["auroc"]) == 0.5
    assert value(found["auprc"]) == value(c.prevalence(labels, Resamples.draw(range(4), 10))) == 0.25


def test_what_the_mask_hides_is_never_read():
    labels, scores, resamples = sample(3, 40, 1)
    mask = np.arange(40) % 3 > 0
    spoiled_labels, spoiled_scores = labels.astype(float), scores.copy()
    spoiled_labels[~mask], spoiled_scores[~mask] = np.nan, np.inf
    for function in (c.ranking, lambda *a: {"brier": c.brier(*a)}, lambda y, s, r, m: c.decisions(y, s, 0.5, r, m)):
        hidden = function(spoiled_labels, spoiled_scores, resamples, mask)
        left_out = function(labels[mask], scores[mask], resamples.at(mask), None)
        for name, estimate in hidden.items():
            assert estimate.draws == pytest.approx(left_out[name].draws, nan_ok=True)
            assert estimate.metric().n == len(np.unique(resamples.patients[mask]))
    assert c.best_f1_threshold(spoiled_labels, spoiled_scores, mask) == c.best_f1_threshold(labels[mask], scores[mask])


def test_one_class_is_undefined_with_its_reason():
    resamples = Resamples.draw(range(3), 10)
    for metric in ("auroc", "auprc"):
        found = c.ranking([1, 1, 1], [0.1, 0.2, 0.3], resamples)[metric].metric()
        assert (found.value, found.reason) == (None, "one class only: 3 positive of 3")
    found = c.ranking([1, 0, 1], [0.1, 0.2, 0.3], resamples, mask=[False, False, False])["auroc"].metric()
    assert (found.value, found.n, found.reason) == (None, 0, "no patient here has this truth")
    decided = c.decisions([0, 0, 0], [0.1, 0.2, 0.3], 0.15, resamples)
    assert decided["f1"].metric().value is None
    assert decided["sensitivity"].metric().value is None
    assert value(decided["specificity"]) == pytest.approx(1 / 3)
    assert c.roc_curve([1, 1, 1], [0.1, 0.2, 0.3], resamples) is None
    assert c.best_f1_threshold([0, 0], [0.1, 0.2]) is None


def test_resamples_of_one_class_are_counted():
    """A patient who is every positive's equal: with five of each class of ten about 2 x (1/2)^10 of the resamples have one."""
    labels = np.repeat([1, 0], 5)
    auroc = c.ranking(labels, np.arange(10.0), Resamples.draw(range(10), resamples=4000))["auroc"]
    lost = int(np.isnan(auroc.draws).sum())
    assert 1 <= lost <= 25
    assert f"4,000 resamples of patients, {lost} of them undefined" in auroc.metric().protocol


def test_fewer_than_five_patients_of_a_class_are_no_figure_but_a_reason():
    """Four patients with seven positive studies are four."""
    patients = [*"aabbccd", *"efghij"]
    labels = np.repeat([1, 0], [7, 6])
    resamples = Resamples.draw(patients, 50)
    scores = np.linspace(0, 1, 13)
    found = c.ranking(labels, scores, resamples) | c.decisions(labels, scores, 0.5, resamples)
    found |= {"brier": c.brier(labels, scores, resamples), "prevalence": c.prevalence(labels, resamples)}
    for estimate in found.values():
        metric = estimate.metric()
        assert (metric.value, metric.events) == (None, 4)
        assert metric.reason == "4 patients of a class; at least 5 are needed"
    mirrored = c.ranking(1 - labels, scores, resamples)["auroc"].metric()
    assert (mirrored.value, mirrored.events) == (None, 6)
    enough = c.ranking(np.repeat([1, 0], 5), np.arange(10.0), Resamples.draw(range(10), 50))["auroc"].metric()
    assert (enough.value, enough.events) == (0.0, 5)


@pytest.mark.parametrize(
    ("labels", "scores", "error"),
    [
        ([1, 0], [0.1, np.nan], ChiasmError),
        ([1, 0], [0.1, np.inf], ChiasmError),
        ([1, -1], [0.1, 0.2], ValueError),
        ([1, np.nan], [0.1, 0.2], ValueError),
        ([1, 0, 1], [0.1, 0.2], ValueError),
    ],
)
def test_damaged_input_is_an_error_never_a_number(labels, scores, error):
    with pytest.raises(error):
        c.ranking(labels, scores, Resamples.draw(["a", "b"], 10))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(-0.5, 2))
def test_decisions_equal_scikit_learn(seed, n, threshold):
    labels, scores, resamples = sample(seed, n, 1)
    found = c.decisions(labels, scores, threshold, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        drawn = np.repeat(labels, weights)
        called = np.repeat(scores >= threshold, weights)
        if drawn.any():
            assert found["f1"].draws[r] == pytest.approx(sk.f1_score(drawn, called))
            assert found["sensitivity"].draws[r] == pytest.approx(sk.recall_score(drawn, called))
        else:
            assert np.isnan(found["f1"].draws[r])
        if not drawn.all():
            assert found["specificity"].draws[r] == pytest.approx(sk.recall_score(~drawn, ~called))
        else:
            assert np.isnan(found["specificity"].draws[r])


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_no_threshold_has_a_higher_f1_than_the_best(seed, n):
    labels, scores, _ = sample(seed, n, 1)
    assume(labels.any())
    best = c.best_f1_threshold(labels, scores)
    reached = sk.f1_score(labels, scores >= best)
    assert reached >= max(sk.f1_score(labels, scores >= t) for t in scores) - 1e-12


def test_the_best_threshold_lies_halfway_to_the_next_score():
    assert c.best_f1_threshold([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]) == pytest.approx(0.5)
    assert c.best_f1_threshold([1, 1], [0.9, 0.8]) == pytest.approx(0.8)


def test_brier_equals_scikit_learn():
    labels, scores, resamples = sample(1, 50, 2)
    probabilities = np.clip(scores, 0, 1)
    found = c.brier(labels, probabilities, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        slow = sk.brier_score_loss(labels, probabilities, sample_weight=weights)
        assert found.draws[r] == pytest.approx(slow)


def test_the_roc_curve_passes_through_scikit_learns_and_lies_in_its_band():
    labels, scores, _ = sample(11, 60, 1)
    resamples = Resamples.draw(range(60), 300)
    curve = c.roc_curve(labels, scores, resamples, points=1001)
    fpr, tpr, _ = sk.roc_curve(labels, scores)
    last = np.append(np.diff(fpr) > 0, True)  # where the curve rises straight up, its upper end counts
    assert np.interp(fpr[last], curve.x, curve.y) == pytest.approx(tpr[last], abs=0.02)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(sk.roc_auc_score(labels, scores), abs=0.005)
    assert (curve.low <= curve.y + 1e-9).all()
    assert (curve.y <= curve.high + 1e-9).all()


def test_the_area_under_the_pr_curve_is_the_average_precision():
    labels, scores, _ = sample(12, 60, 1)
    resamples = Resamples.draw(range(60), 200)
    curve = c.pr_curve(labels, scores, resamples, points=20001)
    assert curve.y[1:].mean() == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-3)
    assert curve.y[-1] == pytest.approx(labels.sum() / np.sum(scores >= scores[labels].min()))
    assert (curve.low <= curve.high).all()


def test_curves_of_four_scores_pass_through_the_points_by_hand():
    """Scores 4 3 2 1 with labels 1 0 1 0."""
    resamples = Resamples.draw(range(4), 50)
    assert c.roc_curve([1, 0, 1, 0], [4, 3, 2, 1], resamples, points=3).y == pytest.approx([0.5, 1, 1])
    assert c.pr_curve([1, 0, 1, 0], [4, 3, 2, 1], resamples, points=3).y == pytest.approx([1, 1, 2 / 3])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40), st.floats(0.05, 1.0))
def test_an_operating_point_is_the_last_threshold_that_reaches_it(rows, wanted) -> None:
    y, s = np.array([row[0] for row in rows]), np.array([row[1] / 8 for row in rows])
    for which, of, name in ((y, s, "sensitivity"), (~y, -s, "specificity")):
        if not which.any():
            continue
        threshold = c.threshold_at(y, s, **{name: wanted})
        yes = s >= threshold
        assert (yes if name == "sensitivity" else ~yes)[which].mean() >= wanted - 1e-9
        # the next score beyond would not reach it
        called = of[which & (yes if name == "sensitivity" else ~yes)]
        assert (of[which] > called.min()).mean() < wanted, "a stricter threshold loses it"


def test_without_the_class_that_counts_there_is_no_operating_point() -> None:
    assert c.threshold_at([0, 0], [0.1, 0.9], sensitivity=0.9) is None
    assert c.threshold_at([1, 1], [0.1, 0.9], specificity=0.9) is None


def test_predictive_values_by_hand() -> None:
    y = np.array([1] * 8 + [0] * 12)
    s = np.array([1] * 6 + [0] * 2 + [1] * 3 + [0] * 9, float)
    found = c.decisions(y, s, 0.5, Resamples.draw(range(20), 50))
    assert [found[name].draws[0] for name in ("ppv", "npv", "sensitivity", "specificity")] == pytest.approx(
        [6 / 9, 9 / 11, 6 / 8, 9 / 12]
    )
    assert c.decisions(y, s, 2.0, Resamples.draw(range(20), 50))["ppv"].metric().reason == "nobody is called positive"
