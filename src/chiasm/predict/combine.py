"""What the models of a run say together of studies, as `Prediction`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.geometry import Geometry
from chiasm.members import Answers, Calibration, Member, answer
from chiasm.metrics.attribution import shapley, subsets
from chiasm.metrics.localization import map_to_boxes
from chiasm.study import Finding, Kind, Outcome, Prediction, Region, State
from chiasm.tensors import MODALITIES

Channel = tuple[str, str]
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Said:
    """What the members say together of n studies.

    Attributes:
        labels: target -> labels that any member knows (a fold may lack one that others know).
        values, hidden: target -> [n, L] probabilities or values, with all that is there and without the report.
        cuts, hidden_cuts: target -> [n, L] where those are cut; NaN where validation could not say.
        added: target -> modality -> [n, L] on the logit, or in a regression target's own units; present: modality -> [n] bool.
        maps: (index, image row) -> (target, label) -> probabilities on the grid.
        descriptions: a text a study, or None.
    """

    labels: Mapping[str, Sequence[str]]
    values: Values
    hidden: Values
    cuts: Values
    hidden_cuts: Values
    added: Mapping[str, Mapping[str, NDArray[np.float64]]]
    present: Mapping[str, NDArray[np.bool_]]
    maps: Mapping[tuple[int, int], Mapping[Channel, NDArray[np.float32]]]
    descriptions: Sequence[str] | None


def predict_members(members: Sequence[Member], indices: NDArray[np.int64]) -> list[Prediction]:
    """One `Prediction` a study: the mean over the members of probabilities, thresholds, maps and of what each modality added.

    The description comes from the first member; a mean of texts does not exist.
    """
    modalities = tuple(m for m in MODALITIES if any(m in member.model.modalities for member in members))
    labels: dict[str, list[str]] = {}
    for plan in (member.plan for member in members):
        for target, names in plan.targets.items():
            known = labels.setdefault(target, [])
            known += [name for name in names if name not in known]
    chosen = {s: [answer(m, indices, subset=s, maps=s == modalities) for m in members] for s in subsets(modalities)}
    evidence = {
        s: _mean(members, [_evidence(m, a) for m, a in zip(members, answers, strict=True)], labels)
        for s, answers in chosen.items()
    }
    full, hidden = chosen[modalities], chosen[tuple(m for m in modalities if m != "text")]
    said = _Said(
        labels,
        values=_mean(members, [m.probabilities(a) for m, a in zip(members, full, strict=True)], labels),
        hidden=_mean(members, [m.probabilities(a) for m, a in zip(members, hidden, strict=True)], labels),
        cuts=_mean(members, [_cuts(m, a) for m, a in zip(members, full, strict=True)], labels),
        hidden_cuts=_mean(members, [_cuts(m, a) for m, a in zip(members, hidden, strict=True)], labels),
        added={t: shapley({s: evidence[s][t] for s in chosen}, modalities) for t in labels},
        present=_present(members, indices, modalities),
        maps=_mean_maps(members, full),
        descriptions=answer(members[0], indices, describe=True, maps=False).descriptions,
    )
    return [_prediction(members, said, i, int(index)) for i, index in enumerate(indices)]


def _evidence(member: Member, answers: Answers) -> Values:
    """What modalities add to: logits of binary targets, values in their own units of the others."""
    values = member.probabilities(answers)
    binary = {t for t in values if member.plan.kinds[t] is Kind.BINARY}
    return {t: answers.logits[t].astype(np.float64) if t in binary else values[t] for t in values}


def _mean(
    members: Sequence[Member], each: Sequence[Mapping[str, NDArray[Any]]], labels: Mapping[str, Sequence[str]]
) -> Values:
    """target -> [n, L]: the mean over the members that know a label; NaN where none of them knows a number."""
    result = {}
    for target, names in labels.items():
        knowing = [
            (m.plan.targets[target], part[target]) for m, part in zip(members, each, strict=True) if target in part
        ]
        stacked = np.full((len(knowing), len(knowing[0][1]), len(names)), np.nan)
        for row, (own, values) in zip(stacked, knowing, strict=True):
            row[:, [names.index(name) for name in own]] = values
        known = ~np.isnan(stacked)
        count = known.sum(axis=0)
        result[target] = np.where(count, np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return result


def _cuts(member: Member, answers: Answers) -> Values:
    return {target: member.thresholds(target, answers.shown) for target in answers.logits}


def _mean_maps(
    members: Sequence[Member], answers: Sequence[Answers]
) -> dict[tuple[int, int], dict[Channel, NDArray[np.float32]]]:
    """(index, image row) -> channel -> mean probability over the members that have it."""
    found: dict[tuple[int, int], dict[Channel, list[NDArray[np.float32]]]] = {}
    for member, said in zip(members, answers, strict=True):
        if said.maps is not None and said.map_index is not None:
            for grids, (index, row) in zip(said.maps, said.map_index.tolist(), strict=True):
                for channel, grid in zip(member.plan.localized, grids, strict=True):
                    found.setdefault((index, row), {}).setdefault(channel, []).append(expit(grid.astype(np.float32)))
    return {place: {key: np.mean(grids, axis=0) for key, grids in maps.items()} for place, maps in found.items()}


def _present(
    members: Sequence[Member], indices: NDArray[np.int64], modalities: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Modality -> [n] whether any member reads it of a study."""
    each = [member.loader.batch(indices).present() for member in members]
    none = np.zeros(len(indices), bool)
    return {m: np.any([none, *(here[m].numpy() for here in each if m in here)], axis=0) for m in modalities}


