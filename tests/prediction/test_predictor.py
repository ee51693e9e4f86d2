"""A run in memory: what it answers is what the command line writes, whoever asks, and no file is touched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import UNSEALED
from tiny_bert import save_tiny_bert

import chiasm
from chiasm.cohort.store import write_cohort
from chiasm.errors import CohortError, InputError, RunError
from chiasm.geometry import Geometry
from chiasm.prediction import folder
from chiasm.prediction import predictor as module
from chiasm.prediction.folder import predict_inputs
from chiasm.prediction.predictor import Predictor, load_predictor
from chiasm.prediction.write import to_json
from chiasm.recipe import read_recipe
from chiasm.sources.phantom_chest import read as phantoms
from chiasm.study import Finding, Image, Kind, Outcome, Prediction, Record, Report, State, Study
from chiasm.training.train import train


@pytest.fixture(scope="module")
def predictor(tiny_run) -> Predictor:
    return load_predictor(tiny_run)


def assert_same(a: Prediction, b: Prediction, atol: float = 1e-5) -> None:
    """Two predictions that say the same, to the last text and, within `atol`, every number."""
    first, second = to_json(a), to_json(b)
    assert _texts(first) == _texts(second)
    np.testing.assert_allclose(_numbers(first), _numbers(second), atol=atol)
    assert a.maps.keys() == b.maps.keys()
    for key, grid in a.maps.items():
        np.testing.assert_allclose(grid, b.maps[key], atol=1e-3)  # kept in half precision


def _without_more(answer: Prediction, written: Prediction) -> Prediction:
    """An answer that says no more of what was not read than what was written: of a cohort its columns are not told."""
    assert set(written.ignored) <= set(answer.ignored)
    return replace(answer, ignored=written.ignored)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def _texts(value: Any) -> Any:
    """The same tree with a zero for every number."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return 0 if isinstance(value, int | float) else value


# --- what is answered --------------------------------------------------------------------------------------------------


def _train_folds(cohort, small, home: Path) -> Path:
    wanted = [o for o in small if not o.startswith("heads.description.")]
    recipe = read_recipe("report-fusion", [*wanted, "heads.description=null", "train.epochs=1"])
    train(recipe, [cohort.path], home / "run", folds=2)
    return home / "run"


def _train_baseline(cohort, small, home: Path) -> Path:
    recipe = read_recipe(
        "baseline-frozen", ["baseline.model=logistic", "inputs.image.size=64", "inputs.text.max_tokens=24"]
    )
    train(recipe, [cohort.path], home / "run")
    return home / "run"


@pytest.mark.parametrize("trained", [None, _train_folds, _train_baseline])
def test_the_predictor_answers_what_predict_writes(trained, tiny_run, phantom, small, new_studies, tmp_path):
    run = tiny_run if trained is None else trained(phantom, small, tmp_path)
    stored = write_cohort(new_studies, tmp_path / "cohort", source="test", options={}, size=64)
    written = {p.study_id: p for p in chiasm.predict(run, [stored.path], tmp_path / "out")}
    answers = load_predictor(run).batch(new_studies)
    assert [answer.study_id for answer in answers] == [study.study_id for study in new_studies]
    for answer in answers:
        assert answer.used == ("image", "text", "record")
        # a baseline is linear in embeddings of texts, and its log-odds magnify what batches and threads round
        atol = 1e-4 if trained is _train_baseline else 1e-5
        assert_same(_without_more(answer, written[answer.study_id]), written[answer.study_id], atol)


def test_the_stroke_recipe_is_answered_alike(strokes, tmp_path):
    overrides = ["train.epochs=1", f"inputs.text.encoder={save_tiny_bert(tmp_path / 'bert')}"]
    train(read_recipe("stroke-prognosis", overrides), [strokes.path], tmp_path / "run")
    written = {p.study_id: p for p in chiasm.predict(tmp_path / "run", [strokes.path], tmp_path / "out")}
    predictor, texts = load_predictor(tmp_path / "run"), strokes.texts(["image_description"])
    studies = [strokes.study(row) for row in range(8)]
    told = [
        replace(study, report=Report({"image_description": text} if text else {}))
        for study, text in zip(studies, texts, strict=False)
    ]
    answers = predictor.batch(told)
    assert {"text" in answer.used for answer in answers} == {True, False}
    for answer in answers:
        assert_same(_without_more(answer, written[answer.study_id]), written[answer.study_id])
    study = next(study for study in studies if study.images)
    moved = replace(study.images[0], geometry=Geometry.identity(study.images[0].pixels.shape))
    with pytest.raises(CohortError, match="space of the model's atlas"):
        predictor(replace(study, images=(moved,)))


def test_an_answer_does_not_hang_on_what_is_asked_beside_or_before(predictor, new_studies, monkeypatch):
    whole = predictor.batch([*new_studies, new_studies[0]])
    assert_same(whole[0], whole[3])
    for study, answer in zip(new_studies, whole, strict=False):
        assert_same(predictor(study), answer)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for answer, other in zip(predictor.batch(new_studies), whole, strict=False):
        assert_same(answer, other)
    assert predictor.batch([]) == []


