"""What may be chosen: recipes, and keys of recipes with choices or ranges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from chiasm.comparison.baselines import match_baseline
from chiasm.errors import RecipeError
from chiasm.recipe import Options, Recipe, change_recipe, parse_recipe, parse_yaml, read_recipe

FIXED = ("name", "about", "evaluate", "train.seed", "inputs.record.opt_in")
"""Keys, and all below them, that say what is asked and how it is scored: the same for all configurations."""
SHIPPED = resources.files("chiasm") / "tuning" / "space.yaml"


class Range(Options):
    """From `low` to `high`, both included: whole numbers where both are; on a logarithmic scale; in steps."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a range with log: true begins above 0 and has no step")
        if self.step is not None:
            steps = (self.high - self.low) / self.step if self.step > 0 else 0.5
            if abs(steps - round(steps)) > 1e-9:
                raise ValueError("high must be low and a whole number of steps")
        return self

    @property
    def whole(self) -> bool:
        return all(isinstance(x, int) for x in (self.low, self.high, self.step or 1))

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.whole else 0)
        return not step or abs((value - self.low) / step - round((value - self.low) / step)) < 1e-9


@dataclass(frozen=True)
class Choices:
    """One of these values, of any kind that a key takes."""

    values: tuple[Any, ...]

    def ends(self) -> list[Any]:
        return list(self.values)

    def holds(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Space:
    """What may be chosen.

    Attributes:
        recipes: name -> recipe as it stands; the first is the one that was asked for.
        keys: name of a recipe -> key -> what may be set there. A key of several recipes is one dimension where it is shared.
        own: (recipe, key) of those that are of this recipe alone.
        raw: as it was read.
    """

    recipes: Mapping[str, Recipe]
    keys: Mapping[str, Mapping[str, Range | Choices]]
    own: frozenset[tuple[str, str]]
    raw: Mapping[str, Any]

    @property
    def first(self) -> Recipe:
        return next(iter(self.recipes.values()))

    def named(self, recipe: str, key: str) -> str:
        """The name of a dimension: the key, with the recipe before it where it is of that alone."""
        return f"{recipe}:{key}" if (recipe, key) in self.own else key

    def build(self, recipe: str, settings: Mapping[str, Any]) -> Recipe:
        """A configuration.

        Raises:
            RecipeError: the settings are at odds with each other.
        """
        return change_recipe(self.recipes[recipe], settings)


def read_space(path: Path | None, named: Sequence[Recipe]) -> Space:
    """Read a space and check it against the recipes.

    Args:
        path: of a YAML file: keys of recipes with a list of choices, or a range {low, high, log, step}; `recipe`, a list of further
            recipes; and the name of a recipe with keys of its own. None: the space that chiasm ships.
        named: recipes in which keys are set; the first says what all of them read and are asked.

    Raises:
        RecipeError: no such file, or a key, value or recipe that does not fit; the message names the nearest key.
    """
    where = str(SHIPPED if path is None else path)
    if path is not None and not path.is_file():
        raise RecipeError("there is no such space", expected="a YAML file", where=where)
    raw = parse_yaml(SHIPPED.read_text("utf-8") if path is None else path.read_text("utf-8"), "space", where)
    further = raw.get("recipe", [])
    if not isinstance(further, list):
        raise RecipeError("recipe takes a list of recipes", got=repr(further), where=where)
    recipes = match_recipes([*named, *(read_recipe(str(r)) for r in further if str(r) not in {n.name for n in named})])
    shared = {key: _dimension(key, value, where) for key, value in raw.items() if key not in ("recipe", *recipes)}
    keys: dict[str, dict[str, Range | Choices]] = {name: {} for name in recipes}
    for key, dimension in shared.items():
        takers = [name for name, recipe in recipes.items() if _has(recipe, key)]
        if not takers:
            _refuse(recipes, key, dimension, where)
        for name in takers:
            _check(recipes[name], key, dimension, where)
            keys[name][key] = dimension
    own = set()
    for name, given in ((name, raw[name]) for name in recipes if name in raw):
        if not isinstance(given, dict):
            raise RecipeError(f"{name} takes keys of this recipe", got=repr(given), where=where)
        for key, value in given.items():
            keys[name][key] = _dimension(key, value, where)
            _check(recipes[name], key, keys[name][key], where)
            own.add((name, key))
    return Space(recipes, keys, frozenset(own), raw)


def match_recipes(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    """Name -> recipe, asked alike: the targets, seed and figures of the first, networks with the inputs of the first network, and
    baselines with what it reads.

    Raises:
        RecipeError: two of one name, or one that cannot be asked so.
    """
    first, found = recipes[0], {}
    network = next((recipe for recipe in recipes if recipe.baseline is None), None)
    for recipe in recipes:
        if recipe.name in found:
            raise RecipeError("two recipes have one name", got=recipe.name, remedy="give one another name: in its file")
        asked = first if network is None else network.model_copy(update={"targets": first.targets})
        if recipe is first or recipe is network:
            same = recipe
        elif recipe.baseline is not None:
            matched = match_baseline(recipe, asked)
            if matched is None:
                raise RecipeError("a baseline reads none of the inputs", got=recipe.name)
            same = matched
        else:
            same = recipe.model_copy(update={"inputs": asked.inputs})
        train = same.train.model_copy(update={"seed": first.train.seed})
        same = same.model_copy(update={"targets": first.targets, "train": train, "evaluate": first.evaluate})
        found[recipe.name] = parse_recipe(same.model_dump(mode="json"), recipe.name)
    return found


def baseline_space(space: Space, baseline: Recipe) -> Space | None:
    """What may be chosen of a plain baseline beside a tuned recipe: the space's keys of baselines, or those that chiasm ships.

    Returns:
        None where the recipe has none of its inputs.
    """
    matched = match_baseline(baseline, space.first)
    if matched is None:
        return None
    shipped = parse_yaml(SHIPPED.read_text("utf-8"), "space", str(SHIPPED))
    given = {key: value for key, value in space.raw.items() if key.startswith("baseline.")} or shipped
    keys: dict[str, Range | Choices] = {
        key: _dimension(key, value, "the space") for key, value in given.items() if key.startswith("baseline.")
    }
    for key, dimension in keys.items():
        _check(matched, key, dimension, "the space")
    return Space({matched.name: matched}, {matched.name: keys}, frozenset(), given)


def _dimension(key: str, value: Any, where: str) -> Range | Choices:
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED) or (
        key.startswith("targets") and not key.endswith(".weight")
    ):
        raise RecipeError(
            "what is asked and how it is scored cannot be chosen",
            got=key,
            where=where,
            remedy="set it for all configurations: --set, or in the recipe",
        )
    if isinstance(value, list) and value:
        texts = [json.dumps(each, sort_keys=True) for each in value]
        if len(set(texts)) < len(texts):
            raise RecipeError("a choice stands there twice", got=f"{key}: {value}", where=where)
        return Choices(tuple(value))
    try:
        return Range.model_validate(value)
    except ValidationError as error:
        raise RecipeError(
            f"{key} is neither choices nor a range",
            expected="a list, as [16, 32], or a range, as {low: 0.001, high: 0.1, log: true} or {low: 8, high: 40, step: 8}",
            got="; ".join(str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors()),
            where=where,
        ) from None


def _has(recipe: Recipe, key: str) -> bool:
    """Whether a shared key is one of a recipe: the part that it is of is not switched off. Of a baseline only its own are."""
    if (recipe.baseline is not None) != key.startswith("baseline."):
        return False
    node: Any = recipe.model_dump(mode="json")
    for part in key.split(".")[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    return isinstance(node, dict)


def _refuse(recipes: Mapping[str, Recipe], key: str, dimension: Range | Choices, where: str) -> None:
    """A key that no recipe has: unknown, or of a part that is off; one of `baseline` is for the plain baselines beside."""
    first = next(iter(recipes.values()))
    if key.startswith("baseline."):
        return _check(read_recipe("baseline-record") if first.baseline is None else first, key, dimension, where)
    if first.baseline is not None and where == str(SHIPPED):
        return None
    try:
        _check(first, key, dimension, where)
    except RecipeError as error:
        if "unknown key" in error.what:
            raise
    part = key.rpartition(".")[0]
    raise RecipeError("no recipe has this part", got=key, where=where, remedy=f"take a recipe that has {part}")


def _check(recipe: Recipe, key: str, dimension: Range | Choices, where: str) -> None:
    """Each choice, or both ends of a range, must fit the recipe as it stands."""
    for value in dimension.ends():
        try:
            change_recipe(recipe, {key: value})
        except RecipeError as error:
            raise RecipeError(
                error.what.replace("the recipe has", f"with {key}: {json.dumps(value)}, the recipe {recipe.name} has"),
                where=where,
                remedy="correct the space; docs/recipe.md lists all keys. What only two keys together allow is a recipe of its own",
            ) from None
