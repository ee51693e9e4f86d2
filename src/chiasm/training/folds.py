"""Patient folds of a training, and what a fold model is trained by before its first step: plan, words, split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.atomic import write_text
from chiasm.cohort.store import Cohort
from chiasm.encoding.fit import fit_plan
from chiasm.encoding.plan import Plan
from chiasm.recipe import Recipe, write_recipe
from chiasm.report.tokenizer import Tokenizer
from chiasm.run.fold_model import keep_encoders
from chiasm.run.seen import digest_studies
from chiasm.run.split import Split, read_split, write_split
from chiasm.splits import draw
from chiasm.splits import folds as patient_folds
from chiasm.training.start import shared_tokenizer

Rows = Sequence[NDArray[np.int64]]  # rows of each cohort
Parts = Sequence[dict[str, NDArray[np.int64]]]  # "train", "validation", "test" -> rows, of each cohort
VALIDATION = 0.1
"""Share of all patients that validates a fold model."""


def split_patients(
    cohorts: Sequence[Cohort],
    folds: int,
    repeats: int,
    seed: int,
    strata: NDArray[np.int64] | None = None,
    among: Rows | None = None,
) -> Iterator[tuple[str, Parts, int]]:
    """(fold model name, rows of each split for each cohort, seed) of every model to train.

    Test and validation parts have equal shares of `strata`; the patients who validate a fold model are of those whom the next
    one tests, a tenth of all, or as many as there are.

    Args:
        folds: 1 for the cohorts' own split. among: rows of each cohort, the studies that take part; all without it. strata: of them.
    """
    if folds == 1:
        yield ".", [{s: c.rows(s) for s in ("train", "validation", "test")} for c in cohorts], seed
        return
    among = [np.arange(len(c)) for c in cohorts] if among is None else among
    patients = np.concatenate([cohort.people[own] for cohort, own in zip(cohorts, among, strict=True)])
    start = np.cumsum([0, *map(len, among)])
    for repeat, tests in enumerate(patient_folds(patients, folds, repeats, seed, strata)):
        for fold, test in enumerate(tests):
            own_seed = seed + 1000 * repeat + fold
            following = tests[(fold + 1) % folds]  # a patient validates one fold model and is tested by another
            own = None if strata is None else strata[following]
            held = following[draw(patients[following], VALIDATION * folds, f"{seed}:validation:{repeat}:{fold}", own)]
            rest = np.setdiff1d(np.arange(len(patients)), np.concatenate([test, held]))
            parts = {"train": rest, "validation": held, "test": test}
            rows = [
                {s: taken[part[(part >= a) & (part < b)] - a] for s, part in parts.items()}
                for a, b, taken in zip(start[:-1], start[1:], among, strict=True)
            ]
            yield f"fold-{repeat}-{fold}", rows, own_seed


def begin_fold(
    recipe: Recipe, cohorts: Sequence[Cohort], folder: Path, parts: Parts, seed: int, start: Path | None = None
) -> tuple[Plan, list[str]]:
    """Write what a fold model is trained by, plan.json, recipe.yaml, tokenizer.json and split.json, of its training studies alone.

    Args:
        start: folder of the fold model whose encoders this one begins with.

    Returns:
        its plan, and a note on everything that was switched off.
    """
    training = [own["train"] for own in parts]
    plan, resolved, said = fit_plan(recipe, cohorts, training)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "plan.json", plan.to_json())
    write_recipe(resolved, folder / "recipe.yaml")
    said += keep_encoders(resolved, folder)
    words = shared_tokenizer(resolved, start) if start is not None else None
    if words is None:
        words = Tokenizer.train(_training_texts(plan, resolved, cohorts, training)).to_json()
    write_text(folder / "tokenizer.json", words)
    seen = digest_studies(cohorts, [np.concatenate([own["train"], own["validation"]]) for own in parts])
    before: set[str] = set()
    if start is not None:
        theirs = read_split(start)
        before = {*theirs.seen, *theirs.seen_before}
    train, validation, test = (
        [f"{c}/{study}" for c, own in enumerate(parts) for study in cohorts[c].studies["study_id"].iloc[own[key]]]
        for key in ("train", "validation", "test")
    )
    write_split(Split(seed, train, validation, test, sorted(seen), sorted(before)), folder)
    return plan, said


def _training_texts(plan: Plan, recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows) -> list[str]:
    """Every text that the model reads or writes, of training studies only."""
    wanted = [plan.text_sections if recipe.inputs.text else (), plan.description_sections]
    texts = []
    for sections in dict.fromkeys(wanted):
        for cohort, own in zip(cohorts, rows, strict=True):
            written = cohort.texts(sections) if sections else []
            texts += [written[r] for r in own] if written else []
    return [text for text in texts if text]
