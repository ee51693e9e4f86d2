"""The figure of a configuration inside an outer fold: from patients of its training and validation alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.atomic import whole_folder, write_json
from chiasm.cohort.store import Cohort
from chiasm.encoding.strata import find_strata
from chiasm.errors import RecipeError, RunError
from chiasm.evaluation.arms import read_question
from chiasm.evaluation.score import score_arm
from chiasm.evaluation.spec import Arm, read_truth
from chiasm.heads.spec import Pool
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.name import MetricName, metric_name
from chiasm.recipe import Recipe
from chiasm.run.fold_model import load_fold_model
from chiasm.run.infer import Ask, infer
from chiasm.study import Kind
from chiasm.training.folds import Parts, begin_fold, split_patients
from chiasm.training.train import fit_fold

FIGURES: dict[Kind, tuple[str, ...]] = {
    Kind.BINARY: ("auroc", "auprc"),
    Kind.REGRESSION: ("r", "mae"),
    Kind.ORDINAL: ("qwk", "r", "mae", "rps"),
    Kind.MULTICLASS: ("auroc", "accuracy", "balanced_accuracy"),
    Kind.SURVIVAL: ("c_index", "c_index_ipcw"),
}
"""What may be chosen by: of each kind the figures that need no threshold and no temperature, the leading one first."""
APART = 500_000
"""What lies between the seed of an outer fold and that of its inner folds."""


def choose_metric(recipe: Recipe, cohorts: Sequence[Cohort], asked: str | None = None) -> MetricName:
    """The figure by which is chosen: of the first target that the cohorts have, over its labels.

    Args:
        asked: another figure of that target than the leading one, as "auprc"; of an ordinal one also "auroc_gt_LEVEL".

    Raises:
        RecipeError: no target is known, or the figure is none of its kind.
    """
    found = [(t, c.targets[t]) for t in recipe.targets for c in cohorts if t in c.targets]
    if not found:
        raise RecipeError(
            "the cohort has no target of the recipe",
            expected=", ".join(recipe.targets),
            got=", ".join(t for c in cohorts for t in c.targets),
        )
    target, info = found[0]
    known = FIGURES[info.kind]
    metric = asked or known[0]
    if metric not in known and not (info.kind is Kind.ORDINAL and metric.startswith("auroc_gt_")):
        raise RecipeError(
            f"{target} cannot be chosen by {metric}",
            expected=f"{', '.join(known)}: of a target of kind {info.kind}, without a threshold or a temperature",
            got=metric,
            remedy="name another --metric, or put another target first: --set targets=[TARGET, ...]",
        )
    labels = recipe.targets[target].labels or info.labels
    label = "macro" if len(labels) > 1 else None if list(labels) == [target] else labels[0]
    return metric_name(target, label, metric)


def inner_folds(recipe: Recipe, cohorts: Sequence[Cohort], outer: Parts, seed: int, folds: int) -> Iterator[Parts]:
    """Train, validation and test of each inner fold: of the training and validation patients of an outer fold."""
    among = [np.sort(np.concatenate([part["train"], part["validation"]])) for part in outer]
    strata, _ = find_strata(recipe, cohorts, among)
    for _, parts, _ in split_patients(cohorts, folds, 1, seed + APART, strata, among):
        yield parts


def score_configuration(
    recipe: Recipe,
    cohorts: Sequence[Cohort],
    inner: Sequence[Parts],
    seed: int,
    metric: MetricName,
    home: Path,
    progress: Callable[[], None],
) -> list[float | None]:
    """Train and score a configuration in each inner fold; what was scored in `home` before is taken as it is.

    Args:
        progress: called before each training; what it raises ends the work.

    Returns:
        the figure of each inner fold; None where it is undefined there.

    Raises:
        RecipeError, TrainingError: the configuration cannot be trained. RunError: it has no such figure.
    """
    figures = []
    for number, parts in enumerate(inner):
        folder = home / f"inner-{number}"
        scored = folder / "score.json"
        if not scored.is_file():
            progress()
            if not folder.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                with whole_folder(folder, RunError) as partial:
                    begin_fold(recipe, cohorts, partial, parts, seed + APART + number)
            if not (folder / "weights.safetensors").is_file():
                fit_fold(folder, cohorts)
            write_json(scored, {"figure": score_fold(folder, cohorts, metric)})
            for path in folder.iterdir():  # the figure is what is left of a training
                if path != scored:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        figures.append(json.loads(scored.read_text("utf-8"))["figure"])
    return figures


def score_fold(folder: Path, cohorts: Sequence[Cohort], metric: MetricName) -> float | None:
    """A figure of a fold model on the patients that it tests; None where it is undefined.

    Raises:
        RunError: there is no such figure.
    """
    fold_model = load_fold_model(folder).over(cohorts, own=True)
    rows = fold_model.split["test"]
    (answers,) = infer(fold_model, rows, [Ask()])
    question = read_question([fold_model], external=False)
    where = np.array([fold_model.loader.cohort_of(int(row)) for row in rows], np.int64).reshape(-1, 2)
    pool = Pool(fold_model.loader.cohorts, where[:, 0], where[:, 1], np.zeros((len(rows), 1), np.int64))
    truth = read_truth(question, pool, ())
    arm = Arm(fold_model.probabilities(answers))
    scores = score_arm(question, truth, arm, Resamples.draw(np.arange(len(rows)), resamples=0))
    found = {n: e for n, e in scores.items() if (n.target, n.metric, n.prefix) == (metric.target, metric.metric, "")}
    if not found:
        raise RunError(
            f"a model of this target has no {metric.metric}",
            expected=", ".join(dict.fromkeys(n.metric for n in scores if n.target == metric.target)) or metric.target,
            remedy="choose by another --metric",
        )
    own = found.get(metric) or found.get(metric._replace(label="macro")) or next(iter(found.values()))
    value = float(own.draws[0])
    return value if np.isfinite(value) else None


def mean_figure(figures: Sequence[float | None]) -> float | None:
    """The mean over the inner folds in which it is defined; None where it is in none."""
    known: NDArray[np.float64] = np.array([each for each in figures if each is not None], np.float64)
    return float(known.mean()) if len(known) else None
