"""The trained models of a run, and what they answer: arrays, before anyone looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from chiasm.cohort.store import Cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.plan import Plan
from chiasm.errors import ChiasmError, RecipeError, RunError, first_line
from chiasm.geometry import Geometry
from chiasm.metrics.novelty import Cloud
from chiasm.models.baseline import Baseline
from chiasm.models.image.encoder import Extractor
from chiasm.models.text.encoder import TextEncoder, TextExtractor
from chiasm.recipe import Recipe, read_recipe
from chiasm.report.tokenizer import PretrainedTokenizer, Tokenizer, build_tokenizer
from chiasm.run.answers import Answers, Calibration, calibrated, fitted, read_calibration
from chiasm.run.cohorts import open_recorded
from chiasm.run.folder import check_run, read_run, readable
from chiasm.run.model import Model, build_heads, build_model
from chiasm.run.novelty import Novelty, read_novelty
from chiasm.run.split import read_split
from chiasm.runtime.cache import CachedFeatures
from chiasm.runtime.features import FeatureProvider
from chiasm.runtime.torch import Memo, TorchFeatures
from chiasm.tensors import Batch

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class FoldModel:
    """One trained model of a run, as the run stores it (a run without folds has one). `over` brings studies to it.

    Attributes:
        reader: of reports, None of a model that reads none; describer: of the descriptions it writes.
        novelty, cloud: what its training looked like; None of a run that was trained before this was kept, and no cloud where
            images are not read or too few.
        studies: "train", "validation", "test" -> those of its training, "COHORT NUMBER/STUDY ID".
    """

    folder: Path
    recipe: Recipe
    plan: Plan
    model: Model | Baseline
    reader: Tokenizer | PretrainedTokenizer | None
    describer: Tokenizer
    calibration: Calibration
    novelty: Novelty | None
    cloud: Cloud | None
    studies: dict[str, list[str]]

    def over(self, cohorts: Sequence[Cohort], *, own: bool = False, memo: Memo | None = None) -> FoldModelOver:
        """This model, the same weights, with a loader of these cohorts.

        Args:
            own: they are those it was trained on. memo: shared with other fold models over the same cohorts in memory.

        Raises:
            CohortError: images of another size, or columns and targets of another kind.
        """
        features = _features(self, cohorts, memo)
        heads = build_heads(self.recipe, self.plan) if own else {}
        teachers = {name: taught for name, head in heads.items() if (taught := head.teach(cohorts))}
        loader = Loader(cohorts, self.plan, self.reader, features=features, describer=self.describer, teachers=teachers)
        split = {}
        if own:
            where = {study: index for index, study in enumerate(loader.keys)}
            split = {s: np.array([where[study] for study in self.studies[s]], dtype=np.int64) for s in SPLITS}
        stored = {field.name: getattr(self, field.name) for field in fields(FoldModel)}
        return FoldModelOver(**stored, loader=loader, split=split)

    def probabilities(self, answers: Answers) -> dict[str, NDArray[np.float64]]:
        """As `calibrated`: probabilities, or values in the target's own units for regression."""
        return calibrated(answers.logits, answers.shown, self.plan, self.calibration)

    def thresholds(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: where answers of studies that show these inputs turn to yes; NaN where validation could not say."""
        return fitted(self.calibration, "threshold", target, self.plan.targets[target], shown, float("nan"))

    def quantiles(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        """[n, L]: the nonconformity up to which a level is in the prediction set (`chiasm.metrics.conformal`); NaN as above."""
        return fitted(self.calibration, "quantile", target, self.plan.targets[target], shown, float("nan"))


@dataclass(frozen=True)
class FoldModelOver(FoldModel):
    """A fold model over cohorts: what can be asked.

    Attributes:
        split: "train", "validation", "test" -> indices in the index space of `loader`; empty over other cohorts.
    """

    loader: Loader
    split: dict[str, NDArray[np.int64]]

    def image(self, index: int, image_row: int) -> tuple[str, Geometry]:
        """Id and geometry of an image: row `image_row` in the table of the cohort of study `index`."""
        cohort = self.loader.cohorts[self.loader.cohort_of(index)[0]]
        return str(cohort.images["image_id"].iloc[image_row]), cohort.geometry(image_row)


def load_fold_models(run: Path) -> list[FoldModel]:
    """The models of a finished run, on their device, ready to answer.

    Raises:
        RunError: unfinished or damaged run.
    """
    info = read_run(run)
    if info.status != "finished":
        raise RunError(
            "the run is not finished",
            got=f"status {info.status}",
            where=str(run),
            remedy="chiasm train ... --resume continues it",
        )
    calibration = read_calibration(run / "calibration.json")  # of new patients
    fold_models = []
    for name in info.fold_models:
        novelty, cloud = read_novelty(run / name)
        fold_models.append(replace(load_fold_model(run / name), calibration=calibration, novelty=novelty, cloud=cloud))
    check_run(run)
    _share([fold_model.model for fold_model in fold_models])
    return fold_models


def _share(models: Sequence[Model | Baseline]) -> None:
    """Fold models whose frozen encoders have the same weights hold one encoder: it is in memory once, and asked once."""
    first = frozen_encoders(models[0])
    for model in models[1:]:
        for modality, encoder in frozen_encoders(model).items():
            if modality in first and _equal(first[modality].backbone, encoder.backbone):
                encoder.backbone = first[modality].backbone


def frozen_encoders(model: Model | Baseline) -> dict[str, Extractor | TextExtractor]:
    """Modality -> its encoder, of those whose weights stand."""
    encoders = ((m, e) for m, e in model.encoders.items() if isinstance(e, Extractor | TextExtractor))
    return {modality: encoder for modality, encoder in encoders if encoder.frozen}


def _equal(a: nn.Module, b: nn.Module) -> bool:
    if getattr(a, "settings", "") != getattr(b, "settings", ""):
        return False
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def over_own_cohorts(run: Path, fold_models: Sequence[FoldModel]) -> list[FoldModelOver]:
    """The models of a run over the cohorts they were trained on, each calibrated for the patients it tests.

    Raises:
        CohortError: a cohort is gone or has changed. RunError: a calibration is missing.
    """
    cohorts = [open_recorded(recorded) for recorded in read_run(run).cohorts]
    return [
        replace(each, calibration=read_calibration(each.folder / "calibration.json")).over(cohorts, own=True)
        for each in fold_models
    ]


def load_fold_model(folder: Path) -> FoldModel:
    """One trained model of a run; before it is calibrated, its answers are as they come.

    Raises:
        RunError: the folder is damaged; or, of a baseline, the frozen encoders that it does not keep are gone or have changed.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays
        fold_model = read_untrained(folder)
    model = fold_model.model
    if isinstance(model, Baseline):
        _fill(fold_model)
    with readable(folder / "weights.safetensors"):
        state = load_file(folder / "weights.safetensors")
        model.restore(state) if isinstance(model, Baseline) else model.load_state_dict(state)
    model.eval().to(find_device())
    return fold_model


def begin_fold_model(
    folder: Path, cohorts: Sequence[Cohort], encoders: Mapping[str, Tensor] | None = None
) -> FoldModelOver:
    """One model of a run over its cohorts, as training begins with it: its first weights follow from the split's seed.

    Args:
        encoders: what encoders begin with instead, by "encoders.MODALITY.NAME".

    Raises:
        RunError: the pretrained weights are gone, or have changed since the run was begun.
        RecipeError: an encoder does not take images or texts of this size.
    """
    fold_model = read_untrained(folder)
    _fill(fold_model)
    _try_encoders(fold_model)
    if fold_model.plan.atlas:
        assert cohorts[0].atlas is not None and fold_model.model.image_encoder is not None
        fold_model.model.image_encoder.place(cohorts[0].atlas)
    if encoders:  # before features are cached: they are named by the weights
        own = fold_model.model.state_dict()  # one fold may lack a modality that others have
        fold_model.model.load_state_dict({**own, **{name: x for name, x in encoders.items() if name in own}})
    fold_model.model.eval().to(find_device())
    return fold_model.over(cohorts, own=True)


def blank_batch(plan: Plan) -> Batch:
    """A study with one black image and a text of as many tokens as are read: what an encoder must be able to take."""
    blank = Batch(torch.zeros(1, dtype=torch.long))
    if plan.image_shape is not None:
        blank.images = torch.zeros(1, 1, len(plan.channels), *plan.image_shape, dtype=torch.uint8)
        blank.image_mask, blank.view = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long)
    blank.token_ids = torch.ones(1, plan.max_tokens, dtype=torch.long)
    blank.token_mask = torch.ones(1, plan.max_tokens, dtype=torch.bool)
    return blank