def test_what_is_true_of_a_study_is_not_looked_at(predictor, new_studies):
    study = new_studies[0]
    assert study.findings
    wrong = (Finding("edema", State.PRESENT, target="outcome"),)  # of another kind than what the model learned
    told = replace(study, findings=wrong, regions=(), outcomes=(Outcome("event", 3.5, Kind.REGRESSION, "findings"),))
    assert_same(predictor(study), predictor(told), atol=0)


# --- what is not read --------------------------------------------------------------------------------------------------


def test_what_the_models_do_not_read_of_a_study_is_said(predictor, new_studies):
    volume = Image("v", np.zeros((4, 8, 8), np.uint8), Geometry.identity((4, 8, 8)))
    record = Record({"age_years": 63.0, "sex": "x", "shoe_size": 44.0, "weight": None})
    report = Report({"findings": "No effusion.", "technique": "Two views.", "history": " "})
    study = replace(new_studies[1], images=(*new_studies[1].images, volume), report=report, record=record)
    answer = predictor(study)
    assert answer.used == ("image", "text", "record")
    image, text, column, word = answer.ignored
    assert image == "image v: a volume, the model reads a single image"
    assert text.startswith("report: technique; the model reads ")
    assert column.startswith("record: shoe_size; the model reads ")
    assert word.startswith("record: sex is none of the words ")
    plain = predictor(replace(study, images=new_studies[1].images, report=None, record=Record({"age_years": 63.0})))
    assert plain.ignored == ()


def test_a_study_that_does_not_fit_is_an_error(predictor, new_studies):
    with pytest.raises(InputError, match="strict"):
        predictor(Study("s", "p"))
    broken = replace(new_studies[0].images[0], pixels=np.full((64, 64), np.nan))
    with pytest.raises(InputError, match="not all numbers"):
        predictor(replace(new_studies[0], images=(broken,)))
    with pytest.raises(CohortError, match="another kind"):
        predictor(Study("s", "p", record=Record({"age_years": "old"})))


def test_of_several_inputs_the_one_that_does_not_fit_is_listed(strokes, tmp_path, monkeypatch):
    """A volume beside the atlas is found out only when the model is asked: it must not cost the others their answer."""
    overrides = ["train.epochs=1", "inputs.text=null", "fusion.name=gated", "heads.alignment=null"]
    train(read_recipe("stroke-prognosis", overrides), [strokes.path], tmp_path / "run")
    there = next(study for study in map(strokes.study, range(len(strokes))) if study.images)
    image = there.images[0]
    beside = replace(there, images=(replace(image, geometry=Geometry.identity(image.pixels.shape)),))
    read = {"beside": beside, "there": there}
    monkeypatch.setattr(
        folder, "read_study", lambda path, *_: (replace(read[path.name], study_id=path.name), ("a part",))
    )
    paths = [tmp_path / "in" / name for name in read]
    for path in paths:
        path.mkdir(parents=True)
    (found,) = predict_inputs(tmp_path / "run", paths, tmp_path / "out")
    assert (found.study_id, found.ignored) == ("there", ("a part",))
    assert f"{paths[0]},volumes do not lie in the space of the model's atlas" in (
        tmp_path / "out" / "rejected.csv"
    ).read_text("utf-8")


def test_a_run_that_cannot_be_used_is_refused(tiny_run, tmp_path):
    with pytest.raises(RunError, match="not a run"):
        load_predictor(tmp_path)
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "training"}))
    with pytest.raises(RunError, match="not finished"):
        load_predictor(run)


