"""What the models of a run say together of studies, as `Prediction`s."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.encoding.plan import Layout
from chiasm.geometry import Geometry
from chiasm.metrics.attribution import attribute, numbers, subsets, told
from chiasm.metrics.localization import map_to_boxes
from chiasm.run.answers import Answers, Calibration
from chiasm.run.fold_model import FoldModel, FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.run.outcomes import READER, read_outcome
from chiasm.study import Finding, Outcome, Prediction, Region, State
from chiasm.tensors import MODALITIES

Channel = tuple[str, str]
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Said:
    """What the fold models say together of n studies.

    Attributes:
        layout: labels and levels that any fold model knows (a fold may lack one that others know).
        values, hidden: target -> [n, L] or [n, L, Q] probabilities or values, with all that is there and without the report.
        without: `told` of `hidden`.
        cuts, hidden_cuts: target -> [n, L] where those are cut; NaN where validation could not say.
        radii: target -> [n, L] of the likely sets; NaN where validation could not say.
        added: target -> modality -> [n, numbers] as `told`; present: modality -> [n] bool.
        maps: (index, image row) -> (target, label) -> probabilities on the grid.
        descriptions: a text a study, or None.
    """

    layout: Layout
    values: Values
    hidden: Values
    without: Values
    cuts: Values
    hidden_cuts: Values
    radii: Values
    added: Mapping[str, Mapping[str, NDArray[np.float64]]]
    present: Mapping[str, NDArray[np.bool_]]
    maps: Mapping[tuple[int, int], Mapping[Channel, NDArray[np.float32]]]
    descriptions: Sequence[str] | None


def predict_together(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[Prediction]:
    """One `Prediction` a study: the mean over the fold models of probabilities, thresholds, maps and of what each modality added.

    The description comes from the first fold model; a mean of texts does not exist.
    """
    modalities = tuple(m for m in MODALITIES if any(m in fold_model.model.modalities for fold_model in fold_models))
    layout = Layout.of([fold_model.plan for fold_model in fold_models])
    sets = subsets(modalities)
    asks = [Ask(s, maps=s == modalities) for s in sets]
    told_by = [
        infer(m, indices, [replace(a, describe=i == 0 and a.maps) for a in asks]) for i, m in enumerate(fold_models)
    ]
    chosen = {s: [answers[number] for answers in told_by] for number, s in enumerate(sets)}
    values = {s: _values(fold_models, answers, layout) for s, answers in chosen.items()}
    unread = tuple(m for m in modalities if m != "text")
    full, hidden = chosen[modalities], chosen[unread]
    said = _Said(
        layout,
        values=values[modalities],
        hidden=values[unread],
        without=told(values[unread], layout),
        cuts=_by_label(fold_models, full, layout, FoldModel.thresholds),
        hidden_cuts=_by_label(fold_models, hidden, layout, FoldModel.thresholds),
        radii=_by_label(fold_models, full, layout, FoldModel.radii),
        added=attribute(values, layout, modalities),
        present=_present(full, modalities),
        maps=_mean_maps(fold_models, full),
        descriptions=full[0].descriptions,
    )
    return [_prediction(fold_models, said, i, int(index)) for i, index in enumerate(indices)]


def _values(fold_models: Sequence[FoldModel], answers: Sequence[Answers], layout: Layout) -> Values:
    each = [fold_model.probabilities(a) for fold_model, a in zip(fold_models, answers, strict=True)]
    return {
        t: _mean([layout.place(m.plan, t, v[t]) for m, v in zip(fold_models, each, strict=True) if t in v])
        for t in layout.labels
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


def _mean_maps(
    fold_models: Sequence[FoldModel], answers: Sequence[Answers]
) -> dict[tuple[int, int], dict[Channel, NDArray[np.float32]]]:
    """(index, image row) -> channel -> mean probability over the fold models that have it."""
    found: dict[tuple[int, int], dict[Channel, list[NDArray[np.float32]]]] = {}
    for fold_model, said in zip(fold_models, answers, strict=True):
        if said.maps is not None and said.map_index is not None:
            for grids, (index, row) in zip(said.maps, said.map_index.tolist(), strict=True):
                for channel, grid in zip(fold_model.plan.localized, grids, strict=True):
                    found.setdefault((index, row), {}).setdefault(channel, []).append(expit(grid.astype(np.float32)))
    return {place: {key: np.mean(grids, axis=0) for key, grids in maps.items()} for place, maps in found.items()}


def _present(answers: Sequence[Answers], modalities: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Modality -> [n] whether any fold model reads it of a study."""
    shown = [[set(inputs.split("+")) for inputs in each.shown.tolist()] for each in answers]
    return {
        m: np.array([any(m in inputs for inputs in study) for study in zip(*shown, strict=True)]) for m in modalities
    }


