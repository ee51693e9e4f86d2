"""From evidence to the page: curves, pictures chosen by rank, descriptions beside their references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from chiasm.encoding.levels import level_name
from chiasm.evaluation.labels import Column
from chiasm.evaluation.spec import Evidence
from chiasm.geometry import Geometry
from chiasm.heads.spec import Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.calibration import reliability
from chiasm.metrics.classification import pr_curve, roc_curve
from chiasm.metrics.decision import decision_curve
from chiasm.metrics.ordinal import confusion
from chiasm.study import Kind
from chiasm.summary.cases import Glass
from chiasm.summary.figures import Confusion, Curves, Decision
from chiasm.summary.tables import pretty
from chiasm.summary.volumes import glass_brain

SPREAD_BINS = 25


def draw_curves(evidence: Evidence, truth: Truth, resamples: Resamples, prefix: str) -> list[Curves]:
    """ROC, PR and reliability of every binary label of an arm that has both classes."""
    question, arm, found = evidence.question, evidence.arms[prefix], []
    for target, labels in question.targets.items():
        if question.kinds[target] is not Kind.BINARY:
            continue
        raw = arm.uncalibrated(target)
        for k, label in enumerate(labels):
            values = arm.values[target][:, k]
            known = truth.mask[target][:, k] & np.isfinite(values)
            column = Column(truth.labels[target][:, k], values, known, resamples)
            if len(np.unique(column.truth[known])) < 2:
                continue
            roc, pr = roc_curve(*column), pr_curve(*column)
            others = _others(evidence, column, target, k, prefix)
            if roc is not None and pr is not None:
                found.append(
                    Curves(
                        f"{target}/{question.name_of(target, label)}",
                        roc,
                        pr,
                        prevalence=float(column.truth[known].mean()),
                        after=reliability(column.truth, values, resamples, known, bins=10),
                        before=None if raw is None else reliability(column.truth, raw[:, k], resamples, known, bins=10),
                        spread=np.histogram(values[known], SPREAD_BINS, (0, 1))[0],
                        decision=None if target in question.findings else _draw_decision(column, others),
                        others={name: drawn for name, own in others.items() if (drawn := roc_curve(*own)) is not None},
                    )
                )
    return found


def _others(evidence: Evidence, column: Column, target: str, k: int, prefix: str) -> dict[str, Column]:
    """What the record alone says of the same patients, where that is another arm."""
    if "record" not in evidence.arms or prefix == "record":
        return {}
    values = evidence.arms["record"].values[target][:, k]
    return {"record only": replace(column, values=values, known=column.known & np.isfinite(values))}


def _draw_decision(column: Column, others: Mapping[str, Column]) -> Decision:
    """Net benefit of an arm and of others."""
    everybody = decision_curve(*replace(column, values=np.ones_like(column.values))).y
    return Decision(decision_curve(*column), everybody, {name: decision_curve(*own) for name, own in others.items()})


def draw_confusions(evidence: Evidence, truth: Truth, prefix: str) -> list[Confusion]:
    """True levels against the answered ones: of every ordinal and multiclass label, and yes or no at the threshold of the others."""
    question, arm, found = evidence.question, evidence.arms[prefix], []
    for target, labels in question.targets.items():
        if question.kinds[target] is Kind.BINARY and target in arm.thresholds:
            for k, label in enumerate(labels):
                threshold, truth_of = arm.thresholds[target][:, k], truth.labels[target][:, k]
                known = truth.mask[target][:, k] & np.isfinite(arm.values[target][:, k]) & np.isfinite(threshold)
                if known.any():
                    yes = (arm.values[target][known, k] >= threshold[known]).astype(np.float64)
                    counts = confusion(truth_of[known], np.stack([1 - yes, yes], axis=1), [0.0, 1.0])
                    found.append(Confusion(f"{target}/{question.name_of(target, label)}", ["no", "yes"], counts))
        if question.kinds[target] not in (Kind.ORDINAL, Kind.MULTICLASS):
            continue
        for k, label in enumerate(labels):
            levels = question.levels[target][k]
            values = arm.values[target][:, k, : len(levels)]
            known = truth.mask[target][:, k] & np.isfinite(values).all(axis=1)
            numbers = range(len(levels)) if question.kinds[target] is Kind.MULTICLASS else [float(x) for x in levels]
            counts = confusion(truth.labels[target][known, k], values[known], numbers)
            name = f"{target}/{question.name_of(target, label)}"
            found.append(Confusion(name, [level_name(level) for level in levels], counts))
    return found


def draw_glass(evidence: Evidence) -> Glass | None:
    """What the model looked at, on the outline of the brain; None where it was not asked."""
    seen, cohort = evidence.saliency, evidence.pool.cohorts[0]
    if seen is None or cohort.atlas is None:
        return None
    place = Geometry.from_json(cohort.meta["atlas"]["geometry"])
    z, y, x = np.divide(place.spacing_mm, np.abs(place.scale)).tolist()
    whose = "above the median" if evidence.question.kinds[seen.target] is not Kind.BINARY else "with the outcome"
    said = (
        f"Gradient times input of {pretty(seen.target, seen.label)}, of that only what raises the answer, averaged over the "
        f"{seen.studies:,} tested patients {whose} and with a volume; largest value along each line of sight. It says what the "
        "model rests on, not what causes the outcome: where lesions are frequent, the map is bright. "
        "The left of a picture is the patient's left, or the back."
    )
    return Glass(glass_brain(seen.values, np.asarray(cohort.atlas) > 0, (z, y, x)), said)