def _prediction(members: Sequence[Member], said: _Said, i: int, index: int) -> Prediction:
    loader = members[0].loader
    findings, outcomes = _decide(members, said.labels, said.values, said.cuts, i)
    seen, _ = _decide(
        members, said.labels, said.hidden, said.hidden_cuts, i
    )  # a report adds no box and takes none away
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
                regions += _regions(members, channel, image_id, grid, geometry)
    used = tuple(m for m, here in said.present.items() if here[i])
    places = [(t, k, f"{t}/{label}") for t, labels in said.labels.items() for k, label in enumerate(labels)]
    return Prediction(
        study_id=str(loader.study_ids[index]),
        patient_id=str(loader.patient_ids[index]),
        findings=tuple(findings),
        outcomes=tuple(outcomes),
        regions=tuple(sorted(regions, key=lambda r: -(r.score or 0.0))),
        description=said.descriptions[i] if said.descriptions is not None else None,
        maps=maps,
        geometries=geometries,
        contributions={m: {name: float(said.added[t][m][i, k]) for t, k, name in places} for m in said.present},
        used=used,
        ignored=_unread(members, index) if "text" in used else (),
        without_report={name: float(said.hidden[t][i, k]) for t, k, name in places} if "text" in used else {},
    )


def _unread(members: Sequence[Member], index: int) -> tuple[str, ...]:
    """What of a report that is read the models leave out."""
    longest = {m.plan.max_tokens for m in members if m.loader.cut_reports[index]}
    return tuple(f"report: its end; the model reads the first {count} words or signs" for count in sorted(longest))


def _decide(
    members: Sequence[Member], labels: Mapping[str, Sequence[str]], values: Values, cuts: Values, i: int
) -> tuple[list[Finding], list[Outcome]]:
    """Findings and outcomes of study i; what is binary is decided at the members' mean threshold, .5 where none has one."""
    findings, outcomes = [], []
    are_findings = {target for member in members for target in member.plan.findings}
    kinds = {target: kind for member in members for target, kind in member.plan.kinds.items()}
    for target, names in labels.items():
        for k, label in enumerate(names):
            value, cut = float(values[target][i, k]), float(cuts[target][i, k])
            here = value >= (0.5 if np.isnan(cut) else cut)
            if target in are_findings:
                state = State.PRESENT if here else State.ABSENT
                findings.append(Finding(label, state, target, "chiasm", probability=value))
            elif kinds[target] is Kind.BINARY:
                outcomes.append(Outcome(label, float(here), Kind.BINARY, target, "chiasm", value))
            else:
                outcomes.append(Outcome(label, value, kinds[target], target, "chiasm"))
    return findings, outcomes


def _regions(
    members: Sequence[Member], channel: Channel, image_id: str, grid: NDArray[np.float32], geometry: Geometry
) -> list[Region]:
    cut = float(np.mean([map_threshold(member.calibration, *channel) for member in members]))
    found = zip(*map_to_boxes(grid, cut, geometry), strict=True)
    boxes = [((float(x0), float(y0), float(x1), float(y1)), float(score)) for (x0, y0, x1, y1), score in found]
    target, label = channel
    return [Region(label, image_id, box, target=target, reader="chiasm", score=score) for box, score in boxes]


def map_threshold(calibration: Calibration, target: str, label: str) -> float:
    """The cut of a label's localization map, fitted on validation boxes; .5 where there were none."""
    return float(calibration.get(target, {}).get(label, {}).get("map_threshold", 0.5))
