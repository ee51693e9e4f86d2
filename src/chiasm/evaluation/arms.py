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
from chiasm.run.fold_model import Member
from chiasm.run.infer import Ask, infer
from chiasm.tensors import MODALITIES

Asked = list[tuple[Member, NDArray[np.int64], NDArray[np.int64]]]
"""(member, the studies it answers as indices of its loader, their places in the pool)."""


def collect(members: Sequence[Member], taught: Sequence[Member] | None) -> tuple[Evidence, list[str]]:
    """Ask every member.

    Args:
        members: over their own cohorts, where each answers its test patients; or over other cohorts (their split is empty),
            where all answer all studies. Where several answer a study (repeats, another cohort), their mean counts.
        taught: the members over their own cohorts, for controls that need the training patients; None without those.

    Returns:
        the evidence, and a sentence for each thing that training and test share and should not.
    """
    external = not members[0].split
    question = read_question(members, external)
    asked, pool = _assign(members)
    asks = _asks(question)
    with Progress("evaluate", len(asks) * sum(len(indices) for _, indices, _ in asked)) as bar:
        said = _ask(asked, pool, asks, bar.advance)
    arms = {name: _arm(question, pool, asked, said[name]) for name in asks if name != SHUFFLED_IMAGE}
    descriptions: dict[str, Sequence[str]] = {}
    if question.description_sections:
        descriptions = {name: _texts(pool, asked, said[name]) for name in (FULL, SHUFFLED_IMAGE)}
    neighbour, shared = "", []
    if taught is not None:
        past = _taught(members, taught, pool)
        shared = shared_with_training(past, pool)
        arms["prior"] = prior_arm(question, past, pool.member)
        if "image" in question.modalities:
            arms |= shortcut_arms(question, past, pool.member)
        if descriptions:
            descriptions["constant"] = constant_texts(question, past, pool.member)
            descriptions["nearest"], neighbour = nearest_texts(question, past, pool.member)
    maps = _maps(question, pool, asked, said[FULL])
    return Evidence(question, pool, arms, maps, descriptions, neighbour, look(question, pool, asked)), shared


def read_question(members: Sequence[Member], external: bool) -> Question:
    """What is asked: the labels, inputs and sections of all members (a fold may lack a label that others know)."""
    plans = [member.plan for member in members]
    layout, options, record = Layout.of(plans), members[0].recipe.evaluate, members[0].recipe.inputs.record
    columns = {name for plan in plans for name in (*plan.numeric, *plan.categories)}
    return Question(
        targets=layout.labels,
        kinds=layout.kinds,
        uncertain={target: how for plan in plans for target, how in plan.uncertain.items()},
        findings=list(dict.fromkeys(target for plan in plans for target in plan.findings)),
        modalities=[m for m in MODALITIES if any(m in member.model.modalities for member in members)],
        text_sections=list(dict.fromkeys(section for plan in plans for section in plan.text_sections)),
        description_sections=list(dict.fromkeys(section for plan in plans for section in plan.description_sections)),
        localized=list(dict.fromkeys(channel for plan in plans for channel in plan.localized)),
        external=external,
        levels=layout.levels,
        opted_in=tuple(name for name in record.opt_in if name in columns) if record else (),
        coverage=options.coverage,
        net_benefit_at=options.net_benefit_at,
    )


def _assign(members: Sequence[Member]) -> tuple[Asked, Pool]:
    """Whom each member answers. A study that several repeats tested stands once, with the members that never saw it."""
    loader = members[0].loader
    external = not members[0].split
    parts = [np.arange(len(loader)) if external else member.split["test"] for member in members]
    indices, places = np.unique(np.concatenate(parts), return_inverse=True)
    asked = np.split(places, np.cumsum([len(part) for part in parts])[:-1])
    number = np.repeat(np.arange(len(members)), [len(part) for part in parts])
    who = number[np.lexsort((number, places))].reshape(len(indices), -1)  # every study is tested once a repeat
    where = np.array([loader.cohort_of(int(index)) for index in indices], np.int64).reshape(-1, 2)
    return list(zip(members, parts, asked, strict=True)), Pool(loader.cohorts, where[:, 0], where[:, 1], who)


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
    """Arm -> every member's answers; a study is described by the first of its members alone."""
    said: dict[str, list[Answers]] = {name: [] for name in asks}
    for number, (member, indices, _) in enumerate(asked):
        first = number in pool.member[:, 0]
        mine = [replace(ask, describe=ask.describe and first) for ask in asks.values()]
        for name, answers in zip(asks, infer(member, indices, mine, progress), strict=True):
            said[name].append(answers)
    return said


def _arm(question: Question, pool: Pool, asked: Asked, answers: Sequence[Answers]) -> Arm:
    (n, m), layout = pool.member.shape, question.layout
    logits = {t: np.full((n, m, *layout.shape(t)), np.nan, np.float32) for t in question.targets}
    values: dict[str, Floats] = {t: np.full(each.shape, np.nan) for t, each in logits.items()}
    cuts = {t: np.full((n, m, len(labels)), np.nan) for t, labels in question.targets.items()}
    radii = {t: each.copy() for t, each in cuts.items()}
    shown = np.full((n, m), "", dtype="U64")
    for number, ((member, _, places), said) in enumerate(zip(asked, answers, strict=True)):
        calibrated, plan = member.probabilities(said), member.plan
        at = places, (pool.member[places] == number).argmax(axis=1)
        shown[at] = said.shown
        for target in plan.targets:
            logits[target][at] = layout.place_logits(plan, target, said.logits[target])
            values[target][at] = layout.place(plan, target, calibrated[target])
            cuts[target][at] = layout.place_labels(plan, target, member.thresholds(target, said.shown))
            radii[target][at] = layout.place_labels(plan, target, member.radii(target, said.shown))
    mean, cut, radius = ({t: mean_known(v, axis=1) for t, v in parts.items()} for parts in (values, cuts, radii))
    return Arm(mean, logits, cut, shown, radius)


def _texts(pool: Pool, asked: Asked, answers: Sequence[Answers]) -> list[str]:
    """A description a study, of the first member that answers it: a mean of texts does not exist."""
    texts = [""] * len(pool)
    for (_, _, places), said in reversed(list(zip(asked, answers, strict=True))):
        for place, text in zip(places, said.descriptions or [], strict=False):
            texts[place] = text
    return texts


def _maps(question: Question, pool: Pool, asked: Asked, answers: Sequence[Answers]) -> Maps | None:
    """The maps of all members, averaged where several answer an image."""
    sums: dict[tuple[int, int], list[NDArray[np.float32]]] = {}
    for (member, indices, places), said in zip(asked, answers, strict=True):
        if said.maps is None or said.map_index is None:
            continue
        channels = [list(question.localized).index(channel) for channel in member.plan.localized]
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
            [[map_threshold(member.calibration, *channel) for channel in question.localized] for member, _, _ in asked]
        ),
    )


def _taught(members: Sequence[Member], taught: Sequence[Member], pool: Pool) -> Taught:
    own, other = taught[0].loader, members[0].loader
    train = [member.split["train"] for member in taught]
    ndim = len(taught[0].plan.image_shape or (0, 0))
    offsets = np.cumsum([0, *map(len, pool.cohorts)])
    tested = offsets[pool.cohort] + pool.row
    if other is own or members[0].split:
        return Taught(own.cohorts, train, tested, ndim, own.features)
    both = [*own.features, *other.features] if own.features is not None and other.features is not None else None
    return Taught([*own.cohorts, *other.cohorts], train, tested + len(own), ndim, both)
