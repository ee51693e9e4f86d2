"""From a recipe and the training rows of cohorts to the plan of their tensors, and the recipe as it can be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chiasm.cohort.generated import SECTION_KINDS, count_sources
from chiasm.cohort.store import Cohort
from chiasm.cohort.tables import ColumnInfo, TargetInfo
from chiasm.encoding.images import channel_names, join_preprocessing
from chiasm.encoding.levels import Levels, find_levels, find_rates
from chiasm.encoding.plan import Plan
from chiasm.errors import CohortError, RecipeError
from chiasm.formats.intensity import Intensity
from chiasm.recipe import Options, Recipe
from chiasm.registry import FUSIONS, HEADS
from chiasm.study import Kind

Rows = Sequence[NDArray[np.int64]]
Numbers = dict[str, tuple[float, float]]
Words = dict[str, tuple[str, ...]]


def fit_plan(recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows) -> tuple[Plan, Recipe, list[str]]:
    """How studies become tensors, learned from the training rows alone.

    Args:
        rows: of each cohort, the training studies.

    Returns:
        the plan; the resolved recipe, in which every modality, head, target and label that no training study has is
        switched off, and labels and columns are named; and a sentence for each thing that was switched off.

    Raises:
        RecipeError: no target or no input is left, or not those that the fusion family needs; a record column of unknown
            time is taken without opt-in; an alignment target without classes.
        CohortError: no training study, stored images of another size than the recipe's, or cohorts at odds.
    """
    if not sum(len(own) for own in rows):
        raise CohortError(
            "there is no study to train on", got="0 training studies", remedy="import with another --seed"
        )
    notes: list[str] = []
    learned, constant = _targets(recipe, cohorts, rows, notes)
    if recipe.targets and not learned and not constant:
        raise _nothing_to_learn(recipe, cohorts, notes)
    targets = {target: part.labels for target, part in learned.items()}
    kinds = {target: part.kind for target, part in learned.items()}
    shape = _images(recipe, cohorts, rows, notes)
    numeric, categories = _record(recipe, cohorts, rows, targets, notes)
    facts, fact_words = _facts(recipe, cohorts, rows, notes)
    text = recipe.inputs.text
    told = dict.fromkeys(
        section
        for name, options in recipe.active_heads.items()
        if "text" in HEADS[name].teachers
        for section in getattr(options, "sections", ())
    )
    notes += _written(cohorts, rows, text.sections if text else (), tuple(told))
    if text and not _any_text(cohorts, rows, text.sections):
        notes.append(f"Text is switched off: no training study has a report with {_or(text.sections)}.")
        text = None
    atlas = _atlas(recipe, cohorts) if shape else ""
    prepared = join_preprocessing(cohorts)
    columns = (*numeric, *categories)
    resolved = recipe.model_copy(
        update={
            "inputs": recipe.inputs.model_copy(
                update={
                    "image": recipe.inputs.image if shape else None,
                    "text": text,
                    "record": recipe.inputs.record.model_copy(update={"columns": columns})
                    if recipe.inputs.record and columns
                    else None,
                }
            ),
            "targets": {t: recipe.targets[t].model_copy(update={"labels": labels}) for t, labels in targets.items()},
        }
    )
    if resolved.inputs.image is None and text is None and not columns:
        raise RecipeError("no input is left", got=" ".join(notes), remedy="give the recipe inputs that the cohort has")
    resolved = _between_modalities(resolved, notes)
    plan = Plan(
        image_shape=shape,
        numeric=numeric,
        categories=categories,
        text_sections=text.sections if text else (),
        max_tokens=text.max_tokens if text else 0,
        description_sections=(),
        description_max_tokens=0,
        targets=targets,
        kinds=kinds,
        uncertain={target: recipe.targets[target].uncertain for target in targets},
        scaling={target: part.scaling for target, part in learned.items() if part.scaling},
        localized=_localizable(recipe, cohorts, rows, targets, constant),
        grid=None,
        atlas=atlas,
        regions=cohorts[0].meta["atlas"]["names"] if atlas else {},
        channels=channel_names(cohorts, len(shape), Intensity.parse(prepared["intensity"])) if shape else ("gray",),
        preprocessing=prepared,
        findings=tuple(t for t in targets if any(t in c.targets and c.targets[t].of == "findings" for c in cohorts)),
        views=_views(cohorts, rows, len(shape)) if shape else (),
        sequences=_sequences(cohorts, rows, len(shape)) if shape else (),
        facts=facts,
        fact_words=fact_words,
        levels={target: part.levels for target, part in learned.items() if part.levels},
        rates={target: part.rates for target, part in learned.items() if part.rates},
        prevalence={target: part.prevalence for target, part in learned.items() if part.prevalence},
    )
    plan, resolved = _fit_heads(Learned(resolved, cohorts, rows, plan), notes)
    if not resolved.targets and not plan.localized and (recipe.targets or not resolved.active_heads):
        raise _nothing_to_learn(recipe, cohorts, notes)
    return plan, resolved, notes


class Off(Exception):
    """Raised by a head's `fit` where the cohorts lack what it needs."""


