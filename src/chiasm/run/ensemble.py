"""What the models of a run say together of studies, as `Prediction`s."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.plan import Layout
from chiasm.heads.head import READER, Asked
from chiasm.metrics.attribution import (
    Coalition,
    ColumnShares,
    additive,
    attribute,
    from_prior,
    numbers,
    subsets,
    told,
)
from chiasm.models.baseline import Baseline
from chiasm.run.answers import Answers
from chiasm.run.contradictions import check_description, check_inputs
from chiasm.run.fold_model import FoldModel, FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.run.model import Model
from chiasm.run.outcomes import read_outcome
from chiasm.run.statements import leave_out, read_texts, weigh
from chiasm.study import Finding, Kind, Note, Outcome, Prediction, State, Statement
from chiasm.tensors import MODALITIES

Values = dict[str, NDArray[np.float64]]
_STATES = (State.ABSENT, State.PRESENT)


@dataclass(frozen=True)
class _Said:
    """What the fold models say together of n studies.

    Attributes:
        layout: labels and levels that any fold model knows (a fold may lack one that others know).
        values, hidden: target -> [n, L] or [n, L, Q] probabilities or values, with all that is there and without the report.
        without: `told` of `hidden`.
        thresholds, hidden_thresholds: target -> [n, L] where those turn to yes; NaN where validation could not say.
        quantiles: target -> [n, L] of the prediction sets; NaN where validation could not say.
        added: target -> modality -> [n, numbers] as `told`; present: modality -> [n] bool.
        columns: record column -> target -> [n, numbers] its part of the record's, and the standard error of that.
        heads: name of a head -> what each fold model that has it said.
        at_odds: [n] notes on labels on which the image alone and the report alone are at odds.
        statements: [n] the sentences of the report, and what each changed.
    """

    layout: Layout
    values: Values
    hidden: Values
    without: Values
    thresholds: Values
    hidden_thresholds: Values
    quantiles: Values
    added: Mapping[str, Mapping[str, NDArray[np.float64]]]
    present: Mapping[str, NDArray[np.bool_]]
    columns: Mapping[str, Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]
    heads: Mapping[str, Sequence[Asked]]
    at_odds: Sequence[Sequence[Note]]
    statements: Sequence[Sequence[Statement]]


def predict_together(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[Prediction]:
    """One `Prediction` a study: the mean over the fold models of probabilities, thresholds, maps and of what each modality added.

    The description comes from the first fold model; a mean of texts does not exist.
    """
    modalities = tuple(m for m in MODALITIES if any(m in fold_model.model.modalities for fold_model in fold_models))
    layout = Layout.of([fold_model.plan for fold_model in fold_models])
    sets = subsets(modalities)
    every, telling = head_names(fold_models)
    shares = _column_shares(fold_models, modalities)
    coalitions = [] if shares is None else shares.partial
    asks = [Ask(s, heads=every if s == modalities else ()) for s in sets[1:]]
    asks += [_ask_columns(modalities, shares.columns, c) for c in coalitions] if shares is not None else []
    texts = read_texts(fold_models, indices)
    asks += [Ask(texts=tuple(without)) for without in leave_out(texts)]
    told_by = [
        infer(m, indices, [replace(a, tell=telling if i == 0 and a.heads else ()) for a in asks])
        for i, m in enumerate(fold_models)
    ]
    each = [[answers[number] for answers in told_by] for number in range(len(asks))]
    prior = _prior(fold_models, layout, len(indices))
    found = [_values(fold_models, answers, layout) for answers in each]
    upon = [_from_prior(own, prior, answers) for own, answers in zip(found, each, strict=True)]
    chosen = dict(zip(sets[1:], each, strict=False))
    values = {**dict(zip(sets[1:], found, strict=False)), (): prior}
    reached = {**dict(zip(sets[1:], upon, strict=False)), (): prior}
    by_columns, by_texts = upon[len(chosen) : len(chosen) + len(coalitions)], upon[len(chosen) + len(coalitions) :]
    columns = {}
    if shares is not None:
        asked = dict(zip(coalitions, by_columns, strict=True))
        columns = _share_columns(shares, modalities, layout, reached, asked)
    unread = tuple(m for m in modalities if m != "text")
    full = chosen[modalities]
    thresholds = _by_label(fold_models, full, layout, FoldModel.thresholds)
    nowhere = {target: np.full_like(own, np.nan) for target, own in thresholds.items()}
    said = _Said(
        layout,
        values=values[modalities],
        hidden=values[unread],
        without=told(values[unread], layout),
        thresholds=thresholds,
        hidden_thresholds=_by_label(fold_models, chosen[unread], layout, FoldModel.thresholds) if unread else nowhere,
        quantiles=_by_label(fold_models, full, layout, FoldModel.quantiles),
        added=attribute(reached, layout, modalities),
        present=_present(full, modalities),
        columns=columns,
        heads=gather_heads(fold_models, full, indices),
        at_odds=_at_odds(fold_models, chosen, values, layout),
        statements=weigh(texts, reached[modalities], by_texts, layout),
    )
    return [_prediction(fold_models, said, i, int(index)) for i, index in enumerate(indices)]


def _from_prior(values: Values, prior: Values, answers: Sequence[Answers]) -> Values:
    """The answers to some inputs, of a study that shows none of them the prior."""
    return from_prior(values, prior, np.any([each.shown != "" for each in answers], axis=0))


def _column_shares(fold_models: Sequence[FoldModelOver], modalities: Sequence[str]) -> ColumnShares | None:
    """How the record's share is shared out to its columns; None of a record of one column, or none."""
    columns = dict.fromkeys(name for m in fold_models for name in (*m.plan.numeric, *m.plan.categories))
    return ColumnShares(modalities, list(columns)) if "record" in modalities and len(columns) > 1 else None