# --- how it is answered ------------------------------------------------------------------------------------------------


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files that are opened while a test runs; an audit hook sees every way to open one, and cannot be taken away."""
    _OPENED.clear()
    _WATCH.append(True)
    yield _OPENED
    _WATCH.clear()


_OPENED: list[str] = []
_WATCH: list[bool] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCH and event in ("open", "os.mkdir", "os.rename", "os.remove", "tempfile.mkdtemp"):
        _OPENED.append(str(arguments[0]))


sys.addaudithook(_note)


def test_no_file_is_opened(tiny_run, new_studies, tmp_path, opened):
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    predictor = load_predictor(run)
    assert str(run / "run.json") in opened
    before = predictor(new_studies[0])  # imports what torch imports late
    shutil.rmtree(run)
    opened.clear()
    again = predictor.batch(new_studies)
    assert opened == []
    assert_same(before, again[0])


@pytest.mark.parametrize("text", ["bilstm", "hf"])
def test_threads_get_the_answers_of_one_after_another(text, tiny_run, phantom, small, tmp_path):
    run = tiny_run
    if text == "hf":
        run, encoder = tmp_path / "run", save_tiny_bert(tmp_path / "bert")
        wanted = [*small, "train.epochs=1", f"inputs.text.encoder={encoder}", "inputs.text.max_tokens=12"]
        train(read_recipe("report-fusion", wanted), [phantom.path], run)
    predictor = load_predictor(run)
    studies = list(islice(phantoms(studies=24, size=64, seed=5), 24))
    state = {name: value.clone() for name, value in _state(predictor).items()}
    random = torch.get_rng_state()
    serial = [predictor(study) for study in studies]
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(predictor, studies))
    for a, b in zip(serial, threads, strict=True):
        assert to_json(a) == to_json(b)
        assert all(np.array_equal(grid, b.maps[key]) for key, grid in a.maps.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in _state(predictor).items())
    assert not any(module.training for each in predictor.fold_models for module in each.model.modules())


def test_fold_models_hold_a_frozen_encoder_once(phantom, small, tmp_path):
    encoder = save_tiny_bert(tmp_path / "bert")
    wanted = [o for o in small if not o.startswith("heads.description.")]
    wanted += ["heads.description=null", "train.epochs=1", f"inputs.text.encoder={encoder}"]
    cohort = shutil.copytree(phantom.path, tmp_path / "cohort", ignore=shutil.ignore_patterns("cache"))
    train(read_recipe("report-fusion", wanted), [cohort], tmp_path / "run", folds=2)
    first, second = (each.model.encoders for each in load_predictor(tmp_path / "run").fold_models)
    assert first["text"].backbone is second["text"].backbone
    assert first["text"].project is not second["text"].project
    assert first["image"].backbone is not second["image"].backbone, "it was learned"
    assert len(list((cohort / "cache").glob("states-*"))) == 1, "and both read one cache"


def _state(predictor: Predictor) -> dict[str, torch.Tensor]:
    return {f"{i}.{k}": v for i, each in enumerate(predictor.fold_models) for k, v in each.model.state_dict().items()}


# --- what is unlike the training data ----------------------------------------------------------------------------------


def _unlike(study: Study) -> dict[str, Study]:
    """The study with a fault of each kind."""
    (image, *_), record = study.images, dict(study.record.values) if study.record else {}
    return {
        "header": replace(study, images=(replace(image, dicom_modality="CT"),)),
        "pixels": replace(study, images=(replace(image, pixels=255 - image.pixels),)),
        "record": replace(study, record=Record({**record, "age_years": 600.0})),
    }


@pytest.fixture(scope="module")
def usual(predictor) -> Study:
    """A study in which nothing is unlike the training data."""
    made = (replace(s, regions=()) for s in phantoms(studies=40, size=64, seed=9) if s.record and len(s.images) == 1)
    return next(study for study in made if not any(note.unlike for note in predictor(study).notes))


@pytest.mark.parametrize("kind", ["header", "pixels", "record"])
def test_a_strict_predictor_refuses_what_is_unlike_the_training_data(kind, predictor, usual, tiny_run):
    strict, other = load_predictor(tiny_run, strict=True), _unlike(usual)[kind]
    noted = [note for note in predictor(other).notes if note.unlike]
    assert kind in {note.about.value for note in noted}
    with pytest.raises(InputError, match="unlike the training data") as error:
        strict(other)
    assert error.value.got == "; ".join(note.text for note in noted)
    assert_same(strict(usual), predictor(usual), atol=0)
    with pytest.raises(InputError):
        strict.batch([usual, other])


def test_a_run_that_cannot_tell_is_not_asked_strictly(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    (run / "novelty.json").unlink()
    load_predictor(run)
    with pytest.raises(RunError, match="cannot tell"):
        load_predictor(run, strict=True)


def test_the_command_answers_the_others_and_refuses_what_is_unlike(tiny_run, usual, tmp_path):
    studies = [replace(usual, study_id="usual", patient_id="a")]
    for kind, study in _unlike(usual).items():
        images = tuple(replace(image, image_id=f"{kind}-image") for image in study.images)
        studies.append(replace(study, study_id=kind, patient_id=kind, images=images))
    stored = write_cohort(studies, tmp_path / "cohort", source="test", options={}, size=64)
    said = {p.study_id: p for p in chiasm.predict(tiny_run, [stored.path], tmp_path / "noted")}
    assert [any(n.unlike for n in said[s].notes) for s in ("usual", "header", "pixels", "record")] == [
        False,
        *[True] * 3,
    ]
    in_memory = load_predictor(tiny_run).batch(studies)
    assert all(answer.notes == said[answer.study_id].notes for answer in in_memory)
    with pytest.raises(InputError, match="3 studies are unlike the training data and were not answered") as error:
        chiasm.predict(tiny_run, [stored.path], tmp_path / "out", strict=True)
    assert error.value.got == "1 others were answered"
    assert [path.name for path in (tmp_path / "out").glob("*.json")] == ["usual.json"]
    rejected = (tmp_path / "out" / "rejected.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in rejected] == ["where", "header", "pixels", "record"]
    assert "the file says CT" in rejected[1]