@torch.no_grad()
def _try_encoders(fold_model: FoldModel) -> None:
    """Put a blank study through the encoders, once: what does not fit is told before training.

    Raises:
        RecipeError: an encoder does not take images or texts of this size.
    """
    model, plan = fold_model.model.eval(), fold_model.plan
    blank = blank_batch(plan)
    size = "x".join(map(str, plan.image_shape or ()))
    given = {
        "image": (f"images of {size}", "import with another --size or --volume-size, or choose another encoder"),
        "text": (f"texts of {plan.max_tokens} tokens", "--set inputs.text.max_tokens to what the model reads"),
    }
    for modality in set(given) & set(model.modalities):
        what, remedy = given[modality]
        try:
            found = model.encode(blank, (modality,))[modality].values
        except ChiasmError:
            raise
        except Exception as error:  # noqa: BLE001  an encoder of any kind
            got = first_line(error)
        else:
            if torch.isfinite(found).all():
                continue
            got = "values that are not finite"
        raise RecipeError(
            f"the {modality} encoder does not take {what}",
            got=got,
            where=f"inputs.{modality}.encoder: {getattr(fold_model.recipe.inputs, modality).encoder}",
            remedy=f"{remedy}; docs/encoders.md has a table of what was tried",
        )


@dataclass(frozen=True)
class Settings:
    """What a folder says of a model before it is built; attributes as of `FoldModel`."""

    recipe: Recipe
    plan: Plan
    describer: Tokenizer
    seed: int
    studies: dict[str, list[str]]


