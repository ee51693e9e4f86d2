"""Encoders that begin a training with what another run taught them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from chiasm.checkpoint import read_checkpoint
from chiasm.cohort.store import Cohort
from chiasm.encoding.plan import Plan
from chiasm.errors import InputError, RunError
from chiasm.recipe import Recipe
from chiasm.run.fold_model import read_settings, read_untrained
from chiasm.run.folder import Init, Run, hash_weights, read_run, readable
from chiasm.run.model import Model
from chiasm.run.seen import count_seen
from chiasm.run.split import read_split
from chiasm.tensors import MODALITIES

REMEDY = "bring it back as it was, name where it is now by --init, or begin a new run"
SHOWN = 8
"""Differences that a message names."""


@dataclass(frozen=True)
class Start:
    """A finished run whose encoders begin another one.

    Attributes:
        folds: whether fold k of the new run starts from its fold k; else every fold from its one model.
    """

    path: Path
    hash: str
    folds: bool

    def folder(self, name: str) -> Path:
        """Of the model from which the fold model `name` starts."""
        return self.path / name if self.folds else self.path


def open_start(path: Path, recipe: Recipe, folds: int, repeats: int) -> Start:
    """The run to start from.

    Raises:
        RunError: it is no finished run of a network, or has other folds; or the recipe has no encoders to start.
    """
    info = read_run(path)
    if info.status != "finished":
        raise RunError("the run to start from is not finished", got=f"status {info.status}", where=str(path))
    if recipe.baseline is not None or info.requested.get("baseline") is not None:
        raise RunError("a baseline has no encoders that learn", where=str(path), remedy="leave --init out")
    own = len(info.fold_models) > 1
    if own and (info.folds, info.repeats) != (folds, repeats):
        raise RunError(
            "the run to start from has other folds",
            expected=f"one model, or --folds {folds} --repeats {repeats}",
            got=f"--folds {info.folds} --repeats {info.repeats}",
            where=str(path),
            remedy="give both the same folds: fold k starts from fold k",
        )
    return Start(path.resolve(), hash_weights(path, info), own)


def check_overlap(start: Path, cohorts: Sequence[Cohort], tested: Sequence[NDArray[np.int64]]) -> None:
    """Refuse to start from a model that has seen patients on whom the new one is to be tested.

    Args:
        start: folder of the fold model to start from; tested: rows of each cohort.

    Raises:
        InputError: it has seen some, or the models from which it started have.
    """
    theirs = read_split(start)
    if patients := count_seen(cohorts, tested, {*theirs.seen, *theirs.seen_before}):
        raise InputError(
            "the run to start from has seen patients on whom this one is to be tested",
            expected="none",
            got=f"{patients} patients",
            where=str(start),
            remedy="train both on one split, or both with the same --folds, --repeats, train.seed and first target, so that fold k "
            "starts from fold k; or start from a run of other patients",
        )


def shared_tokenizer(recipe: Recipe, start: Path) -> str | None:
    """The tokenizer.json of the model to start from, where its words are those that both text encoders read."""
    theirs = read_settings(start)
    texts = [recipe.inputs.text, theirs.recipe.inputs.text]
    if any(text is None or text.weights is not None for text in texts):
        return None
    return theirs.describer.to_json()


def check_fit(folder: Path, cohorts: Sequence[Cohort], start: Path) -> tuple[tuple[str, ...], list[str]]:
    """The modalities whose encoders can start from those of another model, and a note on each that one of the two lacks.

    Args:
        folder: of the fold model as it is to be trained; start: of the one to start from.

    Raises:
        RunError: an encoder is another one there than here; or no modality is read by both.
    """
    ours = read_untrained(folder)
    model, theirs, file = ours.model, read_settings(start), start / "weights.safetensors"
    assert isinstance(model, Model)
    with readable(file), safe_open(file, framework="pt") as weights:
        shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        regions = "encoders.image.backbone.regions"
        placed = None if regions not in shapes else weights.get_tensor(regions).numpy()
    shared = [m for m in model.modalities if getattr(theirs.recipe.inputs, m) is not None]
    differences = []
    for m in shared:
        here, there = describe(ours.recipe, ours.plan, m), describe(theirs.recipe, theirs.plan, m)
        differences += [_tell(key, here[key], there[key]) for key in here if here[key] != there[key]]
        known = {f"encoders.{m}.{n}": tuple(x.shape) for n, x in model.encoders[m].state_dict().items()}
        given = {name: shape for name, shape in shapes.items() if name.startswith(f"encoders.{m}.")}
        for name in sorted(known.keys() | given.keys()):
            if known.get(name) != given.get(name):
                sides = [list(x[name]) if name in x else "none" for x in (known, given)]
                differences.append(f"{name}: {sides[0]} here, {sides[1]} there")
    if placed is not None and ours.plan.atlas and not np.array_equal(placed, np.asarray(cohorts[0].atlas)):
        differences.append("regions of the atlas are other ones")
    if differences:
        more = [f"and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
        raise RunError(
            "the encoders of the run to start from are other ones",
            got="; ".join(differences[:SHOWN] + more),
            where=str(start),
            remedy="give both recipes these settings alike and import both cohorts alike, or switch the input off",
        )
    if not shared:
        raise RunError(
            "there is no encoder to start from",
            expected=f"one of {', '.join(model.modalities)}",
            got=", ".join(m for m in MODALITIES if getattr(theirs.recipe.inputs, m) is not None),
            where=str(start),
        )
    lacking = [m for m in model.modalities if m not in shared]
    unused = [m for m in MODALITIES if getattr(theirs.recipe.inputs, m) is not None and m not in shared]
    return tuple(shared), [
        *(f"The run that it starts from has no encoder of {m}: that one begins anew." for m in lacking),
        *(f"The run that it starts from has an encoder of {m}, which is not used here." for m in unused),
    ]


def describe(recipe: Recipe, plan: Plan, modality: str) -> Mapping[str, Any]:
    """What an encoder is made by, in the words of recipe and cohort: two that differ in it learned different things."""
    given = getattr(recipe.inputs, modality)
    own: dict[str, Any] = {f"inputs.{modality}.encoder": given.encoder, "fusion.dim": recipe.fusion.dim}
    if modality == "image":
        own |= {"inputs.image.tokens": given.tokens, "the size of images": plan.image_shape}
        own |= {"channels": plan.channels, "regions of the atlas": {"place": plan.atlas, **plan.regions}}
    if modality == "record":
        own |= {"numeric record columns": tuple(plan.numeric), "words of record columns": plan.categories}
    return own


def _tell(what: str, here: object, there: object) -> str:
    """A difference in words; of words that patients' charts hold, only that there is one."""
    if isinstance(here, Mapping):
        return f"{what} are other ones"
    return f"{what}: {here} here, {there} there"


