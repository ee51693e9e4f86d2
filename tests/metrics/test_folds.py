"""Figures within folds against loops over pairs of the drawn patients, and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from chiasm.metrics import folds
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.classification import ranking
from chiasm.metrics.regression import agreement
from chiasm.metrics.survival import concordance


def sample(seed: int, n: int, k: int, repeats: int, patients: int = 9):
    """Labels, tied scores [n, R], fold models [n, R] with some missing, resamples of patients with several rows."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=(n, repeats)) + y[:, None], 1)
    fold = rng.integers(k, size=(n, repeats)) + k * np.arange(repeats)
    fold[rng.random((n, repeats)) < 0.1] = -1
    return y, scores, fold, Resamples.draw(rng.integers(patients, size=n), 6, seed=seed)


def slow(y, scores, fold, weights, figure):
    """The mean over repeats of sums over fold models, of the rows as often as they were drawn."""
    each = []
    for r in range(scores.shape[1]):
        part = whole = 0.0
        for model in np.unique(fold[:, r][fold[:, r] >= 0]):
            rows = np.repeat(np.flatnonzero(fold[:, r] == model), weights[fold[:, r] == model])
            a, b = figure(y[rows], scores[rows, r])
            part, whole = part + a, whole + b
        if whole:
            each.append(part / whole)
    return np.mean(each) if each else np.nan


def pairs(y, s):
    right = sum((a > b) + 0.5 * (a == b) for a in s[y] for b in s[~y])
    return float(right), float(y.sum() * (~y).sum())


def precision(y, s):
    both = y.any() and not y.all()
    return (average_precision_score(y, s) * y.sum(), y.sum()) if both else (0.0, 0.0)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 4), st.integers(1, 3))
def test_ranking_of_every_resample_equals_a_loop_over_folds(seed, n, k, repeats):
    y, scores, fold, resamples = sample(seed, n, k, repeats)
    found = folds.ranking(y, scores, fold, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        assert found["auroc"].draws[r] == pytest.approx(slow(y, scores, fold, weights, pairs), nan_ok=True)
        assert found["auprc"].draws[r] == pytest.approx(slow(y, scores, fold, weights, precision), nan_ok=True)


def test_one_fold_is_ranking_itself():
    y, scores, _, resamples = sample(1, 60, 1, 1)
    found = folds.ranking(y, scores, np.zeros((60, 1), int), resamples)
    for name, estimate in ranking(y, scores[:, 0], resamples).items():
        assert found[name].draws == pytest.approx(estimate.draws, nan_ok=True)
        assert found[name].classes == estimate.classes


def test_by_hand_two_folds_of_other_scales():
    """Each fold ranks its four perfectly; one says 10 more of everybody: pooled, 4 of 16 pairs are turned round."""
    y = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    scores = np.array([3.0, 4, 1, 2, 13, 14, 11, 12])
    fold = np.repeat([0, 1], 4)
    resamples = Resamples.draw(range(8), 20)
    assert folds.ranking(y, scores[:, None], fold[:, None], resamples)["auroc"].draws[0] == 1
    assert roc_auc_score(y, scores) == 12 / 16


def test_no_fold_has_both_classes():
    y = np.repeat([1, 0], 6)
    found = folds.ranking(y, np.arange(12.0)[:, None], np.repeat([0, 1], 6)[:, None], Resamples.draw(range(12), 20))
    for estimate in found.values():
        assert estimate.metric().reason == "no fold model tested both classes: 6 positive of 12 answers"
    nobody = folds.ranking(y, np.arange(12.0)[:, None], np.full((12, 1), -1), Resamples.draw(range(12), 20))
    assert nobody["auroc"].metric().reason == "no patient here has this truth"


def test_what_the_mask_hides_is_never_read():
    y, scores, fold, resamples = sample(3, 60, 3, 2, patients=60)
    mask = np.arange(60) % 4 > 0
    spoiled = np.where(mask[:, None], scores, np.nan)
    hidden = folds.ranking(np.where(mask, y, np.nan), spoiled, fold, resamples, mask)
    kept = folds.ranking(y[mask], scores[mask], fold[mask], resamples.at(mask))
    for name in hidden:
        assert hidden[name].draws == pytest.approx(kept[name].draws)
        assert hidden[name].error == kept[name].error
        assert hidden[name].metric().n == len(np.unique(resamples.patients[mask][(fold[mask] >= 0).any(axis=1)]))


def test_a_fold_model_of_two_repeats_and_other_shapes_are_refused():
    resamples = Resamples.draw(range(2), 5)
    with pytest.raises(ValueError, match="one repeat"):
        folds.ranking([0, 1], np.zeros((2, 2)), np.zeros((2, 2), int), resamples)
    with pytest.raises(ValueError, match="expected"):
        folds.ranking([0, 1], np.zeros((2, 2)), np.zeros((2, 1), int), resamples)


def delong(y, s):
    """The variance of DeLong et al. (1988), by their structural components."""
    x, z = s[y], s[~y]
    better = (x[:, None] > z) + 0.5 * (x[:, None] == z)
    return better.mean(axis=1).var(ddof=1) / len(x) + better.mean(axis=0).var(ddof=1) / len(z)


def test_the_error_of_one_fold_is_delongs():
    rng = np.random.default_rng(4)
    y = np.arange(50) < 20
    s = np.round(rng.normal(size=50) + y, 1)
    found = folds.ranking(y, s[:, None], np.zeros((50, 1), int), Resamples.draw(range(50), 0))["auroc"]
    assert found.error == pytest.approx(np.sqrt(delong(y, s)))


def test_the_error_of_folds_by_a_loop_over_patients():
    """What each patient adds, pair by pair: the middle of the variance of a repeat and of their mean; a patient's rows add up."""
    y, scores, fold, _ = sample(8, 40, 3, 2)
    patients = np.arange(40) // 2
    found = folds.ranking(y, scores, fold, Resamples.draw([f"{p:02}" for p in patients], 0))["auroc"]
    added = []
    for r in range(2):
        auroc = slow(y, scores[:, [r]], fold[:, [r]], np.ones(40, int), pairs)
        adds = np.zeros((2, 20))
        n_pairs = 0
        for i in np.flatnonzero(y):
            for j in np.flatnonzero(~y):
                if fold[i, r] == fold[j, r] >= 0:
                    won = (scores[i, r] > scores[j, r]) + 0.5 * (scores[i, r] == scores[j, r])
                    n_pairs += 1
                    adds[1, patients[i]] += won - auroc
                    adds[0, patients[j]] += won - auroc
        for c in (0, 1):
            n = len(np.unique(patients[(y == c) & (fold >= 0).any(axis=1)]))
            adds[c] *= np.sqrt(n / (n - 1)) / n_pairs
        added.append(adds.sum(axis=0))
    one, of_mean = np.mean([(each**2).sum() for each in added]), (np.mean(added, axis=0) ** 2).sum()
    assert found.error == pytest.approx(np.sqrt((one + of_mean) / 2))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 3), st.integers(1, 2))
