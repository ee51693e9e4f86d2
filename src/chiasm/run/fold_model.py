"""The trained models of a run, and what they answer: arrays, before anyone looks at them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from chiasm.cohort.store import Cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.images import Shown
from chiasm.encoding.levels import answers as answers_of
from chiasm.encoding.plan import Plan
from chiasm.errors import RunError, check_schema
from chiasm.models.assemble import Model, build_model
from chiasm.models.baseline import Baseline
from chiasm.models.image.territories import Territories
from chiasm.progress import Progress
from chiasm.recipe import Recipe, read_recipe
from chiasm.report.tokenizer import Tokenizer, build_tokenizer
from chiasm.run.cohorts import open_recorded
from chiasm.runtime.cache import Levels, frozen_features
from chiasm.study import Kind
from chiasm.tensors import Batch

SCHEMA = 3
SPLITS = ("train", "validation", "test")
Calibration = dict[str, dict[str, dict[str, Any]]]
"""target -> label -> {"temperature", "threshold", "radius", "map_threshold", "shown"}, each where it could be fitted.
"shown": inputs ("image+record") -> {"temperature", "threshold", "radius"} of studies that show just these."""


@dataclass
class Answers:
    """What a model says of some studies, before calibration.

    Attributes:
        indices: [n] studies, in the index space of the loader.
        logits: target -> [n, L] (regression targets: standardized values), or [n, L, Q] of leveled ones.
        shown: [n] which modalities the model was shown: "image+record", "" for none.
        maps: [m, C, *grid] logits of every image, or None; map_index: [m, 2] study index and row in `images`.
        descriptions: one text a study, or None.
    """

    indices: NDArray[np.int64]
    logits: dict[str, NDArray[np.float32]]
    shown: NDArray[np.str_]
    maps: NDArray[np.float16] | None = None
    map_index: NDArray[np.int64] | None = None
    descriptions: list[str] | None = None


@dataclass
class Member:
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

    def probabilities(self, answers: Answers) -> dict[str, NDArray[np.float64]]:
        """As `calibrated`: probabilities, or values in the target's own units for regression."""
        return calibrated(answers.logits, answers.shown, self.plan, self.calibration)

    def thresholds(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: where answers of studies that show these inputs are cut; NaN where validation could not say."""
        return fitted(self.calibration, "threshold", target, self.plan.targets[target], shown, float("nan"))

    def radii(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: how strange a truth may be to be held likely (`chiasm.metrics.conformal`); NaN as above."""
        return fitted(self.calibration, "radius", target, self.plan.targets[target], shown, float("nan"))


def fitted(
    calibration: Calibration, what: str, target: str, labels: Sequence[str], shown: NDArray[np.str_], default: float
) -> NDArray[np.float64]:
    """[n, L]: what validation gave for the inputs a study shows; for inputs it could not judge, what it gave for all."""
    own = [calibration.get(target, {}).get(label, {}) for label in labels]
    rows = {s: [fit.get("shown", {}).get(s, fit).get(what, default) for fit in own] for s in np.unique(shown).tolist()}
    return np.array([rows[s] for s in shown.tolist()], np.float64).reshape(len(shown), len(labels))


def calibrated(
    logits: dict[str, NDArray[np.float32]], shown: NDArray[np.str_], plan: Plan, calibration: Calibration
) -> dict[str, NDArray[np.float64]]:
    """Logits of each target -> probabilities at the fitted temperature, or values in the target's own units.

    [n, L], and [n, L, Q] of leveled targets: of each level, or of no event until the end of each interval.

    Args:
        shown: [n] inputs of each study: a model that sees less is less sure, so each set has a temperature of its own.
    """
    result = {}
    for target, values in logits.items():
        values = values.astype(np.float64)
        if plan.kinds[target] is Kind.BINARY:
            t = fitted(calibration, "temperature", target, plan.targets[target], shown, 1.0)
            result[target] = 1.0 / (1.0 + np.exp(-values / t))
        elif plan.kinds[target].leveled:
            t = fitted(calibration, "temperature", target, plan.targets[target], shown, 1.0)
            result[target] = answers_of(values, plan.kinds[target], t[:, :, None])
        else:
            mean, std = np.array(plan.scaling[target]).T
            result[target] = values * std + mean
    return result


def read_run(run: Path) -> dict[str, Any]:
    """The run's `run.json`.

    Raises:
        RunError: no run, an unfinished one, or one of another schema version.
    """
    path = run / "run.json"
    if not path.is_file():
        raise RunError(
            "this is not a run",
            expected="a folder written by chiasm train, with run.json",
            where=str(run),
            remedy="chiasm train RECIPE COHORT --out RUN",
        )
    with _readable(path):
        info: dict[str, Any] = dict(json.loads(path.read_text("utf-8")))
    writer = info.get("versions", {}).get("chiasm", "of an unknown version")
    remedy = f"use chiasm {writer}, which wrote it, or train again"
    check_schema(info.get("schema"), SCHEMA, RunError, what="the run is", where=str(path), remedy=remedy)
    return info


@contextmanager
def _readable(where: Path) -> Iterator[None]:
    """What a missing, cut off or foreign file of a run raises, as a `RunError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(
            "the run is damaged",
            expected="the files that chiasm train wrote",
            got=type(error).__name__,
            where=str(where),
            remedy="copy the run again, or train again",
        ) from None


def load_members(run: Path, cohorts: Sequence[Cohort] | None = None) -> list[Member]:
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
    for name in info["members"]:
        with _readable(run / name):
            (run / name / "calibration.json").resolve(strict=True)  # or every answer would silently be uncalibrated
    own = cohorts is None
    if cohorts is None:
        cohorts = [open_recorded(entry) for entry in info["cohorts"]]
    return [load_member(run / name, cohorts, own) for name in info["members"]]


def read_plans(run: Path) -> list[Plan]:
    """The plan of each model of a run.

    Raises:
        RunError: no run, or a damaged one.
    """
    folders = [run / str(name) for name in read_run(run)["members"]]
    with _readable(run):
        return [Plan.from_json((folder / "plan.json").read_text("utf-8")) for folder in folders]


def load_member(folder: Path, cohorts: Sequence[Cohort], own: bool = True, weights: bool = True) -> Member:
    """One model of a run with a loader over `cohorts`; `own` = they are those of its split."""
    calibration: Calibration = {}
    with _readable(folder):
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
        with _readable(folder / "weights.safetensors"):
            state = load_file(folder / "weights.safetensors")
            model.restore(state) if isinstance(model, Baseline) else model.load_state_dict(state)
    model.eval()
    loader = Loader(cohorts, plan, reader, features=_features(model, recipe, cohorts, plan), describer=describer)
    split = {}
    if own:
        where = {study: index for index, study in enumerate(loader.keys)}
        split = {s: np.array([where[study] for study in names[s]], dtype=np.int64) for s in SPLITS}
    return Member(folder, recipe, plan, model, loader, describer, calibration, split)


def _features(model: Model | Baseline, recipe: Recipe, cohorts: Sequence[Cohort], plan: Plan) -> list[Levels] | None:
    """Cached maps of a frozen backbone for each cohort, or None where images are computed afresh."""
    encoder = model.image_encoder if recipe.inputs.image is not None and recipe.train.cache_features else None
    if encoder is None or not encoder.frozen:
        return None
    assert plan.image_shape is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device)
    levels = []
    for cohort in cohorts:
        pixels = Shown(cohort, len(plan.image_shape), plan.intensity, len(plan.channels))
        seen = cohort.hash if plan.channels == ("gray",) else f"{cohort.hash} {';'.join(plan.channels)}"
        with Progress("frozen features", len(pixels)) as bar:
            levels.append(frozen_features(encoder, pixels, seen, cohort.path / "cache", bar.advance))
    encoder.cpu()
    return levels


def answer(
    member: Member,
    indices: NDArray[np.int64],
    *,
    subset: Sequence[str] | None = None,
    shuffled: str | None = None,
    hidden_columns: Sequence[str] = (),
    describe: bool = False,
    maps: bool = True,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """Run the model on studies.

    Args:
        subset: the modalities it may see, all if None; an absent one is a mask, never a black image.
        shuffled: "text" or "image": each study sees that modality of another patient (a control).
        hidden_columns: of the record, taken as not observed.
        describe: also generate descriptions.
        maps: also keep the localization maps; those of swapped images are nobody's, and are not kept.
    """
    model, loader = member.model, member.loader
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    partner = _partners(loader, indices) if shuffled else indices
    logits: dict[str, list[NDArray[np.float32]]] = {target: [] for target in member.plan.targets}
    grids, places = [], []
    shown: list[str] = []
    texts: list[str] = []
    with torch.no_grad():
        for start in range(0, len(indices), batch_size):
            here = indices[start : start + batch_size]
            batch = loader.batch(here)
            if shuffled:
                batch = _swap(batch, loader.batch(partner[start : start + batch_size]), shuffled)
            batch.description_ids = batch.description_mask = None  # nothing to teach
            if hidden_columns:
                batch = _without_columns(batch, member.plan, hidden_columns)
            if subset is not None:
                no = torch.zeros(len(batch), dtype=torch.bool)
                batch = batch.keep({m: no for m in model.modalities if m not in subset})
            shown += inputs_shown(batch, model.modalities)
            batch = batch.to(device)
            outputs = model(batch)
            for target, values in outputs.logits.items():
                logits[target].append(values.float().cpu().numpy())
            if maps and shuffled != "image" and outputs.map_logits is not None and batch.image_mask is not None:
                mask = batch.image_mask.cpu()
                grids.append(outputs.map_logits.cpu()[mask].half().numpy())
                study, slot = torch.nonzero(mask, as_tuple=True)
                rows = [loader.image_rows(int(here[s]))[int(n)] for s, n in zip(study, slot, strict=True)]
                places.append(np.stack([here[study.numpy()], np.array(rows, dtype=np.int64)], axis=1))
            options = member.recipe.heads.description
            if describe and isinstance(model, Model) and model.decoder is not None and options is not None:
                ids = model.describe(batch, options.beams, options.max_tokens).cpu()
                texts.extend(member.describer.decode(row) for row in ids.tolist())
            if progress is not None:
                progress(len(here))
    model.cpu()
    return Answers(
        indices,
        {t: np.concatenate(v) if v else np.zeros((0, *member.plan.shape(t)), np.float32) for t, v in logits.items()},
        np.array(shown, np.str_),
        np.concatenate(grids) if grids else None,
        np.concatenate(places) if places else None,
        texts if describe and model.decoder is not None else None,
    )


def _without_columns(batch: Batch, plan: Plan, hidden: Sequence[str]) -> Batch:
    """A copy in which these columns of the record were not observed."""
    observed, codes = batch.record_observed, batch.record_codes
    if observed is not None:
        observed = observed & torch.tensor([name not in hidden for name in plan.numeric])
    if codes is not None:
        codes = codes * torch.tensor([int(name not in hidden) for name in plan.categories])
    return replace(batch, record_observed=observed, record_codes=codes)


def inputs_shown(batch: Batch, modalities: Sequence[str]) -> list[str]:
    """What each study of a batch shows of a model's inputs, as the prefix of an arm: "image+record"."""
    present = batch.present()
    here = [m for m in modalities if m in present]
    flags = torch.stack([present[m] for m in here], dim=1) if here else torch.zeros(len(batch), 0)
    return ["+".join(m for m, there in zip(here, row, strict=True) if there) for row in flags.tolist()]


def _partners(loader: Loader, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each study one of another patient; of a lone patient, another of its own.

    Patients stand in random order, and each study moves back by the largest number of studies of a patient, but, where one
    patient has more than half of them, never once around to itself.
    """
    names, number = np.unique(np.asarray(loader.patient_ids)[indices], return_inverse=True)
    rank = np.random.default_rng(0).permutation(len(names))[number]
    order = np.argsort(rank, kind="stable")
    n, sizes = len(indices), np.bincount(rank, minlength=1)
    own, last = (
        sizes[rank[order]],
        (np.cumsum(sizes) - sizes)[rank[order]] - 1,
    )  # last: of the patient who stands before
    back = (last - np.arange(n) + sizes.max()) % np.maximum(1, n - own)
    partner = np.empty_like(indices)
    partner[order] = indices[order[(last - back) % max(1, n)]]
    return partner


def _swap(batch: Batch, other: Batch, modality: str) -> Batch:
    fields = {
        "text": ("token_ids", "token_mask"),
        "image": ("images", "image_mask", "view", "features", "facts"),
    }[modality]
    return replace(batch, **{name: getattr(other, name) for name in fields})
