"""Phrases of the tested reports on the images: how often one that names a finding is given a box, and one with nothing to point at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.maps import Maps
from chiasm.heads.spec import Case, Question
from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.classification import ranking
from chiasm.metrics.name import MetricName, metric_name
from chiasm.prediction.phrases import ground
from chiasm.report.attributes import describe_findings
from chiasm.report.phrases import find_sentences
from chiasm.study import Finding, Prediction, State

GROUPS = {
    "present": "sentences of the report that state a finding of which there is a map",
    "negated": "sentences of the report that only deny findings",
    "normal": "sentences of the report that name no finding",
    "foreign": "sentences of the next tested patient's report that state a finding which a reader ruled out in this image",
}
_HOW = "a sentence counts once; the labeler reads it, and the image alone answers"
SECTIONS = ("findings", "impression")


def score_phrases(evidence: Evidence, case: Case, image_arm: str) -> dict[MetricName, Estimate]:
    """The share of phrases of each of `GROUPS` that are given a box; and how well confidence tells the first group from the others.

    Args:
        image_arm: the arm that does not see the report.
    """
    maps = evidence.heads.get("localization", {}).get("")
    arm = evidence.arms.get(image_arm)
    if maps is None or arm is None:
        return {}
    found = list(_grounded(maps, arm, case))
    groups, studies = np.array([g for g, *_ in found], np.str_), np.array([s for _, s, *_ in found], np.int64)
    boxed = np.array([b for *_, b, _ in found], np.float64)
    scores: dict[MetricName, Estimate] = {}
    for group, text in GROUPS.items():
        own = groups == group
        if own.any():
            rate = case.resamples.at(studies[own]).mean(boxed[own], f"share of {text} that are given a box; {_HOW}")
            scores[metric_name("phrase", group, "box_rate")] = rate
    there = groups == "present"
    if there.any() and not there.all():
        confidence = np.array([c for *_, c in found])
        area = ranking(there, confidence, case.resamples.at(studies))["auroc"]
        scores[metric_name("phrase", "all", "groundable_auroc")] = area
    return scores


def _grounded(maps: Maps, arm: Arm, case: Case) -> Iterator[tuple[str, int, bool, float]]:
    """(group, study, has a box, confidence) of every phrase."""
    question, pool = case.question, case.pool
    options = question.heads.get("grounding", {}).get("options", {})
    texts = pool.gather(lambda cohort: cohort.texts(tuple(options.get("sections", SECTIONS)))).tolist()
    mapped = {label for _, label in question.localized}
    said = [[text[a:b] for a, b in find_sentences(text)] for text in texts]
    grouped = [[(phrase, *_group(phrase, mapped)) for phrase in own] for own in said]
    order = np.unique(pool.patients, return_inverse=True)[1]
    for study in np.unique(maps.study).tolist():
        prediction = _predict(maps, arm, case, study)
        for phrase, group, _ in grouped[study]:
            if group:
                yield _ask(prediction, phrase, group, study)
        other = _next_patient(order, study)
        for phrase, group, finding in grouped[other] if other is not None else ():
            if group == "present" and _ruled_out(case, study, finding):
                yield _ask(prediction, phrase, "foreign", study)


def _ask(prediction: Prediction, phrase: str, group: str, study: int) -> tuple[str, int, bool, float]:
    found = ground(prediction, phrase)
    return group, study, bool(found.boxes), found.confidence


def _group(phrase: str, mapped: set[str]) -> tuple[str, str]:
    """The group of a phrase of the own report, "" of a hedged one or one without a map, and the finding that it states."""
    found = describe_findings(phrase)
    if not found:
        return "normal", ""
    if all(one.mention.state is State.ABSENT for one in found):
        return "negated", ""
    stated = [one.mention.finding for one in found if one.mention.state is State.PRESENT]
    known = [finding for finding in stated if finding in mapped]
    return ("present", known[0]) if known else ("", "")


def _next_patient(order: np.ndarray, study: int) -> int | None:
    """The next study that is another patient's."""
    others = np.flatnonzero(order != order[study])
    later = others[others > study]
    return int(later[0] if len(later) else others[0]) if len(others) else None


def _ruled_out(case: Case, study: int, finding: str) -> bool:
    """Whether the study is known to lack a finding, in every target that has it."""
    known = [
        (case.truth.mask[target][study, k], case.truth.labels[target][study, k])
        for target, labels in case.question.targets.items()
        if target in case.question.findings
        for k, label in enumerate(labels)
        if label == finding
    ]
    return bool(known) and all(mask and value == 0 for mask, value in known)


def _predict(maps: Maps, arm: Arm, case: Case, study: int) -> Prediction:
    """What the run says of a study without its report, as `predict` would."""
    question, pool = case.question, case.pool
    cohort = pool.cohorts[pool.cohort[study]]
    grids, geometries = {}, {}
    for place in np.flatnonzero(maps.study == study).tolist():
        image = str(cohort.images["image_id"].iloc[int(maps.image_row[place])])
        geometries[image] = maps.geometry[place]
        for channel, (target, label) in enumerate(question.localized):
            grids[image, f"{target}/{label}"] = maps.values[place, channel].astype(np.float32)
    return Prediction(
        str(pool.column("study_id")[study]),
        str(pool.column("patient_id")[study]),
        findings=tuple(_findings(question, arm, study)),
        maps=grids,
        geometries=geometries,
    )


def _findings(question: Question, arm: Arm, study: int) -> Iterator[Finding]:
    for target in question.findings:
        for k, label in enumerate(question.targets[target]):
            probability = float(arm.values[target][study, k])
            present = probability >= arm.yes_from(target, k)[study]
            yield Finding(label, State.PRESENT if present else State.ABSENT, target, probability=probability)
