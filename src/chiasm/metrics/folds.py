"""Ranking by the models of cross-validation: each pair of patients is compared by one model that saw neither.

The estimand is the mean true figure of the fold models, those of all folds and repeats. Scores of two models do not share a
scale, so a pair is compared only where one model tested both; the pairs of a repeat are counted together, and repeats are
averaged as figures. Averaging a patient's answers over repeats would score another, better model, one that combines what no
single training gave, and pooling the folds would compare scales. (On what cross-validation estimates: Bates, Hastie &
Tibshirani 2021; Nadeau & Bengio 2003.)

Everywhere: labels, times or truth [n]; scores [n, R], a column a repeat; tested_by [n, R] number of the fold model that gave
the score, other numbers in each repeat, negative where there is none; `resamples` over the same n rows; mask [n], True where
the truth is known (None: everywhere). A resample draws whole patients, all their repeats together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, indicator
from chiasm.metrics.classification import known_rows
from chiasm.metrics.regression import finite_pairs, moments, pearson
from chiasm.metrics.survival import CONCORDANCE, concordant_sums, inverse_censoring

WITHIN = "over pairs of patients tested by one fold model, mean over repeats"


@dataclass(frozen=True)
class Tested:
    """Answers one a row [m], and the fold models that gave them; those of one fold model stand together.

    Attributes:
        rows: [m] row of the study; scores: [m]; group: [m] number 0..G-1 of the fold model, never falling.
        repeat: [G] of each fold model.
    """

    rows: NDArray[np.intp]
    scores: Floats
    group: NDArray[np.intp]
    repeat: NDArray[np.intp]

    @classmethod
    def of(cls, scores: ArrayLike, tested_by: ArrayLike, mask: ArrayLike | None = None) -> Tested:
        """Every score that a fold model gave to a study of known truth.

        Raises:
            ValueError: the shapes differ, or a fold model stands in two repeats.
        """
        s, model = np.asarray(scores, np.float64), np.asarray(tested_by)
        known = np.ones(len(s), bool) if mask is None else np.asarray(mask, bool)
        if s.ndim != 2 or s.shape != model.shape or len(known) != len(s):
            raise ValueError(
                f"scores and fold models [n, R] and a mask [n] expected, got {s.shape}, {model.shape}, {known.shape}"
            )
        rows, slot = np.nonzero((model >= 0) & known[:, None])
        names, first, group = np.unique(model[rows, slot], return_index=True, return_inverse=True)
        repeat = slot[first]
        if (repeat[group] != slot).any():
            raise ValueError(f"a fold model belongs to one repeat, got one of {len(names)} in several columns")
        order = np.argsort(group, kind="stable")
        return cls(rows[order], s[rows, slot][order], group[order], repeat)

    def by_repeat(self, each: Floats) -> Floats:
        """[G, r] -> sums over the fold models of each repeat [R, r]."""
        return np.asarray(indicator(self.repeat, int(self.repeat.max(initial=-1)) + 1) @ each)


def ranking(
    labels: ArrayLike, scores: ArrayLike, tested_by: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`auroc` and `auprc` within folds.

    auroc: pairs of a positive and a negative in the right order (a tie counts one half) over all pairs; its interval is made
    of its standard error (`standard_error`), that of auprc of resamples. auprc: the average precision of each fold that has both
    classes, weighted by its positives. With two to four positives in a fold it lies .1 to .2 above that of many patients, which
    the pooled one does not (benchmarks/fold_ranking.py): precision has to be counted among many.
    """
    tested = Tested.of(scores, tested_by, mask)
    y, s, rows = known_rows(np.asarray(labels)[tested.rows], tested.scores, resamples.at(tested.rows))
    steps, classes = Steps.of(y, s, tested), (y, ~y)
    draws = rows.draws(steps.counts, steps.figures)
    why = f"no fold model tested both classes: {int(y.sum())} positive of {len(y)} answers"
    area, precision = f"area under the ROC curve {WITHIN}, a tie counts one half", "average precision within folds"
    auroc = rows.estimate(draws[0], area, undefined=why, classes=classes)
    return {
        "auroc": auroc if np.isnan(draws[0, 0]) else replace(auroc, error=standard_error(steps.influence(y, rows))),
        "auprc": rows.estimate(
            draws[1], f"{precision}, weighted by their positives, mean over repeats", undefined=why, classes=classes
        ),
    }


