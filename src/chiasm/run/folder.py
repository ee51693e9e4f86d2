"""A run folder on disk: run.json, and what a damaged one raises."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal

from safetensors import SafetensorError

from chiasm.atomic import write_json
from chiasm.documents import STRICT, Document, damaged, read_document, to_json
from chiasm.errors import RunError
from chiasm.run.cohorts import RecordedCohort
from chiasm.seals import changed, file_hash, seal

AGAIN = "copy the run again, or train again"


@dataclass(frozen=True)
class Init:
    """The run whose encoders a training began with.

    Attributes:
        path: where it was; hash: over its weights. modalities: those whose encoders began so.
    """

    __pydantic_config__ = STRICT

    path: str
    hash: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class Run(Document):
    """What run.json says of a run.

    Attributes:
        recipe: its name; requested: the recipe as it was asked for, before what the cohorts lack was switched off.
        folds, repeats: 1 and 1 of a run by the cohort's own split. stratified: how the folds were drawn.
        fold_models: the folder of each model in the run, "." without folds.
        notes: what was switched off. versions: package -> the version that trained.
        init: the run whose encoders this one began with, if any.
    """

    SCHEMA: ClassVar[int] = 6

    recipe: str
    cohorts: tuple[RecordedCohort, ...]
    seed: int
    folds: int
    repeats: int
    stratified: str
    fold_models: tuple[str, ...]
    notes: tuple[str, ...]
    versions: dict[str, str]
    requested: dict[str, Any]
    status: Literal["training", "finished"]
    init: Init | None = None

    @property
    def data_notes(self) -> tuple[str, ...]:
        """What users must know of the cohorts that the models learned from."""
        return tuple(dict.fromkeys(note for cohort in self.cohorts for note in cohort.notes))


class Trained(Run):
    """A run as `train` returns it: what run.json says, and where it lies, so that it stands wherever a run is meant.

    Attributes:
        path: its folder.
    """

    path: Path

    @classmethod
    def at(cls, path: Path, run: Run) -> Trained:
        made = cls(**{field.name: getattr(run, field.name) for field in fields(Run)})
        object.__setattr__(made, "path", path)
        return made

    def __eq__(self, other: object) -> bool:
        """Whether run.json says the same of both, wherever they lie."""
        return isinstance(other, Run) and all(getattr(self, f.name) == getattr(other, f.name) for f in fields(Run))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        models = len(self.fold_models)
        return f"<Run {self.path}: {self.recipe}, {self.status}, {models} model{'s' * (models > 1)}>"

    def __fspath__(self) -> str:
        return str(self.path)


RunLike = PathLike[str] | str
"""The folder of a run, or what `train` returned."""


def folder_of(run: RunLike) -> Path:
    """The folder of a run, however it is named.

    Raises:
        RunError: it is named by something else than a folder.
    """
    if not isinstance(run, str | PathLike):
        raise RunError("this is not a run", expected="a folder, or what train returned", got=f"a {type(run).__name__}")
    return Path(run)


_SEALED = (
    "run.json", "recipe.yaml", "plan.json", "tokenizer.json", "split.json", "weights.safetensors", "calibration.json",
    "novelty.json", "novelty.safetensors", "selection.json",
)  # fmt: skip


def read_run(run: Path) -> Run:
    """The run's `run.json`.

    Raises:
        RunError: no run, a damaged one, or one of another schema version.
    """
    path = run / "run.json"
    if not path.is_file():
        raise RunError(
            "this is not a run",
            expected="a folder written by chiasm train, with run.json",
            where=str(run),
            remedy="chiasm train RECIPE COHORT --out RUN",
        )
    return read_document(path, Run, "train again")


def write_run(run: Path, document: Run) -> None:
    """Write the run's `run.json`."""
    write_json(run / "run.json", to_json(document))


def hash_weights(run: Path, info: Run) -> str:
    """Over the weights of all fold models of a run."""
    digest = hashlib.sha256()
    for name in info.fold_models:
        with readable(run / name):
            digest.update(bytes.fromhex(file_hash(run / name / "weights.safetensors")))
    return digest.hexdigest()


def seal_run(run: Path, info: Run) -> None:
    """Keep hashes of what the models of a finished run are made of."""
    homes = dict.fromkeys((".", *info.fold_models))
    files = [Path(home, name).as_posix() for home in homes for name in _SEALED if (run / home / name).is_file()]
    seal(run, files)


def check_run(run: Path, *, full: bool = False) -> None:
    """Make sure that the files of a finished run are those that training wrote; a run from before there were hashes passes.

    Args:
        full: compare every hash, also of files whose size and time are the same.

    Raises:
        RunError: a file is gone or has changed.
    """
    if lost := changed(run, full=full):
        raise RunError(
            "files of the run have changed since it was trained",
            expected="the files that chiasm train wrote",
            got=", ".join(lost),
            where=str(run),
            remedy="copy the run again, or train again",
        )


@contextmanager
def readable(where: Path) -> Iterator[None]:
    """What a missing, cut off or foreign file of a run raises, as a `RunError`."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise damaged(where, type(error).__name__, AGAIN) from None