def starting_weights(folder: Path, init: Init | None, start: Path) -> dict[str, Tensor]:
    """What the encoders of a fold model begin with, by "encoders.MODALITY.NAME"; nothing where they begin anew.

    Once the training has a checkpoint it needs no other run: frozen weights stand in the checkpoint too.

    Args:
        start: where the run of `init` is now.

    Raises:
        RunError: it is gone or another one, and there is no checkpoint yet.
    """
    if init is None:
        return {}
    begun = folder / "checkpoints" / "last.safetensors"
    wanted = tuple(f"encoders.{m}." for m in init.modalities)
    if begun.is_file():
        named = {name.removeprefix("model."): x for name, x in read_checkpoint(begun)["state_dict"].items()}
        return {name: x for name, x in named.items() if name.startswith(wanted)}
    if not (start / "run.json").is_file():
        raise RunError("the run that this one starts from is gone", where=str(start), remedy=REMEDY)
    info = read_run(start)
    if hash_weights(start, info) != init.hash:
        raise RunError("the run that this one starts from is another one now", where=str(start), remedy=REMEDY)
    own = start / folder.name if len(info.fold_models) > 1 else start
    with readable(own / "weights.safetensors"):
        weights = load_file(own / "weights.safetensors")
    return {name: x for name, x in weights.items() if name.startswith(wanted)}


def find_start(info: Run, given: Path | None, out: Path) -> Path:
    """Where the run is that a training in `out` starts from, for one that goes on.

    Raises:
        RunError: `given` is not that run.
    """
    recorded = Path() if info.init is None else Path(info.init.path)
    if given is None or given.resolve() == recorded:
        return recorded
    if info.init is None or hash_weights(given, read_run(given)) != info.init.hash:
        raise RunError(
            "this is not the run that the training was begun with",
            got=str(given),
            where=str(out / "run.json"),
            remedy="leave --init out: what a run starts from is recorded",
        )
    return given.resolve()
