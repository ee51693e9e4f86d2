"""From a recipe and cohorts to a run: plan, fit, calibrate, for one split or for patient folds.

Everything random is keyed: the order and the augmentation of a study by (seed, epoch, index), the rest by torch's state,
which stands in the checkpoint. So a training that was killed and resumed ends with the weights of an unbroken one.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chiasm.atomic import locked, whole_file, whole_folder, write_csv, write_text
from chiasm.checkpoint import SafeCheckpointIO, random_state, read_checkpoint, restore_random_state
from chiasm.cohort.generated import check_texts
from chiasm.cohort.store import Cohort, CohortLike, open_cohorts
from chiasm.encoding.batches import Loader
from chiasm.encoding.strata import find_strata
from chiasm.errors import CohortError, RecipeError, RunError, TrainingError
from chiasm.heads.head import Loss
from chiasm.models.baseline import Baseline, Fit
from chiasm.models.image.augment import augment, uniforms
from chiasm.models.record.encoder import RecordEncoder
from chiasm.objectives.balance import modulate, modulation, truth_scores
from chiasm.progress import Progress, say
from chiasm.recipe import Evaluate, Recipe, read_recipe
from chiasm.run.answers import write_calibration
from chiasm.run.calibrate import calibrate, judge, tell_left_out
from chiasm.run.cohorts import open_recorded, record_cohort
from chiasm.run.fit_novelty import ask_apart, fit_disagreement, fit_novelty
from chiasm.run.fold_model import FoldModelOver, begin_fold_model, blank_batch, load_fold_model
from chiasm.run.folder import Init, Run, RunLike, Trained, folder_of, read_run, seal_run, write_run
from chiasm.run.model import Model
from chiasm.run.novelty import write_novelty
from chiasm.run.split import read_split
from chiasm.tensors import MODALITIES, Batch, Outputs
from chiasm.training.folds import begin_fold, split_patients
from chiasm.training.start import (
    Start,
    check_fit,
    check_overlap,
    find_start,
    open_start,
    starting_weights,
)

ENOUGH_JUDGES = 100
"""Known validation labels below which `keep: auto` does not choose an epoch by them."""

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its advertisements; warnings stay


def train(
    recipe: Recipe | str | Path,
    cohorts: CohortLike | Sequence[CohortLike],
    out: Path | str,
    *,
    resume: bool = False,
    folds: int = 1,
    repeats: int = 1,
    init: RunLike | None = None,
) -> Trained:
    """Train a recipe on cohorts and write a run.

    Args:
        recipe: its name, its file, or as read; what the cohorts lack is switched off and said so in `run.json` ("notes").
        cohorts: one or several, in folders; a target that one of them lacks is masked for its studies.
        out: the run folder, new unless `resume`.
        resume: go on from the last finished epoch of a run that was cut off.
        folds, repeats: K patient folds, R times, instead of the cohort's split, stratified by the recipe's first target. Each
            fold is a model; `evaluate` pools.
        init: a finished run whose encoders those of the same modality begin with; what they read is then read by its words. Its
            fold k begins fold k. To resume, the run folder knows it, and needs it only before the first checkpoint.

    Returns:
        what `run.json` says, and where the run is.

    Raises:
        RunError: another thread trains; `out` exists (or, to resume, does not fit) or another training writes it; the encoders of `init` are other ones.
        InputError: `init` has seen patients of the test part.
        CohortError, RecipeError: see the message; also where this machine lacks the devices.
        TrainingError: a loss that is not finite, with the step named; no target left.
    """
    with one_training():
        return _train(read_recipe(recipe), cohorts, out, resume, folds, repeats, init)


_TRAINS = threading.Lock()
"""Held while a training runs: torch's random state is one for all threads."""


@contextmanager
def one_training() -> Iterator[None]:
    """Keep a second training out of this process, and the caller's random state as it is.

    Raises:
        RunError: another thread trains.
    """
    if not _TRAINS.acquire(blocking=False):
        raise RunError(
            "another training runs in this process, and both would draw from one random state",
            remedy="train one after the other, or each in a process of its own: chiasm train, or ProcessPoolExecutor",
        )
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        _TRAINS.release()


