"""The recipe: one YAML file that says what goes in, how it is fused, what is answered, and how it is trained.

The classes below are the whole schema: an unknown key is an error that names the nearest known one, and all problems of
a file come in one message.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from chiasm.atomic import write_text
from chiasm.documents import check_yaml
from chiasm.errors import RecipeError
from chiasm.registry import FUSIONS, HEADS, IMAGE_ENCODERS, RECORD_ENCODERS, TEXT_ENCODERS, Registry

if typing.TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class RecipeValueError(RecipeError, ValueError):
    """A part of a recipe that Python code makes or changes has values that do not fit: also a `ValueError`."""


class _Checked(ModelMetaclass):
    """A class whose call tells what does not fit in the project's words; within a recipe pydantic gathers all faults first."""

    def __call__(cls, *given: Any, **keys: Any) -> Any:
        try:
            return super().__call__(*given, **keys)
        except ValidationError as error:
            if cls is Recipe:
                parse_recipe(keys, "a Recipe")  # tells heads key by key
            told = _refusal([_problem(problem, cls) for problem in error.errors()], f"a {cls.__name__}")
            raise RecipeValueError(told.what, where=told.where, remedy=told.remedy) from None


class Options(BaseModel, metaclass=_Checked):
    """Keys of a part of a recipe: unknown ones are refused. The options of a head of your own derive from it.

    Raises:
        RecipeError: keys and values that do not fit, all in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RecipeValueError(
            "a recipe is frozen: it is not changed in place",
            got=f"{type(self).__name__}.{name}",
            remedy='make another: read_recipe(recipe, {"train.epochs": 5})',
        )


class EncodedInput(Options):
    """What an encoder reads. `encoder` is its name among those of the modality, with what it takes after a colon: `hf:FOLDER`."""

    encoders: ClassVar[Registry[Any]]

    encoder: str

    @field_validator("encoder")
    @classmethod
    def _known(cls, encoder: str) -> str:
        name, colon, taken = encoder.partition(":")
        if name not in cls.encoders or bool(colon) != bool(taken) or bool(taken) != bool(_takes(cls.encoders[name])):
            raise ValueError(f"must be {encoder_names(cls.encoders)}")
        return encoder

    @property
    def part(self) -> Any:
        """What is registered under the encoder's name: it says what it is before it is built."""
        return self.encoders[self.encoder.partition(":")[0]]

    @property
    def taken(self) -> str:
        """What stands after the colon; "" where there is none."""
        return self.encoder.partition(":")[2]

    @property
    def pretrained(self) -> bool:
        """Whether its backbone begins with what it learned elsewhere."""
        return bool(getattr(self.part, "pretrained", False))


def encoder_names(encoders: Registry[Any], **needed: Any) -> str:
    """ "a, b or hf:ID-or-folder": how a recipe names the encoders, or those whose attributes contain these values."""
    fit = {name: e for name, e in encoders.items() if all(value in getattr(e, key) for key, value in needed.items())}
    *most, last = [f"{name}:{_takes(encoder)}" if _takes(encoder) else name for name, encoder in fit.items()]
    return f"{', '.join(most)} or {last}" if most else last


def _takes(encoder: Any) -> str:
    """What stands after the colon of an encoder's name."""
    return str(getattr(encoder, "takes", ""))


class ImageInput(EncodedInput):
    """Images: `efficientnet-lite0` (ImageNet), `hf:ID-or-folder`, `monai:NAME`, or `small-cnn` (from scratch).

    `tokens: territories` makes a token of each territory of the cohort's atlas instead of each cell of a grid: how much of it is
    bright, and what the encoder's maps hold there; with encoder `voxels` the former alone.

    `freeze` holds pretrained weights as they are; what is built from scratch is always trained. `augment` moves and
    brightens the images of training; the cached features of a frozen encoder (`train.cache_features`) stay as they are.
    """

    encoders = IMAGE_ENCODERS

    encoder: str = "efficientnet-lite0"
    freeze: bool = True
    size: Annotated[int, Field(ge=32)] = 224
    augment: bool = True
    tokens: Literal["grid", "territories"] = "grid"

    @model_validator(mode="after")
    def _read(self) -> Self:
        # the encoder that no recipe names gives both, and is not to be imported by the schema
        if "encoder" in self.model_fields_set and self.tokens not in self.part.tokens:
            raise ValueError(f"encoder {self.encoder} needs tokens: {' or '.join(self.part.tokens)}")
        return self


