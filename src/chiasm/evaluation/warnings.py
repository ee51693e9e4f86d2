"""What a reader must know before the figures: shortcuts, leaks, and figures that rest on too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chiasm.audit.record import record_leaks
from chiasm.cohort.generated import read_writers
from chiasm.cohort.store import Cohort
from chiasm.evaluation.contributions import ADDED, OVER_SHUFFLED
from chiasm.evaluation.lead import RECORD_COLUMN, words_of
from chiasm.evaluation.score import Scores, without_text
from chiasm.evaluation.spec import FULL, WITHOUT_OPT_IN, Evidence
from chiasm.evaluation.verdicts import against_chance, near, say
from chiasm.heads.spec import Pool, Question, Truth
from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.classification import rarer_class
from chiasm.metrics.metric import LOWER_IS_BETTER
from chiasm.metrics.name import metric_name
from chiasm.registry import CONTROLS
from chiasm.report.findings import label_reports
from chiasm.run.fold_model import FoldModelOver
from chiasm.study import Kind, State
from chiasm.summary.tables import leading, pretty
from chiasm.vocabulary import FINDINGS

FEW = 10
"""Patients of a class below which an interval cannot be trusted."""
LEAK = 0.5
"""Share of positive studies whose report states the finding, from which the report is said to hold the answer."""
SAME_TEXT = 0.1
"""Share of distinct descriptions below which the decoder is said to repeat itself."""
_MOST_READ = 2000  # reports of a label that are read to find a leak


def compute_warnings(
    evidence: Evidence,
    truth: Truth,
    scores: Scores,
    leaks: dict[str, float],
    columns: Sequence[Mapping[str, Any]] = (),
    leads: Sequence[str] = (FULL,),
) -> list[str]:
    """Sentences, the gravest first. They hold no identifiers and no report text.

    Args:
        leaks: of `report_leaks`; columns: of `column_leaks`; leads: of `leading_arms`.
    """
    question = evidence.question
    found = [
        f"The record column {leak['column']} alone tells {words(leak['label'])} (AUROC {leak['auroc']:.2f} in "
        f"{leak['patients']:,} patients): is it the label under another name? Train without it: "
        f"--set inputs.record.leave_out=[{leak['column']}]."
        for leak in columns
    ]
    found += [
        f"The report is an input and states {share:.0%} of the present {words(target)} itself: figures that are "
        "report-conditioned measure reading, not seeing. The arm without the report stands first."
        for target, share in leaks.items()
        if share >= LEAK
    ]
    if "structured_report" in question.text_sections:
        found.append(
            "The input structured_report was written from what reports or labels say of a study, so it holds the answer: "
            "figures with the text measure reading, not seeing."
        )
    if question.opted_in:
        found.append(
            f"Opted in: {', '.join(map(words, question.opted_in))}. When it becomes known is not told by the cohort, so it may hold "
            "the answer. What all other inputs answer without it stands first, and the rest beside it."
        )
    found += _chance(scores, leads)
    found += _shortcuts(evidence, scores)
    found += _columns(evidence, scores, leads)
    found += _texts(evidence, scores)
    found += _maps(scores)
    found += _few(evidence, truth)
    return found


def report_leaks(question: Question, truth: Truth, pool: Pool) -> dict[str, float]:
    """Finding target -> share of its present findings that the input report states as present."""
    if "text" not in question.modalities:
        return {}
    texts = pool.gather(lambda cohort: cohort.texts(question.text_sections))
    shares = {}
    for target in question.findings:
        stated = total = 0
        for k, label in enumerate(question.targets[target]):
            if label in FINDINGS:
                present = np.flatnonzero(truth.mask[target][:, k] & (truth.labels[target][:, k] == 1))[:_MOST_READ]
                states = label_reports([str(text) for text in texts[present]], [label])
                stated, total = stated + int((states == State.PRESENT.value).sum()), total + len(present)
        if total:
            shares[target] = stated / total
    return shares


def leading_arms(question: Question, leaks: dict[str, float]) -> tuple[str, ...]:
    """Prefixes of the arms that lead the page: the one without the report first where the report holds the answer, then the one
    without columns of unknown time."""
    without = without_text(question)
    leaking = without and max(leaks.values(), default=0) >= LEAK
    return tuple([without] * bool(leaking) + [WITHOUT_OPT_IN] * bool(question.opted_in) + [FULL])


def tell_added(question: Question, pool: Pool, scores: Scores) -> list[str]:
    """What a text that was written from the image added, with its interval: one sentence on it, and one a target."""
    section = "image_description"
    if section not in question.text_sections or not {"text", "image"} <= set(question.modalities):
        return []
    by = sorted({who for cohort in pool.cohorts for who in read_writers(cohort.path, section).values()})
    found = [
        f"The text was written from the study's images (by {' and '.join(by)}): it can hold nothing that they do not."
    ]
    for target, labels in question.targets.items():
        label = "macro" if len(labels) > 1 else question.name_of(target, labels[0])
        for metric, title in (("auroc", "AUROC"), ("mae", "MAE (lower is better)"), ("c_index", "C-index")):
            own, other = (
                _tell_gain(scores.get(metric_name(target, label, metric, control=control)))
                for control in (f"{ADDED}text", OVER_SHUFFLED)
            )
            if own:
                what = f"{title} of {words(target if label == 'all' else label)}"
                against = f" In place of another patient's text it added {other.rstrip(',')}." * bool(other)
                found.append(f"To all other inputs it added {own} in {what}.{against}")
    return found


def _tell_gain(gain: Estimate | None) -> str:
    """A difference, its interval and what it means; "" where it is undefined."""
    m = None if gain is None else gain.metric()
    if m is None or m.value is None or m.low is None or m.high is None:
        return ""
    clear = "beyond chance" if m.low > 0 or m.high < 0 else "which cannot be told from chance"
    return f"{m.value:+.3f} (95% interval {m.low:+.3f} to {m.high:+.3f}), {clear},"


def column_leaks(question: Question, cohorts: Sequence[Cohort]) -> list[dict[str, Any]]:
    """Inputs of the record that tell a label of the run by themselves (`chiasm.audit.record.record_leaks`), each once."""
    if "record" not in question.modalities:
        return []
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cohort in cohorts:
        for leak in record_leaks(cohort):
            if leak["column"] in question.columns and leak["label"] in question.targets.get(leak["target"], ()):
                found.setdefault((leak["label"], leak["column"]), leak)
    return list(found.values())


def _chance(scores: Scores, leads: Sequence[str]) -> list[str]:
    """Leading figures that cannot be told from chance, or are below it."""
    found = []
    for name in leading(scores):
        own = name.of_arm(leads[0])
        if (verdict := against_chance(scores, own)) in ("unclear", "worse"):
            what = "chance" if name.metric not in LOWER_IS_BETTER else "the prior, the mean of training for everybody"
            told = f"cannot be told from {what}" if verdict == "unclear" else f"is worse than {what}"
            found.append(f"{words_of(name).capitalize()}: the answer {told}: {say(scores[own], name.metric)}.")
    return found


def _columns(evidence: Evidence, scores: Scores, leads: Sequence[str]) -> list[str]:
    """Targets that one record column tells nearly as well as the model does."""
    found = []
    for name in leading(scores):
        model, column = (scores.get(name.of_arm(arm)) for arm in (leads[0], RECORD_COLUMN))
        if name.metric == "auroc" and model is not None and column is not None and (nearness := near(model, column)):
            does = {"beats": "beats", "close": "comes close to", "unclear": "cannot be told apart from"}[nearness]
            detail = evidence.arms[RECORD_COLUMN].detail(name.target, name.label)
            found.append(
                f"{words_of(name).capitalize()}: one record column alone{f' ({detail})' if detail else ''} {does} the model "
                f"(AUROC {_said(column)} against {_said(model)})."
            )
    return found


def _shortcuts(evidence: Evidence, scores: Scores) -> list[str]:
    """A sentence for each target that a control is near to (`chiasm.metrics.controls.closeness`)."""
    question, found = evidence.question, []
    shortcuts = {name: control.title for name, control in CONTROLS.items() if control.shortcut}
    details = {CONTROLS[name].title: arm.details[""] for name, arm in evidence.arms.items() if "" in arm.details}
    for target, labels in question.targets.items():
        close: dict[str, list[tuple[float, str]]] = {}
        sure = False
        for control, what in shortcuts.items():
            for label in labels:
                name = question.name_of(target, label)
                model = scores.get(metric_name(target, name, "auroc", subset="image"))
                other = scores.get(metric_name(target, name, "auroc", control))
                if model is not None and other is not None and (nearness := near(model, other)):
                    sure |= nearness != "unclear"
                    said = f"{words(label)}: {what} {_said(other)}, the image alone {_said(model)}"
                    close.setdefault(what, []).append((float(other.draws[0]), said))
        if close:
            of = f" of {len(labels)} labels" if len(labels) > 1 else ""
            said_of = {what: [details.get(what, ""), f"{len(on)}{of}" * bool(of)] for what, on in close.items()}
            many = [
                f"{what} ({'; '.join(known)})" if (known := [*filter(None, more)]) else what
                for what, more in said_of.items()
            ]
            most = max(pair for on in close.values() for pair in on)[1]
            does = "comes close to the image model or beats it" if sure else "cannot be told apart from the image model"
            found.append(
                f"Shortcut? {words(target).capitalize()}: a linear model of {' or '.join(many)} {does} "
                f"(AUROC on {most}). How the images were made may be what it has learned, or it has not "
                "learned to look."
            )
    return found


def _texts(evidence: Evidence, scores: Scores) -> list[str]:
    found = []
    if "text" in evidence.question.modalities:
        for target, labels in evidence.question.targets.items():
            label = "macro" if len(labels) > 1 else evidence.question.name_of(target, labels[0])
            own, other = (scores.get(metric_name(target, label, "auroc", c)) for c in (None, "shuffled_text"))
            if own is not None and other is not None and _beats(own, other) is False:
                found.append(
                    f"{words(target).capitalize()}: another patient's report serves as well as the own one "
                    f"(AUROC {_said(other)} against {_said(own)}): the report adds nothing that can be measured here."
                )
    said = scores.get(metric_name("description", None, "cider"))
    for control, whose in ((name, c.title) for name, c in CONTROLS.items() if c.head == "description"):
        other = scores.get(metric_name("description", None, "cider", control))
        if said is not None and other is not None and _beats(said, other) is False:
            found.append(f"Descriptions do not beat {whose} beyond doubt (CIDEr {_said(said)} against {_said(other)}).")
    distinct = scores.get(metric_name("description", None, "distinct_ratio"))
    if distinct is not None and distinct.draws[0] < SAME_TEXT:
        found.append(f"The descriptions repeat themselves: {distinct.draws[0]:.1%} of them are distinct.")
    return found


def _maps(scores: Scores) -> list[str]:
    """Controls that localize without looking and that the model's maps do not beat, on all labels together."""
    found = []
    for name, control in CONTROLS.items():
        if control.head != "localization":
            continue
        for label in ("macro", *sorted({n.label for n in scores if n.target == "localization"} - {"macro"})):
            own, other = (scores.get(metric_name("localization", label, "box_iou", c)) for c in (None, name))
            if own is None or other is None:
                continue
            if _beats(own, other) is False:
                found.append(
                    f"Localization of {'all labels' if label == 'macro' else words(label)} does not beat {control.title} beyond "
                    f"doubt (IoU of the best box {_said(own)} against {_said(other)})."
                )
            break  # the macro average stands for its labels
    return found


