"""What is fitted on validation once training is over: temperatures, thresholds, the quantile of prediction sets, thresholds of maps.

A fold of a small cohort has a handful of validation patients. So the answers of all fold models to their validation patients
are put together: for the test patients of a fold without these patients (each validates one fold model and is tested by
another), and for new patients as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.encoding.levels import Levels
from chiasm.encoding.levels import answers as answers_of
from chiasm.encoding.plan import Plan
from chiasm.heads.localization import LocalizationHead
from chiasm.heads.maps import likely_places, within_range
from chiasm.metrics.attribution import subsets
from chiasm.metrics.calibration import (
    FEWEST_FOR_THRESHOLD,
    FEWEST_TO_CALIBRATE,
    fit_softmax_temperature,
    fit_temperature,
)
from chiasm.metrics.classification import best_f1_threshold, rarer_class, threshold_at
from chiasm.metrics.conformal import conformal_quantile, nonconformity
from chiasm.metrics.localization import choose_threshold, ious_by_threshold
from chiasm.recipe import Evaluate, OperatingPoint
from chiasm.run.answers import Answers, Calibration, Fit, LabelFit
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.study import Kind

ENOUGH = 20
"""Validation patients below which a label with levels has no temperature, and a set of inputs no fit of its own for levels and
numbers; of binary labels `FEWEST_TO_CALIBRATE` of the rarer class decide."""

Place = tuple[str, str]
"""Target and label."""


@dataclass(frozen=True)
class LabelAnswers:
    """One label's answers to validation studies whose truth is known.

    Attributes:
        truth: [n]; logits: [n] or [n, Q], in the target's own units for numbers; people: [n] "SOURCE/PATIENT".
    """

    truth: NDArray[np.float32]
    logits: NDArray[np.float64]
    people: NDArray[np.str_]

    @staticmethod
    def join(parts: Sequence[LabelAnswers]) -> LabelAnswers:
        return LabelAnswers(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("truth", "logits", "people"))
        )

    def without(self, people: Collection[str]) -> LabelAnswers:
        kept = ~np.isin(self.people, list(people))
        return LabelAnswers(self.truth[kept], self.logits[kept], self.people[kept])


@dataclass(frozen=True)
class Judged:
    """What a fold model says of its validation patients.

    Attributes:
        plan: of the fold model. tested: people whom it tests.
        answers: inputs that are shown ("" for studies as they come) -> target and label -> answers.
        maps: target and label -> who, and the IoU at each of `MAP_THRESHOLDS`, of each image in which a reader drew a region.
    """

    plan: Plan
    tested: frozenset[str]
    answers: Mapping[str, Mapping[Place, LabelAnswers]]
    maps: Mapping[Place, Sequence[tuple[str, NDArray[np.float64]]]]


def judge(fold_model: FoldModelOver) -> Judged:
    """Ask a fold model about its validation patients: as they come, and with each set of inputs, those that have all of it."""
    rows, people = fold_model.split["validation"], people_of(fold_model)
    inputs = subsets(fold_model.model.modalities)[1:]
    everything, *rest = infer(
        fold_model, rows, [Ask(heads=(LocalizationHead.name,)), *(Ask(chosen) for chosen in inputs[:-1])]
    )
    passes = {"": everything} | dict(zip(map("+".join, inputs), [*rest, everything], strict=True))
    answers: dict[str, dict[Place, LabelAnswers]] = {shown: {} for shown in passes}
    for target, labels in fold_model.plan.targets.items():
        truth, mask = fold_model.loader.labels[target][rows], fold_model.loader.label_mask[target][rows]
        for k, label in enumerate(labels):
            for shown, said in passes.items():
                known = mask[:, k] & ((said.shown == shown) | (shown == ""))
                mean, std = fold_model.plan.scaling[target][k] if target in fold_model.plan.scaling else (0.0, 1.0)
                logits = said.logits[target][:, k][known].astype(np.float64) * std + mean
                answers[shown][target, label] = LabelAnswers(truth[known, k] * std + mean, logits, people[rows][known])
    maps = {place: list(_drawn_maps(fold_model, everything, place, people)) for place in fold_model.plan.localized}
    return Judged(fold_model.plan, frozenset(people[fold_model.split["test"]].tolist()), answers, maps)


def people_of(fold_model: FoldModelOver) -> NDArray[np.str_]:
    """[studies] `Cohort.people` of a fold model's loader."""
    return np.concatenate([cohort.people for cohort in fold_model.loader.cohorts])


