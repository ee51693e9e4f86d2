"""From evidence and truth to figures: pure functions of arrays, so any figure can be computed again without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort
from chiasm.evaluation.contributions import COMPLETE, score_added, score_shares
from chiasm.evaluation.labels import Column, read_column, score_binary, score_label
from chiasm.evaluation.spec import DESCRIBED, FULL, NOTHING, WITHOUT_OPT_IN, Arm, Evidence, Question, Truth
from chiasm.metrics.bootstrap import Estimate, Resamples, macro
from chiasm.metrics.description import describe, finding_f1
from chiasm.metrics.localization import map_to_boxes, score_map, summarize
from chiasm.metrics.metric import metric_name, parse_name, split_prefix
from chiasm.report.findings import label_texts
from chiasm.vocabulary import FINDINGS

Scores = dict[str, Estimate]
"""Name of a metric -> its estimate."""
PRIOR = "prior"
BAYES_LABELS = {"outcome": ("event", "mrs_gt_2")}
"""The labels of a target whose true probability a phantom, of the chest or of a stroke, knows."""


def score(evidence: Evidence, truth: Truth, resamples: Resamples, located: Sequence[Located] | None = None) -> Scores:
    """Every figure of an evaluation.

    Args:
        resamples: over the n rows of the pool.
        located: of `locate`, if it was computed already.
    """
    question = evidence.question
    scores: Scores = {}
    whole = complete(evidence)
    for prefix, arm in evidence.arms.items():
        if prefix == NOTHING:
            continue
        scores |= score_arm(question, truth, arm, resamples, prefix)
        if whole.any() and not whole.all():  # what a modality adds is best seen where all of them are there
            scores |= score_arm(question, truth, arm, resamples, prefix, COMPLETE, whole)
        if prefix in (FULL, WITHOUT_OPT_IN, without_text(question)):
            for group, who in truth.groups.items():
                scores |= score_arm(question, truth, arm, resamples, prefix, group, who)
    scores |= score_added(question, scores)
    everything = "+".join(question.modalities)
    named = {name: parse_name(name) for name in scores}
    scores |= {str(n._replace(subset=everything)): scores[name] for name, n in named.items() if n[3:] == (None,) * 3}
    scores |= score_shares(evidence, resamples) | _score_bayes(question, truth, resamples)
    if evidence.maps is not None:
        scores |= _score_maps(question, locate(evidence) if located is None else located, resamples)
    if evidence.descriptions:
        scores |= _score_texts(question, truth, evidence.descriptions, resamples)
    return scores


def complete(evidence: Evidence) -> NDArray[np.bool_]:
    """[n] who showed the full model every modality."""
    shown = evidence.arms[FULL].shown
    assert shown is not None
    return np.asarray((shown == "+".join(evidence.question.modalities)).all(axis=1))


def without_text(question: Question) -> str:
    """The prefix of the arm that sees everything but the report: "" where the report is no input."""
    rest = [m for m in question.modalities if m != "text"]
    return FULL if len(rest) == len(question.modalities) else "+".join(rest)


# --- labels ------------------------------------------------------------------------------------------------------------


def score_arm(
    question: Question,
    truth: Truth,
    arm: Arm,
    resamples: Resamples,
    prefix: str = FULL,
    group: str | None = None,
    who: NDArray[np.bool_] | None = None,
) -> Scores:
    """The figures of one arm, or of those `who` ([n] bool) belong to one group, by label and averaged over labels."""
    rows = np.arange(len(resamples)) if who is None else np.flatnonzero(who)
    scores: Scores = {}
    for target, labels in question.targets.items():
        by_metric: dict[str, dict[str, Estimate]] = {}
        for k, label in enumerate(labels):
            column = read_column(question, truth, arm, resamples, target, k, rows)
            for metric, estimate in score_label(question, target, k, column, group is None, prefix == PRIOR).items():
                by_metric.setdefault(metric, {})[label] = estimate
        for metric, estimates in by_metric.items():
            named = {question.name_of(target, label): estimate for label, estimate in estimates.items()}
            if len(estimates) > 1:
                named["macro"] = macro(estimates)
            for label, estimate in named.items():
                scores[metric_name(target, label, metric, **split_prefix(prefix), subgroup=group)] = estimate
    return scores


def _score_bayes(question: Question, truth: Truth, resamples: Resamples) -> Scores:
    """What the best reader of each subset reaches on the same patients, as an arm `bayes:SUBSET`."""
    asked = [
        (target, label, k)
        for target, known_labels in BAYES_LABELS.items()
        for k, label in enumerate(question.targets.get(target, ()))
        if label in known_labels
    ]
    scores: Scores = {}
    for (target, label, k), (subset, probability) in product(asked, truth.bayes.items()):
        known = truth.mask[target][:, k] & np.isfinite(probability)
        column = Column(truth.labels[target][:, k], np.where(known, probability, 0.5), known, resamples)
        for metric, estimate in score_binary(column, whole=True).items():
            scores[metric_name(target, question.name_of(target, label), metric, "bayes", subset)] = estimate
    return scores


# --- places ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """One label with truth regions on one image, and how well its map finds them.

    Attributes:
        channel: of the maps; place: of the image in `Maps`; study: in the pool.
    """

    channel: int
    place: int
    study: int
    scores: Mapping[str, float]


def locate(evidence: Evidence, progress: Callable[[int], None] | None = None) -> list[Located]:
    """Every (image, label) pair in which a reader drew a region, scored on the original pixels."""
    question, pool, maps = evidence.question, evidence.pool, evidence.maps
    assert maps is not None
    drawn = [_drawn(cohort) for cohort in pool.cohorts]
    cuts = maps.thresholds[pool.fold_model].mean(axis=1)  # [n, C]
    found = []
    for place, (study, image_row) in enumerate(zip(maps.study, maps.image_row, strict=True)):
        number = pool.cohort[study]
        for channel, (target, label) in enumerate(question.localized):
            if (int(image_row), target, label) in drawn[number]:
                cohort, geometry = pool.cohorts[number], maps.geometry[place]
                truth = cohort.mask(int(image_row), target, label)
                if truth is not None and truth.any():
                    values = maps.values[place, channel].astype(np.float32)
                    cut = float(cuts[study, channel])
                    boxes, scores = map_to_boxes(values, cut, geometry)
                    drawn_boxes = cohort.boxes(int(image_row), target, label)
                    original = geometry.map_to_original(values)
                    pair = score_map(original, cut, boxes, scores, truth, drawn_boxes)
                    found.append(Located(channel, place, int(study), pair))
        if progress is not None:
            progress(1)
    return found


def _drawn(cohort: Cohort) -> set[tuple[int, str, str]]:
    """(row in images, target, label) of every region."""
    row = {image: i for i, image in enumerate(cohort.images["image_id"])}
    regions = cohort.regions
    return {
        (row[image], target, label)
        for image, target, label in zip(regions["image_id"], regions["target"], regions["label"], strict=True)
    }


def channel_names(question: Question) -> list[str]:
    """The label's part of a metric's name for each channel: with its target where two targets share a label."""
    labels = [label for _, label in question.localized]
    return [label if labels.count(label) == 1 else f"{target}_{label}" for target, label in question.localized]


def _score_maps(question: Question, located: Sequence[Located], resamples: Resamples) -> Scores:
    scores: Scores = {}
    by_metric: dict[str, dict[str, Estimate]] = {}
    for channel, label in enumerate(channel_names(question)):
        pairs = [pair for pair in located if pair.channel == channel]
        if pairs:
            rows = resamples.at([pair.study for pair in pairs])
            for metric, estimate in summarize([pair.scores for pair in pairs], rows).items():
                by_metric.setdefault(metric, {})[label] = estimate
    for metric, estimates in by_metric.items():
        named = estimates | ({"macro": macro(estimates)} if len(estimates) > 1 else {})
        scores |= {metric_name("localization", label, metric): estimate for label, estimate in named.items()}
    return scores


# --- texts -------------------------------------------------------------------------------------------------------------


def _score_texts(
    question: Question, truth: Truth, descriptions: Mapping[str, Sequence[str]], resamples: Resamples
) -> Scores:
    """Descriptions against whole references; findings of both texts where the cohort's findings are chest findings."""
    scores: Scores = {}
    told = np.array([bool(text.strip()) for text in truth.references])
    names = sorted({label for target in question.findings for label in question.targets[target]} & set(FINDINGS))
    states = label_texts([t for t in truth.references if t.strip()], names) if names else None
    for prefix in DESCRIBED:
        if prefix not in descriptions:
            continue
        found = describe(list(descriptions[prefix]), list(truth.references), resamples)
        if states is not None:
            said = label_texts([t for t, kept in zip(descriptions[prefix], told, strict=True) if kept], names)
            found["finding_f1"] = finding_f1(said, states, resamples.at(told))
        for metric, estimate in found.items():
            scores[metric_name("description", None, metric, **split_prefix(prefix))] = estimate
    return scores
