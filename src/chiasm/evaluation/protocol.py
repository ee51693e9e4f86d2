"""Every figure says how it came about: the arm, who answered, how hedged labels count, then the metric's own protocol."""

from __future__ import annotations

from dataclasses import replace

from chiasm.evaluation.contributions import ADDED, OVER, OVER_OPT_IN, OVER_SHUFFLED
from chiasm.evaluation.score import Scores
from chiasm.evaluation.spec import Evidence
from chiasm.heads.spec import Question
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import MetricName
from chiasm.registry import ARMS, CONTROLS, HEADS
from chiasm.run.records import Evaluated

_ADDED = {
    OVER_SHUFFLED: "what the own report adds to another patient's, beside all other inputs",
    OVER_OPT_IN: "what the record columns of unknown time add to all other inputs",
}


def to_metrics(scores: Scores, evidence: Evidence, record: Evaluated) -> dict[MetricName, Metric]:
    """Estimates as metrics, each with its whole protocol. `record`: of the run's evaluation: which models answered whom."""
    metrics, question = {}, evidence.question
    for name, estimate in scores.items():
        metric = estimate.metric()
        who = who_answered(record, "fold" in metric.protocol)
        said = [_arm(name, evidence), who, _labels(name, question), metric.protocol]
        metrics[name] = replace(metric, protocol="; ".join(filter(None, said)))
    return metrics


def _arm(name: MetricName, evidence: Evidence) -> str:
    question = evidence.question
    sections = f"report-conditioned (sections {', '.join(question.text_sections)})"
    if (name.control or "").startswith(ADDED):
        alone = str(name.control).startswith(OVER)
        added = str(name.control).removeprefix(OVER if alone else ADDED)
        usual = f"what all inputs say over the {added} alone" if alone else f"what the {added} adds to all other inputs"
        what = _ADDED.get(str(name.control), usual)
        return f"{what}; {sections}" if "text" in question.modalities else what
    if name.control == "bayes":
        return f"best reachable from {name.subset}: the phantom's true probability"
    if name.control and name.control in ARMS:
        return str(ARMS[name.control].protocol(question))
    if name.control and name.control in CONTROLS:
        found = f"control: {CONTROLS[name.control].protocol}"
        own = evidence.arms.get(name.control)
        if detail := evidence.neighbour if name.control == "nearest" else own.detail(*name[:2]) if own else "":
            found += f" ({detail})"
        return found + ", fitted on the same fold's training patients" * (name.target not in HEADS)
    if name.target in HEADS:
        return str(HEADS[name.target].protocol(question))
    inputs = name.subset.split("+") if name.subset else list(question.modalities)
    seen = f"{inputs[0]} only" if len(inputs) == 1 else " + ".join(inputs)
    return f"{seen}; {sections}" if "text" in inputs else seen


def who_answered(record: Evaluated, within: bool = False) -> str:
    """Which models answered whom: "5 patient folds pooled, each answer ... the mean of 2 models (one a repeat)".

    Args:
        within: the figure says itself that it is one within folds.
    """
    mean = ", each answer, threshold and quantile of a prediction set the mean of {} models"
    if record.external:
        return "external cohort" + (mean.format(record.fold_models) if record.fold_models > 1 else "")
    if record.fold_models == 1:
        return "test split"
    if within:
        return f"{record.folds} patient folds" + (f", {record.repeats} times" if record.repeats > 1 else "")
    again = f"{mean.format(record.repeats)} (one a repeat)" if record.repeats > 1 else ""
    return f"{record.folds} patient folds pooled{again}"


def _labels(name: MetricName, question: Question) -> str:
    how = question.uncertain.get(name.target, "ignore") if name.target in question.findings else ""
    return {"": "", "ignore": "uncertain findings left out"}.get(how, f"uncertain findings count as {how}")