def test_concordance_of_every_resample_equals_a_loop(seed, n, k, repeats):
    y, scores, fold, resamples = sample(seed, n, k, repeats)
    times = np.random.default_rng(seed).integers(1, 6, size=n) * np.where(y, 1.0, -1.0)

    def first(signed, x):
        t, event = np.abs(signed), signed > 0
        before = event[:, None] & ((t[:, None] < t) | ((t[:, None] == t) & ~event))
        right = before * ((x[:, None] < x) + 0.5 * (x[:, None] == x))
        return right.sum(), before.sum()

    found = folds.concordance(times, scores, fold, resamples)
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        assert found["c_index"].draws[r] == pytest.approx(slow(times, scores, fold, weights, first), nan_ok=True)


def test_concordance_of_one_fold_is_concordance_itself():
    y, scores, _, resamples = sample(5, 40, 1, 1)
    times = np.random.default_rng(5).exponential(size=40) * np.where(y, 1, -1)
    found = folds.concordance(times, scores, np.zeros((40, 1), int), resamples)
    for name, estimate in concordance(times, scores[:, 0], resamples).items():
        assert found[name].draws == pytest.approx(estimate.draws)
        assert found[name].classes == estimate.classes == (len(np.unique(resamples.patients[y])),)


def test_correlation_within_folds_knows_nothing_of_their_means():
    rng = np.random.default_rng(6)
    truth = rng.normal(size=200)
    predicted = 0.5 * truth + rng.normal(size=200)
    fold = np.arange(200)[:, None] % 4
    resamples = Resamples.draw(range(200), 5)
    plain = folds.correlation(truth, predicted[:, None], fold, resamples)
    shifted = folds.correlation(truth, predicted[:, None] + 100.0 * fold, fold, resamples)
    assert shifted.draws == pytest.approx(plain.draws, abs=1e-6)
    x, z = (v - np.array([v[fold[:, 0] == f].mean() for f in range(4)])[fold[:, 0]] for v in (truth, predicted))
    assert plain.draws[0] == pytest.approx((x @ z) / np.sqrt((x @ x) * (z @ z)))
    whole = folds.correlation(truth, predicted[:, None], np.zeros((200, 1), int), resamples)
    assert whole.draws == pytest.approx(agreement(truth, predicted, resamples)["r"].draws)


def test_a_constant_of_each_fold_has_no_correlation():
    fold = np.array([[0], [0], [1], [1]])
    found = folds.correlation([1, 2, 3, 4], 5.0 * fold, fold, Resamples.draw(range(4), 20))
    assert found.metric().reason == "truth or prediction never varies within a fold"
