"""The figures of one label of one arm, by the kind of its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from chiasm.encoding.levels import Levels, curve_at, expectation
from chiasm.evaluation.spec import Arm
from chiasm.heads.spec import Floats, Question, Truth
from chiasm.metrics import folds
from chiasm.metrics.bootstrap import Estimate, Resamples
from chiasm.metrics.calibration import calibration_line, ece
from chiasm.metrics.classification import brier, decisions, prevalence, ranking
from chiasm.metrics.conformal import least_patients, prediction_set
from chiasm.metrics.decision import net_benefit
from chiasm.metrics.ordinal import chances_above, dichotomized, mean_over_classes, multiclass, ordinal
from chiasm.metrics.regression import agreement
from chiasm.metrics.survival import concordance, horizon, integrated_brier
from chiasm.study import Kind

Figures = dict[str, Estimate]
RANKS = ("r", "qwk", "c_index", "c_index_ipcw", "auroc")
"""Metrics that say nothing of one answer for everybody."""


@dataclass(frozen=True)
class Column:
    """One label of some rows: [n] truth, answers ([n, Q] of levels), whether both are known; unpacks as metrics take it.

    Attributes:
        threshold, quantile, raw: [n] where it is decided, how far the prediction set reaches, the answer before calibration; None for an
            arm that has none.
        each, tested_by: [n, M] (or [n, M, Q]) what each fold model says, and its number: ranking is within folds. None where one
            model, or all models together, answered everybody.
    """

    truth: NDArray[np.float32]
    values: Floats
    known: NDArray[np.bool_]
    resamples: Resamples
    threshold: Floats | None = None
    quantile: Floats | None = None
    raw: Floats | None = None
    each: Floats | None = None
    tested_by: NDArray[np.int64] | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.truth, self.values, self.resamples, self.known))

    def only_known(self) -> tuple[Floats, Floats, Resamples]:
        """Truth, answers and resamples of the known rows."""
        return self.truth[self.known].astype(np.float64), self.values[self.known], self.resamples.at(self.known)


def read_column(
    question: Question,
    truth: Truth,
    arm: Arm,
    resamples: Resamples,
    target: str,
    k: int,
    rows: NDArray[np.intp],
    tested_by: NDArray[np.int64] | None = None,
) -> Column:
    """Label k of a target, of these rows. `tested_by`: [all rows, M] fold models, where ranking is within folds."""
    values = arm.values[target][rows, k]
    known = truth.mask[target][rows, k] & np.isfinite(values).reshape(len(rows), -1).all(axis=1)
    raw = arm.uncalibrated(target) if question.kinds[target] is Kind.BINARY else None
    return Column(
        truth.labels[target][rows, k],
        values,
        known,
        resamples.at(rows),
        arm.thresholds[target][rows, k] if target in arm.thresholds else None,
        arm.quantiles[target][rows, k] if target in arm.quantiles else None,
        None if raw is None else raw[rows, k],
        None if tested_by is None else arm.by_model(target)[rows, :, k],
        None if tested_by is None else tested_by[rows],
    )


def score_label(question: Question, target: str, k: int, column: Column, whole: bool, prior: bool) -> Figures:
    """The figures of a label.

    Args:
        whole: of all rows; some figures are not told of subgroups. prior: everybody was given the same answer.
    """
    kind = question.kinds[target]
    if kind is Kind.BINARY:
        if prior:  # nothing to rank
            return {"auprc": prevalence(column.truth, column.resamples, column.known), "brier": brier(*column)}
        found = score_binary(column, whole)
        if whole:
            found |= net_benefit(column.truth, column.values, question.net_benefit_at, column.resamples, column.known)
    elif kind is Kind.REGRESSION:
        found = agreement(*column)
    else:
        found = _score_levels(column, question.levels[target][k], kind, whole)
    if prior:
        return {name: figure for name, figure in found.items() if name.partition("_gt_")[0] not in RANKS}
    if column.tested_by is not None:
        within = _within_folds(column, kind, question.levels[target][k] if target in question.levels else (), whole)
        found |= {f"{name}_pooled": found[name] for name in within} | within
    if column.quantile is not None and kind is not Kind.SURVIVAL:
        found |= _cover(column, question, target, k)
    return found


def score_binary(column: Column, whole: bool) -> Figures:
    """AUROC and AUPRC; with a threshold F1; on the whole pool also Brier and, where there are logits, calibration."""
    found = ranking(*column)
    if column.threshold is not None:
        found |= _decide(column, column.threshold, whole)
    if whole:
        found["brier"] = brier(*column)
    if whole and column.raw is not None:
        found["ece"] = ece(*column)
        found["ece_uncalibrated"] = ece(*replace(column, values=column.raw))
        line = calibration_line(*replace(column, values=logit(np.clip(column.values, 1e-9, 1 - 1e-9))))
        found |= {f"calibration_{name}": figure for name, figure in line.items()}
    return found


def _within_folds(column: Column, kind: Kind, levels: Levels, whole: bool) -> Figures:
    """The ranking figures of each kind, over pairs of patients whom one fold model tested."""
    assert column.each is not None and column.tested_by is not None
    known = np.isfinite(column.each.reshape(*column.each.shape[:2], -1)).all(axis=2)
    asked = (np.where(known, column.tested_by, -1), column.resamples, column.known)
    each = np.where(known.reshape(*known.shape, *[1] * (column.each.ndim - 2)), column.each, 0.0)
    if kind is Kind.BINARY:
        # precision is counted among many: that of a fold with few positives is too high (benchmarks/fold_ranking.py)
        return {"auroc": folds.ranking(column.truth, each, *asked)["auroc"]}
    if kind is Kind.REGRESSION:
        return {"r": folds.correlation(column.truth, each, *asked)}
    each = each[:, :, : len(levels)]
    if kind is Kind.MULTICLASS:
        areas = {str(w): folds.ranking(column.truth == q, each[:, :, q], *asked)["auroc"] for q, w in enumerate(levels)}
        return {"auroc": mean_over_classes(areas, bool(column.known.any()))}
    expected = expectation(each, levels, kind)
    if kind is Kind.SURVIVAL:
        return folds.concordance(column.truth, expected, *asked)
    found = {"r": folds.correlation(column.truth, expected, *asked)}
    above = chances_above(each)
    for q, level in enumerate(levels[:-1] if whole else ()):
        found[f"auroc_gt_{level:g}"] = folds.ranking(column.truth > float(level), above[:, :, q], *asked)["auroc"]
    return found


def _decide(column: Column, threshold: Floats, whole: bool) -> Figures:
    """F1, balanced accuracy and, of all rows, sensitivity, specificity and predictive values at the threshold of the fold model that answered. Rows differ in it (folds, missing inputs): compare
    margins."""
    known = column.known & np.isfinite(threshold)
    margin = np.where(known, column.values - np.nan_to_num(threshold), 0.0)
    found = decisions(column.truth, margin, 0.0, column.resamples, known)
    thresholds = np.unique(threshold[known])
    told = ("f1", "balanced_accuracy", *(("sensitivity", "specificity", "ppv", "npv") if whole else ()))
    if not len(thresholds):
        why = "no threshold: validation had too few patients of a class"
        return {name: replace(found[name], reason=why) for name in told}
    of_each = f"{thresholds[0]:.3g} to {thresholds[-1]:.3g}, of each fold model and its inputs"
    detail = f"threshold from validation: {f'{thresholds[0]:.3g}' if len(thresholds) == 1 else of_each}"
    return {name: replace(found[name], detail=detail) for name in told}


def _score_levels(column: Column, levels: Levels, kind: Kind, whole: bool) -> Figures:
    column = replace(column, values=column.values[:, : len(levels)])
    truth, values, rows = column.only_known()
    if kind is Kind.MULTICLASS:
        return multiclass(truth, values, [str(level) for level in levels], rows)
    numbers = [float(level) for level in levels]
    if kind is Kind.ORDINAL:
        found = ordinal(truth, values, numbers, rows)
        return found | (dichotomized(truth, values, numbers, rows) if whole else {})
    grid = horizon(truth, numbers[-1])
    found = concordance(truth, expectation(values, levels, kind), rows)
    return found | {"ibs": integrated_brier(truth, curve_at(values, levels, grid), grid, rows)}


def _cover(column: Column, question: Question, target: str, k: int) -> Figures:
    """How often the prediction set or interval holds the truth, and how large it is."""
    kind, quantile = question.kinds[target], column.quantile
    assert quantile is not None
    column = replace(column, known=column.known & np.isfinite(quantile))
    truth, values, rows = column.only_known()
    reach = quantile[column.known]
    if kind is Kind.REGRESSION:
        inside, size, what = np.abs(truth - values) <= reach + 1e-12, 2 * reach, "interval"
    else:
        levels = np.array([0.0, 1.0]) if kind is Kind.BINARY else np.array(question.levels[target][k], object)
        p = np.stack([1 - values, values], axis=1) if kind is Kind.BINARY else values[:, : len(levels)]
        held = prediction_set(p, reach, kind is Kind.ORDINAL)
        numbers = np.arange(len(levels)) if kind is Kind.MULTICLASS else levels.astype(np.float64)
        inside, size, what = (held & (truth[:, None] == numbers)).any(axis=1), held.sum(axis=1), "set"
    stated = f"{question.coverage:.0%}"
    found = {
        "coverage": rows.mean(
            inside, f"share of truths inside the {what} that validation made for {stated} of patients"
        ),
        "interval_width" if what == "interval" else "set_size": rows.mean(
            size,
            f"mean {'width of the interval' if what == 'interval' else 'number of levels in the set'} for {stated}",
        ),
    }
    if len(reach) or not len(quantile):
        return found
    why = f"no {what}: validation had too few patients; {stated} need at least {least_patients(question.coverage)}"
    return {name: replace(figure, reason=why) for name, figure in found.items()}
