"""Compute every figure of an evaluation again, without a model: from stored predictions, cohort and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from chiasm.encoding.plan import Plan
from chiasm.errors import CohortError, RunError
from chiasm.evaluation.evaluate import read_case
from chiasm.evaluation.protocol import to_metrics
from chiasm.evaluation.score import score
from chiasm.evaluation.selected import selected_metrics
from chiasm.evaluation.spec import Evidence
from chiasm.evaluation.store import read_evidence
from chiasm.heads.head import open_heads
from chiasm.heads.spec import Floats, mean_known
from chiasm.metrics.metric import Metric
from chiasm.recipe import read_recipe
from chiasm.run.answers import calibrated, read_calibration
from chiasm.run.cohorts import open_recorded
from chiasm.run.folder import RunLike, folder_of, read_run
from chiasm.run.records import read_evaluated
from chiasm.run.selection import read_selection
from chiasm.seals import changed, file_hash

TOLERANCE = 1e-6
"""Relative difference of a figure computed again that another machine's arithmetic may make."""


def verify(run: RunLike) -> list[str]:
    """Compute every metric of a run again from its stored predictions and its cohort; no model is asked.

    Args:
        run: an evaluated run, or one folder that `evaluate` wrote.

    Returns:
        a sentence for each difference: in weights, cohort, stored predictions, calibration, or a metric. None: all is well.

    Raises:
        RunError: nothing was evaluated there, or it is of another schema version.
    """
    run = folder_of(run)
    folders = [run] if (run / "evaluation.json").is_file() else sorted(p.parent for p in run.glob("*/evaluation.json"))
    if not folders:
        raise RunError(
            "nothing was evaluated here",
            expected="a run with evaluation/evaluation.json",
            where=str(run),
            remedy=f"chiasm evaluate {run}",
        )
    return [
        f"{folder.name}: {difference}" if len(folders) > 1 else difference
        for folder in folders
        for difference in _verify(folder, run if folder != run else None)
    ]


def _verify(folder: Path, run: Path | None) -> list[str]:
    record = read_evaluated(folder)
    run = Path(record.run) if run is None else run
    found = _changed(record.weights, lambda name: run / name / "weights.safetensors", "weights of")
    found += _changed(record.predictions, lambda name: folder / "predictions" / name, "predictions")
    cohorts = [open_recorded(recorded, check=False) for recorded in record.cohorts]
    for cohort in cohorts:
        try:
            cohort.verify()
        except CohortError as error:
            found.append(f"cohort {cohort.source}: {error.what}")
    evidence = read_evidence(folder / "predictions", cohorts)
    found += [f"{name}: the file has changed since the training" for name in changed(run, full=True) or ()]
    found += _recalibrated(run, read_run(run).fold_models, evidence)
    recipe = read_recipe(run / "recipe.yaml")
    scores = score(evidence, read_case(evidence, recipe), open_heads(evidence.question))
    again = to_metrics(scores, evidence, record)
    again |= selected_metrics(None if record.external else read_selection(run), again)
    return found + compare(record.metrics, {str(name): metric for name, metric in again.items()})


def _changed(recorded: Mapping[str, str], path_of: Callable[[str], Path], what: str) -> list[str]:
    """Files that are gone or have another hash."""
    found = []
    for name, digest in recorded.items():
        path = path_of(name)
        if not path.is_file():
            found.append(f"{what} {name}: the file is gone")
        elif file_hash(path) != digest:
            found.append(f"{what} {name}: the file has changed since the evaluation")
    return found


def _recalibrated(run: Path, fold_models: Sequence[str], evidence: Evidence) -> list[str]:
    """Are the stored probabilities those of the stored logits at the run's temperatures?"""
    found: list[str] = []
    for prefix, each in fold_model_values(run, fold_models, evidence).items():
        for target, values in each.items():
            stored = evidence.arms[prefix]
            if not all(
                np.allclose(own, said, rtol=1e-5, atol=1e-6, equal_nan=True)
                for own, said in (
                    (values, stored.by_model(target)),
                    (mean_known(values, axis=1), stored.values[target]),
                )
            ):
                found.append(f"arm {prefix or 'full'}: {target} is not what its logits and the calibration give")
    return found


def fold_model_values(run: Path, fold_models: Sequence[str], evidence: Evidence) -> dict[str, dict[str, Floats]]:
    """Arm with logits -> target -> [n, M, L] (or [n, M, L, Q]): what each fold model says by itself, after its calibration."""
    layout, pool = evidence.question.layout, evidence.pool
    plans = [Plan.from_json((run / name / "plan.json").read_text("utf-8")) for name in fold_models]
    homes = (
        ["."] * len(fold_models) if evidence.question.external else fold_models
    )  # of new patients, or of those it tests
    fitted = [read_calibration(run / home / "calibration.json") for home in homes]
    found: dict[str, dict[str, Floats]] = {}
    for prefix, arm in evidence.arms.items():
        for target, logits in arm.logits.items():
            assert arm.shown is not None
            values = found.setdefault(prefix, {})[target] = np.full(logits.shape, np.nan)
            for number, (plan, calibration) in enumerate(zip(plans, fitted, strict=True)):
                at = np.nonzero(pool.fold_model == number)
                if target in plan.targets:
                    own = {target: layout.take_logits(plan, target, logits[at])}
                    values[at] = layout.place(plan, target, calibrated(own, arm.shown[at], plan, calibration)[target])
    return found


def compare(recorded: Mapping[str, Metric], again: Mapping[str, Metric]) -> list[str]:
    """A sentence for each metric that is missing, new or another number."""
    found = [f"{name}: recorded, but it cannot be computed again" for name in recorded if name not in again]
    found += [f"{name}: computed now, but not recorded" for name in again if name not in recorded]
    for name in recorded.keys() & again.keys():
        for part in ("value", "low", "high", "n"):
            old, new = getattr(recorded[name], part), getattr(again[name], part)
            same = old == new if old is None or new is None else math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-9)
            if not same:
                found.append(f"{name}: {part} is {new}, recorded is {old}")
    return sorted(found)
