"""Files in, files out: every kind of input, what is written about it, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom_object, save
from PIL import Image as Picture
from runs import UNSEALED

from chiasm.cohort.store import write_cohort
from chiasm.errors import ImageError, InputError, RunError
from chiasm.prediction import folder, predictor, write
from chiasm.prediction.folder import predict_inputs
from chiasm.study import About, Note, Prediction, Region

SECRET = "Featherstonehaugh"
REPORT = f"INDICATION: {SECRET} coughs.\nFINDINGS: Large right pneumothorax. Left pleural effusion.\nIMPRESSION: Pneumothorax."


def _json(path: Path):
    """Strict JSON: NaN is none."""
    return json.loads(path.read_text("utf-8"), parse_constant=lambda word: pytest.fail(f"{word} in {path.name}"))


def _findings(prediction):
    return {(f.target, f.name): f.probability for f in prediction.findings}


def _rejected(out: Path):
    header, *rows = csv.reader(io.StringIO((out / "rejected.csv").read_text("utf-8")))
    assert header == ["where", "reason"]
    return rows


# --- kinds of input ----------------------------------------------------------------------------------------------------


def test_a_picture_alone_is_answered_by_the_image_arm_and_written_as_answered(keen_run, draw, tmp_path):
    out = tmp_path / "out"
    (found,) = predict_inputs(keen_run, [draw("scan.png", (90, 140))], out)
    assert (found.study_id, found.used, found.arm, found.ignored) == ("scan", ("image",), "image", ())
    written = _json(out / "scan.json")
    assert written["not_for_clinical_use"] is True
    assert (written["used"], written["arm"], written["without_report"]) == (["image"], "image", {})
    assert [(f["target"], f["name"], f["probability"]) for f in written["findings"]] == [
        (*key, value) for key, value in _findings(found).items()
    ]
    assert 0 < min(f["probability"] for f in written["findings"]) < 1
    assert written["overlays"] == {"scan": "scan.png"}
    boxes = np.array([region["box"] for region in written["regions"]])
    assert boxes.tolist() == [[0, 0, 140, 90]] * len(
        found.findings
    )  # cut at 0: all of the original, none of the padding
    with Picture.open(out / "scan.png") as picture:
        assert picture.size == (140, 90)
    assert _rejected(out) == []


def test_the_overlay_of_a_large_image_keeps_its_proportions(tiny_run, draw, tmp_path):
    predict_inputs(tiny_run, [draw("scan.png", (600, 1500))], tmp_path / "out")
    with Picture.open(tmp_path / "out" / "scan.png") as picture:
        assert picture.size == (1024, round(600 * 1024 / 1500))


def test_a_dicom_file_is_its_picture_and_what_its_header_says(tiny_run, draw, tmp_path):
    picture = draw("a.png")
    pixels = np.asarray(Picture.open(picture))
    bare = save(dicom_object(pixels), tmp_path / "b.dcm")
    told = save(dicom_object(pixels, PatientAge="063Y", PatientSex="F"), tmp_path / "c.dcm")
    a, b, c = predict_inputs(tiny_run, [picture, bare, told], tmp_path / "out")
    assert [p.used for p in (a, b, c)] == [("image",), ("image",), ("image", "record")]
    assert _findings(a) == pytest.approx(_findings(b))
    (tmp_path / "r.json").write_text('{"age_years": 63, "sex": "f"}')
    (d,) = predict_inputs(tiny_run, [picture], tmp_path / "out2", record=tmp_path / "r.json")
    assert _findings(c) == pytest.approx(_findings(d))
    assert _findings(c) != pytest.approx(_findings(a))
    assert "4711" not in (tmp_path / "out" / "c.json").read_text()  # dicom_files names this patient so


def test_study_folders_and_a_cohort_of_the_same_studies_get_the_same_answers(tiny_run, new_studies, folders, tmp_path):
    cohort = write_cohort(new_studies, tmp_path / "cohort", source="test", options={}, size=64)
    from_files = predict_inputs(tiny_run, folders, tmp_path / "files")
    from_cohort = predict_inputs(tiny_run, [cohort.path], tmp_path / "stored")
    assert len(from_files) == 3
    for a, b in zip(from_files, from_cohort, strict=True):
        assert a.study_id == b.study_id
        assert a.used == b.used == ("image", "text", "record")
        assert a.arm == "report-conditioned"
        assert _findings(a) == pytest.approx(_findings(b), abs=1e-5)
        assert a.description == b.description
        for first, second in zip(sorted(a.maps), sorted(b.maps), strict=True):  # STUDY/IMAGE and IMAGE: one order
            assert first == (f"{a.study_id}/{second[0]}", second[1])
            np.testing.assert_allclose(a.maps[first], b.maps[second], atol=1e-3)
    overlays = _json(tmp_path / "files" / f"{folders[0].name}.json")["overlays"]
    assert overlays.keys() == {f"{folders[0].name}/{image.image_id}" for image in new_studies[0].images}
    assert len(overlays) == 2
    assert len(list((tmp_path / "files").glob("*.png"))) == 4


def test_a_cohort_is_answered_whole_whatever_is_answered_at_once(tiny_run, phantom, tmp_path, monkeypatch):
    whole = predict_inputs(tiny_run, [phantom.path], tmp_path / "a")
    monkeypatch.setattr(predictor, "AT_ONCE", 23)
    parts = predict_inputs(tiny_run, [phantom.path], tmp_path / "b")
    assert [p.study_id for p in whole] == [p.study_id for p in parts] == list(phantom.studies["study_id"])
    assert all(_findings(a) == pytest.approx(_findings(b), abs=1e-5) for a, b in zip(whole, parts, strict=True))
    assert len(list((tmp_path / "b").glob("*.json"))) == len(phantom)


def test_files_are_answered_whole_whatever_is_answered_at_once(tiny_run, folders, tmp_path, monkeypatch):
    whole = predict_inputs(tiny_run, folders, tmp_path / "a")
    monkeypatch.setattr(folder, "AT_ONCE", 2)
    parts = predict_inputs(tiny_run, folders[::-1], tmp_path / "b")
    assert [p.study_id for p in whole] == [p.study_id for p in parts] == sorted(home.name for home in folders)
    assert all(_findings(a) == pytest.approx(_findings(b), abs=1e-5) for a, b in zip(whole, parts, strict=True))


# --- the report --------------------------------------------------------------------------------------------------------


def test_a_report_moves_findings_but_no_description_map_or_box(keen_run, draw, tmp_path):
    picture, report = draw(), tmp_path / "report.txt"
    report.write_text(REPORT)
    (bare,) = predict_inputs(keen_run, [picture], tmp_path / "bare")
    (read,) = predict_inputs(keen_run, [picture], tmp_path / "read", report=report)
    assert (bare.arm, read.arm) == ("image", "report-conditioned")
    assert max(abs(_findings(bare)[key] - value) for key, value in _findings(read).items()) > 1e-4
    assert read.description == bare.description
    assert read.regions == bare.regions
    for key, grid in bare.maps.items():
        np.testing.assert_array_equal(read.maps[key], grid)
    answers = {f"{t}/{name}": value for (t, name), value in _findings(bare).items()}
    answers |= {f"{o.target}/{o.name}": o.probability for o in bare.outcomes}
    assert dict(read.without_report) == pytest.approx(answers, abs=1e-6)
    assert bare.without_report == {}


def test_a_box_does_not_hang_on_what_the_report_says(tiny_run, draw, tmp_path):
    """The report lifts a finding over its threshold, or pushes it below: the image's boxes stay."""
    picture, report = draw(), tmp_path / "report.txt"
    report.write_text(REPORT)
    (bare,) = predict_inputs(tiny_run, [picture], tmp_path / "a")
    (read,) = predict_inputs(tiny_run, [picture], tmp_path / "b", report=report)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    fitted = json.loads((run / "calibration.json").read_text())
    for key, value in _findings(bare).items():  # between the two answers
        fitted["targets"][key[0]][key[1]] |= {"threshold": (value + _findings(read)[key]) / 2, "map_threshold": 0.0}
    (run / "calibration.json").write_text(json.dumps(fitted))
    (bare,) = predict_inputs(run, [picture], tmp_path / "c")
    (read,) = predict_inputs(run, [picture], tmp_path / "d", report=report)
    assert all(a.state is not b.state for a, b in zip(bare.findings, read.findings, strict=True))
    assert bare.regions == read.regions


