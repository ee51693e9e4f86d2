"""Columns of the record that tell a label by themselves: are they the label under another name?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort
from chiasm.metrics.columns import tell
from chiasm.study import Kind, State

ALONE = 0.97
"""AUROC of one column from which it is said to tell the label by itself."""
FEWEST = 10
"""Patients of each class without which a column is not looked at."""


def record_leaks(cohort: Cohort) -> list[dict[str, Any]]:
    """Columns that tell a label by themselves: `target`, `label`, `column`, `auroc`, `patients` of each, the gravest first.

    Each label is asked as yes or no: a finding that is present, an outcome of 1, more than each level of an ordinal one, each
    word of a class, more than the median of a number. The first study of each patient counts, so that nobody is known again.
    Whether a column tells it by its numbers, its words or by being there, and which way round, is all the same
    (`chiasm.metrics.columns.tell`).
    """
    first = np.unique(cohort.studies["patient_id"].to_numpy(np.str_), return_index=True)[1]
    columns = {name: _column(cohort, name, info.kind)[first] for name, info in cohort.record.items()}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for target, label, known, positive in _questions(cohort, first):
        rows = np.flatnonzero(known)
        if min(positive[rows].sum(), (~positive[rows]).sum()) < FEWEST:
            continue
        for name, values in columns.items():
            auroc = tell(values[rows], positive[rows]) if name != label else 0.5
            best = found.get((target, label, name), {"auroc": 0.0})
            if auroc >= ALONE and auroc > best["auroc"]:
                said = {
                    "target": target,
                    "label": label,
                    "column": name,
                    "auroc": round(auroc, 4),
                    "patients": len(rows),
                }
                found[target, label, name] = said
    return sorted(found.values(), key=lambda leak: -leak["auroc"])


def _column(cohort: Cohort, name: str, kind: str) -> NDArray[Any]:
    values = cohort.studies[f"record.{name}"]
    if kind == "numeric":
        return values.to_numpy(np.float64)
    return np.array([value if isinstance(value, str) else None for value in values], object)


def _questions(
    cohort: Cohort, rows: NDArray[np.intp]
) -> Iterator[tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """(target, label, [n] known, [n] yes), for each yes or no that a label can be asked as."""
    for target, info in cohort.targets.items():
        for label in info.labels:
            values = cohort.studies[f"{target}.{label}"].iloc[rows]
            if info.of == "findings":
                present = (values == State.PRESENT.value).to_numpy(bool)
                yield target, label, present | (values == State.ABSENT.value).to_numpy(bool), present
                continue
            known = values.notna().to_numpy(bool)
            if info.kind is Kind.MULTICLASS:
                for word in sorted(set(values[known])):
                    yield target, label, known, (values == word).to_numpy(bool)
                continue
            numbers = values.to_numpy(np.float64)
            levels = np.unique(numbers[known])
            middle = [float(np.median(numbers[known]))] if known.any() else []
            for level in [0.5] if info.kind is Kind.BINARY else levels[:-1] if info.kind is Kind.ORDINAL else middle:
                yield target, label, known, known & (numbers > level)