@dataclass(frozen=True)
class Learned:
    """What a plan has learned from the training rows when heads are fitted.

    Attributes:
        recipe: as resolved so far: inputs that no training study has are null.
        cohorts, rows: rows of each cohort that train. plan: without the parts of heads.
    """

    recipe: Recipe
    cohorts: Sequence[Cohort]
    rows: Rows
    plan: Plan

    def any_text(self, sections: Sequence[str]) -> bool:
        """Does a training study have a text under these sections?"""
        return _any_text(self.cohorts, self.rows, sections)


def _fit_heads(learned: Learned, notes: list[str]) -> tuple[Plan, Recipe]:
    """The heads that these cohorts can have: their options as resolved, their states, and what batches bring for them."""
    heads: dict[str, Options | None] = {}
    states: dict[str, Any] = {}
    for name, asked in learned.recipe.heads.items():
        heads[name] = None
        if asked is not None:
            options = HEADS[name].adapt(asked, learned)
            try:
                states[name] = HEADS[name].fit(options, learned)
            except Off as why:
                notes.append(str(why))
            else:
                heads[name] = options
    plan, on = learned.plan, {name: options for name, options in heads.items() if options is not None}
    taught = {t: [o for name, o in on.items() if t in HEADS[name].teachers] for t in ("regions", "text")}
    strides: set[int] = {options.stride for options in taught["regions"]}  # type: ignore[attr-defined]
    if len(strides) > 1:
        raise RecipeError("heads of one recipe read regions on one grid", got=f"strides {sorted(strides)}")
    texts = {(options.sections, options.max_tokens) for options in taught["text"]}  # type: ignore[attr-defined]
    if len(texts) > 1:
        raise RecipeError("heads of one recipe learn one text", got=f"{len(texts)} choices of sections and max_tokens")
    sections, longest = next(iter(texts), ((), 0))
    plan = replace(
        plan,
        heads=states,
        localized=plan.localized if taught["regions"] else (),
        grid=_grid(plan.image_shape, next(iter(strides), None)) if plan.image_shape else None,
        description_sections=sections,
        description_max_tokens=longest,
    )
    return plan, learned.recipe.model_copy(update={"heads": heads})


def _between_modalities(recipe: Recipe, notes: list[str]) -> Recipe:
    """Check or switch off what needs several modalities: fusion and balance."""
    left = [m for m in ("image", "text", "record") if getattr(recipe.inputs, m) is not None]
    needed = getattr(FUSIONS[recipe.fusion.name], "needs", ())
    if not set(needed) <= set(left):
        raise RecipeError(
            "the fusion family lacks a modality",
            expected=f"{' and '.join(needed)} for {recipe.fusion.name}",
            got=f"only {' and '.join(left)}",
            where="fusion.name",
            remedy="choose a family that takes any modalities: --set fusion.name=co-attention",
        )
    balance = recipe.train.balance
    if balance and len(left) < 2:
        notes.append(f"Balance is switched off: {left[0]} has no other modality to be balanced with.")
        balance = None
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"balance": balance})})


