"""Scales and classes against scikit-learn with each resample drawn row by row, and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, recall_score, roc_auc_score

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.ordinal import confusion, dichotomized, multiclass, ordinal

LEVELS = (0.0, 1.0, 2.0, 6.0)


def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    p = rng.dirichlet(np.ones(4), size=n).round(2)
    p[:, 0] += 1 - p.sum(axis=1)
    return rng.integers(0, 4, size=n), p


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(4, 40))
def test_every_resample_equals_the_drawn_rows(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    codes, p = drawn(rng, n)
    scale = np.array(LEVELS)
    resamples = Resamples.draw(rng.integers(8, size=n), 10, seed=seed)
    found = ordinal(scale[codes], p, LEVELS, resamples)
    expected = p @ scale
    median = scale[[next(k for k in range(4) if row[: k + 1].sum() >= 0.5 - 1e-9) for row in p]]
    nearest = scale[[int(np.argmin(np.abs(e - scale))) for e in expected]]
    for r, weights in enumerate(resamples.weights[resamples.patients].T):
        rows = np.repeat(np.arange(n), weights)
        y = scale[codes[rows]]
        assert found["mae"].draws[r] == pytest.approx(mean_absolute_error(y, median[rows]))
        if np.ptp(y) and np.ptp(expected[rows]) > 1e-9:
            assert found["r"].draws[r] == pytest.approx(pearsonr(y, expected[rows]).statistic, abs=1e-8)
        # scikit-learn's weights go by rank, so the scale is spread out to whole numbers 0..6
        if len({*y, *nearest[rows]}) > 1:
            kappa = cohen_kappa_score(y.astype(int), nearest[rows].astype(int), labels=range(7), weights="quadratic")
            assert found["qwk"].draws[r] == pytest.approx(kappa, abs=1e-9)
        else:
            assert np.isnan(found["qwk"].draws[r])
        if set(y) == set(scale[codes]) and len(set(y)) > 1:
            recall = recall_score(
                y, scale[p[rows].argmax(axis=1)], average="macro", labels=np.unique(y), zero_division=0
            )
            assert found["balanced_accuracy"].draws[r] == pytest.approx(recall)
        else:
            assert np.isnan(found["balanced_accuracy"].draws[r])


def test_an_ordinal_answer_by_hand() -> None:
    resamples = Resamples.draw(list("ab"), 50)
    p = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
    found = ordinal([0, 2], p, LEVELS, resamples)
    assert found["mae"].draws[0] == (0 + 4) / 2
    # P(y <= level) - [truth <= level] at 0, 1, 2: -.5 -.2 -.1; .1 .2 -.6
    assert found["rps"].draws[0] == pytest.approx(((0.25 + 0.04 + 0.01) / 3 + (0.01 + 0.04 + 0.36) / 3) / 2)
    assert found["balanced_accuracy"].draws[0] == 0.5


def test_a_level_that_training_did_not_have_is_scored() -> None:
    p = np.array([[0.5, 0.5], [0.1, 0.9], [0.2, 0.8]])
    found = ordinal([0, 1, 3], p, (0.0, 1.0), Resamples.draw(list("abc"), 50))
    assert found["mae"].draws[0] == pytest.approx(2 / 3), "nobody is dropped"
    assert found["balanced_accuracy"].draws[0] == pytest.approx(2 / 3), "and it is never right"


def test_dichotomized_is_the_auroc_of_each_cut() -> None:
    rng = np.random.default_rng(3)
    codes, p = rng.integers(0, 4, size=60), rng.dirichlet(np.ones(4), size=60)
    y = np.array(LEVELS)[codes]
    found = dichotomized(y, p, LEVELS, Resamples.draw(range(60), 5))
    assert list(found) == ["auroc_gt_0", "auroc_gt_1", "auroc_gt_2"]
    assert found["auroc_gt_2"].draws[0] == pytest.approx(roc_auc_score(y > 2, p[:, 3]))
    assert found["auroc_gt_0"].draws[0] == pytest.approx(roc_auc_score(y > 0, 1 - p[:, 0]))


@given(st.integers(0, 10**6), st.integers(10, 40))
def test_classes_equal_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    codes, p = drawn(rng, n)
    found = multiclass(codes, p, ("a", "b", "c", "d"), Resamples.draw(range(n), 3, seed=seed))
    assert found["accuracy"].draws[0] == pytest.approx((p.argmax(axis=1) == codes).mean())
    assert found["brier"].draws[0] == pytest.approx(((p - np.eye(4)[codes]) ** 2).sum(axis=1).mean())
    enough = [k for k in range(4) if 5 <= np.sum(codes == k) <= n - 5]
    if enough:
        each = [roc_auc_score(codes == k, p[:, k]) for k in enough]
        assert found["auroc"].draws[0] == pytest.approx(np.mean(each))
    here = np.unique(codes)
    assert found["balanced_accuracy"].draws[0] == pytest.approx(
        recall_score(codes, p.argmax(axis=1), average="macro", labels=here, zero_division=0)
    )


def test_an_unknown_class_is_wrong_and_a_negative_of_the_others() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = multiclass([0, 1, 2], p, ("a", "b"), Resamples.draw(list("abc"), 20))
    assert found["accuracy"].draws[0] == pytest.approx(2 / 3)
    assert found["auroc"].draws[0] == 1.0
    assert found["brier"].draws[0] == pytest.approx((0.02 + 0.08 + 1 + 0.36 + 0.16) / 3)


def test_a_class_that_is_left_out_is_named() -> None:
    """Six patients of a and b each, three of c, none of d: c is too rare for a figure, d is not there."""
    codes = np.repeat([0, 1, 2], [6, 6, 3])
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=15)
    found = multiclass(codes, p, list("abcd"), Resamples.draw(range(15), 50))
    area = found["auroc"].metric()
    assert area.value == pytest.approx(np.mean([roc_auc_score(codes == k, p[:, k]) for k in (0, 1)]))
    assert "classes: a, b; undefined and left out: c (3 patients of a class" in area.protocol
    assert "d (one class only: 0 positive of 15)" in area.protocol
    assert "3 occur; left out, as no patient has it: d" in found["balanced_accuracy"].metric().protocol
    rare = multiclass(codes[-6:], p[-6:], list("abcd"), Resamples.draw(range(6), 50))["auroc"].metric()
    assert rare.value is None and rare.reason and "classes: none" in rare.protocol


def test_levels_left_out_and_unknown_ones_are_named() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]])
    found = ordinal([0, 5, 0], p, (0.0, 1.0, 2.0), Resamples.draw(list("abc"), 50))["balanced_accuracy"]
    assert "2 occur, 1 of them unknown to the model; left out, as no patient has it: 1, 2" in found.detail


def test_one_level_has_no_balance_and_no_order() -> None:
    resamples = Resamples.draw(list("abc"), 50)
    found = ordinal([0, 0, 0], np.tile([0.7, 0.2, 0.1], (3, 1)), (0.0, 1.0, 2.0), resamples)
    assert found["balanced_accuracy"].metric().reason == "one level or class only"
    assert found["qwk"].metric().reason == "truth and answer are one level throughout"
    assert found["r"].metric().reason == "truth or prediction never varies"
    assert (
        ordinal([0, 0, 0], np.ones((3, 1)), (0.0,), resamples)["rps"].metric().reason == "one level alone has no order"
    )
    assert (
        multiclass([1, 1, 1], np.tile([0.7, 0.3], (3, 1)), "ab", resamples)["balanced_accuracy"].metric().value is None
    )


def test_a_confusion_matrix_counts_the_most_probable_level_of_each_known_one() -> None:
    p = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6], [0.1, 0.1, 0.2, 0.6], [1.0, 0, 0, 0]])
    table = confusion([0, 2, 6, 4], p, LEVELS)
    assert table.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], "4 is no level"


def test_nobody_is_no_figure_and_no_crash() -> None:
    nobody = np.zeros(2, bool)
    resamples = Resamples.draw(list("ab"), 50)
    p = np.full((2, 4), 0.25)
    for figure in (
        ordinal([0, 2], p, LEVELS, resamples, nobody)
        | dichotomized([0, 2], p, LEVELS, resamples, nobody)
        | multiclass([0, 2], p, list("abcd"), resamples, nobody)
    ).values():
        metric = figure.metric()
        assert metric.value is None and metric.n == 0 and metric.reason
