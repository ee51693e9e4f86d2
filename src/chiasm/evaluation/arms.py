"""From the models of a run to evidence: every arm's answers to every tested study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chiasm.encoding.plan import Layout, Plan
from chiasm.evaluation.controls import Asked, Taught, remake_controls, run_controls, shared_with_training
from chiasm.evaluation.saliency import saliency
from chiasm.evaluation.spec import FULL, NOTHING, Arm, Evidence
from chiasm.heads.spec import Floats, Pool, Question, mean_known
from chiasm.metrics.attribution import subsets
from chiasm.progress import Progress
from chiasm.registry import ARMS
from chiasm.run.answers import Answers
from chiasm.run.ensemble import gather_heads, head_names
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.tensors import MODALITIES


def collect(fold_models: Sequence[FoldModelOver], taught: Sequence[FoldModelOver] | None) -> tuple[Evidence, list[str]]:
    """Ask every fold model.

    Args:
        fold models: over their own cohorts, where each answers its test patients; or over other cohorts (their split is empty),
            where all answer all studies. Where several answer a study (repeats, another cohort), their mean counts.
        taught: the fold models over their own cohorts, for controls that need the training patients; None without those.

    Returns:
        the evidence, and a sentence for each thing that training and test share and should not.
    """
    external = not fold_models[0].split
    question = read_question(fold_models, external)
    asked, pool = _assign(fold_models)
    asks = _asks(question, *head_names(fold_models))
    with Progress("evaluate", len(asks) * sum(len(indices) for _, indices, _ in asked)) as bar:
        said = _ask(asked, pool, asks, bar.advance)
    arms = {
        name: _arm(question, pool, asked, said[name]) for name, ask in asks.items() if name == FULL or not ask.heads
    }
    arms[NOTHING] = _nothing(question, pool, [fold_model.plan for fold_model, _, _ in asked])
    heads = {
        name: {"": evidence} for name, evidence in _pool_heads(pool, asked, said[FULL]).items() if evidence is not None
    }
    for arm, ask in asks.items():
        for name, evidence in _pool_heads(pool, asked, said[arm]).items() if arm != FULL and ask.heads else ():
            heads[name][arm] = evidence
    for head, remade in remake_controls({name: own[""] for name, own in heads.items()}, pool, asked).items():
        heads[head] |= remade
    neighbour, shared = "", []
    if taught is not None:
        past = _taught(fold_models, taught, pool)
        shared = shared_with_training(past, pool)
        found = run_controls(question, past, pool, heads)
        arms |= found.arms
        neighbour = found.neighbour
        for name, by_control in found.heads.items():
            heads[name] |= by_control
    return Evidence(question, pool, arms, heads, neighbour, saliency(question, pool, asked)), shared


def _pool_heads(pool: Pool, asked: Asked, answers: Sequence[Answers]) -> dict[str, Any]:
    """Name of a head -> its evidence, of the fold models that were asked for it."""
    models, indices, places = zip(*asked, strict=True)
    gathered = gather_heads(models, answers, indices, places)
    return {name: each[0].head.pool(pool, each) for name, each in gathered.items()}


def read_question(fold_models: Sequence[FoldModelOver], external: bool) -> Question:
    """What is asked: the labels, inputs and sections of all fold models (a fold may lack a label that others know)."""
    plans = [fold_model.plan for fold_model in fold_models]
    layout, options, record = Layout.of(plans), fold_models[0].recipe.evaluate, fold_models[0].recipe.inputs.record
    columns = {name for plan in plans for name in (*plan.numeric, *plan.categories)}
    return Question(
        targets=layout.labels,
        kinds=layout.kinds,
        uncertain={target: how for plan in plans for target, how in plan.uncertain.items()},
        findings=list(dict.fromkeys(target for plan in plans for target in plan.findings)),
        modalities=[m for m in MODALITIES if any(m in fold_model.model.modalities for fold_model in fold_models)],
        text_sections=list(dict.fromkeys(section for plan in plans for section in plan.text_sections)),
        description_sections=list(dict.fromkeys(section for plan in plans for section in plan.description_sections)),
        localized=list(dict.fromkeys(channel for plan in plans for channel in plan.localized)),
        external=external,
        levels=layout.levels,
        opted_in=tuple(name for name in record.opt_in if name in columns) if record else (),
        coverage=options.coverage,
        heads=_recorded_heads(fold_models),
        net_benefit_at=options.net_benefit_at,
        columns=tuple(dict.fromkeys(name for plan in plans for name in (*plan.numeric, *plan.categories))),
        reads_view=any(len(plan.views) > 1 for plan in plans) and fold_models[0].recipe.baseline is None,
    )


def _recorded_heads(fold_models: Sequence[FoldModelOver]) -> dict[str, Any]:
    """Name -> options and state of each head, of the first fold model that has it."""
    found: dict[str, Any] = {}
    for fold_model in fold_models:
        for name, options in fold_model.recipe.active_heads.items():
            state = fold_model.plan.heads.get(name)
            found.setdefault(name, {"options": options.model_dump(mode="json"), "state": state})
    return found


def _assign(fold_models: Sequence[FoldModelOver]) -> tuple[Asked, Pool]:
    """Whom each fold model answers. A study that several repeats tested stands once, with the fold models that never saw it."""
    loader = fold_models[0].loader
    external = not fold_models[0].split
    parts = [np.arange(len(loader)) if external else fold_model.split["test"] for fold_model in fold_models]
    indices, places = np.unique(np.concatenate(parts), return_inverse=True)
    asked = np.split(places, np.cumsum([len(part) for part in parts])[:-1])
    number = np.repeat(np.arange(len(fold_models)), [len(part) for part in parts])
    who = number[np.lexsort((number, places))].reshape(len(indices), -1)  # every study is tested once a repeat
    where = np.array([loader.cohort_of(int(index)) for index in indices], np.int64).reshape(-1, 2)
    return list(zip(fold_models, parts, asked, strict=True)), Pool(loader.cohorts, where[:, 0], where[:, 1], who)


class AskedArm:
    """A way to ask a model; one object under its name in the registry.

    Attributes:
        title: for the page, in a few words.
    """

    title: str = ""

    def ask(self, question: Question, telling: tuple[str, ...]) -> Ask | None:
        """How it is asked, or None where it does not apply. `telling`: heads that write in a pass of their own."""
        raise TypeError("AskedArm is abstract")

    def protocol(self, question: Question) -> str:
        """One clause for every figure of this arm."""
        raise TypeError("AskedArm is abstract")


class WithoutOptedIn(AskedArm):
    title = "all inputs but the columns that were opted in"

    def ask(self, question: Question, telling: tuple[str, ...]) -> Ask | None:
        return Ask(hidden_columns=tuple(question.opted_in)) if question.opted_in else None

    def protocol(self, question: Question) -> str:
        return f"all inputs but {', '.join(question.opted_in)}, of unknown time, which the recipe opted in"


class ShuffledText(AskedArm):
    title = "with shuffled texts"

    def ask(self, question: Question, telling: tuple[str, ...]) -> Ask | None:
        return Ask(shuffled="text") if "text" in question.modalities else None

    def protocol(self, question: Question) -> str:
        return (
            f"control: report-conditioned (sections {', '.join(question.text_sections)}), "
            "each report replaced by another patient's"
        )


class ShuffledImages(AskedArm):
    """Of heads that write alone: the answers to the targets are not asked."""

    title = "the model on shuffled images"

    def ask(self, question: Question, telling: tuple[str, ...]) -> Ask | None:
        return Ask(shuffled="image", heads=telling, tell=telling) if telling else None

    def protocol(self, question: Question) -> str:
        return "control: the model on another patient's image; the report is hidden"


WITHOUT_OPTED_IN, SHUFFLED_TEXT, SHUFFLED_IMAGES = WithoutOptedIn(), ShuffledText(), ShuffledImages()


def _asks(question: Question, every: tuple[str, ...], telling: tuple[str, ...]) -> dict[str, Ask]:
    """Arm -> how the models are asked. `every`: heads whose answers are kept; `telling`: those that write."""
    asks = {FULL: Ask(heads=every, tell=telling)}
    asks |= {"+".join(subset): Ask(subset) for subset in subsets(question.modalities)[1:-1]}
    return asks | {name: ask for name, arm in ARMS.items() if (ask := arm.ask(question, telling)) is not None}


def _ask(
    asked: Asked, pool: Pool, asks: Mapping[str, Ask], progress: Callable[[int], None]
) -> dict[str, list[Answers]]:
    """Arm -> every fold model's answers; a study is described by the first of its fold models alone."""
    said: dict[str, list[Answers]] = {name: [] for name in asks}
    for number, (fold_model, indices, _) in enumerate(asked):
        first = number in pool.fold_model[:, 0]
        mine = [replace(ask, tell=ask.tell if first else ()) for ask in asks.values()]
        for name, answers in zip(asks, infer(fold_model, indices, mine, progress), strict=True):
            said[name].append(answers)
    return said