def size_error(cohort: Cohort, shape: tuple[int, ...], fresh: bool = False) -> CohortError:
    """Stored images do not fit: the error that names the import to run, or of a fresh model the key to set."""
    flat = len(shape) == 2
    option = f"--size {shape[0]}" if flat else f"--volume-size {','.join(map(str, shape))}"
    stored = cohort.shape(len(shape))
    other = f", or train with --set inputs.image.size={stored[0]}" if flat and fresh else ""
    return CohortError(
        "the cohort's images have another size than the model's",
        expected=f"{shape} pixels",
        got=f"{stored} pixels",
        where=str(cohort.path),
        remedy=f"chiasm import {cohort.source} PATH --out COHORT {option}{other}",
    )


def columns_of(cohort: Cohort, of: str) -> Mapping[str, ColumnInfo]:
    """The columns of a cohort's "record", or each "fact" its source measured on the images."""
    return cohort.record if of == "record" else cohort.facts


def read_column(cohort: Cohort, name: str, kind: str, of: str = "record") -> pa.ChunkedArray:
    """[n] numbers ("numeric") or words ("categorical"), with nulls for what is missing.

    Raises:
        CohortError: the cohort has the column in the other kind.
    """
    if (own := columns_of(cohort, of)[name].kind) != kind:
        raise CohortError(
            f"the {of} column {name} is of another kind in this cohort",
            expected=kind,
            got=own,
            where=str(cohort.path),
            remedy="import it again with one meaning of the column, or leave it out with inputs.record.columns",
        )
    return cohort.table("studies", [f"{of}.{name}"])[f"{of}.{name}"]


class _Learned(NamedTuple):
    """What training knows of a target: its labels, kind and, of each label, what belongs to the kind."""

    labels: tuple[str, ...]
    kind: Kind
    scaling: tuple[tuple[float, float], ...] = ()
    levels: tuple[Levels, ...] = ()
    rates: tuple[tuple[float, ...], ...] = ()
    prevalence: tuple[float, ...] = ()


def _targets(
    recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows, notes: list[str]
) -> tuple[dict[str, _Learned], set[tuple[str, str]]]:
    """Targets and labels whose values differ in training, and (target, label) of those that are the same for everybody."""
    targets: dict[str, _Learned] = {}
    constant: set[tuple[str, str]] = set()
    for target, options in recipe.targets.items():
        infos = [cohort.targets[target] for cohort in cohorts if target in cohort.targets]
        if len({(info.kind, info.of) for info in infos}) > 1:
            raise CohortError(
                f"the target {target} is of different kinds in these cohorts",
                got=", ".join(f"{info.of}, {info.kind}" for info in infos),
                remedy="train on them one at a time, or rename the target in one import",
            )
        asked = options.labels or tuple(dict.fromkeys(label for info in infos for label in info.labels))
        words = [class_words(infos, label) for label in asked]
        parts = [cohort.labels(target, asked, options.uncertain, words) for cohort in cohorts]
        values = np.concatenate([part[own] for (part, _), own in zip(parts, rows, strict=True)])
        mask = np.concatenate([part[own] for (_, part), own in zip(parts, rows, strict=True)])
        taught = mask & ~np.signbit(values) if infos and infos[0].kind is Kind.SURVIVAL else mask
        kept = np.flatnonzero(taught.any(axis=0))
        what = "a known value" if taught is mask else "an event"
        if missing := [label for i, label in enumerate(asked) if i not in kept and len(kept)]:
            notes.append(f"Labels of {target} without {what} in training are left out: {', '.join(missing)}.")
        if not len(kept):
            notes.append(f"Target {target} is switched off: no training study has {what} of it.")
            continue
        each = {asked[i]: (values[mask[:, i], i], words[i]) for i in kept}
        same = [label for label, (known, _) in each.items() if len(np.unique(known)) < 2]
        if same:
            constant |= {(target, label) for label in same}
            notes.append(
                f"Labels of {target} that are the same for every training patient are no targets, for nothing can be learned "
                f"of them: {', '.join(same)}."
            )
        if len(same) < len(each):
            targets[target] = _learn(infos[0].kind, {label: own for label, own in each.items() if label not in same})
    return targets, constant


