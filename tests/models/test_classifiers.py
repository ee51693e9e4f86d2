"""The plain classifiers: their optimum by hand, what is chosen by whom, and the way to disk and back."""

import sys

import numpy as np
import pytest
from scipy.special import expit

from chiasm.errors import MissingExtraError
from chiasm.models.classifiers import (
    FITS,
    PENALTIES,
    Hazards,
    Linear,
    Problem,
    at_interval,
    find_ranks,
    fit_additive,
    fit_blend,
    fit_linear,
    fit_trees,
    from_array,
    inner_folds,
    widen,
)
from chiasm.recipe import Baseline

N = 160


def problem(x, y, folds, binary, signs=None):
    return Problem(x, y, folds, binary, seed=0, options=Baseline(), signs=signs)


@pytest.fixture(scope="module")
def rows():
    """[N, 4] numbers of which two matter, a yes or no drawn from their logit, two studies a patient."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 4)) * [1, 5, 1, 1] + [0, 3, 0, 0]
    logit = 1.5 * x[:, 0] + 0.3 * (x[:, 1] - 3)
    y = (rng.random(N) < expit(logit)).astype(np.float64)
    return x, y, np.array([f"p{i // 2}" for i in range(N)]), logit


def test_logistic_regression_is_at_the_optimum_of_its_loss_in_the_columns_as_they_came(rows):
    """d/dw of sum(log loss) + penalty / 2 |w|^2 on standardized columns is 0, and of the intercept alone too."""
    x, y, patients, _ = rows
    linear, chosen = fit_linear(problem(x, y, inner_folds(y, patients, True, 0), True))
    error = expit(linear.answer(x)) - y
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    gradient = error @ z + chosen.strength * linear.weights[:-1] * x.std(axis=0)
    assert np.abs(gradient).max() < 0.05
    assert abs(error.sum()) < 0.05
    assert chosen.strength in PENALTIES


def test_ridge_regression_equals_the_normal_equations(rows):
    x, _, patients, y = rows
    linear, chosen = fit_linear(problem(x, y, inner_folds(y, patients, False, 0), False))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    w = np.linalg.solve(z.T @ z + chosen.strength * np.eye(4), z.T @ (y - y.mean()))
    assert np.allclose(linear.answer(x), y.mean() + z @ w)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("binary", [True, False])
def test_a_classifier_learns_comes_back_from_its_array_and_is_the_same_twice(rows, name, binary):
    x, y, patients, logit = rows
    truth = y if binary else logit
    folds = inner_folds(truth, patients, binary, 0)
    found, chosen = FITS[name](problem(x, truth, folds, binary))
    again, _ = FITS[name](problem(x, truth, folds, binary))
    back = from_array(np.array(found.to_array()))
    assert type(back) is type(found)
    assert np.array_equal(back.answer(x), found.answer(x))
    assert np.array_equal(again.answer(x), found.answer(x))
    share = truth.mean()
    prior = -(share * np.log(share) + (1 - share) * np.log(1 - share)) if binary else truth.var()
    assert chosen.loss < 0.9 * prior
    assert np.corrcoef(found.answer(x), logit)[0, 1] > 0.8


def test_trees_of_noise_are_few(rows):
    """Where there is nothing to learn, cross-validation stops at once, and the answers stay near the training share."""
    x, y, patients, _ = rows
    noise = np.random.default_rng(1).permutation(y)
    trees, chosen = fit_trees(problem(x, noise, inner_folds(noise, patients, True, 0), True))
    assert chosen.strength < 20
    assert np.abs(expit(trees.answer(x)) - noise.mean()).max() < 0.25


def test_inner_folds_part_patients_and_hold_each_class_on_both_sides(rows):
    _, y, patients, _ = rows
    folds = inner_folds(y, patients, True, 0)
    assert len(folds) == 5
    assert sorted(np.concatenate([b for _, b in folds])) == list(range(N))
    for a, b in folds:
        assert not set(patients[a]) & set(patients[b])
        assert set(y[a]) == {0.0, 1.0}


@pytest.mark.parametrize(("positives", "expected"), [(1, 0), (3, 3)])
def test_few_patients_of_a_class_make_fewer_folds(positives, expected):
    y = np.array([1.0] * positives + [0.0] * 30)
    folds = inner_folds(y, np.arange(len(y)).astype(str), True, 0)
    assert len(folds) == expected
    fitted, chosen = fit_trees(problem(np.random.default_rng(0).normal(size=(len(y), 2)), y, folds, True))
    assert (chosen.loss is None) == (not folds)
    assert np.isfinite(fitted.answer(np.zeros((3, 2)))).all()


def test_without_lightgbm_the_extra_is_named(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r"lightgbm(.|\n)*chiasm\[baselines\]"):
        fit_trees(problem(rows[0], rows[1], [], True))


def test_a_constant_answers_the_same_for_everybody():
    assert np.array_equal(Linear.constant(-1.5, 3).answer(np.ones((2, 3))), [-1.5, -1.5])
    assert np.array_equal(Linear.constant(2.0, 0).answer(np.zeros((2, 0))), [2.0, 2.0])


def test_a_rank_scores_the_normal_quantile_and_ties_score_their_mean():
    """Of 1 .. 9999 the median scores 0 and the 84th percentile about 1; half zeros score the mean of the lower half."""
    x = np.stack(
        [np.exp(np.linspace(-5, 5, 9999)), np.maximum(np.linspace(-1, 1, 9999), 0), np.arange(9999) % 2], axis=1
    )
    columns, knots, scores = find_ranks(x)
    assert columns.tolist() == [0, 1], "two values have no rank worth a term"
    wide = widen(x, columns, knots, scores)
    assert np.array_equal(wide[:, :3], x)
    assert wide[4999, 3] == pytest.approx(0, abs=0.02)
    assert wide[8413, 3] == pytest.approx(1, abs=0.05)
    assert wide[0, 4] == pytest.approx(-np.sqrt(2 / np.pi), abs=0.05)  # the mean of the lower half of a normal
    assert wide[0, 3] == wide[1, 3], "beyond the outermost quantile a score stays"


def test_a_curve_follows_what_no_line_can(rows):
    """The logit is the log of a column that spans five orders of magnitude."""
    rng = np.random.default_rng(1)
    x = np.exp(rng.normal(size=(400, 1)) * 3)
    truth = np.log(x[:, 0])
    patients = np.arange(400).astype(str)
    curve, _ = fit_additive(problem(x, truth, inner_folds(truth, patients, False, 0), False))
    line, _ = fit_linear(problem(x, truth, inner_folds(truth, patients, False, 0), False))
    assert np.corrcoef(curve.answer(x), truth)[0, 1] > 0.98 > 0.7 > np.corrcoef(line.answer(x), truth)[0, 1]


def test_a_blend_is_no_worse_than_its_parts_on_rows_held_out_and_says_its_share(rows):
    x, y, patients, _ = rows
    folds = inner_folds(y, patients, True, 0)
    blend, chosen = fit_blend(problem(x, y, folds, True))
    parts = [fit(problem(x, y, folds, True))[1].loss for fit in (fit_additive, fit_trees)]
    assert chosen.loss <= min(parts) + 1e-9
    assert blend.share == chosen.strength
    mixed = (1 - blend.share) * blend.one.answer(x) + blend.share * blend.other.answer(x)
    assert np.allclose(blend.answer(x), mixed)
    few, chosen = fit_blend(problem(x, y, [], True))
    assert chosen.loss is None
    assert np.array_equal(few.answer(x), fit_additive(problem(x, y, [], True))[0].answer(x)), "few rows bear no trees"


def test_an_interval_is_read_behind_the_columns():
    x = np.array([[7.0], [8.0]])
    assert at_interval(x, np.array([0, 2]), 3).tolist() == [[7, 0, 0, 0], [8, 0, 1, 2]]
    hazards = Hazards(3, Linear(np.array([1.0, 10.0, 20.0, 0.0, 0.5])))
    assert hazards.answer(x).tolist() == [[7.5, 8.5], [17.5, 18.5], [27.5, 28.5]]
    assert np.array_equal(from_array(hazards.to_array()).answer(x), hazards.answer(x))


def test_where_an_answer_may_only_rise_a_blend_is_trees_alone(rows):
    x, y, patients, _ = rows
    folds, signs = inner_folds(y, patients, True, 0), np.array([1, 0, 0, 0])
    found, _ = fit_blend(problem(x, y, folds, True, signs=signs))
    grid = np.repeat(x[:1], 50, axis=0)
    grid[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(found.answer(grid)) >= 0).all()
    assert np.array_equal(found.answer(x), fit_trees(problem(x, y, folds, True, signs=signs))[0].answer(x))