def _train(
    recipe: Recipe,
    cohorts: CohortLike | Sequence[CohortLike],
    out: Path | str,
    resume: bool,
    folds: int,
    repeats: int,
    init: RunLike | None,
) -> Trained:
    opened, out = open_cohorts(cohorts, on_disk=True), Path(out)
    init = None if init is None else folder_of(init)
    if not _is_main():  # a further process of the same training: the first one has prepared everything
        info = read_run(out)
        _fit_all(info, opened, out, init, resume)
        return Trained.at(out, info)
    _check_machine(recipe)
    if resume:
        read_run(out)  # a folder that is no run gets no lock
    with locked(out.with_name(f"{out.name}.lock"), RunError, "another training is writing this run"):
        info = (
            _resume(recipe, opened, out, folds, repeats, init)
            if resume
            else _prepare(recipe, opened, out, folds, repeats, init)
        )
        notes = _fit_all(info, opened, out, init, resume)
        notes += calibrate_folds(out, info, opened)
        info = replace(info, status="finished", notes=tuple(dict.fromkeys([*info.notes, *notes])))
        write_run(out, info)
        seal_run(out, info)
    return Trained.at(out, info)


def _fit_all(info: Run, cohorts: Sequence[Cohort], out: Path, init: Path | None, resume: bool) -> list[str]:
    """Train every fold model that is not trained; sentences on what users must know of it."""
    start, notes = find_start(info, init, out), list[str]()
    for number, name in enumerate(info.fold_models):
        if not (out / name / "weights.safetensors").is_file():
            if len(info.fold_models) > 1 and _is_main():
                say(f"fold {number + 1} of {len(info.fold_models)}")
            try:
                notes += fit_fold(out / name, cohorts, info.init, start)
            except (TrainingError, RecipeError):
                if _is_main() and not resume and not any(out.rglob("*.safetensors")):
                    shutil.rmtree(out)  # nothing was learned yet: the folder would only stand in the way
                raise
    if _is_main():
        for note in dict.fromkeys(notes):
            say(note)
    return notes


def _is_main() -> bool:
    """Lightning starts further processes by running the same command again with LOCAL_RANK set."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _check_machine(recipe: Recipe) -> None:
    """Refuse what Lightning cannot run here before anything is written."""
    devices, strategy = recipe.train.devices, recipe.train.strategy
    if (hasattr(sys, "ps1") or "ipykernel" in sys.modules) and (devices not in (1, "1") or strategy != "auto"):
        raise RecipeError(
            "several processes cannot be started from a notebook or an interactive session",
            expected="train.devices=1 and train.strategy=auto",
            got=f"train.devices={devices}, train.strategy={strategy}",
            remedy='save the recipe (recipe.save("mine.yaml")) and run in a terminal: chiasm train mine.yaml COHORT --out RUN',
        )
    machine = {key: getattr(recipe.train, key) for key in ("precision", "accelerator", "devices", "strategy")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.Trainer(**machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise RecipeError(
            "this machine cannot train so",
            got=", ".join(f"train.{key}={value}" for key, value in machine.items()),
            where=f"Lightning: {str(error).splitlines()[0]}",
            remedy="set train.precision, accelerator, devices or strategy to what Lightning's Trainer knows",
        ) from None


# --- before the first step: splits, plan, tokenizer --------------------------------------------------------------------


def _prepare(recipe: Recipe, cohorts: Sequence[Cohort], out: Path, folds: int, repeats: int, init: Path | None) -> Run:
    if out.exists() and any(out.iterdir()):
        raise RunError(
            "the run folder is not empty",
            expected="a new folder",
            where=str(out),
            remedy="choose another --out, or continue it with --resume",
        )
    if len({cohort.hash for cohort in cohorts}) < len(cohorts):
        raise CohortError("the same cohort is named twice", remedy="name each cohort once")
    start = open_start(init, recipe, folds, repeats) if init is not None else None
    with whole_folder(out, RunError) as home:
        info = _begin(recipe, cohorts, home, folds, repeats, start)
    for note in info.notes:
        say(note)
    return info


def _begin(recipe: Recipe, cohorts: Sequence[Cohort], home: Path, folds: int, repeats: int, start: Start | None) -> Run:
    """Write what each model is trained by, and the run's own `run.json`."""
    fold_models: list[str] = []
    started: list[str] = []
    notes: list[str] = []
    sections: set[str] = set()
    strata, stratified = find_strata(recipe, cohorts) if folds > 1 else (None, "")
    for name, rows, seed in split_patients(cohorts, folds, repeats, recipe.train.seed, strata):
        before = start.folder(name) if start is not None else None
        if before is not None:
            check_overlap(before, cohorts, [r["test"] for r in rows])
        plan, said = begin_fold(recipe, cohorts, home / name, rows, seed, before)
        notes += [note for note in said if note not in notes]  # a fold may lack what another has
        if before is not None:
            own, said = check_fit(home / name, cohorts, before)
            started += [m for m in own if m not in started]
            notes += [note for note in said if note not in notes]
        fold_models.append(name)
        sections |= {*plan.text_sections, *plan.description_sections}
    if start is not None:
        began = f"Its encoders of {', '.join(started)} begin with those of the run {start.path.name}"
        notes.insert(0, f"{began} (weights {start.hash[:12]}): chiasm train --init {start.path}.")
    if folds > 1:
        shutil.copy(home / fold_models[0] / "recipe.yaml", home / "recipe.yaml")
    begun = Init(str(start.path), start.hash, tuple(started)) if start is not None else None
    info = new_run(recipe, cohorts, folds, repeats, stratified, fold_models, sections)
    info = replace(info, notes=tuple(notes), init=begun)
    write_run(home, info)
    return info


