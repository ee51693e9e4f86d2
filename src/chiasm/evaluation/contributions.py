"""What each modality added: to a figure, as a paired difference of two arms; to a patient's answer, as its Shapley value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiasm.evaluation.spec import FULL, NOTHING, WITHOUT_OPT_IN, Arm, Evidence
from chiasm.heads.spec import Floats, Question
from chiasm.metrics.attribution import additive, attribute, from_prior, numbers, subsets
from chiasm.metrics.bootstrap import Estimate, Resamples
from chiasm.metrics.name import MetricName, metric_name
from chiasm.study import Kind

COMPLETE = "inputs=complete"
"""The subgroup of those who have every modality of the model."""
ADDED = "added_"
"""Before the name of a modality: the control whose figures are all inputs minus all but this one."""
OVER = f"{ADDED}over_"
"""Before the name of a modality: all inputs minus this one alone."""
OVER_SHUFFLED, OVER_OPT_IN = f"{OVER}shuffled_text", f"{ADDED}opt_in"
GAINS = ("auroc", "auprc", "brier", "mae", "qwk", "r", "c_index")
"""The figures of which differences are told."""
_SCALES = {
    Kind.BINARY: "in log-odds",
    Kind.ORDINAL: "in expected levels",
    Kind.MULTICLASS: "in log-probability, mean over the classes",
    Kind.REGRESSION: "in the target's units",
    Kind.SURVIVAL: "in mean time",
}

Shares = Mapping[str, Mapping[str, Floats]]
"""target -> modality -> [n, numbers] (`chiasm.metrics.attribution.numbers`) of each study."""


def score_added(question: Question, scores: Mapping[MetricName, Estimate]) -> dict[MetricName, Estimate]:
    """`added_text:TARGET/LABEL/METRIC` and its like, of all patients and of those with all inputs.

    All inputs minus all but one modality, minus one modality alone (`added_over_record`, of three), minus another patient's
    report, minus the columns that were opted in; over the same resamples, so that what both arms get wrong alike cancels.
    """
    modalities = question.modalities
    rest = {f"{ADDED}{m}": "+".join(x for x in modalities if x != m) for m in modalities} if len(modalities) > 1 else {}
    rest |= {f"{OVER}{m}": m for m in modalities} if len(modalities) > 2 else {}
    rest |= {OVER_SHUFFLED: "shuffled_text", OVER_OPT_IN: WITHOUT_OPT_IN}
    found = {}
    for name, own in scores.items():
        if name.prefix or name.metric not in GAINS or name.subgroup not in (None, COMPLETE):
            continue
        for control, prefix in rest.items():
            less = scores.get(name.of_arm(prefix))
            if less is not None:
                found[name._replace(control=control)] = own - less
    return found


def find_shares(evidence: Evidence) -> Shares | None:
    """What each modality added to each answer; None where `has_shares` says no."""
    if not has_shares(evidence):
        return None
    question, prior = evidence.question, evidence.arms[NOTHING].values
    arms = {subset: evidence.arms[prefix] for subset, prefix in _subset_arms(question).items()}
    values = {subset: from_prior(arm.values, prior, _known(arm)) for subset, arm in arms.items()}
    return attribute(values, question.layout, tuple(question.modalities))


def has_shares(evidence: Evidence) -> bool:
    """Whether there are several modalities to share answers out to, and every arm that it takes was asked."""
    question = evidence.question
    asked = set(_subset_arms(question).values()) <= evidence.arms.keys()
    return bool(question.targets) and len(question.modalities) > 1 and asked


def _subset_arms(question: Question) -> dict[tuple[str, ...], str]:
    """Each subset of the modalities -> the prefix of its arm."""
    modalities = tuple(question.modalities)
    return {s: "+".join(s) for s in subsets(modalities)} | {(): NOTHING, modalities: FULL}


def _known(arm: Arm) -> NDArray[np.bool_]:
    """[n] whether a study showed any fold model anything."""
    n = len(next(iter(arm.values.values())))
    return np.zeros(n, bool) if arm.shown is None else np.asarray((arm.shown != "").any(axis=1))


def score_shares(evidence: Evidence, resamples: Resamples) -> dict[MetricName, Estimate]:
    """`TARGET/LABEL/shapley_MODALITY`: how large the modality's share of an answer is in the mean, whichever its sign."""
    shares, question = find_shares(evidence), evidence.question
    if shares is None:
        return {}
    scores = {}
    for target, labels in question.targets.items():
        columns = [each for each in numbers(question.layout) if each.target == target]
        for label in labels:
            own = [each.column for each in columns if each.label == label]
            for modality in question.modalities:
                size = np.abs(shares[target][modality][:, own]).mean(axis=1)
                how = f"mean |Shapley value| over all subsets of the inputs, {_SCALES[question.kinds[target]]}"
                name = metric_name(target, question.name_of(target, label), f"shapley_{modality}")
                scores[name] = resamples.mean(size, how)
    return scores


def share_table(evidence: Evidence) -> pa.Table | None:
    """A row for each study and number: nothing + the modalities = answer, on the scale on which they add up.

    Columns study_id and patient_id ("COHORT NUMBER/ID"), number ("target/label"), nothing, each modality, answer.
    """
    shares = find_shares(evidence)
    if shares is None:
        return None
    question, pool = evidence.question, evidence.pool
    ends = {
        name: additive(evidence.arms[prefix].values, question.layout)
        for name, prefix in (("nothing", NOTHING), ("answer", FULL))
    }
    parts = []
    for each in numbers(question.layout):
        own = {m: shares[each.target][m][:, each.column] for m in question.modalities}
        nothing, answer = (ends[name][each.target][:, each.column] for name in ("nothing", "answer"))
        ids = {"study_id": pool.keys, "patient_id": pool.patients, "number": np.full(len(pool), each.name)}
        parts.append(pa.table({**ids, "nothing": nothing, **own, "answer": answer}))
    return pa.concat_tables(parts)