def _ask_columns(modalities: Sequence[str], columns: Sequence[str], coalition: Coalition) -> Ask:
    others, shown = coalition
    seen = tuple(m for m in modalities if m in others or m == "record")
    return Ask(seen, hidden_columns=tuple(name for name in columns if name not in shown))


def _share_columns(
    shares: ColumnShares,
    modalities: Sequence[str],
    layout: Layout,
    reached: Mapping[tuple[str, ...], Values],
    asked: Mapping[Coalition, Values],
) -> dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """column -> target -> its part and error. `reached`: of subsets of the modalities; `asked`: of some columns only."""
    of: dict[Coalition, Values] = {coalition: additive(values, layout) for coalition, values in asked.items()}
    for others in subsets([m for m in modalities if m != "record"]):
        of[others, ()] = additive(reached[others], layout)
        of[others, shares.columns] = additive(
            reached[tuple(m for m in modalities if m in others or m == "record")], layout
        )
    found: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for target in layout.labels:
        for column, part in shares.share({c: of[c][target] for c in shares.coalitions}).items():
            found.setdefault(column, {})[target] = part
    return found


def _values(fold_models: Sequence[FoldModel], answers: Sequence[Answers], layout: Layout) -> Values:
    each = [fold_model.probabilities(a) for fold_model, a in zip(fold_models, answers, strict=True)]
    return {
        t: _mean([layout.place(m.plan, t, v[t]) for m, v in zip(fold_models, each, strict=True) if t in v])
        for t in layout.labels
    }


def _prior(fold_models: Sequence[FoldModel], layout: Layout, n: int) -> Values:
    """What training says of patients of whom nothing is known, the mean of the fold models."""
    return {
        t: _mean([layout.place_prior(m.plan, t, n) for m in fold_models if t in m.plan.targets]) for t in layout.labels
    }


def _by_label(
    fold_models: Sequence[FoldModel],
    answers: Sequence[Answers],
    layout: Layout,
    of: Callable[[FoldModel, str, NDArray[np.str_]], NDArray[np.float64]],
) -> Values:
    """target -> [n, L] of what each fold model fitted."""
    pairs = list(zip(fold_models, answers, strict=True))
    return {
        t: _mean([layout.place_labels(m.plan, t, of(m, t, a.shown)) for m, a in pairs if t in m.plan.targets])
        for t in layout.labels
    }