def _arm(question: Question, pool: Pool, asked: Asked, answers: Sequence[Answers]) -> Arm:
    (n, m), layout = pool.fold_model.shape, question.layout
    logits = {t: np.full((n, m, *layout.shape(t)), np.nan, np.float32) for t in question.targets}
    values: dict[str, Floats] = {t: np.full(each.shape, np.nan) for t, each in logits.items()}
    thresholds = {t: np.full((n, m, len(labels)), np.nan) for t, labels in question.targets.items()}
    quantiles = {t: each.copy() for t, each in thresholds.items()}
    shown = np.full((n, m), "", dtype="U64")
    for number, ((fold_model, _, places), said) in enumerate(zip(asked, answers, strict=True)):
        calibrated, plan = fold_model.probabilities(said), fold_model.plan
        at = places, (pool.fold_model[places] == number).argmax(axis=1)
        shown[at] = said.shown
        for target in plan.targets:
            logits[target][at] = layout.place_logits(plan, target, said.logits[target])
            values[target][at] = layout.place(plan, target, calibrated[target])
            thresholds[target][at] = layout.place_labels(plan, target, fold_model.thresholds(target, said.shown))
            quantiles[target][at] = layout.place_labels(plan, target, fold_model.quantiles(target, said.shown))
    threshold, quantile = ({t: mean_known(v, axis=1) for t, v in parts.items()} for parts in (thresholds, quantiles))
    return Arm.of(values, logits=logits, thresholds=threshold, shown=shown, quantiles=quantile)