class TextInput(EncodedInput):
    """The report as an input. Its sections must not hold the answer unless the recipe means it to.

    Read by a `bilstm` (from scratch), by `minilm` (a small sentence encoder that installs as a package) or by
    `hf:ID-or-folder`. `freeze` holds pretrained weights as they are; else they learn at a tenth of the rate.
    """

    encoders = TEXT_ENCODERS

    encoder: str = "bilstm"
    freeze: bool = True
    sections: tuple[str, ...] = ("history", "indication", "findings", "impression")
    max_tokens: Count = 160

    @property
    def weights(self) -> str | None:
        """The id or folder that transformers loads; None for an encoder that reads chiasm's own words.

        Raises:
            MissingExtraError: the package of the encoder is not installed.
        """
        weights: str | None = self.part.weights(self.taken)
        return weights


class RecordInput(EncodedInput):
    """The chart. `columns: null` takes every column known at prediction time but those of `leave_out`; `opt_in` adds ones of
    unknown time. `column_dropout` is the chance that an observed column is hidden in training: no column is leaned on alone,
    and one that a patient lacks is no surprise.
    """

    encoders = RECORD_ENCODERS

    encoder: str = "columns"
    columns: tuple[str, ...] | None = None
    leave_out: tuple[str, ...] = ()
    opt_in: tuple[str, ...] = ()
    column_dropout: Share = 0.3

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if both := sorted(set(self.leave_out) & {*(self.columns or ()), *self.opt_in}):
            raise ValueError(f"a record column is either an input or left out: {', '.join(both)}")
        return self


class Inputs(Options):
    image: ImageInput | None = ImageInput()
    text: TextInput | None = TextInput()
    record: RecordInput | None = RecordInput()


class Fusion(Options):
    """How modalities meet: one file a family under `models/fusion`."""

    name: str = "co-attention"
    dim: Count = 128
    heads: Count = 4
    dropout: Share = 0.0
    modality_dropout: Annotated[Share, Field(description="chance that a present modality is hidden in training")] = 0.3

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FUSIONS:
            raise ValueError(f"must be one of {', '.join(FUSIONS)}")
        return name

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % 8 or self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of 8 and of heads, here {self.heads}")
        return self


class Target(Options):
    """`labels: null` takes every label the cohort has. `uncertain` says how a hedged finding is learned and scored."""

    labels: tuple[str, ...] | None = None
    uncertain: Literal["ignore", "positive", "negative"] = "ignore"
    weight: Annotated[float, Field(gt=0)] = 1.0


class Balance(Options):
    """Slow the encoder of the modality that is ahead (on-the-fly gradient modulation, Peng et al. 2022)."""

    alpha: Annotated[float, Field(gt=0)] = 0.5
    noise: bool = True


class Train(Options):
    """How it is trained. `keep` says which weights are kept: of the epoch with the best validation loss (training then
    stops `patience` epochs after it), or of the last one, at the end of the learning-rate schedule. `auto` keeps the best
    if at least 100 known labels of validation studies judge it: fewer cannot tell epochs apart.

    While it trains, each modality also answers alone. `unimodal_weight` is how much the loss of that answer teaches the
    modality's encoder; at 0 it is only watched.
    """

    epochs: Count = 40
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    keep: Literal["auto", "best", "last"] = "auto"
    patience: Count = 8
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    cache_features: bool = True
    unimodal_weight: Annotated[float, Field(ge=0)] = 0.0
    balance: Balance | None = None