def _prediction(fold_models: Sequence[FoldModelOver], said: _Said, i: int, index: int) -> Prediction:
    loader = fold_models[0].loader
    findings, outcomes = _decide(fold_models, said, said.values, said.cuts, i)
    seen, _ = _decide(fold_models, said, said.hidden, said.hidden_cuts, i)  # a report adds no box and takes none away
    present = {(f.target, f.name) for f in seen if f.state is State.PRESENT}
    maps, geometries, regions = {}, {}, []
    for row in loader.image_rows(index):
        cohort = loader.cohorts[loader.cohort_of(index)[0]]
        image_id = str(cohort.images["image_id"].iloc[row])
        geometry = cohort.geometry(row)
        for channel, grid in said.maps.get((index, row), {}).items():
            geometries[image_id] = geometry
            maps[image_id, "/".join(channel)] = grid
            if channel in present:
                regions += _regions(fold_models, channel, image_id, grid, geometry)
    used = tuple(m for m, here in said.present.items() if here[i])
    places = list(numbers(said.layout))
    return Prediction(
        study_id=str(loader.study_ids[index]),
        patient_id=str(loader.patient_ids[index]),
        findings=tuple(findings),
        outcomes=tuple(outcomes),
        regions=tuple(sorted(regions, key=lambda r: -(r.score or 0.0))),
        description=said.descriptions[i] if said.descriptions is not None else None,
        maps=maps,
        geometries=geometries,
        contributions={
            m: {each.name: float(said.added[each.target][m][i, each.column]) for each in places} for m in said.present
        },
        used=used,
        ignored=_unread(fold_models, index) if "text" in used else (),
        without_report={each.name: float(said.without[each.target][i, each.column]) for each in places}
        if "text" in used
        else {},
    )


def _unread(fold_models: Sequence[FoldModelOver], index: int) -> tuple[str, ...]:
    """What of a report that is read the models leave out."""
    longest = {m.plan.max_tokens for m in fold_models if m.loader.cut_reports[index]}
    return tuple(f"report: its end; the model reads the first {count} words or signs" for count in sorted(longest))


def _decide(
    fold_models: Sequence[FoldModel], said: _Said, values: Values, cuts: Values, i: int
) -> tuple[list[Finding], list[Outcome]]:
    """Findings and outcomes of study i; what is binary is decided at the fold models' mean threshold, .5 where none has one."""
    findings, outcomes = [], []
    are_findings = {target for fold_model in fold_models for target in fold_model.plan.findings}
    coverage = fold_models[0].recipe.evaluate.coverage
    for target, names in said.layout.labels.items():
        levels = said.layout.levels.get(target, ((),) * len(names))
        for k, label in enumerate(names):
            answer, cut, radius = values[target][i, k], float(cuts[target][i, k]), float(said.radii[target][i, k])
            outcome = read_outcome(target, label, said.layout.kinds[target], answer, levels[k], cut, radius, coverage)
            if target in are_findings:
                state = State.PRESENT if outcome.value else State.ABSENT
                findings.append(Finding(label, state, target, READER, probability=outcome.probability))
            else:
                outcomes.append(outcome)
    return findings, outcomes


def _regions(
    fold_models: Sequence[FoldModel], channel: Channel, image_id: str, grid: NDArray[np.float32], geometry: Geometry
) -> list[Region]:
    cut = float(np.mean([map_threshold(fold_model.calibration, *channel) for fold_model in fold_models]))
    found = zip(*map_to_boxes(grid, cut, geometry), strict=True)
    boxes = [((float(x0), float(y0), float(x1), float(y1)), float(score)) for (x0, y0, x1, y1), score in found]
    target, label = channel
    return [Region(label, image_id, box, target=target, reader=READER, score=score) for box, score in boxes]


def map_threshold(calibration: Calibration, target: str, label: str) -> float:
    """The cut of a label's localization map, fitted on validation boxes; .5 where there were none."""
    cut = calibration.fit(target, label).map_threshold
    return 0.5 if cut is None else cut