def _drawn_maps(
    fold_model: FoldModelOver, answers: Answers, place: Place, people: NDArray[np.str_]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Of each image in which a reader drew a region of the label: whose, and the IoU of its map at every threshold."""
    maps, channel = answers.heads.get(LocalizationHead.name), fold_model.plan.localized.index(place)
    if maps is None:
        return
    taught = getattr(fold_model.recipe.active_heads[LocalizationHead.name], "weight", 0) > 0
    for grid, (index, row) in zip(maps.values, maps.index, strict=True):
        cohort = fold_model.loader.cohorts[fold_model.loader.cohort_of(int(index))[0]]
        truth = cohort.mask(int(row), *place)
        if truth is not None and truth.any():
            own = (
                expit(grid[[channel]].astype(np.float32))
                if taught
                else within_range(likely_places(grid[[channel]])[None])[0]
            )
            values = cohort.geometry(int(row)).map_to_original(own[0])
            yield str(people[int(index)]), ious_by_threshold(values, truth)


# --- from answers to fits ----------------------------------------------------------------------------------------------


def calibrate(judged: Sequence[Judged], options: Evaluate, without: Collection[str] = ()) -> Calibration:
    """Temperature (Guo et al. 2017), threshold and conformal quantile of each label, and the threshold of its map.

    Once for studies as they come, and once for each set of inputs, where there were enough that have all of it.

    Args:
        options: the operating point, and the coverage of prediction sets. without: people whose answers do not count.
    """
    targets: dict[str, dict[str, LabelFit]] = {}
    asked = [(target, label) for each in judged for target, labels in each.plan.targets.items() for label in labels]
    for place in dict.fromkeys([*asked, *(place for each in judged for place in each.plan.localized)]):
        fitted = LabelFit()
        if place in asked:
            kind = next(each.plan.kinds[place[0]] for each in judged if place[0] in each.plan.kinds)
            found = {shown: own.without(without) for shown, own in _gather(judged, place).items()}
            own = _fit(kind, options, found.pop(""))
            shown = {
                inputs: _fit(kind, options, answers) for inputs, answers in found.items() if _enough(answers, kind)
            }
            fitted = LabelFit(own.temperature, own.threshold, own.quantile, None, shown)
        targets.setdefault(place[0], {})[place[1]] = replace(
            fitted, map_threshold=_map_threshold(judged, place, without)
        )
    return Calibration(targets)


def _gather(judged: Sequence[Judged], place: Place) -> dict[str, LabelAnswers]:
    """Inputs -> the answers of all fold models that know the label, in the levels that most of them have."""
    knowing = [each for each in judged if place in each.answers[""]]
    levels = [_levels(each.plan, place) for each in knowing]
    common = max(dict.fromkeys(levels), key=levels.count)
    alike = [each for each, own in zip(knowing, levels, strict=True) if own == common]
    return {
        shown: LabelAnswers.join([each.answers[shown][place] for each in alike if shown in each.answers])
        for shown in dict.fromkeys(shown for each in alike for shown in each.answers)
    }


def _levels(plan: Plan, place: Place) -> Levels:
    target, label = place
    return tuple(plan.levels[target][plan.targets[target].index(label)]) if target in plan.levels else ()


def _enough(answers: LabelAnswers, kind: Kind) -> bool:
    """Can a set of inputs be judged by these studies alone?"""
    return rarer(answers) >= FEWEST_TO_CALIBRATE if kind is Kind.BINARY else len(np.unique(answers.people)) >= ENOUGH


def rarer(answers: LabelAnswers) -> int:
    """Patients of the rarer class of a binary label."""
    return rarer_class(answers.truth, answers.people)


def _fit(kind: Kind, options: Evaluate, answers: LabelAnswers) -> Fit:
    """What can be fitted of a label; a temperature or threshold that too few patients would decide is left out."""
    truth, logits = answers.truth, answers.logits
    temperature = threshold = reach = None
    if kind is Kind.BINARY:
        temperature = fit_temperature(truth, logits) if rarer(answers) >= FEWEST_TO_CALIBRATE else None
        probability = expit(logits / (temperature or 1.0))
        threshold = _threshold(truth, probability, rarer(answers) >= FEWEST_FOR_THRESHOLD, options.operating_point)
        scores = np.abs(truth - probability)
    elif kind is Kind.REGRESSION:
        scores = np.abs(truth - logits)
    elif kind is not Kind.SURVIVAL:
        codes = truth.astype(np.int64)
        temperature = fit_softmax_temperature(codes, logits) if _enough(answers, kind) else None
        levels = answers_of(logits, kind, temperature or 1.0)
        scores = nonconformity(levels, kind is Kind.ORDINAL)[np.arange(len(codes)), codes]
    if kind is not Kind.SURVIVAL:
        reach = conformal_quantile(scores, answers.people, options.coverage)
    return Fit(temperature, threshold, reach)


def tell_left_out(judged: Sequence[Judged], calibration: Calibration) -> list[str]:
    """A sentence for each target with labels that too few validation patients could calibrate, or decide a threshold of."""
    found: dict[tuple[str, str], list[str]] = {}
    for target, labels in calibration.targets.items():
        for label, fit in labels.items():
            asked = [each for each in judged if (target, label) in each.answers[""]]
            if not asked or asked[0].plan.kinds[target] is not Kind.BINARY:
                continue
            few = rarer(_gather(judged, (target, label))[""])
            if fit.temperature is None and few < FEWEST_TO_CALIBRATE:
                found.setdefault((target, "temperature"), []).append(f"{label} ({few})")
            if fit.threshold is None and few < FEWEST_FOR_THRESHOLD:
                found.setdefault((target, "threshold"), []).append(f"{label} ({few})")
    said = {
        "temperature": f"are stated as they come, for fewer than {FEWEST_TO_CALIBRATE} validation patients of a class could calibrate them",
        "threshold": f"turn to yes at .5, for fewer than {FEWEST_FOR_THRESHOLD} validation patients of a class could choose where",
    }
    return [f"Probabilities of {target} {said[what]}: {', '.join(labels)}." for (target, what), labels in found.items()]


def _threshold(
    truth: NDArray[np.float32], probability: NDArray[np.float64], enough: bool, point: OperatingPoint | None
) -> float | None:
    """Where a yes begins: at the operating point, else where F1 is highest; None where too few patients would decide."""
    if point is not None and point.probability is not None:
        return point.probability
    if not enough:
        return None
    if point is None:
        return best_f1_threshold(truth, probability)
    return threshold_at(truth, probability, sensitivity=point.sensitivity, specificity=point.specificity)


def _map_threshold(judged: Sequence[Judged], place: Place, without: Collection[str]) -> float | None:
    """The threshold of highest mean IoU, the lowest of several; None without a region."""
    return choose_threshold([own for each in judged for who, own in each.maps.get(place, ()) if who not in without])
