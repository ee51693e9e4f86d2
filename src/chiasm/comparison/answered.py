"""What runs answered, and what they answered in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import RunError
from chiasm.evaluation.evaluate import evaluate
from chiasm.evaluation.spec import Arm, Evidence, read_truth
from chiasm.evaluation.store import read_evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.name import split_prefix
from chiasm.progress import say
from chiasm.recipe import Recipe, read_recipe
from chiasm.registry import HEADS
from chiasm.run.cohorts import open_recorded
from chiasm.run.records import Evaluated, read_evaluated


@dataclass(frozen=True)
class Answered:
    """An evaluated run.

    Attributes:
        path: the run; folder: what `evaluate` wrote.
        record: the content of evaluation.json.
    """

    name: str
    path: Path
    folder: Path
    record: Evaluated
    evidence: Evidence

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.path / "recipe.yaml")

    @cached_property
    def keys(self) -> list[tuple[str, str]]:
        """[n] content hash of the cohort and study: the same study in any run."""
        pool = self.evidence.pool
        hashes = [cohort.hash for cohort in pool.cohorts]
        return [(hashes[c], study) for c, study in zip(pool.cohort, pool.column("study_id"), strict=True)]

    @cached_property
    def patients(self) -> list[str]:
        """[n] hash of the cohort and patient: intervals resample these, alike for every run."""
        patients = self.evidence.pool.column("patient_id")
        return [f"{cohort}/{patient}" for (cohort, _), patient in zip(self.keys, patients, strict=True)]

    @cached_property
    def truth(self) -> Truth:
        return replace(read_truth(self.evidence.question, self.evidence.pool, ()), groups={}, bayes={})

    def at(self, keys: Sequence[tuple[str, str]]) -> Answered:
        """Of these studies alone, in this order."""
        place = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([place[key] for key in keys], np.int64)
        return Answered(self.name, self.path, self.folder, self.record, restrict(self.evidence, rows))


def read_answers(path: Path, name: str) -> Answered:
    """A run's evaluation, made first where there is none, or the folder of one.

    Raises:
        RunError, CohortError: no run, or its evidence or cohort is damaged or gone.
    """
    folder = path if (path / "evaluation.json").is_file() else path / "evaluation"
    if not (folder / "evaluation.json").is_file():
        say(f"{name} was not evaluated yet")
        evaluate(path)
    record = read_evaluated(folder)
    cohorts = [open_recorded(recorded) for recorded in record.cohorts]
    run = Path(record.run) if folder == path else path
    return Answered(name, run, folder, record, read_evidence(folder / "predictions", cohorts))


def restrict(evidence: Evidence, rows: NDArray[np.int64]) -> Evidence:
    """The same evidence about some of its studies, without controls."""
    pool = evidence.pool
    arms = {
        prefix: take_rows(arm, rows) for prefix, arm in evidence.arms.items() if split_prefix(prefix)["control"] is None
    }
    own = {name: HEADS[name].take(by_control[""], rows) for name, by_control in evidence.heads.items()}
    return replace(
        evidence,
        pool=replace(pool, cohort=pool.cohort[rows], row=pool.row[rows], fold_model=pool.fold_model[rows]),
        arms=arms,
        heads={name: {"": taken} for name, taken in own.items() if taken is not None},
    )


def take_rows(arm: Arm, rows: NDArray[np.int64]) -> Arm:
    """The same arm about some of its studies."""
    parts = {field.name: getattr(arm, field.name) for field in fields(arm)}
    by_target = {k: {t: each[rows] for t, each in v.items()} for k, v in parts.items() if isinstance(v, Mapping)}
    return replace(arm, **by_target, shown=None if arm.shown is None else arm.shown[rows])


def common_studies(runs: Sequence[Answered]) -> tuple[list[tuple[str, str]], list[str]]:
    """Studies that all runs answered, and a sentence for each run that answered others as well.

    Raises:
        RunError: there are none.
    """
    shared = sorted(set.intersection(*(set(run.keys) for run in runs)))
    if not shared:
        raise RunError(
            "the runs answered no study in common",
            expected="runs evaluated on the same cohort and split",
            got=", ".join(f"{run.name}: {len(run.keys)} studies of cohort {run.keys[0][0][:12]}" for run in runs),
            remedy="train them on the same cohort, with the same --folds, --repeats and seed",
        )
    notes = [
        f"{len(run.keys) - len(shared)} of {len(run.keys)} studies that {run.name} answered are left out: not every run did."
        for run in runs
        if len(run.keys) > len(shared)
    ]
    return shared, notes