def test_nothing_written_quotes_the_report(tiny_run, folders, tmp_path):
    home = folders[1]
    text = (home / "report.txt").read_text()
    (home / "report.txt").write_text(f"{text}\nHISTORY: {SECRET} coughs.\n")
    out = tmp_path / "out"
    (found,) = predict_inputs(tiny_run, [home], out)
    assert found.used == ("image", "text", "record")
    written = _json(out / f"{home.name}.json")
    generated = written.pop("description")
    assert SECRET not in generated
    quoted = [s.strip() for s in text.replace("\n", ".").split(".") if len(s.strip()) > 12]
    assert len(quoted) > 5
    for path in out.iterdir():
        if path.suffix == ".html":  # the page says that it holds patient data
            continue
        content = json.dumps(written) if path.suffix == ".json" else path.read_bytes().decode("latin-1")
        assert not [s for s in [*quoted, SECRET] if s in content]


def test_what_the_model_does_not_read_is_said(tiny_run, draw, tmp_path):
    report = tmp_path / "report.txt"
    report.write_text("TECHNIQUE: Two views.\n")
    (found,) = predict_inputs(tiny_run, [draw()], tmp_path / "out", report=report)
    assert found.used == ("image",)
    (said,) = found.ignored
    assert said.startswith("report: technique; the model reads ")
    assert _json(tmp_path / "out" / "scan.json")["ignored"] == [said]