class Baseline(Options):
    """A plain classifier in the network's place: `logistic` regression (ridge for numbers), gradient boosting (`lightgbm`), or a
    `blend` of boosting and of a curve for each column, in shares that held-out training patients choose.

    One is fitted for every subset of the inputs. Images and texts come in as embeddings of frozen pretrained encoders.
    `facts` adds what the source measured on the images; they are an input of no network.

    The rest is of boosting alone: leaves of a tree, its learning rate, least studies in a leaf, penalty of its answers, and
    numeric record columns with which an answer may only rise, or only fall.
    """

    model: Literal["logistic", "lightgbm", "blend"] = "lightgbm"
    facts: bool = False
    leaves: Annotated[int, Field(ge=2)] = 7
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    min_leaf: Count = 20
    l2: Annotated[float, Field(ge=0)] = 1.0
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_trees(self) -> Self:
        if (self.rising or self.falling) and self.model == "logistic":
            raise ValueError("rising and falling need model: lightgbm, or blend, which is then boosting alone")
        if both := sorted({*self.rising} & {*self.falling}):
            raise ValueError(f"{', '.join(both)} cannot both rise and fall")
        return self


class OperatingPoint(Options):
    """Where a yes begins: at the threshold that reaches this sensitivity, or this specificity, on validation patients, or at a
    probability."""

    sensitivity: Annotated[float, Field(gt=0, le=1)] | None = None
    specificity: Annotated[float, Field(gt=0, le=1)] | None = None
    probability: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("one of sensitivity, specificity and probability decides")
        return self

    def __str__(self) -> str:
        ((name, value),) = self.model_dump(exclude_none=True).items()
        return f"{name} {value:g}"


class Evaluate(Options):
    """`coverage` is the chance with which a prediction set or interval is to hold the truth; `net_benefit_at` are the chances of
    an outcome from which one would act, at which the net benefit of doing so is told. Without an `operating_point` a yes begins
    at the threshold of highest F1."""

    resamples: Annotated[int, Field(ge=100)] = 1000
    age_bands: tuple[float, ...] = (18, 40, 65)
    coverage: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    net_benefit_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.2, 0.3, 0.5)
    operating_point: OperatingPoint | None = None


class Recipe(Options):
    """A system: inputs -> fusion -> targets and heads, and how it is trained and evaluated."""

    name: str
    about: str = ""
    inputs: Inputs = Inputs()
    fusion: Fusion = Fusion()
    targets: dict[str, Target] = {}
    heads: dict[str, SerializeAsAny[Options] | None] = {}
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    baseline: Baseline | None = None

    @field_validator("heads", mode="before")
    @classmethod
    def _by_name(cls, heads: Any) -> Any:
        """Options of each head by the model that its class names."""
        if not isinstance(heads, dict):
            return heads
        for name in heads:
            if name not in HEADS:
                raise ValueError(f"there is no head {name}: {HEADS.nearest(str(name))}")
        return {
            name: HEADS[name].options.model_validate(raw) if isinstance(raw, dict) else raw
            for name, raw in heads.items()
        }

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.targets and not self.active_heads:
            raise ValueError("targets or heads: a recipe learns at least one thing")
        fusion = FUSIONS[self.fusion.name]
        needs = getattr(fusion, "needs", ())
        if lacking := [f"inputs.{m}" for m in needs if getattr(self.inputs, m) is None]:
            raise ValueError(f"fusion {self.fusion.name} needs {' and '.join(lacking)}")
        if getattr(fusion, "rule", None) and not self.train.unimodal_weight:
            raise ValueError(f"fusion {self.fusion.name} learns only if train.unimodal_weight is above 0")
        for name, options in self.active_heads.items():
            if problem := HEADS[name].disagrees(options, self):
                raise ValueError(problem)
        if self.baseline:
            _check_baseline(self)
        return self

    def __repr__(self) -> str:
        inputs = [f"{name} ({given.encoder})" for name, given in self.inputs if given is not None]
        heads = [*self.targets, *self.active_heads]
        return f"<Recipe {self.name}: {', '.join(inputs)} -> {self.fusion.name} -> {', '.join(heads)}>"

    def save(self, path: str | Path) -> None:
        """Write it as a YAML file, which `read_recipe` and every command read."""
        write_recipe(self, Path(path))

    @property
    def active_heads(self) -> dict[str, Options]:
        """The heads that are not null, in order."""
        return {name: options for name, options in self.heads.items() if options is not None}