def _mean(each: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over the fold models that know a label; NaN where none of them knows a number."""
    stacked = np.stack(each)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _at_odds(
    fold_models: Sequence[FoldModelOver],
    chosen: Mapping[tuple[str, ...], Sequence[Answers]],
    values: Mapping[tuple[str, ...], Values],
    layout: Layout,
) -> list[list[Note]]:
    """[n] notes on labels on which the image alone and the report alone are at odds."""
    image, text = ("image",), ("text",)
    if image not in chosen or text not in chosen:
        return [[] for _ in next(iter(chosen.values()))[0].indices]
    return check_inputs(
        layout.labels,
        values[image],
        values[text],
        [_by_label(fold_models, chosen[alone], layout, FoldModel.thresholds) for alone in (image, text)],
        fold_models[0].novelty.disagreement if fold_models[0].novelty else {},
        _present(chosen[image], image)["image"] & _present(chosen[text], text)["text"],
    )


def head_names(fold_models: Sequence[FoldModel]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The heads that any fold model has, and those of them that write in a pass of their own."""
    found = {
        name: layers for m in fold_models if not isinstance(m.model, Baseline) for name, layers in m.model.heads.items()
    }
    names, telling = tuple(found), [name for name, layers in found.items() if hasattr(layers, "tell")]
    return names, tuple(telling)


def gather_heads(
    fold_models: Sequence[FoldModelOver],
    answers: Sequence[Answers],
    indices: NDArray[np.int64] | Sequence[NDArray[np.int64]],
    places: Sequence[NDArray[np.int64]] | None = None,
) -> dict[str, list[Asked]]:
    """Name of a head -> what each fold model that has it says of the studies it was asked of.

    Args:
        indices: of the studies in the loaders, the same for all fold models or of each. places: of each, where these studies
            stand among all that were asked.
    """
    found: dict[str, list[Asked]] = {}
    for number, (fold_model, said) in enumerate(zip(fold_models, answers, strict=True)):
        own = indices if isinstance(indices, np.ndarray) else indices[number]
        where = np.arange(len(own)) if places is None else places[number]
        for name, kept in said.heads.items():
            head = cast(Model, fold_model.model).parts[name]
            one = Asked(number, head, own, where, kept, fold_model.calibration.map_threshold, fold_model.image)
            found.setdefault(name, []).append(one)
    return found


def _present(answers: Sequence[Answers], modalities: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Modality -> [n] whether any fold model reads it of a study."""
    shown = [[set(inputs.split("+")) for inputs in each.shown.tolist()] for each in answers]
    return {
        m: np.array([any(m in inputs for inputs in study) for study in zip(*shown, strict=True)]) for m in modalities
    }


def _prediction(fold_models: Sequence[FoldModelOver], said: _Said, i: int, index: int) -> Prediction:
    loader = fold_models[0].loader
    findings, outcomes = _decide(fold_models, said, said.values, said.thresholds, i)
    # a report adds no box and takes none away
    seen, _ = _decide(fold_models, said, said.hidden, said.hidden_thresholds, i)
    present = {(f.target, f.name) for f in seen if f.state is State.PRESENT}
    present |= {  # what all training patients have is no question: its boxes are shown
        place for m in fold_models for place in m.plan.localized if place[1] not in said.layout.labels.get(place[0], ())
    }
    heads = {name: asked[0].head.answer(asked, index, i, present) for name, asked in said.heads.items()}
    maps = {key: grid for each in heads.values() for key, grid in each.maps.items()}
    geometries = {}
    for row in loader.image_rows(index):
        image_id, geometry = fold_models[0].image(index, row)
        if any(image_id == own for own, _ in maps):
            geometries[image_id] = geometry
    used = tuple(m for m, here in said.present.items() if here[i])
    description = next((each.description for each in heads.values() if each.description is not None), None)
    places = list(numbers(said.layout))
    return Prediction(
        study_id=str(loader.study_ids[index]),
        patient_id=str(loader.patient_ids[index]),
        findings=tuple(findings),
        outcomes=tuple(outcomes),
        regions=tuple(region for each in heads.values() for region in each.regions),
        description=description,
        heads={name: each.values for name, each in heads.items() if each.values is not None},
        maps=maps,
        geometries=geometries,
        contributions={
            m: {each.name: float(said.added[each.target][m][i, each.column]) for each in places} for m in said.present
        },
        record_contributions={
            column: {each.name: float(own[each.target][0][i, each.column]) for each in places}
            for column, own in said.columns.items()
        },
        record_errors={
            column: {each.name: float(own[each.target][1][i, each.column]) for each in places}
            for column, own in said.columns.items()
        },
        used=used,
        ignored=_unread(fold_models, index) if "text" in used else (),
        notes=(*check_description(findings, description), *said.at_odds[i]),
        without_report={each.name: float(said.without[each.target][i, each.column]) for each in places}
        if "text" in used
        else {},
        thresholds={
            f"{target}/{label}": _threshold(said.thresholds[target][i, k])
            for target, labels in said.layout.labels.items()
            if said.layout.kinds[target] is Kind.BINARY
            for k, label in enumerate(labels)
        },
        statements=tuple(said.statements[i]),
    )


def _threshold(threshold: float) -> float:
    return 0.5 if np.isnan(threshold) else float(threshold)


def _unread(fold_models: Sequence[FoldModelOver], index: int) -> tuple[str, ...]:
    """What of a report that is read the models leave out."""
    longest = {m.plan.max_tokens for m in fold_models if m.loader.truncated_reports[index]}
    return tuple(f"report: its end; the model reads the first {count} words or signs" for count in sorted(longest))


def _decide(
    fold_models: Sequence[FoldModel], said: _Said, values: Values, thresholds: Values, i: int
) -> tuple[list[Finding], list[Outcome]]:
    """Findings and outcomes of study i; what is binary is decided at the fold models' mean threshold, .5 where none has one."""
    findings, outcomes = [], []
    are_findings = {target for fold_model in fold_models for target in fold_model.plan.findings}
    coverage = fold_models[0].recipe.evaluate.coverage
    for target, names in said.layout.labels.items():
        levels = said.layout.levels.get(target, ((),) * len(names))
        for k, label in enumerate(names):
            kind, answer = said.layout.kinds[target], values[target][i, k]
            threshold, quantile = float(thresholds[target][i, k]), float(said.quantiles[target][i, k])
            outcome = read_outcome(target, label, kind, answer, levels[k], threshold, quantile, coverage)
            if target in are_findings:
                state = State.PRESENT if outcome.value else State.ABSENT
                levels_in = outcome.prediction_set
                inside = None if levels_in is None else tuple(_STATES[bool(level)] for level in levels_in)
                probability, share = outcome.probability, outcome.coverage
                findings.append(
                    Finding(label, state, target, READER, probability, prediction_set=inside, coverage=share)
                )
            else:
                outcomes.append(outcome)
    return findings, outcomes