def read_settings(folder: Path) -> Settings:
    """What a folder says of a model before it is built.

    Raises:
        RunError: the folder is damaged.
    """
    with readable(folder):
        recipe_file = (folder / "recipe.yaml").resolve(strict=True)
        plan = Plan.from_json((folder / "plan.json").read_text("utf-8"))
        describer = Tokenizer.from_json((folder / "tokenizer.json").read_text("utf-8"))
    split = read_split(folder)
    return Settings(read_recipe(recipe_file), plan, describer, split.seed, split.parts)


def read_untrained(folder: Path) -> FoldModel:
    """What a folder says of a model, before its weights; those of a pretrained encoder are as yet by chance."""
    made = read_settings(folder)
    recipe, plan, describer = _as_kept(made.recipe, folder), made.plan, made.describer
    text = recipe.inputs.text
    reader = build_tokenizer(text, describer) if text is not None else None
    torch.manual_seed(made.seed)
    with readable(folder):
        model = build_model(recipe, plan, len(reader) if reader is not None else 0, len(describer))
    return FoldModel(folder, made.recipe, plan, model, reader, describer, Calibration(), None, None, made.studies)


def keep_encoders(recipe: Recipe, folder: Path) -> list[str]:
    """Write what encoders are built by, but for their weights, into the folder of a fold model: a run owns its encoders.

    Returns:
        sentences on what users must know.

    Raises:
        RecipeError: a pretrained encoder cannot be read whole.
    """
    said: list[str] = []
    for modality in OWNED:
        given = getattr(recipe.inputs, modality)
        if given is not None:
            said += given.part.keep(given.taken, folder / "encoders" / modality)
    return said


OWNED = ("image", "text")
"""Modalities whose encoders may be pretrained."""


def _as_kept(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the folders in which a run keeps its encoders in the place of what they were read from."""
    inputs = recipe.inputs
    for modality in OWNED:
        home, given = folder / "encoders" / modality, getattr(inputs, modality)
        if given is not None and home.is_dir():
            name = given.encoder.partition(":")[0]
            inputs = inputs.model_copy(update={modality: given.model_copy(update={"encoder": f"{name}:{home}"})})
    return recipe.model_copy(update={"inputs": inputs})


def _fill(fold_model: FoldModel) -> None:
    """Give the encoders that the run keeps without weights those that they were begun with.

    Raises:
        RunError: they are gone, or have changed.
    """
    for modality in OWNED:
        home, given = fold_model.folder / "encoders" / modality, getattr(fold_model.recipe.inputs, modality)
        if home.is_dir() and modality in fold_model.model.encoders:
            encoder = fold_model.model.encoders[modality]
            if isinstance(encoder, Extractor):
                encoder.backbone.fill(home, given.taken)
            elif isinstance(encoder, TextEncoder):
                encoder.fill(home, given.weights)


def find_device() -> torch.device:
    """Where models answer: the first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _features(fold_model: FoldModel, cohorts: Sequence[Cohort], memo: Memo | None) -> list[FeatureProvider]:
    """Of each cohort what frozen encoders make of it: kept beside a cohort on disk, computed anew for one in memory."""
    if not fold_model.recipe.train.cache_features:
        return []
    source, channels = TorchFeatures(frozen_encoders(fold_model.model), memo), fold_model.plan.channels
    shown = "" if channels == ("gray",) else f" {';'.join(channels)}"  # windows are the model's
    return [
        source if cohort.in_memory else CachedFeatures(source, cohort.path / "cache", cohort.hash + shown)
        for cohort in cohorts
    ]
