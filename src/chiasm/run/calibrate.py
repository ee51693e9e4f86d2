"""What is fitted on validation once training is over: temperatures, thresholds, the radius of prediction sets, cuts of maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.encoding.levels import answers as answers_of
from chiasm.heads.localization import LocalizationHead
from chiasm.metrics.attribution import subsets
from chiasm.metrics.calibration import fit_softmax_temperature, fit_temperature
from chiasm.metrics.classification import best_f1_threshold
from chiasm.metrics.conformal import radius, strangeness
from chiasm.metrics.localization import best_map_threshold
from chiasm.run.answers import Answers, Calibration, Fit, LabelFit
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.study import Kind

ENOUGH_OF_A_CLASS = 5
"""Validation studies of a class below which a set of inputs has no temperature and threshold of its own."""
ENOUGH = 20
"""As above, of studies with any level or number."""


def calibrate(fold_model: FoldModelOver) -> Calibration:
    """Temperature (Guo et al. 2017), best-F1 threshold and conformal radius of each label, fitted on the validation patients.

    Once for their answers as they come, and once for each set of inputs, with those studies that have all of it.
    """
    rows, plan = fold_model.split["validation"], fold_model.plan
    inputs = subsets(fold_model.model.modalities)[1:]
    everything, *rest = infer(
        fold_model, rows, [Ask(heads=(LocalizationHead.name,)), *(Ask(chosen) for chosen in inputs[:-1])]
    )
    passes = [*rest, everything]  # the last set of inputs is all of them
    cuts = {
        place: best_map_threshold(_drawn_maps(fold_model, everything, channel))
        for channel, place in enumerate(plan.localized)
    }
    targets: dict[str, dict[str, LabelFit]] = {}
    for target, labels in plan.targets.items():
        truth, mask = fold_model.loader.labels[target][rows], fold_model.loader.label_mask[target][rows]
        for k, label in enumerate(labels):
            shown = {}
            for answers, chosen in zip(passes, inputs, strict=True):
                known = mask[:, k] & (answers.shown == "+".join(chosen))
                if _enough(truth[known, k], plan.kinds[target]):
                    shown["+".join(chosen)] = _fit(fold_model, rows, target, k, answers, known)
            own = _fit(fold_model, rows, target, k, everything, mask[:, k])
            targets.setdefault(target, {})[label] = LabelFit(
                own.temperature, own.threshold, own.radius, cuts.get((target, label)), shown
            )
    return Calibration(targets)


def _enough(truth: NDArray[np.float32], kind: Kind) -> bool:
    """Can a set of inputs be judged by these studies alone?"""
    if kind is Kind.BINARY:
        return min(int(truth.sum()), len(truth) - int(truth.sum())) >= ENOUGH_OF_A_CLASS
    return len(truth) >= ENOUGH


def _fit(
    fold_model: FoldModelOver, rows: NDArray[np.int64], target: str, k: int, answers: Answers, known: NDArray[np.bool_]
) -> Fit:
    """What can be fitted of label k, on the known of `rows`: no temperature where one class alone is known."""
    kind, truth = fold_model.plan.kinds[target], fold_model.loader.labels[target][rows, k][known]
    logits = answers.logits[target][:, k][known].astype(np.float64)
    temperature = threshold = reach = None
    if kind is Kind.BINARY:
        temperature = fit_temperature(truth, logits)
        probability = expit(logits / (temperature or 1.0))
        threshold = best_f1_threshold(truth, probability)
        strange = np.abs(truth - probability)
    elif kind is Kind.REGRESSION:
        strange = np.abs(truth - logits) * fold_model.plan.scaling[target][k][1]  # in the target's own units
    elif kind is not Kind.SURVIVAL:
        codes = truth.astype(np.int64)
        temperature = fit_softmax_temperature(codes, logits)
        levels = answers_of(logits, kind, temperature or 1.0)
        strange = strangeness(levels, kind is Kind.ORDINAL)[np.arange(len(codes)), codes]
    if kind is not Kind.SURVIVAL:
        patients = fold_model.loader.patient_ids[rows][known]
        reach = radius(strange, patients, fold_model.recipe.evaluate.coverage)
    return Fit(temperature, threshold, reach)


def _drawn_maps(
    fold_model: FoldModelOver, answers: Answers, channel: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """A label's map and the region a reader drew, on the original pixels, of each image that has one."""
    target, label = fold_model.plan.localized[channel]
    maps = answers.heads.get(LocalizationHead.name)
    if maps is None:
        return
    for grid, (index, row) in zip(maps.values, maps.index, strict=True):
        cohort = fold_model.loader.cohorts[fold_model.loader.cohort_of(int(index))[0]]
        truth = cohort.mask(int(row), target, label)
        if truth is not None and truth.any():
            yield cohort.geometry(int(row)).map_to_original(expit(grid[channel].astype(np.float32))), truth
