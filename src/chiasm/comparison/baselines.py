"""Plain baselines trained on the patients and folds of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chiasm.cohort.store import listed
from chiasm.errors import CohortError
from chiasm.progress import say
from chiasm.recipe import Recipe, parse_recipe, read_recipe
from chiasm.run.folder import RunLike, folder_of, read_run
from chiasm.training.train import train

BASELINES = ("baseline-record", "baseline-frozen")


def trained_baselines(run: Path) -> list[Path]:
    """The finished baselines in RUN/baselines."""
    homes = [run / "baselines" / name for name in BASELINES]
    return [home for home in homes if (home / "run.json").is_file() and read_run(home).status == "finished"]


def train_baselines(run: RunLike, names: str | Sequence[str] = BASELINES) -> list[Path]:
    """Train the plain baselines on a run's cohorts, inputs, targets and folds, and return their runs in RUN/baselines.

    One that stands there already is taken as it is, or finished where it was cut off. A baseline none of whose inputs the
    run has is left out, and said so.

    Raises:
        RunError, CohortError: see the message; MissingExtraError: lightgbm or the sentence encoder is not installed.
    """
    run = folder_of(run)
    info = read_run(run)
    asked = parse_recipe(info.requested, where=str(run / "run.json"))  # what decided the folds
    found = []
    for name in listed(names):
        recipe = match_baseline(read_recipe(name), asked)
        if recipe is None:
            say(f"{name} is left out: the run has none of its inputs")
            continue
        home = run / "baselines" / name
        if home not in trained_baselines(run):
            say(f"{name} on the same patients and folds")
            home.parent.mkdir(exist_ok=True)
            cohorts = [Path(recorded.path) for recorded in info.cohorts]
            resume = (home / "run.json").is_file()
            train(recipe, cohorts, home, resume=resume, folds=info.folds, repeats=info.repeats)
        found.append(home)
    if not found:
        raise CohortError("no baseline can be trained", got=f"inputs of the run: {asked.inputs}")
    return found


def match_baseline(baseline: Recipe, asked: Recipe) -> Recipe | None:
    """A baseline that is given what a run was given: its inputs (sections, columns, size), targets, labels and seed."""
    inputs: dict[str, Any] = {}
    for modality, own in baseline.inputs:
        theirs = getattr(asked.inputs, modality)
        taken = {"image": ("size",), "text": ("sections",), "record": ("columns", "opt_in")}[modality]
        inputs[modality] = own and theirs and own.model_copy(update={key: getattr(theirs, key) for key in taken})
    if not any(inputs.values()):
        return None
    return baseline.model_copy(
        update={
            "inputs": baseline.inputs.model_copy(update=inputs),
            "targets": asked.targets,
            "train": baseline.train.model_copy(update={"seed": asked.train.seed}),
            "evaluate": asked.evaluate,
        }
    )