def test_every_box_of_an_answer_and_of_a_phrase_is_a_line_of_csv(tmp_path):
    said = {
        "phrase": "left effusion, small",
        "finding": "findings/pleural_effusion",
        "boxes": [{"image_id": "i", "box": (5, 6, 7, 8), "score": 0.5}],
    }
    regions = (Region("mass", "i", (1.5, 2, 3, 4), score=0.25), Region("mass", "j", mask=np.ones((2, 2), bool)))
    nothing = {"phrase": "no mass", "finding": None, "boxes": []}
    answers = [Prediction("s", "p", regions=regions, heads={"phrases": [said, nothing]}), Prediction("t", "p")]
    write.write_boxes(answers, tmp_path / "boxes.csv")
    header, *rows = csv.reader(io.StringIO((tmp_path / "boxes.csv").read_text("utf-8")))
    assert header == ["study_id", "image_id", "finding", "phrase", "x_min", "y_min", "x_max", "y_max", "score"]
    assert rows == [
        ["s", "i", "findings/mass", "", "1.5", "2", "3", "4", "0.25"],
        ["s", "i", "findings/pleural_effusion", "left effusion, small", "5", "6", "7", "8", "0.5"],
    ]


# --- several inputs, and what is refused -------------------------------------------------------------------------------


def test_one_broken_input_is_listed_and_the_others_are_answered(tiny_run, draw, tmp_path):
    good, broken = draw("good.png"), tmp_path / "a, b.png"
    broken.write_bytes(good.read_bytes()[:200])
    home = tmp_path / "folder"
    (home / "images").mkdir(parents=True)
    (home / "record.json").write_text('{"age_yaers": 63}')
    out = tmp_path / "out"
    found = predict_inputs(tiny_run, [broken, good, home, tmp_path / "no-cohort"], out)
    assert [p.study_id for p in found] == ["good"]
    assert [where for where, _ in _rejected(out)] == [str(broken), str(home), str(tmp_path / "no-cohort")]
    assert all(text for _, text in _rejected(out))
    assert sorted(p.name for p in out.iterdir()) == ["boxes.csv", "good.html", "good.json", "good.png", "rejected.csv"]


def test_a_cohort_that_does_not_fit_is_listed_too(tiny_run, draw, new_studies, tmp_path):
    other = write_cohort(new_studies, tmp_path / "other", source="test", options={}, size=32)
    damaged = tmp_path / "damaged"
    shutil.copytree(other.path, damaged)
    (damaged / "cohort.json").write_text("{")
    found = predict_inputs(tiny_run, [other.path, damaged, draw()], tmp_path / "out")
    assert [p.study_id for p in found] == ["scan"]
    assert [where for where, _ in _rejected(tmp_path / "out")] == [str(other.path), str(damaged)]