def new_run(
    recipe: Recipe,
    cohorts: Sequence[Cohort],
    folds: int,
    repeats: int,
    stratified: str,
    fold_models: Sequence[str],
    sections: set[str],
) -> Run:
    """What run.json says of a run that is begun. `sections`: of reports, those that any of its models reads or writes."""
    return Run(
        recipe=recipe.name,
        cohorts=tuple(record_cohort(c, sections) for c in cohorts),
        seed=recipe.train.seed,
        folds=folds,
        repeats=repeats,
        stratified=stratified,
        fold_models=tuple(fold_models),
        notes=(),
        versions={p: version(p) for p in ("chiasm", "torch", "lightning", "numpy")},
        requested=recipe.model_dump(mode="json"),
        status="training",
    )


def _resume(recipe: Recipe, cohorts: Sequence[Cohort], out: Path, folds: int, repeats: int, init: Path | None) -> Run:
    info = read_run(out)
    asked, begun = f"{folds} folds, {repeats} repeats", f"{info.folds} folds, {info.repeats} repeats"
    if (folds, repeats) != (1, 1) and asked != begun:  # left out, they are the run's own
        raise RunError(
            "the folds are not those this run was begun with",
            expected=begun,
            got=asked,
            where=str(out / "run.json"),
            remedy="leave --folds and --repeats out, or choose another --out",
        )
    if init is not None and info.init is None:
        raise RunError(
            "this run was not begun with the encoders of another",
            got="--init",
            where=str(out / "run.json"),
            remedy="leave --init out, or choose another --out",
        )
    if info.requested != recipe.model_dump(mode="json"):
        raise RunError(
            "the recipe is not the one this run was begun with",
            where=str(out / "run.json"),
            remedy="resume with the same recipe and --set, or choose another --out",
        )
    if [recorded.hash for recorded in info.cohorts] != [cohort.hash for cohort in cohorts]:
        for recorded in info.cohorts:
            open_recorded(recorded)
        raise RunError("these are not the cohorts this run was begun with", where=str(out / "run.json"))
    for recorded, cohort in zip(info.cohorts, cohorts, strict=True):
        check_texts(recorded.texts, cohort.path)
    return info


# --- one model ---------------------------------------------------------------------------------------------------------


def fit_fold(folder: Path, cohorts: Sequence[Cohort], init: Init | None = None, start: Path | None = None) -> list[str]:
    """Train the fold model that `begin_fold` began: its weights are in `folder` at the end.

    Args:
        init, start: the run whose encoders it begins with, and where that is now.

    Returns:
        sentences on what users must know of it.

    Raises:
        RecipeError: an encoder does not take the cohort's images or texts. RunError: pretrained weights have changed.
        TrainingError: a loss that is not finite, or nothing to train or validate on.
    """
    encoders = starting_weights(folder, init, start) if start is not None else {}
    fold_model = begin_fold_model(folder, cohorts, encoders)
    if isinstance(fold_model.model, Baseline):
        _fit_classifiers(fold_model, fold_model.model)
        return []
    _measure(fold_model, fold_model.model, init.modalities if init is not None else ())
    module = TrainingModule(fold_model, fold_model.model)
    _optimize(fold_model, module)
    return module.notes


