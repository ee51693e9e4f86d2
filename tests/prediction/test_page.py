"""The page of a prediction: the same numbers as in its JSON, in words."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np

from chiasm.cohort.store import cohort_from_studies
from chiasm.geometry import Geometry
from chiasm.prediction.folder import predict_inputs
from chiasm.prediction.page import draw_images, tell_patient, tell_report
from chiasm.study import About, Finding, Kind, Note, Outcome, Prediction, Record, Region, State, Statement


def _text(page: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_a_study_has_a_page_beside_its_json(keen_run, folders, tmp_path):
    out = tmp_path / "out"
    (found,) = predict_inputs(keen_run, [folders[0]], out)
    written = json.loads((out / f"{found.study_id}.json").read_text("utf-8"))
    assert written["page"] == f"{found.study_id}.html"
    page = (out / written["page"]).read_text("utf-8")
    text = _text(page)
    assert written["thresholds"] == dict(found.thresholds) != {}
    assert page.count("data:image/jpeg") == len(written["overlays"]) == 2
    record = json.loads((folders[0] / "record.json").read_text("utf-8"))
    for column in found.record_contributions:
        value = record.get(column)
        said = "missing" if value is None else f"{value:g}" if isinstance(value, int | float) else value
        assert f"{column.replace('_', ' ')} {said}" in text
    for finding in found.findings:
        assert finding.state is State.PRESENT and f"{finding.name.replace('_', ' ')} present" in text
    assert found.description and " ".join(found.description.split()) in text
    report = " ".join((folders[0] / "report.txt").read_text("utf-8").split())
    assert written["statements"] and _text(page.partition("Report</h2>")[2].partition("<blockquote>")[2])[:12] in report
    assert "Read: image, text, record." in text and "run · report-fusion" in text


def _told(make_study, **parts):
    study = make_study(0, record=Record({"age_years": 67.0, "sex": "f", "crp": None}))
    cohort = cohort_from_studies([study], size=32, split="hash", strict=True)
    return tell_patient(Prediction("s", "p", **parts), cohort, 0, [], {})


def test_answers_of_every_kind_in_words(make_study):
    patient = _told(
        make_study,
        findings=(
            Finding("mass", State.ABSENT, probability=0.3, prediction_set=(), coverage=0.8),
            Finding(
                "nodule", State.PRESENT, probability=0.2, prediction_set=(State.ABSENT, State.PRESENT), coverage=0.8
            ),
        ),
        outcomes=(
            Outcome("died", 1.0, probability=0.995, prediction_set=(1.0,), coverage=0.8),
            Outcome("mrs", 3.0, Kind.ORDINAL, probability=0.4, expected=2.71, prediction_set=(2.0, 3.0), coverage=0.8),
            Outcome("cause", "embolic", Kind.MULTICLASS, probability=0.6, prediction_set=("embolic",), coverage=0.8),
            Outcome("nihss", 7.25, Kind.REGRESSION, prediction_set=(3.0, 11.5), coverage=0.8),
            Outcome("stay", 12.0, Kind.SURVIVAL, probability=0.7, distribution={"5": 0.8, "30": 0.3}),
        ),
        thresholds={"outcome/died": 0.4, "findings/mass": 0.5, "findings/nodule": 0.15},
        without_report={"outcome/died": 0.5, "outcome/cause=embolic": 0.25, "outcome/nihss": 6.0},
    )
    rows = [(a.name, a.said, a.probability, a.threshold, a.prediction_set, a.without_report) for a in patient.answers]
    assert rows == [
        ("died", "yes", "> 99%", "40%", "yes", "50%"),
        ("mrs", "3, expected 2.71", "40%", "", "2, 3", ""),
        ("cause", "embolic", "60%", "", "embolic", "25%"),
        ("nihss", "7.25", "", "", "3 to 11.5", "6"),
        ("stay", "mean time without it 12", "70% by 30", "", "", ""),
        ("nodule", "present", "20%", "15%", "absent or present", ""),
        ("mass", "absent", "30%", "50%", "neither", ""),
    ]
    assert patient.coverage == 0.8


def test_shares_stand_with_the_values_of_the_record_and_only_of_what_was_used(make_study):
    patient = _told(
        make_study,
        outcomes=(Outcome("died", 1.0, probability=0.9),),
        contributions={"image": {"outcome/died": 0.0}, "record": {"outcome/died": 2.0}},
        record_contributions={c: {"outcome/died": s} for c, s in (("age_years", 1.5), ("sex", 0.5), ("crp", 0.0))},
        record_errors={"age_years": {"outcome/died": 0.1}},
        used=("record",),
    )
    (answer,) = patient.answers
    assert answer.shares == {"record": 2.0}
    assert answer.columns == {"age_years 67": (1.5, 0.1), "sex f": (0.5, 0.0), "crp missing": (0.0, 0.0)}


def test_what_is_unlike_training_stands_first_and_the_data_last(make_study):
    notes = tuple(Note(about, str(about)) for about in About)
    patient = _told(make_study, notes=notes)
    assert patient.unlike == ["header", "pixels", "record"]
    assert patient.notes == ["contradiction", "unchecked", "data"]


def test_of_a_volume_the_slice_where_the_map_is_highest_is_shown(make_study, make_image):
    pixels = np.zeros((6, 8, 8), np.uint8)
    pixels[4] = 200
    image = replace(make_image("v"), pixels=pixels, geometry=Geometry.identity(pixels.shape, (1.0, 1.0, 1.0)))
    cohort = cohort_from_studies(
        [make_study(0, images=(image,))], size=8, volume_size=(6, 8, 8), split="hash", strict=True
    )
    name, grid = str(cohort.images["image_id"][0]), np.zeros((6, 8, 8), np.float32)
    grid[4, 2, 2] = 0.9
    geometry = cohort.geometry(0)
    prediction = Prediction(
        "s",
        "p",
        findings=(Finding("mass", State.PRESENT, probability=0.7),),
        regions=(Region("mass", name, (1.0, 1.0, 4.0, 4.0), score=0.9),),
        maps={(name, "findings/mass"): grid},
        geometries={name: geometry},
    )
    (shown,) = draw_images(prediction, cohort, 0).values()
    assert "slice 5 of 6" in shown.caption and shown.located == [("mass", "70%")]
    assert shown.heat is not None and shown.heat.max() > 0.8 and shown.pixels.shape == (8, 8)
    (plain,) = draw_images(Prediction("s", "p"), cohort, 0).values()
    assert plain.heat is None and "slice 5 of 6" in plain.caption


def test_the_three_sentences_that_change_an_answer_most_are_key_and_say_which():
    text = "A. Bb. Ccc. Dd. E."
    spans = [(0, 2), (3, 6), (7, 11), (12, 15), (16, 18)]
    changes = [(0.2, 0.0), (-3.0, 1.0), (0.05, 0.04), (0.5, 2.0), (0.3, -0.25)]
    statements = tuple(
        Statement(*span, {"findings/mass": a, "findings/nodule": b, "outcome/nihss": 40.0})
        for span, (a, b) in zip(spans, changes, strict=True)
    )
    findings = tuple(Finding(name, State.ABSENT, probability=0.1) for name in ("mass", "nodule"))
    outcome = Outcome("nihss", 3.0, Kind.REGRESSION)
    pieces = tell_report(Prediction("s", "p", findings, (outcome,), statements=statements), text)
    assert "".join(piece.text for piece in pieces) == text
    assert [(p.text, p.rank, p.changed) for p in pieces if p.rank] == [
        ("Bb.", 1, ["mass -3.00", "nodule +1.00"]),
        ("Dd.", 2, ["nodule +2.00", "mass +0.50"]),
        ("E.", 3, ["mass +0.30", "nodule -0.25"]),
    ]
    weak = (Statement(0, 2, {"findings/mass": 0.09, "findings/nodule": 0.0}),)
    assert [p.rank for p in tell_report(Prediction("s", "p", findings, statements=weak), text)] == [0]
