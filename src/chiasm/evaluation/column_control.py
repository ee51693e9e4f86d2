"""The control of one record column: what the column that tells most says by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.evaluation.controls import Control, Taught
from chiasm.evaluation.spec import Arm
from chiasm.heads.spec import Pool, Question
from chiasm.metrics.columns import column_features, tell
from chiasm.metrics.controls import probe
from chiasm.study import Kind


class RecordColumn(Control):
    """For every binary label the one column of the record that ranks the training patients of the fold best.

    The columns are those that the model reads, or, where it reads no record, those of known time that name no label.
    """

    title = "the best single record column"
    protocol = "logistic regression on the one column of the record that ranks the training patients best"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Arm | None:
        everybody = taught.pool(np.arange(sum(map(len, taught.cohorts))))
        columns = _record_columns(question, everybody)
        if not columns:
            return None
        values = {t: np.full((*pool.fold_model.shape, *question.layout.shape(t)), np.nan) for t in question.targets}
        details = {}
        for target, labels in question.targets.items():
            truth, mask = taught.labels(question, target)
            for k, label in enumerate(labels if question.kinds[target] is Kind.BINARY else ()):
                chosen = [_best_column(columns, truth[:, k], train[mask[train, k]]) for train in taught.train]
                for number, (train, name) in enumerate(zip(taught.train, chosen, strict=True)):
                    asked, slot = np.nonzero(pool.fold_model == number)
                    own = train[mask[train, k]]
                    rows = column_features(columns[name][np.concatenate([own, taught.tested[asked]])])
                    scores = probe(rows[: len(own)], truth[own, k], rows[len(own) :]) if len(asked) else None
                    if scores is not None:
                        values[target][asked, slot, k] = expit(scores)
                details[f"{target}/{question.name_of(target, label)}"] = _tell_chosen(chosen)
        return Arm.of(values, details=details)


RECORD_COLUMN = RecordColumn()


def _record_columns(question: Question, pool: Pool) -> dict[str, NDArray[Any]]:
    """Name -> [n] numbers or words of the pool's studies, of columns that are of one kind in all cohorts."""
    infos = {name: info for cohort in pool.cohorts for name, info in cohort.record.items()}
    labels = {label for names in question.targets.values() for label in names}
    open_to_all = [n for n, i in infos.items() if not i.unknown_time and n not in {*labels, *question.targets}]
    return {
        name: pool.numbers(f"record.{name}") if infos[name].kind == "numeric" else pool.column(f"record.{name}")
        for name in (question.columns if "record" in question.modalities else open_to_all)
        if name in infos
    }


def _tell_chosen(chosen: Sequence[str]) -> str:
    """The columns that the fold models chose, the most frequent first: "nihss", or "nihss in 4 of 5 folds, age in 1"."""
    often = Counter(chosen).most_common(3)
    if len(often) == 1:
        return often[0][0]
    (first, times), *rest = often
    return ", ".join([f"{first} in {times} of {len(chosen)} fold models", *(f"{name} in {n}" for name, n in rest)])


def _best_column(columns: Mapping[str, NDArray[Any]], truth: NDArray[np.float32], train: NDArray[np.int64]) -> str:
    """The name of the column that ranks these studies best; the first of equal ones."""
    return max(columns, key=lambda name: tell(columns[name][train], truth[train] > 0.5))
