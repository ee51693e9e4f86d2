"""A prediction in the words of its page (`chiasm.summary.patient`): answers, images, what each input added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.cohort.store import Cohort
from chiasm.geometry import Geometry
from chiasm.run.folder import hash_weights, read_run
from chiasm.study import About, Finding, Kind, Outcome, Prediction, State
from chiasm.summary.patient import Answer, Passage, Patient, Shown
from chiasm.summary.tables import pretty
from chiasm.summary.volumes import brightest

KEY_STATEMENTS, MOVED, LEAST_CHANGE = 3, 2, 0.1
"""Sentences that are marked at most, answers named beside each, and the change of an answer below which no sentence is marked."""
MOST_IMAGES = 4
"""Images of a study that a page shows."""


def describe_run(run: Path) -> dict[str, str]:
    """Which model answers, for the head of a page."""
    info = read_run(run)
    many = f" · {len(info.fold_models)} models" if len(info.fold_models) > 1 else ""
    return {
        "Run": f"{run.resolve().name} · {info.recipe}{many}",
        "Weights": hash_weights(run, info)[:12],
        "Trained on": ", ".join(dict.fromkeys(f"{cohort.source} · {cohort.hash[:12]}" for cohort in info.cohorts)),
        "Made": datetime.now(UTC).date().isoformat(),
    }


def tell_patient(
    prediction: Prediction,
    cohort: Cohort,
    row: int,
    images: Sequence[Shown],
    facts: Mapping[str, str],
    sections: Sequence[str] = (),
) -> Patient:
    """What the page shows of a prediction.

    Args:
        cohort, row: where the study stands as it was looked at. images: of `draw_images`. facts: of `describe_run`.
        sections: of the report, that the model reads.
    """
    text = cohort.texts(sections)[row] if sections else ""
    titles = {column: f"{column} {read_value(cohort, row, column)}" for column in prediction.record_contributions}
    outcomes = [_tell_outcome(outcome, prediction, titles) for outcome in prediction.outcomes]
    findings = sorted(
        prediction.findings, key=lambda f: (f.target, f.state is not State.PRESENT, -(f.probability or 0))
    )
    answers: list[Finding | Outcome] = [*prediction.outcomes, *findings]
    return Patient(
        study=prediction.study_id,
        arm=", ".join(prediction.used) or "nothing; the answers are what holds for all training patients",
        facts=facts,
        answers=[*outcomes, *(_tell_finding(finding, prediction, titles) for finding in findings)],
        unlike=[note.text for note in prediction.notes if note.unlike],
        notes=[note.text for note in prediction.notes if not note.unlike and note.about is not About.DATA]
        + [note.text for note in prediction.notes if note.about is About.DATA],
        ignored=prediction.ignored,
        coverage=next((answer.coverage for answer in answers if answer.coverage is not None), None),
        images=images,
        description=prediction.description,
        report=tell_report(prediction, text) if "text" in prediction.used else (),
    )


def read_value(cohort: Cohort, row: int, column: str) -> str:
    """What the record says in a column, as it stands there."""
    if column not in cohort.record:
        return "missing"
    value = cohort.table("studies", [f"record.{column}"])[f"record.{column}"][row].as_py()
    return "missing" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def percent(share: float) -> str:
    """A probability as a person reads it, never 0% or 100%.

    >>> percent(0.834), percent(0.0004), percent(1.0), percent(0.004)
    ('83%', '< 1%', '> 99%', '< 1%')
    """
    return "< 1%" if share < 0.01 else "> 99%" if share > 0.99 else f"{100 * share:.0f}%"


# --- answers -----------------------------------------------------------------------------------------------------------


def _tell_finding(finding: Finding, prediction: Prediction, titles: Mapping[str, str]) -> Answer:
    name, present = f"{finding.target}/{finding.name}", finding.state is State.PRESENT
    return Answer(
        pretty(finding.name),
        pretty(finding.target),
        "present" if present else "absent",
        present,
        probability="" if finding.probability is None else percent(finding.probability),
        threshold=percent(prediction.thresholds[name]) if name in prediction.thresholds else "",
        prediction_set=""
        if finding.prediction_set is None
        else " or ".join(map(str, finding.prediction_set)) or "neither",
        without_report=percent(prediction.without_report[name]) if name in prediction.without_report else "",
        **_parts(prediction, name, titles, "log-odds"),
    )


def _tell_outcome(outcome: Outcome, prediction: Prediction, titles: Mapping[str, str]) -> Answer:
    label = f"{outcome.target}/{outcome.name}"
    name = f"{label}={outcome.value}" if outcome.kind is Kind.MULTICLASS else label
    binary = outcome.kind is Kind.BINARY
    shown = percent if binary or outcome.kind is Kind.MULTICLASS else _level
    units = {Kind.BINARY: "log-odds", Kind.MULTICLASS: f"log-probability of {outcome.value}"}
    return Answer(
        pretty(outcome.name),
        pretty(outcome.target),
        _said(outcome),
        binary and bool(outcome.value),
        probability="" if outcome.probability is None else percent(outcome.probability) + _of_what(outcome),
        threshold=percent(prediction.thresholds[label]) if label in prediction.thresholds else "",
        prediction_set=_prediction_set(outcome),
        without_report=shown(prediction.without_report[name]) if name in prediction.without_report else "",
        **_parts(prediction, name, titles, units.get(outcome.kind, f"units of {pretty(outcome.name)}")),
    )


def _said(outcome: Outcome) -> str:
    if outcome.kind is Kind.BINARY:
        return "yes" if outcome.value else "no"
    if outcome.kind is Kind.SURVIVAL:
        return f"mean time without it {_level(outcome.value)}"
    expected = f", expected {outcome.expected:.2f}" if outcome.expected is not None else ""
    return _level(outcome.value) + expected


def _of_what(outcome: Outcome) -> str:
    """What the probability is of, where that is not the answer itself."""
    if outcome.kind is not Kind.SURVIVAL or not outcome.distribution:
        return ""
    return f" by {list(outcome.distribution)[-1]}"


def _prediction_set(outcome: Outcome) -> str:
    if outcome.prediction_set is None:
        return ""
    if outcome.kind is Kind.BINARY:
        return " or ".join("yes" if value else "no" for value in outcome.prediction_set) or "neither"
    if outcome.kind is Kind.REGRESSION:
        return " to ".join(_level(value) for value in outcome.prediction_set)
    return ", ".join(_level(value) for value in outcome.prediction_set) or "none"


def _level(value: float | str | None) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _parts(prediction: Prediction, name: str, titles: Mapping[str, str], unit: str) -> dict[str, Any]:
    """What each modality, and each column of the record, added to an answer."""
    shares = {m: own[name] for m, own in prediction.contributions.items() if m in prediction.used and name in own}
    columns = {
        titles[column]: (own[name], prediction.record_errors.get(column, {}).get(name, 0.0))
        for column, own in prediction.record_contributions.items()
        if name in own and "record" in prediction.used
    }
    return {"unit": unit, "shares": shares, "columns": columns}


# --- the report --------------------------------------------------------------------------------------------------------


def tell_report(prediction: Prediction, text: str) -> list[Passage]:
    """The text that was read, in pieces: its key statements, ranked by the answer that each changes most, and what lies between."""
    binary = {f"{f.target}/{f.name}" for f in prediction.findings}
    binary |= {f"{o.target}/{o.name}" for o in prediction.outcomes if o.kind is Kind.BINARY}
    names = [name for s in prediction.statements[:1] for name in s.changes if name in binary] or [
        name for s in prediction.statements[:1] for name in s.changes
    ]  # changes of one unit can be ranked
    strength = [max((abs(s.changes[name]) for name in names), default=0.0) for s in prediction.statements]
    strongest: dict[str, int] = {}  # what is said twice in the same words is marked once
    for i in sorted(range(len(strength)), key=lambda i: -strength[i]):
        if strength[i] >= LEAST_CHANGE:
            strongest.setdefault(text[prediction.statements[i].start : prediction.statements[i].end].lower(), i)
    rank = {i: place + 1 for place, i in enumerate(list(strongest.values())[:KEY_STATEMENTS])}
    pieces, at = [], 0
    for i, statement in enumerate(prediction.statements):
        if i not in rank:
            continue
        moved = sorted(names, key=lambda name: -abs(statement.changes[name]))[:MOVED]
        said = [f"{pretty(name.partition('/')[2])} {statement.changes[name]:+.2f}" for name in moved]
        pieces += [Passage(text[at : statement.start]), Passage(text[statement.start : statement.end], rank[i], said)]
        at = statement.end
    return [piece for piece in [*pieces, Passage(text[at:])] if piece.text]


# --- images ------------------------------------------------------------------------------------------------------------


def draw_images(prediction: Prediction, cohort: Cohort, row: int) -> dict[str, Shown]:
    """Image id -> how it looks with its map and boxes: those with maps, or, of a model without any, all of them, up to a few."""
    rows = {str(cohort.images["image_id"].iloc[i]): i for i in cohort.image_rows(row)}
    shown = prediction.geometries or {name: cohort.geometry(i) for name, i in list(rows.items())[:MOST_IMAGES]}
    return {name: _draw(prediction, cohort, rows[name], name, geometry) for name, geometry in shown.items()}


def _draw(prediction: Prediction, cohort: Cohort, image_row: int, image_id: str, geometry: Geometry) -> Shown:
    """One image in its original frame, of a volume the slice where the map is highest."""
    maps = [grid for (own, _), grid in prediction.maps.items() if own == image_id]
    heat = geometry.map_to_original(np.max(maps, axis=0)) if maps else None
    pixels = geometry.map_to_original(cohort.pixels(image_row).astype(np.float32))
    regions = [region for region in prediction.regions if region.image_id == image_id]
    image = cohort.images.iloc[image_row]
    words = [image_id.rpartition("/")[2], image["dicom_modality"], image["view"] if image["view"] != "other" else ""]
    caption = " · ".join(filter(None, map(str, words)))
    if pixels.ndim == 3:
        z = int(heat.max(axis=(1, 2)).argmax()) if heat is not None else brightest(pixels)[0]
        caption += f" · slice {z + 1} of {len(pixels)}"
        pixels, heat = pixels[z], None if heat is None else heat[z]
    gray = np.clip(pixels, 0, 255).astype(np.uint8)
    chances = {  # a report moves no box: beside it stands the answer without one
        (f.target, f.name): prediction.without_report.get(f"{f.target}/{f.name}", f.probability)
        for f in prediction.findings
    }
    located = [(pretty(r.label), percent(p) if (p := chances.get((r.target, r.label))) else "") for r in regions]
    boxes = np.array([region.box for region in regions]).reshape(-1, 4)
    return Shown(gray, boxes, heat, caption, located)