def calibrate_folds(out: Path, info: Run, cohorts: Sequence[Cohort]) -> list[str]:
    """Fit what validation decides: of each fold model for the patients it tests, and of the run for all others; and
    what training looked like, for studies of another kind to be told.

    Returns:
        a sentence for what too few patients could decide.
    """
    options = Evaluate(**info.requested["evaluate"])
    judged, looked, apart = [], [], []
    with Progress("calibration", len(info.fold_models)) as bar:
        for name in info.fold_models:
            fold_model = load_fold_model(out / name).over(cohorts, own=True)
            judged.append(judge(fold_model))
            looked.append(fit_novelty(fold_model))
            apart.append(ask_apart(fold_model))
            bar.advance()
    for number, name in enumerate(info.fold_models if info.folds > 1 else ()):
        repeat = judged[number // info.folds * info.folds :][: info.folds]
        write_calibration(out / name / "calibration.json", calibrate(repeat, options, judged[number].tested))
    calibration = calibrate(judged, options)
    write_calibration(out / "calibration.json", calibration)
    disagreement = fit_disagreement(apart, calibration)
    for name, (novelty, cloud) in zip(info.fold_models, looked, strict=True):
        write_novelty(out / name, replace(novelty, disagreement=disagreement), cloud)
    notes = tell_left_out(judged, calibration)
    for note in notes:
        say(note)
    return notes


def _measure(fold_model: FoldModelOver, model: Model, measured: Collection[str]) -> None:
    """What encoders take from training studies beside weights; those of `measured` took it where they learned.

    Territories are measured by what they hold; an encoder that measures nothing draws no batch. Numbers get their ranks.
    """
    rows = fold_model.split["train"]
    if "image" in model.modalities and "image" not in measured:
        batches = (fold_model.loader.batch(rows[start : start + 64]) for start in range(0, len(rows), 64))
        model.image_encoder.standardize(batches)
    if "record" not in measured and isinstance(record := dict(model.encoders.items()).get("record"), RecordEncoder):
        record.standardize(*fold_model.loader.numbers(rows))


def _fit_classifiers(fold_model: FoldModelOver, model: Baseline) -> None:
    """Fit the classifiers of a baseline; how strong each became stands in `classifiers.csv`."""
    if not _is_main():
        return
    if lacking := sorted({*model.options.rising, *model.options.falling} - set(model.plan.numeric)):
        say(f"baseline.rising and falling: no input is a number named {', '.join(lacking)}; that changes nothing.")
    rows = fold_model.split["train"][fold_model.loader.teaches[fold_model.split["train"]]]
    batches = (fold_model.loader.batch(rows[start : start + 64]) for start in range(0, len(rows), 64))
    with Progress("fitting", sum(map(len, model.plan.targets.values())) * len(model.subsets)) as bar:
        fits = model.fit(batches, fold_model.loader.patient_ids[rows], _seed(fold_model), bar.advance)
    header = tuple(field.name for field in fields(Fit))
    write_csv(fold_model.folder / "classifiers.csv", [header, *(astuple(fit) for fit in fits)])
    _write_weights(fold_model.folder, model.state())


def _seed(fold_model: FoldModelOver) -> int:
    return read_split(fold_model.folder).seed


def _write_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    with whole_file(folder / "weights.safetensors") as partial:
        save_file(weights, partial)


def _optimize(fold_model: FoldModelOver, module: TrainingModule) -> None:
    options, folder = fold_model.recipe.train, fold_model.folder
    processes = int(os.environ.get("WORLD_SIZE", options.devices if isinstance(options.devices, int) else 1))
    if min(len(module.split["train"]), len(module.split["validation"])) < max(1, processes):
        raise TrainingError(
            "there is nothing to train or validate on",
            expected="studies with a known label, a region or a text, of each, at least one for every process",
            got=", ".join(
                f"{len(module.split[name])} of {len(fold_model.split[name])} {name} studies"
                for name in ("train", "validation")
            ),
            where=str(folder / "split.json"),
            remedy="use a larger cohort, or --folds",
        )
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(
        checkpoints, "best", monitor="validation_loss", save_weights_only=True, enable_version_counter=False
    )
    last = ModelCheckpoint(checkpoints, "last", monitor=None, save_top_k=1, enable_version_counter=False)
    for saver in (best, last):
        saver.FILE_EXTENSION = ".safetensors"
    log = EpochLog(folder / "history.csv", options.epochs)
    judges = sum(int(mask[module.split["validation"]].sum()) for mask in fold_model.loader.label_mask.values())
    keep = options.keep if options.keep != "auto" else "best" if judges >= ENOUGH_JUDGES else "last"
    stop = EarlyStopping("validation_loss", patience=options.patience, check_finite=False)
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        precision=options.precision,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        callbacks=[*([stop] if keep == "best" else []), best, last, log],
        plugins=[SafeCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=folder,
    )
    begun = checkpoints / "last.safetensors"
    module.notes += fall_back(module.model, blank_batch(fold_model.plan), trainer)
    with warnings.catch_warnings():
        # advice on loader workers and log intervals, and a deprecation between torch and Lightning: not the user's
        warnings.filterwarnings("ignore", module=r"lightning\.")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        trainer.fit(module, ckpt_path=begun if begun.is_file() else None)
    if not _is_main():
        return
    weights = read_checkpoint(checkpoints / f"{keep}.safetensors")["state_dict"]
    _write_weights(folder, {key: weights[f"model.{key}"] for key in module.answering})


def fall_back(model: Model, blank: Batch, trainer: pl.Trainer) -> list[str]:
    """Let encoders compute in 32 bits that have a layer which this processor cannot compute in the precision of training.

    Args:
        blank: a study with everything.

    Returns:
        a sentence on each.
    """
    precision, device = trainer.precision_plugin, trainer.strategy.root_device
    notes = []
    for modality in [m for m in ("image", "text") if m in model.modalities] if "mixed" in precision.precision else ():
        encoder = model.encoders[modality].eval()
        try:
            with precision.forward_context():
                model.to(device).encode(blank.to(device), (modality,))
        except RuntimeError:
            forward = encoder.forward
            encoder.forward = torch.autocast(device.type, enabled=False)(forward)
            model.encode(blank.to(device), (modality,))
            notes.append(
                f"The {modality} encoder is trained in 32 bits, for this processor cannot compute one of its layers in "
                f"{precision.precision}."
            )
        encoder.train()
    return notes


class TrainingModule(pl.LightningModule):  # type: ignore[misc]
    """The model as Lightning trains it: modality dropout, losses by name, AdamW under a warm-up and a cosine.

    Beside the answer each modality answers alone, to be watched and balanced. Of that nothing reaches the rest of the model,
    its random state or its clipped gradient, unless the recipe says so: the weights are those of a training unwatched.

    Attributes:
        notes: sentences on what users must know of the training.
    """

    def __init__(self, fold_model: FoldModelOver, model: Model) -> None:
        super().__init__()
        self.model = (
            model.train()
        )  # a loaded fold model answers, without dropout; Lightning leaves the mode as it finds it
        self.answering = tuple(model.state_dict())  # without the heads that only watch
        with torch.random.fork_rng(devices=[]):
            self.model.targets.watch()
        named = list(self.model.named_parameters())
        self.clipped = [[p for n, p in named if n.startswith("targets.unimodal.") is alone] for alone in (False, True)]
        self.recipe, self.plan, self.loader = fold_model.recipe, fold_model.plan, fold_model.loader
        self.split = {name: rows[fold_model.loader.teaches[rows]] for name, rows in fold_model.split.items()}
        self.seed_ = _seed(fold_model)
        self.random: dict[str, Tensor] | None = None
        self.seen: list[tuple[int, dict[str, Loss]]] = []
        self.notes: list[str] = []

    def train_dataloader(self) -> DataLoader[Batch]:
        """The epoch's order is a permutation keyed by (seed, epoch); each process takes its share of every batch."""
        rows = self.split["train"]
        order = rows[np.argsort(uniforms(self.seed_, self.current_epoch, rows, 1)[:, 0], kind="stable")]
        size, world, rank = self.recipe.train.batch_size, self.trainer.world_size, self.trainer.global_rank
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        batches = [b[rank::world] for b in batches if len(b) >= world]
        return self._loader(batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Each process takes every world-th study: none twice, none padded."""
        rows = self.split["validation"][self.trainer.global_rank :: self.trainer.world_size]
        size = self.recipe.train.batch_size
        return self._loader([rows[i : i + size] for i in range(0, len(rows), size)])

    def _loader(self, batches: list[NDArray[np.int64]]) -> DataLoader[Batch]:
        return DataLoader(
            _Batches(self.loader, batches),
            batch_size=None,
            num_workers=self.recipe.train.workers,
            generator=torch.Generator().manual_seed(0),  # drawing worker seeds must not move torch's state
        )

    def on_train_epoch_start(self) -> None:
        if self.random is not None:
            restore_random_state(self.random)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        keys = batch.indices.cpu().numpy()
        kept = keep_modalities(batch, self.recipe.fusion.modality_dropout, self.seed_, self.current_epoch, keys)
        batch = batch.keep(kept)
        if (record := self.recipe.inputs.record) is not None:
            batch = hide_columns(batch, record.column_dropout, self.seed_, self.current_epoch, keys)
        image = self.recipe.inputs.image
        if batch.images is not None and image is not None and image.augment and not self.plan.atlas:
            batch = augment(batch, self.seed_, self.current_epoch)
        outputs = self.model(batch)
        losses = self.model.losses(outputs, batch)
        shown, alone = ([loss.value for loss in losses.values() if loss.watched is apart] for apart in (False, True))
        total = torch.stack(shown).sum()
        taught = total + torch.stack(alone).sum() if alone else total
        if not torch.isfinite(taught):
            wrong = [name for name, loss in losses.items() if not torch.isfinite(loss.value)]
            raise TrainingError(
                "the loss is not finite",
                got=", ".join(wrong),
                where=f"epoch {self.current_epoch}, step {step} of the epoch (global step {self.global_step})",
                remedy="lower train.learning_rate, or use train.precision=32-true; the last good epoch is kept",
            )
        self.log("training_loss", total.detach(), on_epoch=True, on_step=False, batch_size=len(batch), sync_dist=True)
        if self.recipe.train.balance:
            self._weigh(outputs, batch, self.recipe.train.balance.alpha)
        return taught

    def _weigh(self, outputs: Outputs, batch: Batch, alpha: float) -> None:
        """How far each modality is ahead in this batch, of all processes, and what its gradients are to be scaled by."""
        scores = truth_scores(outputs, batch, self.plan.kinds)
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(scores)
        rho, self.factors = modulation(scores, alpha)
        for m, ratio, factor in zip(self.model.modalities, rho, self.factors, strict=True):
            for name, value in ((f"log_rho_{m}", ratio.clamp(min=1e-6).log()), (f"k_{m}", factor)):
                self.log(name, value, on_epoch=True, on_step=False, batch_size=len(batch))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        balance = self.recipe.train.balance
        if balance:  # the noise is keyed by the step: the same in every process, and after a resume
            key = (self.seed_ * 2**32 + self.global_step) % 2**63
            noise = torch.Generator(self.device).manual_seed(key) if balance.noise else None
            for m, factor in zip(self.model.modalities, self.factors, strict=True):
                modulate(self.model.encoders[m].parameters(), factor, noise)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, **unused: Any) -> None:
        """The norm of the answer's gradient, and that of the heads of single modalities, each at most 1."""
        for parameters in self.clipped:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)

    def validation_step(self, batch: Batch, step: int) -> None:
        losses = self.model.losses(self.model(batch), batch)
        self.seen.append((len(batch), losses))

    def on_validation_epoch_end(self) -> None:
        kinds = self.seen[0][1]  # every batch has every loss
        rows = [[n, *(x for loss in own.values() for x in _counted(loss))] for n, own in self.seen]
        sums = torch.tensor(rows, dtype=torch.float64).sum(dim=0).to(self.device)
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        self.seen.clear()
        means = (sums[2::2] / sums[1::2].clamp(min=1)).float()  # over known labels, however they fell into batches
        total = torch.zeros((), device=self.device)
        self.log("validation_studies", sums[0].float())
        for (name, loss), mean, count in zip(kinds.items(), means, sums[1::2], strict=True):
            missing = loss.watched and not count  # a modality that no study here has
            self.log(f"validation_{name}", torch.nan if missing else mean)
            total = total + mean if loss.judges else total
        self.log("validation_loss", total)
        self.random = random_state()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = self.random

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.random = checkpoint["random"]

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.recipe.train
        trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        fine = [p for n, p in trained if _is_pretrained(n, self.recipe)]
        rest = [p for n, p in trained if not _is_pretrained(n, self.recipe)]
        groups: list[dict[str, Any]] = [
            {"params": rest},
            *([{"params": fine, "lr": options.learning_rate / 10}] if fine else []),
        ]
        # a scaler of half-precision gradients would leave them scaled to a fused optimizer, and so to the clipping before it
        fused = not options.precision.startswith("16")
        optimizer = torch.optim.AdamW(groups, options.learning_rate, weight_decay=options.weight_decay, fused=fused)
        steps = max(1, len(self.split["train"]) // options.batch_size + 1)
        total, warm = steps * options.epochs, min(steps, 200)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (step - warm) / max(1, total - warm)))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _is_pretrained(name: str, recipe: Recipe) -> bool:
    """Whether a weight begins with what it learned elsewhere: of a backbone, or of a text model."""
    inputs = {m: given for m in MODALITIES if (given := getattr(recipe.inputs, m)) is not None}
    return any(name.startswith(f"encoders.{m}.backbone.") for m, given in inputs.items() if given.pretrained)