def _check_baseline(recipe: Recipe) -> None:
    """A baseline answers its targets from frozen features, and nothing else."""
    image, text = recipe.inputs.image, recipe.inputs.text
    if heads := [f"heads.{name}" for name in recipe.active_heads]:
        raise ValueError(f"a baseline has no heads: set {', '.join(heads)} to null")
    if image and not (image.freeze and image.pretrained):
        raise ValueError("a baseline needs a pretrained inputs.image.encoder and freeze: true")
    if image and image.tokens != "grid":
        raise ValueError("a baseline takes the whole image: inputs.image.tokens must be grid; facts may be territories")
    if text and not text.pretrained:
        raise ValueError("a baseline needs a pretrained inputs.text.encoder, as minilm or hf:ID-or-folder")
    if text and not text.freeze:
        raise ValueError("a baseline learns no encoder: inputs.text.freeze must be true")


def recipe_names() -> list[str]:
    """The shipped recipes."""
    folder = resources.files("chiasm") / "recipes"
    return sorted(Path(str(f)).stem for f in folder.iterdir() if f.name.endswith(".yaml"))


Overrides = str | Sequence[str] | typing.Mapping[str, Any]


def read_recipe(name_or_path: Recipe | str | PathLike[str], overrides: Overrides = ()) -> Recipe:
    """Read a shipped recipe by name or any YAML file, or take one that is read, and set single keys.

    Args:
        overrides: "train.epochs=5", several of them, or a mapping: {"train.epochs": 5}, {"train": {"epochs": 5}}. A mapping
            in a mapping changes the keys that it names and leaves the others.

    Raises:
        RecipeError: no such recipe, not YAML, or keys and values that do not fit; every problem is in the one message.
    """
    if isinstance(name_or_path, Recipe):
        raw = name_or_path.model_dump(mode="json")
        return parse_recipe(_override(raw, overrides), name_or_path.name) if overrides else name_or_path
    path = Path(name_or_path)
    if str(name_or_path) in recipe_names():
        text = (resources.files("chiasm") / "recipes" / f"{name_or_path}.yaml").read_text("utf-8")
    elif path.is_file():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise RecipeError("the recipe is not UTF-8 text", where=str(path)) from None
    else:
        near = difflib.get_close_matches(str(name_or_path), recipe_names(), 1)
        raise RecipeError(
            "no such recipe",
            expected=f"one of {', '.join(recipe_names())}, or the path of a YAML file",
            got=str(name_or_path),
            remedy=f"did you mean {near[0]}?" if near else "`chiasm recipes` lists them",
        )
    raw = parse_yaml(text, "recipe", str(path))
    return parse_recipe(_override(raw, overrides), where=str(name_or_path))