def _localizable(
    recipe: Recipe,
    cohorts: Sequence[Cohort],
    rows: Rows,
    targets: Mapping[str, Sequence[str]],
    constant: Collection[tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """(target, label) that a map can be made of: findings that are targets, and those that all have but readers drew."""
    drawn: set[tuple[str, str]] = set()
    for cohort, own in zip(cohorts, rows, strict=True) if constant else ():
        regions = cohort.regions
        images = cohort.images["image_id"][np.isin(cohort.image_study, own)]
        taught = regions[regions["image_id"].isin(images)]
        drawn |= set(zip(taught["target"], taught["label"], strict=True))
    found = {(target, label) for target, labels in targets.items() for label in labels} | (drawn & set(constant))
    infos = [(t, info) for cohort in cohorts for t, info in cohort.targets.items() if info.of == "findings"]
    ordered = dict.fromkeys(
        (t, label)
        for t in recipe.targets
        for name, info in infos
        if name == t
        for label in recipe.targets[t].labels or info.labels
    )
    return tuple(place for place in ordered if place in found)


def _nothing_to_learn(recipe: Recipe, cohorts: Sequence[Cohort], notes: Sequence[str]) -> RecipeError:
    known = sorted({target for cohort in cohorts for target in cohort.targets})
    return RecipeError(
        "no target of the recipe can be learned from these cohorts",
        expected=f"one of {', '.join(known)}" if known else "a cohort with findings or outcomes",
        got=" ".join(
            [
                f"targets of the recipe: {', '.join(recipe.targets)}; of the cohorts: {', '.join(known) or 'none'}.",
                *notes,
            ]
        ),
        remedy=f"--set targets=[{known[0]}]" if known else "import a source that has labels",
    )


def class_words(infos: Sequence[TargetInfo], label: str) -> tuple[str, ...]:
    """The classes of a multiclass label in all cohorts."""
    known = {
        word
        for info in infos
        if info.classes and label in info.labels
        for word in info.classes[info.labels.index(label)]
    }
    return tuple(sorted(known))


def _learn(kind: Kind, each: Mapping[str, tuple[NDArray[np.float32], Sequence[str]]]) -> _Learned:
    """From the known training values, and the words, of each label."""
    labels = tuple(each)
    if kind is Kind.REGRESSION:
        return _Learned(labels, kind, scaling=tuple(_mean_std(values) for values, _ in each.values()))
    if not kind.leveled:
        shares = [(float(values.sum(dtype=np.float64)) + 0.5) / (len(values) + 1) for values, _ in each.values()]
        return _Learned(labels, kind, prevalence=tuple(shares))
    levels = tuple(find_levels(values, kind, words) for values, words in each.values())
    rates = []
    for (values, words), own in zip(each.values(), levels, strict=True):
        if kind is Kind.MULTICLASS:  # from the numbers of the cohorts' words to those of training
            values = np.array([own.index(words[int(i)]) for i in values])
        rates.append(find_rates(values, own, kind))
    return _Learned(labels, kind, levels=levels, rates=tuple(rates))


def _mean_std(values: NDArray[np.floating]) -> tuple[float, float]:
    """Of observed values; a constant has the standard deviation 1, so it is centred and not blown up."""
    mean, std = float(np.mean(values, dtype=np.float64)), float(np.std(values, dtype=np.float64))
    return mean, std if std > 1e-6 * max(1.0, abs(mean)) else 1.0


def _images(recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows, notes: list[str]) -> tuple[int, ...] | None:
    """Shape of the images that most training studies have."""
    if recipe.inputs.image is None:
        return None
    counts = {ndim: [_count(cohort, ndim)[own] for cohort, own in zip(cohorts, rows, strict=True)] for ndim in (2, 3)}
    studies = {ndim: sum(int((c > 0).sum()) for c in per_study) for ndim, per_study in counts.items()}
    if not any(studies.values()):
        notes.append("Images are switched off: no training study has one.")
        return None
    ndim = 3 if studies[3] >= studies[2] else 2
    if other := studies[5 - ndim]:
        left, read = ("volumes", "single images") if ndim == 2 else ("single images", "volumes")
        rule = "have both, and volumes are taken" if studies[2] == studies[3] else f"have {read}"
        notes.append(f"The {left} of {other} training studies are not read: most studies {rule}.")
    first = next(cohort for cohort in cohorts if len(cohort.array(ndim)))
    size = recipe.inputs.image.size
    shape = (size, size) if ndim == 2 else first.shape(3)
    for cohort in cohorts:
        if len(cohort.array(ndim)) and cohort.shape(ndim) != shape:
            raise size_error(cohort, shape, fresh=True)
    return shape


def _count(cohort: Cohort, ndim: int) -> NDArray[np.int64]:
    """[n] images of a dimension in each study."""
    here = pc.equal(cohort.table("images", ["array"])["array"], f"pixels_{ndim}d").to_numpy()
    return np.bincount(cohort.image_study[here], minlength=len(cohort))


def _sequences(cohorts: Sequence[Cohort], rows: Rows, ndim: int) -> tuple[str, ...]:
    """Names of the training images of a dimension, where one study has images of several names; else ()."""
    names: set[str] = set()
    several = False
    for cohort, own in zip(cohorts, rows, strict=True):
        images = cohort.table("images", ["array", "name"])
        here = np.isin(cohort.image_study, own) & pc.equal(images["array"], f"pixels_{ndim}d").to_numpy()
        called = [name or "" for name in images["name"].filter(pa.array(here)).to_pylist()]
        pairs = set(zip(cohort.image_study[here].tolist(), called, strict=True))
        several |= any(count > 1 for count in Counter(study for study, name in pairs if name).values())
        names.update(called)
    return tuple(sorted(names - {""})) if several else ()


def _views(cohorts: Sequence[Cohort], rows: Rows, ndim: int) -> tuple[str, ...]:
    """Views of the training images of a dimension, the most frequent first."""
    seen: Counter[str] = Counter()
    for cohort, own in zip(cohorts, rows, strict=True):
        images = cohort.table("images", ["array", "view"])
        here = np.isin(cohort.image_study, own) & pc.equal(images["array"], f"pixels_{ndim}d").to_numpy()
        seen.update(images["view"].filter(pa.array(here)).to_pylist())
    return tuple(sorted(seen, key=lambda view: (-seen[view], view)))


def _columns(cohorts: Sequence[Cohort], rows: Rows, names: Iterable[str], of: str) -> tuple[Numbers, Words, list[str]]:
    """Numeric columns with mean and standard deviation, categorical ones with their words, and those without a value."""
    numeric: Numbers = {}
    categories: Words = {}
    lacking = []
    for name in dict.fromkeys(names):
        having = [(cohort, own) for cohort, own in zip(cohorts, rows, strict=True) if name in columns_of(cohort, of)]
        kind = columns_of(having[-1][0], of)[name].kind if having else ""
        observed = [read_column(cohort, name, kind, of).take(pa.array(own)).drop_null() for cohort, own in having]
        if not sum(map(len, observed)):
            lacking.append(name)
        elif kind == "numeric":
            numeric[name] = _mean_std(np.concatenate([values.to_numpy() for values in observed]))
        else:
            categories[name] = tuple(sorted({word for values in observed for word in values.unique().to_pylist()}))
    return numeric, categories, lacking


def _facts(recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows, notes: list[str]) -> tuple[Numbers, Words]:
    """What was measured on the images, for a baseline that asks for it; no network is given it."""
    if recipe.baseline is None or not recipe.baseline.facts or recipe.inputs.image is None:
        return {}, {}
    numbers, words, _ = _columns(cohorts, rows, [name for cohort in cohorts for name in cohort.facts], "fact")
    if not numbers and not words:
        notes.append("Facts are switched off: the source measured nothing on the training images.")
    return numbers, words


def _record(
    recipe: Recipe, cohorts: Sequence[Cohort], rows: Rows, targets: Mapping[str, Sequence[str]], notes: list[str]
) -> tuple[Numbers, Words]:
    """The columns of the chart that may be read. A column that has the name of a label to be learned is that label, and never an input."""
    options = recipe.inputs.record
    if options is None:
        return {}, {}
    infos = {name: info for cohort in cohorts for name, info in cohort.record.items()}
    late = {name for cohort in cohorts for name, info in cohort.record.items() if info.unknown_time}
    if closed := sorted(late & set(options.columns or ()) - set(options.opt_in)):
        raise RecipeError(
            "the time of a record column is unknown, so it may hold the answer",
            got=", ".join(closed),
            remedy=f"if it is known at prediction time: --set inputs.record.opt_in=[{', '.join(closed)}]",
        )
    if unknown := sorted(set(options.leave_out) - infos.keys()):
        notes.append(f"Record columns to be left out that no cohort has: {', '.join(unknown)}.")
    every = sorted(infos.keys() - late - set(options.leave_out))
    asked = (*(every if options.columns is None else options.columns), *options.opt_in)
    answers = {label for labels in targets.values() for label in labels} & set(asked)
    if answers:
        notes.append(f"Record columns that are to be learned are left out of the inputs: {', '.join(sorted(answers))}.")
    numeric, categories, lacking = _columns(cohorts, rows, [name for name in asked if name not in answers], "record")
    if lacking:
        notes.append(f"Record columns without a value in training are left out: {', '.join(lacking)}.")
    if not numeric and not categories:
        hidden = f" Columns of unknown time need an opt-in: {', '.join(sorted(late))}." if late else ""
        notes.append(f"The record is switched off: no training study has a value in it.{hidden}")
    return numeric, categories


def _written(cohorts: Sequence[Cohort], rows: Rows, read: Sequence[str], told: Sequence[str]) -> list[str]:
    """Sentences on texts that writers made: which are missing, and which hold the answer of an input.

    Raises:
        CohortError: an input or a description is made of written texts alone, and none is written.
    """
    notes = []
    for sections in filter(None, (read, told)):
        if set(sections) <= set(SECTION_KINDS) and not _any_text(cohorts, rows, sections):
            raise CohortError(
                f"there is no {_or(sections)} in the cohort yet",
                where=", ".join(str(cohort.path) for cohort in cohorts),
                remedy=f"chiasm write {cohorts[0].path} --kind {SECTION_KINDS[sections[0]]}",
            )
    for section in dict.fromkeys((*read, *told)):
        if section in SECTION_KINDS:
            have = sum(
                bool(texts[row])
                for c, own in zip(cohorts, rows, strict=True)
                for texts in (c.texts([section]),)
                for row in own
            )
            if lacking := sum(map(len, rows)) - have:
                notes.append(
                    f"{lacking} training studies have no {section}; chiasm write makes it where there is something to write from."
                )
    for section in set(read) & set(SECTION_KINDS):
        made = sum((Counter(count_sources(cohort.path, section)) for cohort in cohorts), Counter[str]())
        said = ", ".join(f"{name} ({made[name]})" for name in ("labels", "report", "regions") if made[name])
        if said:
            notes.append(
                f"The input {section} was written from {said}: it holds the answer of what they say. "
                "Only figures without the text say what is seen."
            )
    return notes


def _any_text(cohorts: Sequence[Cohort], rows: Rows, sections: Sequence[str]) -> bool:
    for cohort, own in zip(cohorts, rows, strict=True):
        wanted, start = np.zeros(len(cohort), bool), 0
        wanted[own] = True
        for part in cohort.text_parts(sections):
            if any(text for text, here in zip(part, wanted[start:], strict=False) if here):
                return True
            start += len(part)
    return False


def _atlas(recipe: Recipe, cohorts: Sequence[Cohort]) -> str:
    """Where the atlas lies by whose regions volumes are read; "" where they are read on a grid.

    Raises:
        CohortError: a cohort has no atlas, or another one than the first.
    """
    if recipe.inputs.image is None or recipe.inputs.image.tokens == "grid":
        return ""
    for cohort in cohorts:
        if cohort.atlas is None or cohort.meta["atlas"]["pixel_hash"] != cohorts[0].meta["atlas"]["pixel_hash"]:
            raise CohortError(
                "images cannot be read by territory here",
                expected="volumes with an atlas, the same in all cohorts",
                got="no atlas" if cohort.atlas is None else "another atlas",
                where=str(cohort.path),
                remedy="--set inputs.image.tokens=grid, and an encoder",
            )
    place: str = cohorts[0].meta["atlas"]["geometry"]
    return place


def _grid(shape: tuple[int, ...], stride: int | None) -> tuple[int, ...]:
    """Cells of an image: those of the maps, or without maps one for about 16 pixels."""
    if stride is not None and any(side % stride for side in shape):
        raise RecipeError(
            "the image size is no multiple of the localization stride",
            expected=f"a multiple of {stride}",
            got=str(shape),
            remedy="change inputs.image.size, or import volumes of another --volume-size",
        )
    return tuple(max(1, side // (stride or 16)) for side in shape)


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)