def _counted(loss: Loss) -> tuple[float, float]:
    """How many things a loss is a mean of, and their sum."""
    count = float(loss.number)
    return count, count * float(loss.value)


class _Batches(Dataset[Batch]):
    """Batches by number; the loader does the work of a batch at once."""

    def __init__(self, loader: Loader, batches: list[NDArray[np.int64]]) -> None:
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        return self.loader.batch(self.batches[number])


def keep_modalities(batch: Batch, share: float, seed: int, epoch: int, keys: NDArray[np.int64]) -> dict[str, Tensor]:
    """Which modalities each study may show: each is hidden with chance `share`, but never the last one left."""
    present = batch.present()
    draws = torch.from_numpy(uniforms(seed + 1, epoch, keys, len(present))).to(batch.indices.device)
    here = torch.stack(list(present.values()), dim=1)
    chance = torch.where(here, draws, -1.0)
    kept = (chance >= share) | (chance == chance.amax(dim=1, keepdim=True))
    return {m: kept[:, i] for i, m in enumerate(present)}


def hide_columns(batch: Batch, share: float, seed: int, epoch: int, keys: NDArray[np.int64]) -> Batch:
    """Each observed record column hidden with chance `share`, but never the last one left of a study."""
    if not share or batch.record_observed is None or batch.record_codes is None:
        return batch
    here = torch.cat([batch.record_observed, batch.record_codes > 0], dim=1)
    draws = torch.from_numpy(uniforms(seed + 2, epoch, keys, here.shape[1])).to(here.device)
    chance = torch.where(here, draws, -1.0)
    kept = here & ((chance >= share) | (chance == chance.amax(dim=1, keepdim=True)))
    numbers = batch.record_observed.shape[1]
    words = batch.record_codes.where(kept[:, numbers:], 0)
    return replace(batch, record_observed=kept[:, :numbers], record_codes=words)


class EpochLog(Callback):  # type: ignore[misc]
    """One line an epoch in `history.csv`, and a progress bar or plain lines for the person who waits."""

    def __init__(self, path: Path, epochs: int) -> None:
        self.path, self.epochs = path, epochs
        self.bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = Progress("training", self.epochs, trainer.current_epoch)
            self.bar.__enter__()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"epoch": trainer.current_epoch, **{k: float(v) for k, v in sorted(trainer.callback_metrics.items())}}
        known = self.path.read_text("utf-8").splitlines() if self.path.is_file() else [",".join(row)]
        kept = [known[0], *(line for line in known[1:] if int(line.split(",")[0]) < row["epoch"])]  # resumed
        write_text(self.path, "\n".join([*kept, ",".join(f"{v:.7g}" for v in row.values())]) + "\n")
        self.bar.advance(1, f"loss {row['training_loss']:.3f}, validation {row['validation_loss']:.3f}")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, module)
