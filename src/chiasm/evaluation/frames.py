"""Figures and answers of an evaluation as tables of pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from chiasm.errors import InputError
from chiasm.evaluation.spec import Evidence, read_truth
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.study import Kind

MODEL, ALL = "model", "all"
"""The arm that is no control, and the subset of all inputs."""


def metrics_frame(metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """A row a figure, under its name: arm, subset, target, label, metric, subgroup, value, low, high, n, events, protocol.

    `arm` is "model" or a control, `subset` the inputs that are shown, "all" if none is hidden; `subgroup` is "" for all patients. An
    undefined value is missing, and its protocol ends with the reason.
    """
    rows = []
    for name, metric in metrics.items():
        parts = parse_name(name)
        rows.append(
            {
                "arm": parts.control or MODEL,
                "subset": parts.subset or ALL,
                "target": parts.target,
                "label": parts.label,
                "metric": parts.metric,
                "subgroup": parts.subgroup or "",
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "n": metric.n,
                "events": metric.events,
                "protocol": f"{metric.protocol}; undefined: {metric.reason}" if metric.reason else metric.protocol,
            }
        )
    frame = pd.DataFrame(rows, index=pd.Index(list(metrics), name="name"))
    return frame.astype({"value": float, "low": float, "high": float, "events": "Int64"})


def predictions_frame(evidence: Evidence, arm: str = "") -> pd.DataFrame:
    """A row for each tested study and label, and of labels with levels for each level, as one arm answered them.

    Columns: study_id and patient_id as in the cohort; cohort, its number among those of the evaluation; fold, the number of the
    fold model that answered ("0+5" where the mean of several counts); target, label; level, "" of labels without; truth, in the units of the
    target (a class as its word; a time with a minus where no event was seen until then), missing where it is unknown; answer, a
    calibrated probability, or a value in the target's units, of survival the chance of no event until the level; threshold, from which
    a binary answer is a yes (.5 where validation was too small to say), missing of others.

    Args:
        arm: prefix of a metric's name: "" of the model, "image", "shuffled_text".

    Raises:
        InputError: there is no such arm.
    """
    if arm not in evidence.arms:
        raise InputError("the evaluation has no such arm", expected=", ".join(evidence.arms), got=arm)
    question, pool, own = evidence.question, evidence.pool, evidence.arms[arm]
    truth = read_truth(question, pool, ())
    folds = ["+".join(map(str, row)) for row in pool.fold_model.tolist()]
    ids = {
        "study_id": pool.column("study_id"),
        "patient_id": pool.column("patient_id"),
        "cohort": pool.cohort,
        "fold": [int(fold) for fold in folds] if pool.fold_model.shape[1] == 1 else folds,
    }
    parts = []
    for target, labels in question.targets.items():
        kind = question.kinds[target]
        for k, label in enumerate(labels):
            levels = question.levels[target][k] if kind.leveled else ("",)
            known = truth.mask[target][:, k]
            values: list[Any] = [
                _truth(value, kind, levels) if here else None
                for value, here in zip(truth.labels[target][:, k].tolist(), known.tolist(), strict=True)
            ]
            threshold = own.yes_from(target, k) if kind is Kind.BINARY else np.full(len(pool), np.nan)
            for q, level in enumerate(levels):
                answer = own.values[target][:, k, q] if kind.leveled else own.values[target][:, k]
                parts.append(
                    pd.DataFrame(
                        {
                            **ids,
                            "target": target,
                            "label": label,
                            "level": level,
                            "truth": values,
                            "answer": answer,
                            "threshold": threshold,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(ids)


def _truth(value: float, kind: Kind, levels: Any) -> float | str | None:
    """A truth in the units of its target."""
    if kind is Kind.MULTICLASS:
        return str(levels[int(value)]) if int(value) < len(levels) else None
    return value
