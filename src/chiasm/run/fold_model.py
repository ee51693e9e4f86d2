"""The trained models of a run, and what they answer: arrays, before anyone looks at them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from chiasm.cohort.store import Cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.images import Shown
from chiasm.encoding.plan import Plan
from chiasm.errors import RunError
from chiasm.geometry import Geometry
from chiasm.models.baseline import Baseline
from chiasm.models.image.territories import Territories
from chiasm.progress import Progress
from chiasm.recipe import Recipe, read_recipe
from chiasm.report.tokenizer import Tokenizer, build_tokenizer
from chiasm.run.answers import Answers, Calibration, calibrated, fitted
from chiasm.run.cohorts import open_recorded
from chiasm.run.folder import read_run, readable
from chiasm.run.model import Model, build_heads, build_model
from chiasm.runtime.cache import Levels, frozen_features

SPLITS = ("train", "validation", "test")


@dataclass
class FoldModel:
    """One trained model of a run (a run without folds has one).

    Attributes:
        split: "train", "validation", "test" -> indices in the index space of `loader`; empty for another cohort.
    """

    folder: Path
    recipe: Recipe
    plan: Plan
    model: Model | Baseline
    loader: Loader
    describer: Tokenizer
    calibration: Calibration
    split: dict[str, NDArray[np.int64]]

    def image(self, index: int, image_row: int) -> tuple[str, Geometry]:
        """Id and geometry of an image: row `image_row` in the table of the cohort of study `index`."""
        cohort = self.loader.cohorts[self.loader.cohort_of(index)[0]]
        return str(cohort.images["image_id"].iloc[image_row]), cohort.geometry(image_row)

    def probabilities(self, answers: Answers) -> dict[str, NDArray[np.float64]]:
        """As `calibrated`: probabilities, or values in the target's own units for regression."""
        return calibrated(answers.logits, answers.shown, self.plan, self.calibration)

    def thresholds(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: where answers of studies that show these inputs are cut; NaN where validation could not say."""
        return fitted(self.calibration, "threshold", target, self.plan.targets[target], shown, float("nan"))

    def radii(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: how strange a truth may be to be held likely (`chiasm.metrics.conformal`); NaN as above."""
        return fitted(self.calibration, "radius", target, self.plan.targets[target], shown, float("nan"))


def load_fold_models(run: Path, cohorts: Sequence[Cohort] | None = None) -> list[FoldModel]:
    """The models of a finished run, over the cohorts they were trained on or over others.

    Raises:
        RunError: unfinished or damaged run.
        CohortError: the run's cohort is gone or has changed, or another cohort's images have another size.
    """
    info = read_run(run)
    if info["status"] != "finished":
        raise RunError(
            "the run is not finished",
            got=f"status {info['status']}",
            where=str(run),
            remedy="chiasm train ... --resume continues it",
        )
    for name in info["fold_models"]:
        with readable(run / name):
            (run / name / "calibration.json").resolve(strict=True)  # or every answer would silently be uncalibrated
    own = cohorts is None
    if cohorts is None:
        cohorts = [open_recorded(entry) for entry in info["cohorts"]]
    return [load_fold_model(run / name, cohorts, own) for name in info["fold_models"]]


def read_plans(run: Path) -> list[Plan]:
    """The plan of each model of a run.

    Raises:
        RunError: no run, or a damaged one.
    """
    folders = [run / str(name) for name in read_run(run)["fold_models"]]
    with readable(run):
        return [Plan.from_json((folder / "plan.json").read_text("utf-8")) for folder in folders]


def load_fold_model(folder: Path, cohorts: Sequence[Cohort], own: bool = True, weights: bool = True) -> FoldModel:
    """One model of a run with a loader over `cohorts`; `own` = they are those of its split."""
    calibration: Calibration = {}
    with readable(folder):
        recipe_file = (folder / "recipe.yaml").resolve(strict=True)
        plan = Plan.from_json((folder / "plan.json").read_text("utf-8"))
        describer = Tokenizer.from_json((folder / "tokenizer.json").read_text("utf-8"))
        names = json.loads((folder / "split.json").read_text("utf-8"))
        if (folder / "calibration.json").is_file():
            calibration = json.loads((folder / "calibration.json").read_text("utf-8"))
    recipe = read_recipe(recipe_file)
    text = recipe.inputs.text
    reader = build_tokenizer(text, describer) if text is not None else None
    torch.manual_seed(int(names["seed"]))
    model = build_model(recipe, plan, len(reader) if reader is not None else 0, len(describer))
    if plan.atlas and not weights:
        assert cohorts[0].atlas is not None
        for module in model.modules():
            if isinstance(module, Territories):
                module.place(cohorts[0].atlas)
    if weights:
        with readable(folder / "weights.safetensors"):
            state = load_file(folder / "weights.safetensors")
            model.restore(state) if isinstance(model, Baseline) else model.load_state_dict(state)
    model.eval().to(find_device())
    teachers = {name: taught for name, head in build_heads(recipe, plan).items() if (taught := head.teach(cohorts))}
    loader = Loader(
        cohorts,
        plan,
        reader,
        features=_features(model, recipe, cohorts, plan),
        describer=describer,
        teachers=teachers if own else None,
    )
    split = {}
    if own:
        where = {study: index for index, study in enumerate(loader.keys)}
        split = {s: np.array([where[study] for study in names[s]], dtype=np.int64) for s in SPLITS}
    return FoldModel(folder, recipe, plan, model, loader, describer, calibration, split)


def find_device() -> torch.device:
    """Where models answer: the first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _features(model: Model | Baseline, recipe: Recipe, cohorts: Sequence[Cohort], plan: Plan) -> list[Levels] | None:
    """Cached maps of a frozen backbone for each cohort, or None where images are computed afresh."""
    encoder = model.image_encoder if recipe.inputs.image is not None and recipe.train.cache_features else None
    if encoder is None or not encoder.frozen:
        return None
    assert plan.image_shape is not None
    encoder.to(find_device())
    levels = []
    for cohort in cohorts:
        pixels = Shown(cohort, len(plan.image_shape), plan.intensity, len(plan.channels))
        seen = cohort.hash if plan.channels == ("gray",) else f"{cohort.hash} {';'.join(plan.channels)}"
        with Progress("frozen features", len(pixels)) as bar:
            levels.append(frozen_features(encoder, pixels, seen, cohort.path / "cache", bar.advance))
    return levels