def _few(evidence: Evidence, truth: Truth) -> list[str]:
    """Labels with fewer than `FEW` patients of a class, in one sentence a target."""
    question, patients = evidence.question, evidence.pool.patients
    found = []
    for target, labels in question.targets.items():
        if question.kinds[target] is not Kind.BINARY:
            continue
        rare = [
            f"{words(label)} ({fewest})"
            for k, label in enumerate(labels)
            if (fewest := rarer_class(truth.labels[target][:, k], patients, truth.mask[target][:, k])) < FEW
        ]
        if rare:
            found.append(
                f"{words(target).capitalize()}: fewer than {FEW} patients of a class are known for {', '.join(rare)}; "
                "such figures and their intervals say little."
            )
    return found


def few_in_training(question: Question, fold_models: Sequence[FoldModelOver]) -> list[str]:
    """Labels with fewer than `FEW` patients of a class in training or validation of any fold model, a sentence a target."""
    loader, found = fold_models[0].loader, []
    of = " in the training or validation of a fold" if len(fold_models) > 1 else " in training or validation"
    people = np.concatenate(
        [
            [f"{number}/{patient}" for patient in cohort.studies["patient_id"]]
            for number, cohort in enumerate(loader.cohorts)
        ]
    )
    for target in (t for t in question.targets if question.kinds[t] is Kind.BINARY):
        names, how = question.targets[target], question.uncertain.get(target, "ignore")
        parts = [cohort.labels(target, names, how) for cohort in loader.cohorts]
        values, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
        rare: dict[str, list[str]] = {}
        for split in ("train", "validation"):
            rows = [fold_model.split[split] for fold_model in fold_models]
            for k, label in enumerate(names):
                fewest = min(rarer_class(values[own, k], people[own], mask[own, k]) for own in rows)
                if fewest < FEW:
                    rare.setdefault(split, []).append(f"{words(label)} ({fewest})")
        if rare:
            where = "; ".join(f"{split} had of {', '.join(labels)}" for split, labels in rare.items())
            found.append(f"{words(target).capitalize()}: fewer than {FEW} patients of a class{of}: {where}.")
    return found


def _beats(own: Estimate, other: Estimate) -> bool | None:
    """Is the one better beyond doubt? None where either is undefined."""
    gain = (own - other).metric()
    return None if gain.value is None else gain.low is not None and gain.low > 0


def _said(estimate: Estimate) -> str:
    return f"{estimate.draws[0]:.2f}"


def words(name: str) -> str:
    """A name of a target or label as words."""
    return pretty(name)