def test_all_broken_is_an_error(tiny_run, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("no picture")
    with pytest.raises(InputError, match="none of the inputs"):
        predict_inputs(tiny_run, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    assert len(_rejected(tmp_path / "out")) == 2
    with pytest.raises(ImageError):  # a single one says what is wrong with it
        predict_inputs(tiny_run, [tmp_path / "a.png"], tmp_path / "out")


@pytest.mark.parametrize("option", ["report", "record"])
def test_a_report_or_record_belongs_to_one_study(tiny_run, phantom, draw, tmp_path, option):
    text = tmp_path / "text"
    text.write_text("{}")
    with pytest.raises(InputError, match="2 inputs"):
        predict_inputs(tiny_run, [draw("a.png"), draw("b.png")], tmp_path / "out", **{option: text})
    with pytest.raises(InputError, match="a cohort"):
        predict_inputs(tiny_run, [phantom.path], tmp_path / "out", **{option: text})


def test_files_of_one_name_stay_apart(tiny_run, draw, tmp_path):
    paths = [draw(f"{home}/scan.png", seed=seed) for seed, home in enumerate("ab")]
    out = tmp_path / "out"
    found = predict_inputs(tiny_run, [*paths, paths[0]], out)  # named twice, answered once
    assert [p.study_id for p in found] == [path.as_posix() for path in paths]
    assert _findings(found[0]) != _findings(found[1])
    written = [_json(path) for path in sorted(out.glob("*.json"))]
    assert len(written) == 2
    assert (
        len({hashlib.sha256((out / name).read_bytes()).digest() for w in written for name in w["overlays"].values()})
        == 2
    )


def test_ids_that_make_one_file_name_stay_apart(tiny_run, new_studies, tmp_path):
    names = ("x/1", "x_1", "X:1")
    studies = [
        replace(new_studies[1], study_id=n, images=(replace(new_studies[1].images[0], image_id=n),)) for n in names
    ]
    cohort = write_cohort(studies, tmp_path / "cohort", source="test", options={}, size=64)
    predict_inputs(tiny_run, [cohort.path], tmp_path / "out")
    written = [_json(path) for path in (tmp_path / "out").glob("*.json")]
    assert {w["study_id"] for w in written} == set(names)
    assert len({name.lower() for w in written for name in w["overlays"].values()}) == 3


def test_what_is_read_is_never_overwritten(tiny_run, draw, folders, tmp_path):
    picture = draw("in/scan.png")
    before = picture.read_bytes()
    for inputs, out in (([picture], picture.parent), (folders[:1], folders[0] / "images"), (folders[:1], folders[0])):
        with pytest.raises(InputError, match="overwritten"):
            predict_inputs(tiny_run, inputs, out)
    assert picture.read_bytes() == before
    record = tmp_path / "record" / "scan.json"
    record.parent.mkdir()
    record.write_text("{}")
    with pytest.raises(InputError, match="overwritten"):
        predict_inputs(tiny_run, [picture], record.parent, record=record)


def test_a_damaged_run_is_no_fault_of_the_inputs(tiny_run, draw, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    (run / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged"):
        predict_inputs(run, [draw("a.png"), draw("b.png")], tmp_path / "out")
    with pytest.raises(RunError, match="not a run"):
        predict_inputs(tmp_path, [draw("a.png")], tmp_path / "out")


def test_what_users_of_the_cohort_must_know_comes_with_every_answer(keen_run, draw, tmp_path):
    info = _json(keen_run / "run.json")
    told = [{**entry, "notes": ["An expert drew the images."]} for entry in info["cohorts"]]
    run = shutil.copytree(keen_run, tmp_path / "run", ignore=UNSEALED)
    (run / "run.json").write_text(json.dumps({**info, "cohorts": told}), "utf-8")
    (found,) = predict_inputs(run, [draw()], tmp_path / "out")
    assert found.notes[0] == Note(About.DATA, "An expert drew the images.")
    written = _json(tmp_path / "out" / "scan.json")
    assert (written["notes"][0], written["notes_about"][0]) == ("An expert drew the images.", "data")
    (silent,) = predict_inputs(keen_run, [draw()], tmp_path / "other")
    assert About.DATA not in {note.about for note in silent.notes}


# --- what is unlike the training data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Modality": "US"}, "the file says US; the model was trained on DX"),
        (
            {"Modality": "CR", "BodyPartExamined": "KNEE"},
            "the file says body part KNEE; the model was trained on CHEST",
        ),
        ({"Modality": "NM", "BodyPartExamined": "CHEST"}, "the file says NM; the model was trained on DX"),
        ({"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}, None),
    ],
)
def test_a_dicom_file_of_another_kind_is_noted(tiny_run, tmp_path, elements, said):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    scan = save(dicom_object(pixels, **elements), tmp_path / "in" / "scan.dcm")
    (found,) = predict_inputs(tiny_run, [scan], tmp_path / "out")
    assert [note.text for note in found.notes if note.about is About.HEADER] == ([said] if said else [])
    assert {"pixels"} <= set(_json(tmp_path / "out" / "scan.json")["notes_about"]), "noise"
    with pytest.raises(InputError, match="unlike the training data"):
        predict_inputs(tiny_run, [scan], tmp_path / "strict", strict=True)
    assert not list((tmp_path / "strict").glob("*.json"))


def test_the_picture_of_what_was_located_says_that_it_is_unlike(keen_run, draw, tmp_path, monkeypatch):
    warnings, real = [], write.overlay
    monkeypatch.setattr(
        write, "overlay", lambda *a, warning, **o: warnings.append(warning) or real(*a, warning=warning, **o)
    )
    predict_inputs(keen_run, [draw()], tmp_path / "out")
    assert warnings == ["unlike the training data"]