def _nothing(question: Question, pool: Pool, plans: Sequence[Plan]) -> Arm:
    """What the training of the fold models that answer a study says of a patient of whom nothing is known."""
    (n, m), layout = pool.fold_model.shape, question.layout
    values: dict[str, Floats] = {t: np.full((n, m, *layout.shape(t)), np.nan) for t in question.targets}
    for number, plan in enumerate(plans):
        at = np.nonzero(pool.fold_model == number)
        for target in plan.targets:
            values[target][at] = layout.place_prior(plan, target, len(at[0]))
    return Arm.of(values)


def _taught(fold_models: Sequence[FoldModelOver], taught: Sequence[FoldModelOver], pool: Pool) -> Taught:
    own, other = taught[0].loader, fold_models[0].loader
    train = [fold_model.split["train"] for fold_model in taught]
    ndim = len(taught[0].plan.image_shape or (0, 0))
    offsets = np.cumsum([0, *map(len, pool.cohorts)])
    tested = offsets[pool.cohort] + pool.row
    if other is own or fold_models[0].split:
        return Taught(own.cohorts, train, tested, ndim, own.features)
    both = [*own.features, *other.features] if own.features is not None and other.features is not None else None
    return Taught([*own.cohorts, *other.cohorts], train, tested + len(own), ndim, both)