def concordance(
    times: ArrayLike, expected: ArrayLike, tested_by: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`c_index` and `c_index_ipcw` within folds, of signed times as in `chiasm.metrics.survival`.

    The censoring curve is that of all patients: they are lost alike, whoever tested them.

    Args:
        expected: [n, R] expected times: the smaller, the earlier.
    """
    tested = Tested.of(expected, tested_by, mask)
    signed = np.asarray(times, np.float64)
    known = np.unique(tested.rows)
    weight = np.zeros(len(signed))
    weight[known] = inverse_censoring(signed[known])
    sums = np.zeros((len(tested.repeat), 4, resamples.weights.shape[1]))
    for group in range(len(tested.repeat)):
        here = tested.group == group
        rows = tested.rows[here]
        sums[group] = concordant_sums(signed[rows], tested.scores[here], weight[rows], resamples.at(rows))
    flat = tested.by_repeat(sums.reshape(len(sums), 4 * sums.shape[-1]))
    won, pairs = np.split(flat.reshape(len(flat), 4, sums.shape[-1]), 2, axis=1)
    rows = resamples.at(tested.rows)
    event = ~np.signbit(signed[tested.rows])
    return {
        name: rows.estimate(
            _mean_defined(_ratio(won[:, k], pairs[:, k])),
            f"{protocol}; {WITHIN}",
            undefined="no fold model tested a pair in which one is known to be first",
            classes=(event,),
        )
        for k, (name, protocol) in enumerate(CONCORDANCE.items())
    }


def correlation(
    truth: ArrayLike, predicted: ArrayLike, tested_by: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> Estimate:
    """`r` within folds: Pearson's, of what deviates from the means of each fold (analysis of covariance with folds as groups).

    Means of folds differ because their models do; that neither helps nor harms here.
    """
    tested = Tested.of(predicted, tested_by, mask)
    x, y, rows = finite_pairs(np.asarray(truth)[tested.rows], tested.scores, resamples.at(tested.rows))
    n_groups = len(tested.repeat)
    each = [indicator(tested.group, n_groups, values) for values in (np.ones_like(x), *moments(x, y))]

    def figure(sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = sums.reshape(6, n_groups, sums.shape[-1])
        shared = [
            tested.by_repeat(part) for part in (n, _spread(xx, x, x, n), _spread(yy, y, y, n), _spread(xy, x, y, n))
        ]
        nothing = np.zeros_like(shared[0])
        return _mean_defined(pearson(np.stack([shared[0], nothing, nothing, *shared[1:]])))

    draws = rows.draws(sparse.vstack(each).tocsr(), figure)
    protocol = "Pearson's r of deviations from the means of each fold, mean over repeats"
    return rows.estimate(draws, protocol, undefined="truth or prediction never varies within a fold")


@dataclass(frozen=True)
class Steps:
    """Counts at each distinct score, falling, of each fold model.

    Attributes:
        counts: [2S, m] statistics: positives of each step, then negatives. step: [m] of each answer.
        group: [S] fold model of each step, never falling; begins: [G] first step of each fold model.
        tested: the answers.
    """

    counts: sparse.csr_array
    step: NDArray[np.intp]
    group: NDArray[np.intp]
    begins: NDArray[np.intp]
    tested: Tested

    @classmethod
    def of(cls, y: NDArray[np.bool_], s: Floats, tested: Tested) -> Steps:
        order = np.lexsort((-s, tested.group))
        group, falling = tested.group[order], s[order]
        begins = np.ones(len(s), bool)
        begins[1:] = (group[1:] != group[:-1]) | (falling[1:] != falling[:-1])
        step = np.empty(len(s), np.intp)
        step[order] = np.cumsum(begins) - 1
        of_step, n_steps = group[begins], int(begins.sum())
        first = np.searchsorted(of_step, np.arange(len(tested.repeat)))
        return cls(indicator(step + n_steps * ~y, 2 * n_steps), step, of_step, first, tested)

    def within(self, each: Floats) -> tuple[Floats, Floats]:
        """Counts of steps [S, r] -> of all steps down to it in its fold [S, r], of the whole fold [G, r]."""
        total = np.add.reduceat(each, self.begins, axis=0)
        before = total.cumsum(axis=0) - total
        return each.cumsum(axis=0) - before[self.group], total

    def figures(self, sums: Floats) -> Floats:
        """[2S, r] -> [2, r] AUROC and AUPRC."""
        if not len(self.begins):
            return np.full((2, sums.shape[1]), np.nan)
        positives, negatives = np.split(sums, 2)
        (tp, n_positive), (fp, n_negative) = self.within(positives), self.within(negatives)
        wrong = np.add.reduceat(positives * (fp - negatives / 2), self.begins, axis=0)
        found = np.add.reduceat(positives * tp / np.maximum(tp + fp, 1), self.begins, axis=0)
        judged, by_repeat = n_negative > 0, self.tested.by_repeat  # all is precise where nobody is negative
        auroc = 1 - _ratio(by_repeat(wrong), by_repeat(n_positive * n_negative))
        auprc = _ratio(by_repeat(found * judged), by_repeat(n_positive * judged))
        return np.stack([_mean_defined(auroc), _mean_defined(auprc)])

    def influence(self, y: NDArray[np.bool_], rows: Resamples) -> Floats:
        """[repeats that have a pair, patients] what each patient adds to the error of the AUROC of a repeat.

        DeLong et al. (1988), within folds LeDell, Petersen & van der Laan (2015): a positive adds the pairs it won less those
        expected, (won - auroc * negatives of its fold) / pairs, a negative likewise, times sqrt(n / (n - 1)) of its class. The
        auroc is that of the repeat, so that folds of two patients of a class have a deviation too.
        """
        positives, negatives = np.split(np.asarray(self.counts.sum(axis=1), np.float64).reshape(-1, 1), 2)
        (tp, n_positive), (fp, n_negative) = self.within(positives), self.within(negatives)
        pairs = self.tested.by_repeat(n_positive * n_negative)[:, 0]
        group = self.tested.group
        repeat = self.tested.repeat[group]
        won = np.where(
            y, (n_negative[self.group] - fp + negatives / 2)[self.step, 0], (tp - positives / 2)[self.step, 0]
        )
        others = np.where(y, n_negative[group, 0], n_positive[group, 0])
        auroc = _ratio(np.asarray(np.bincount(repeat[y], won[y], len(pairs)), np.float64), pairs)
        adds = np.where(pairs[repeat] > 0, won - auroc[repeat] * others, 0.0) / np.maximum(pairs[repeat], 1)
        names, patient = np.unique(rows.patients, return_inverse=True)
        total = np.zeros((len(pairs), len(names)))
        for of_class in (y, ~y):
            n = len(np.unique(patient[of_class]))
            place = repeat[of_class] * len(names) + patient[of_class]
            each = np.sqrt(n / max(n - 1, 1)) * adds[of_class]
            total += np.bincount(place, each, total.size).reshape(total.shape)
        return np.asarray(total[pairs > 0])


def standard_error(influence: Floats) -> float:
    """Of a mean over repeats, from what each patient adds to each [R, patients].

    The variance is the middle between that of one repeat and that of their mean. Fold models share training patients, which
    makes the error of the mean larger than its own influence values tell; the error of one repeat is larger than
    needed where folds are small. Only between the two does the interval keep its 95% over all sizes
    (benchmarks/fold_ranking.py).
    """
    one, of_mean = (influence**2).sum(axis=1).mean(), (influence.mean(axis=0) ** 2).sum()
    return float(np.sqrt((one + of_mean) / 2))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def _spread(both: Floats, x: Floats, y: Floats, n: Floats) -> Floats:
    """Sum of products of deviations from the means; 0 where there is nobody."""
    return np.asarray(both - x * y / np.maximum(n, 1))


def _mean_defined(each: Floats) -> Floats:
    """[R, r] -> [r], over the repeats in which a figure is defined; NaN where there is none."""
    defined = ~np.isnan(each)
    return _ratio(np.where(defined, each, 0.0).sum(axis=0), defined.sum(axis=0))