def _override(raw: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The mapping with single keys set."""
    if isinstance(overrides, typing.Mapping):
        for key, value in overrides.items():
            _merge(raw, key, value)
        return raw
    for override in [overrides] if isinstance(overrides, str) else overrides:
        _set(raw, override)
    return raw


def _merge(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in place; of a mapping each key."""
    if isinstance(value, typing.Mapping) and value:
        for own, each in value.items():
            _merge(raw, f"{key}.{own}", each)
    else:
        _put(raw, key, _targets(key, value))


def parse_yaml(text: str, what: str, where: str) -> dict[str, Any]:
    """A mapping in YAML, in which no key stands twice. `what` it is, and `where`, for messages.

    Raises:
        RecipeError: it is none.
    """
    try:
        check_yaml(text)
        raw = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise RecipeError(f"the {what} is not valid YAML", where=f"{where}: {error}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"the {what} is not a mapping", expected="key: value lines", where=where)
    return raw


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(twice)} stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def parse_recipe(raw: dict[str, Any], where: str) -> Recipe:
    """Check a mapping against the schema.

    Raises:
        RecipeError: with all problems in one message.
    """
    problems: list[Any] = []
    heads = raw.get("heads")
    for name, given in heads.items() if isinstance(heads, dict) else ():
        if name in HEADS and isinstance(given, dict):
            try:
                HEADS[name].options.model_validate(given)
            except ValidationError as error:  # told here, key by key; within the recipe it would be one text
                problems += [{**problem, "loc": ("heads", name, *problem["loc"])} for problem in error.errors()]
    without = {**raw, "heads": {}} if problems else raw
    try:
        recipe = Recipe.model_validate(without)
    except ValidationError as error:
        problems += error.errors()
    if problems:
        raise _refusal([_problem(problem, Recipe) for problem in problems], where)
    return recipe


def _refusal(lines: Sequence[str], where: str) -> RecipeError:
    return RecipeError(
        f"the recipe has {len(lines)} problem{'s' * (len(lines) > 1)}:\n" + "\n".join(f"  - {x}" for x in lines),
        where=where,
        remedy="correct the keys above; docs/recipe.md lists them all",
    )


def write_recipe(recipe: Recipe, path: Path) -> None:
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _set(raw: dict[str, Any], override: str) -> None:
    """Apply `a.b.c=value` (the value is YAML) in place; `targets=[x, y]` is short for targets with default options."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError("--set needs key=value", expected="for example train.epochs=5", got=override)
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError("--set needs a YAML value", got=override) from None
    _put(raw, key, _targets(key, parsed))


def _targets(key: str, value: Any) -> Any:
    """The value of a key; `targets: [x, y]` is short for targets with default options."""
    return {name: {} for name in value} if key == "targets" and isinstance(value, list | tuple) else value


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in place; what is on the way and no mapping becomes one."""
    *parents, last = key.split(".")
    for parent in parents:
        child = raw.get(parent)
        raw[parent] = child if isinstance(child, dict) else {}
        raw = raw[parent]
    raw[last] = value


def change_recipe(recipe: Recipe, settings: typing.Mapping[str, Any], where: str = "") -> Recipe:
    """The recipe with these keys (`train.epochs`) set to these values.

    Raises:
        RecipeError: as `parse_recipe`.
    """
    raw = recipe.model_dump(mode="json")
    for key, value in settings.items():
        _put(raw, key, value)
    return parse_recipe(raw, where or recipe.name)


def _problem(problem: typing.Mapping[str, Any], model: Any) -> str:
    """One problem of pydantic's with a model in the project's words, with the nearest known key for an unknown one."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, [str(part) for part in problem["loc"][:-1]])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
        return f"{path}: unknown key" + (f", did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}")
    said = str(problem["msg"]).removeprefix("Value error, ")
    if not path:  # keys at odds with each other
        return said
    if isinstance(problem["input"], dict):  # keys of one part are
        return f"{path}: {said}."
    return f"{path}: {said}. Got {problem['input']!r}."


def _keys_at(model: Any, loc: list[str]) -> list[str]:
    """The keys that a model knows below a location such as ["train"] or ["targets", "findings"]."""
    if model is Recipe and loc[:1] == ["heads"]:
        if len(loc) == 1:
            return list(HEADS)
        if loc[1] not in HEADS:
            return []
        model, loc = HEADS[loc[1]].options, loc[2:]
    for part in loc:
        if typing.get_origin(model) is dict:
            model = typing.get_args(model)[1]
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return []
        model = model.model_fields[part].annotation
        if isinstance(model, types.UnionType):
            model = next(arg for arg in typing.get_args(model) if arg is not type(None))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
