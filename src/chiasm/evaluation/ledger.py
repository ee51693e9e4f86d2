"""How many configurations were evaluated on the same patients: COHORT/evaluations.jsonl, digests alone.

A line is one configuration on one set of tested patients. Who evaluates many and tells of the best has chosen on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chiasm.atomic import locked, write_text
from chiasm.errors import CohortError
from chiasm.heads.spec import Pool
from chiasm.recipe import read_recipe
from chiasm.run.folder import hash_weights, read_run, readable

FILE = "evaluations.jsonl"


def record_evaluation(run: Path, pool: Pool) -> str:
    """Write down that a run was evaluated on these patients, once, beside each of their cohorts.

    Plain baselines in RUN/baselines, which it is compared with, do not count.

    Returns:
        "", or a sentence where a cohort cannot be written.
    """
    if _is_beside(run):
        return ""
    entry = {"configuration": _configuration(run), "run": hash_weights(run, read_run(run))[:16]}
    for number, cohort in enumerate(pool.cohorts):
        if cohort.in_memory or not (pool.cohort == number).any():
            continue
        line = json.dumps({**entry, "tested": _tested(pool, number)}, sort_keys=True)
        file = cohort.path / FILE
        try:
            with locked(file.with_name(f"{FILE}.lock"), CohortError):
                known = _lines(file)
                if line not in known:
                    write_text(file, "\n".join([*known, line]) + "\n")
        except (CohortError, OSError):
            return (
                f"The cohort {cohort.path.name} cannot be written: that its patients were tested is not counted there, so the "
                "number of configurations that were evaluated on them is too small."
            )
    return ""


def count_configurations(run: Path, pool: Pool) -> int:
    """How many configurations were evaluated on the very patients of a pool, the run's among them, by the cohort that knows most.

    Returns:
        0 where no cohort knows, and for a plain baseline in RUN/baselines.
    """
    counts = [0]
    if _is_beside(run):
        return 0
    for number, cohort in enumerate(pool.cohorts):
        if not cohort.in_memory and (pool.cohort == number).any():
            entries, tested = [json.loads(line) for line in _lines(cohort.path / FILE)], _tested(pool, number)
            counts.append(len({entry["configuration"] for entry in entries if entry["tested"] == tested}))
    return max(counts)


def _is_beside(run: Path) -> bool:
    """Whether it is a plain baseline with which another run is compared."""
    return run.resolve().parent.name == "baselines" and (run.resolve().parents[1] / "run.json").is_file()


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines() if file.is_file() else []


def _tested(pool: Pool, number: int) -> str:
    """Of the tested patients of a cohort, whoever else is tested."""
    cohort = pool.cohorts[number]
    rows = pool.row[pool.cohort == number]
    people = np.unique(cohort.studies["patient_id"].to_numpy()[rows].astype(np.str_))
    return _digest([cohort.hash, *people.tolist()])


def _configuration(run: Path) -> str:
    """Of what the fold models of a run were trained by: recipes without names and figures, and who trained and was tested."""
    parts = []
    for name in read_run(run).fold_models:
        with readable(run / name):
            recipe = read_recipe((run / name / "recipe.yaml").resolve(strict=True))
            said = recipe.model_dump(mode="json", exclude={"name", "about", "evaluate"})
            parts += [json.dumps(said, sort_keys=True), (run / name / "split.json").read_text("utf-8")]
    return _digest(parts)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
