"""The configurations that an outer fold tries: which one is next follows from space, seed and the figures so far.

Each finished trial is one entry of an Optuna journal. The next one is drawn by a sampler that is seeded by its number, so a tuning
that was killed goes on with the very configurations that it would have tried.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.atomic import write_bytes
from chiasm.errors import MissingExtraError
from chiasm.recipe import Recipe
from chiasm.tuning.space import Choices, Range, Space

RANDOM = 10
"""Configurations, those as they stand among them, before the tree-structured Parzen estimator (Bergstra et al. 2011) draws."""


@dataclass(frozen=True)
class Configuration:
    """A configuration to try. `values`: dimension -> value, as Optuna has them."""

    number: int
    recipe: str
    settings: Mapping[str, Any]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A configuration that was tried. `figures`: of each inner fold; `value`: their mean; None where it failed, which `why` says."""

    number: int
    recipe: str
    settings: Mapping[str, Any]
    value: float | None
    figures: tuple[float | None, ...]
    why: str
    digest: str


class Trials:
    """The trials of one outer fold, in a journal on disk. One process at a time opens it."""

    def __init__(self, path: Path, space: Space, seed: int, *, higher: bool = True) -> None:
        """Args: higher: whether a higher figure is better."""
        self.optuna, self.space, self.seed, self.higher = _optuna(), space, seed, higher
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = self.optuna.storages.journal
        backend = journal.JournalFileBackend(str(path), journal.JournalFileOpenLock(str(path)))  # on every system
        storage = self.optuna.storages.JournalStorage(backend)
        direction = "maximize" if higher else "minimize"
        if storage.get_all_studies():
            self.study = self.optuna.load_study(study_name="tune", storage=storage)
        else:
            self.study = self.optuna.create_study(study_name="tune", storage=storage, direction=direction)

    def __len__(self) -> int:
        return len(self.study.get_trials(deepcopy=False))

    @property
    def done(self) -> list[Trial]:
        return [
            Trial(
                number,
                **{key: json.loads(trial.user_attrs[key]) for key in ("recipe", "settings", "why", "digest")},
                value=trial.value,
                figures=tuple(json.loads(trial.user_attrs["figures"])),
            )
            for number, trial in enumerate(self.study.get_trials(deepcopy=False))
        ]

    def ask(self) -> Configuration:
        """The next configuration: first each recipe as it stands."""
        number = len(self)
        if number < len(self.space.recipes):
            name = list(self.space.recipes)[number]
            return Configuration(number, name, {}, self._as_given(name))
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4], "big")
        sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM, multivariate=False)
        drawn = self.optuna.create_study(sampler=sampler, direction=self.study.direction)
        drawn.add_trials(self.study.get_trials())
        trial, names = drawn.ask(), list(self.space.recipes)
        name = names[0] if len(names) == 1 else trial.suggest_categorical("recipe", names)
        settings: dict[str, Any] = {}
        for key, dimension in self.space.keys[name].items():
            called = self.space.named(name, key)
            value = _suggest(trial, called, dimension)
            settings[key] = json.loads(value) if isinstance(dimension, Choices) else value
        return Configuration(number, name, settings, trial.params)

    def tell(
        self, asked: Configuration, digest: str, value: float | None, figures: list[float | None], why: str = ""
    ) -> None:
        """Write down what was found of a configuration, at once and whole. `value` None: it failed, and `why`."""
        said = {"recipe": asked.recipe, "settings": asked.settings, "why": why, "digest": digest, "figures": figures}
        states = self.optuna.trial.TrialState
        trial = self.optuna.trial.create_trial(
            state=states.FAIL if value is None else states.COMPLETE,
            value=value,
            params=dict(asked.values),
            distributions={called: self._distributions(asked.recipe)[called] for called in asked.values},
            user_attrs={key: json.dumps(each) for key, each in said.items()},
        )
        self.study.add_trial(trial)

    def best(self) -> Trial | None:
        """The trial with the best figure, the first of several; None where all failed."""
        found = [trial for trial in self.done if trial.value is not None]
        sign = 1 if self.higher else -1
        return max(found, key=lambda trial: sign * (trial.value or 0.0)) if found else None

    def _as_given(self, name: str) -> dict[str, Any]:
        """What a recipe as it stands has in each dimension that holds it; the sampler learns from these."""
        raw, values = self.space.recipes[name].model_dump(mode="json"), {}
        for key, dimension in self.space.keys[name].items():
            node: Any = raw
            for part in key.split("."):
                node = node.get(part) if isinstance(node, dict) else None
            if dimension.holds(node):
                own = dimension.values if isinstance(dimension, Choices) else ()  # 1 is 1.0, but not as a text
                values[self.space.named(name, key)] = _text(own[own.index(node)]) if own else node
        return values | ({"recipe": name} if len(self.space.recipes) > 1 else {})

    def _distributions(self, name: str) -> dict[str, Any]:
        """Dimension -> its distribution, of those that a recipe has."""
        keys = self.space.keys[name].items()
        found = {self.space.named(name, key): self._distribution(dimension) for key, dimension in keys}
        return {"recipe": self.optuna.distributions.CategoricalDistribution(list(self.space.recipes)), **found}

    def _distribution(self, dimension: Range | Choices) -> Any:
        kinds = self.optuna.distributions
        if isinstance(dimension, Choices):
            return kinds.CategoricalDistribution([_text(value) for value in dimension.values])
        if dimension.whole:
            return kinds.IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step or 1)
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _suggest(trial: Any, called: str, dimension: Range | Choices) -> Any:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(called, [_text(value) for value in dimension.values])
    if dimension.whole:
        return trial.suggest_int(called, dimension.low, dimension.high, log=dimension.log, step=dimension.step or 1)
    return trial.suggest_float(called, dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _text(value: Any) -> str:
    """A choice as JSON: Optuna takes no lists and mappings."""
    return json.dumps(value, sort_keys=True)


def recover(path: Path) -> None:
    """Take away what a process that was killed while it wrote has left of a journal: half a line, and the lock."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
        write_bytes(path, content[: content.rfind(b"\n") + 1])


def digest_recipe(recipe: Recipe) -> str:
    """Of what a recipe does, whatever it is called."""
    said = recipe.model_dump(mode="json", exclude={"name", "about"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune", "chiasm tune") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
