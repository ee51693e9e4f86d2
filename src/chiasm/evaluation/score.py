"""From evidence and truth to figures: pure functions of arrays, so any figure can be computed again without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from chiasm.evaluation.contributions import COMPLETE, score_added, score_shares
from chiasm.evaluation.labels import Column, read_column, score_label
from chiasm.evaluation.phrases import score_phrases
from chiasm.evaluation.spec import FULL, NOTHING, WITHOUT_OPT_IN, Arm, Evidence
from chiasm.heads.head import Head
from chiasm.heads.spec import Case, Question, Truth
from chiasm.metrics.bootstrap import Estimate, Resamples, macro
from chiasm.metrics.name import MetricName, metric_name, split_prefix

Scores = dict[MetricName, Estimate]
"""Name of a metric -> its estimate."""
PRIOR = "prior"
BAYES_LABELS = {"outcome": ("event", "mrs_gt_2")}
"""The labels of a target whose true probability a phantom, of the chest or of a stroke, knows."""


def score(evidence: Evidence, case: Case, heads: Mapping[str, Head], pooled: bool = False) -> Scores:
    """Every figure of an evaluation.

    Args:
        heads: of `chiasm.heads.head.open_heads`. pooled: rank all patients together, whoever answered them.
    """
    truth, resamples = case.truth, case.resamples
    question = evidence.question
    scores: Scores = {}
    whole, tested_by = complete(evidence), None if pooled else within_folds(evidence)
    ask = partial(score_arm, question, truth, resamples=resamples, tested_by=tested_by)
    for prefix, arm in evidence.arms.items():
        if prefix == NOTHING:
            continue
        scores |= ask(arm, prefix=prefix)
        if whole.any() and not whole.all():  # what a modality adds is best seen where all of them are there
            scores |= ask(arm, prefix=prefix, group=COMPLETE, who=whole)
        if prefix in (FULL, WITHOUT_OPT_IN, without_text(question)):
            for group, who in truth.groups.items():
                scores |= ask(arm, prefix=prefix, group=group, who=who)
    scores |= score_added(question, scores)
    everything = "+".join(question.modalities)
    scores |= {n._replace(subset=everything): own for n, own in scores.items() if n[3:] == (None,) * 3}
    scores |= score_shares(evidence, resamples) | _score_bayes(question, truth, resamples, tested_by)
    for name, by_control in evidence.heads.items():
        for control, own in by_control.items():
            scores |= heads[name].score(own, case, control)
    return scores | score_phrases(evidence, case, without_text(question))


def within_folds(evidence: Evidence) -> NDArray[np.int64] | None:
    """[n, M] the fold models that tested each study, where several did: ranking compares what one of them says.

    None where one model answered everybody, and of another cohort, which the mean of all models answers.
    """
    tested_by = evidence.pool.fold_model
    return None if evidence.question.external or not tested_by.any() else tested_by


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
    tested_by: NDArray[np.int64] | None = None,
) -> Scores:
    """The figures of one arm, or of those `who` ([n] bool) belong to one group, by label and averaged over labels.

    Args:
        tested_by: of `within_folds`.
    """
    rows = np.arange(len(resamples)) if who is None else np.flatnonzero(who)
    scores: Scores = {}
    for target, labels in question.targets.items():
        by_metric: dict[str, dict[str, Estimate]] = {}
        for k, label in enumerate(labels):
            column = read_column(question, truth, arm, resamples, target, k, rows, tested_by)
            for metric, estimate in score_label(question, target, k, column, group is None, prefix == PRIOR).items():
                by_metric.setdefault(metric, {})[label] = estimate
        for metric, estimates in by_metric.items():
            named = {question.name_of(target, label): estimate for label, estimate in estimates.items()}
            if len(estimates) > 1:
                named["macro"] = macro(estimates)
            for label, estimate in named.items():
                scores[metric_name(target, label, metric, **split_prefix(prefix), subgroup=group)] = estimate
    return scores


def _score_bayes(question: Question, truth: Truth, resamples: Resamples, tested_by: NDArray[np.int64] | None) -> Scores:
    """What the best reader of each subset reaches on the same patients, as an arm `bayes:SUBSET`."""
    asked = [
        (target, label, k)
        for target, known_labels in BAYES_LABELS.items()
        for k, label in enumerate(question.targets.get(target, ()))
        if label in known_labels
    ]
    scores, best = Scores(), replace(question, net_benefit_at=())
    for (target, label, k), (subset, probability) in product(asked, truth.bayes.items()):
        known = truth.mask[target][:, k] & np.isfinite(probability)
        values = np.where(known, probability, 0.5)
        each = None if tested_by is None else np.repeat(values[:, None], tested_by.shape[1], axis=1)
        column = Column(truth.labels[target][:, k], values, known, resamples, each=each, tested_by=tested_by)
        for metric, estimate in score_label(best, target, k, column, whole=True, prior=False).items():
            scores[metric_name(target, question.name_of(target, label), metric, "bayes", subset)] = estimate
    return scores
