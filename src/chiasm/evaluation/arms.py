"""From the models of a run to evidence: every arm's answers to every tested study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.encoding.plan import Layout
from chiasm.evaluation.controls import (
    Taught,
    constant_texts,
    nearest_texts,
    prior_arm,
    shared_with_training,
    shortcut_arms,
)
from chiasm.evaluation.saliency import look
from chiasm.evaluation.spec import (
    FULL,
    NOTHING,
    SHUFFLED_IMAGE,
    WITHOUT_OPT_IN,
    Arm,
    Evidence,
    Floats,
    Maps,
    Pool,
    Question,
    mean_known,
)
from chiasm.metrics.attribution import subsets
from chiasm.progress import Progress
from chiasm.run.answers import Answers
from chiasm.run.ensemble import map_threshold
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.tensors import MODALITIES

Asked = list[tuple[FoldModelOver, NDArray[np.int64], NDArray[np.int64]]]
"""(fold model, the studies it answers as indices of its loader, their places in the pool)."""


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
    asks = _asks(question)
    with Progress("evaluate", len(asks) * sum(len(indices) for _, indices, _ in asked)) as bar:
        said = _ask(asked, pool, asks, bar.advance)
    arms = {name: _arm(question, pool, asked, said[name]) for name in asks if name != SHUFFLED_IMAGE}
    descriptions: dict[str, Sequence[str]] = {}
    if question.description_sections:
        descriptions = {name: _texts(pool, asked, said[name]) for name in (FULL, SHUFFLED_IMAGE)}
    neighbour, shared = "", []
    if taught is not None:
        past = _taught(fold_models, taught, pool)
        shared = shared_with_training(past, pool)
        arms["prior"] = prior_arm(question, past, pool.fold_model)
        if "image" in question.modalities:
            arms |= shortcut_arms(question, past, pool.fold_model)
        if descriptions:
            descriptions["constant"] = constant_texts(question, past, pool.fold_model)
            descriptions["nearest"], neighbour = nearest_texts(question, past, pool.fold_model)
    maps = _maps(question, pool, asked, said[FULL])
    return Evidence(question, pool, arms, maps, descriptions, neighbour, look(question, pool, asked)), shared


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
        net_benefit_at=options.net_benefit_at,
    )


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


def _asks(question: Question) -> dict[str, Ask]:
    """Arm -> how the models are asked."""
    told = bool(question.description_sections)
    asks = {FULL: Ask(maps=True, describe=told)}
    asks |= {"+".join(subset): Ask(subset) for subset in subsets(question.modalities)[1:-1]}
    if len(question.modalities) > 1:
        asks[NOTHING] = Ask(())
    if question.opted_in:
        asks[WITHOUT_OPT_IN] = Ask(hidden_columns=tuple(question.opted_in))
    if "text" in question.modalities:
        asks["shuffled_text"] = Ask(shuffled="text")
    if told:
        asks[SHUFFLED_IMAGE] = Ask(shuffled="image", describe=True)
    return asks


def _ask(
    asked: Asked, pool: Pool, asks: Mapping[str, Ask], progress: Callable[[int], None]
) -> dict[str, list[Answers]]:
    """Arm -> every fold model's answers; a study is described by the first of its fold models alone."""
    said: dict[str, list[Answers]] = {name: [] for name in asks}
    for number, (fold_model, indices, _) in enumerate(asked):
        first = number in pool.fold_model[:, 0]
        mine = [replace(ask, describe=ask.describe and first) for ask in asks.values()]
        for name, answers in zip(asks, infer(fold_model, indices, mine, progress), strict=True):
            said[name].append(answers)
    return said


def _arm(question: Question, pool: Pool, asked: Asked, answers: Sequence[Answers]) -> Arm:
    (n, m), layout = pool.fold_model.shape, question.layout
    logits = {t: np.full((n, m, *layout.shape(t)), np.nan, np.float32) for t in question.targets}
    values: dict[str, Floats] = {t: np.full(each.shape, np.nan) for t, each in logits.items()}
    cuts = {t: np.full((n, m, len(labels)), np.nan) for t, labels in question.targets.items()}
    radii = {t: each.copy() for t, each in cuts.items()}
    shown = np.full((n, m), "", dtype="U64")
    for number, ((fold_model, _, places), said) in enumerate(zip(asked, answers, strict=True)):
        calibrated, plan = fold_model.probabilities(said), fold_model.plan
        at = places, (pool.fold_model[places] == number).argmax(axis=1)
        shown[at] = said.shown
        for target in plan.targets:
            logits[target][at] = layout.place_logits(plan, target, said.logits[target])
            values[target][at] = layout.place(plan, target, calibrated[target])
            cuts[target][at] = layout.place_labels(plan, target, fold_model.thresholds(target, said.shown))
            radii[target][at] = layout.place_labels(plan, target, fold_model.radii(target, said.shown))
    mean, cut, radius = ({t: mean_known(v, axis=1) for t, v in parts.items()} for parts in (values, cuts, radii))
    return Arm(mean, logits, cut, shown, radius)


def _texts(pool: Pool, asked: Asked, answers: Sequence[Answers]) -> list[str]:
    """A description a study, of the first fold model that answers it: a mean of texts does not exist."""
    texts = [""] * len(pool)
    for (_, _, places), said in reversed(list(zip(asked, answers, strict=True))):
        for place, text in zip(places, said.descriptions or [], strict=False):
            texts[place] = text
    return texts


def _maps(question: Question, pool: Pool, asked: Asked, answers: Sequence[Answers]) -> Maps | None:
    """The maps of all fold models, averaged where several answer an image."""
    sums: dict[tuple[int, int], list[NDArray[np.float32]]] = {}
    for (fold_model, indices, places), said in zip(asked, answers, strict=True):
        if said.maps is None or said.map_index is None:
            continue
        channels = [list(question.localized).index(channel) for channel in fold_model.plan.localized]
        place_of = dict(zip(indices.tolist(), places.tolist(), strict=True))
        for grid, (index, image_row) in zip(said.maps, said.map_index.tolist(), strict=True):
            whole = np.full((len(question.localized), *grid.shape[1:]), np.nan, np.float32)
            whole[channels] = expit(grid.astype(np.float32))
            sums.setdefault((place_of[index], image_row), []).append(whole)
    if not sums:
        return None
    keys = sorted(sums)
    study, image_row = np.array(keys, np.int64).T
    return Maps(
        np.stack([mean_known(np.stack(sums[key]), axis=0) for key in keys]).astype(np.float16),
        study,
        image_row,
        [pool.cohorts[pool.cohort[s]].geometry(int(i)) for s, i in keys],
        np.array(
            [
                [map_threshold(fold_model.calibration, *channel) for channel in question.localized]
                for fold_model, _, _ in asked
            ]
        ),
    )


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
