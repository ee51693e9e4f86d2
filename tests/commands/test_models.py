"""The commands on models: what they hand to the package that works, and how they print its result."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import answered, run

from chiasm.documents import to_json
from chiasm.errors import InputError
from chiasm.prediction.write import Written
from chiasm.prediction.write import to_json as told
from chiasm.run.folder import Run
from chiasm.study import About, Finding, Note, Prediction, State


def _written(prediction: Prediction) -> Written:
    return Written(prediction, {**told(prediction), "overlays": {}, "page": f"{prediction.study_id}.html"})


def test_train_passes_recipe_cohorts_and_options_on(monkeypatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    made = Run("r", (), 0, 3, 2, "", ("fold-0-0",), ("A note.",), {"chiasm": "9"}, {}, "finished")

    def train(recipe: Any, cohorts: Any, out: Path, **options: Any) -> Run:
        seen.update(recipe=recipe, cohorts=cohorts, out=out, **options)
        return made

    monkeypatch.setattr("chiasm.training.train.train", train)
    settings = ["--set", "train.epochs=7", "--set", "targets=[outcome]"]
    document = answered(
        *(
            "train",
            "report-fusion",
            "a",
            "b",
            "--out",
            "r",
            *settings,
            "--folds",
            3,
            "--repeats",
            2,
            "--resume",
            "--init",
            "o",
        )
    )
    assert document == json.loads(json.dumps(to_json(made)))
    assert (document["schema"], document["fold_models"], document["status"]) == (Run.SCHEMA, ["fold-0-0"], "finished")
    assert (seen["recipe"].train.epochs, list(seen["recipe"].targets)) == (7, ["outcome"])
    assert (seen["cohorts"], seen["out"]) == ([Path("a"), Path("b")], Path("r"))
    assert (seen["resume"], seen["folds"], seen["repeats"], seen["init"]) == (True, 3, 2, Path("o"))


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_training_says_how_to_go_on(monkeypatch, how) -> None:
    """Lightning answers Ctrl-C by leaving with SystemExit."""

    def interrupted(*_: object, **__: object) -> None:
        raise how(1)

    monkeypatch.setattr("chiasm.training.train.train", interrupted)
    monkeypatch.setattr("sys.argv", ["chiasm", "train", "report-fusion", "my cohort", "--out", "r"])
    result = run("train", "report-fusion", "my cohort", "--out", "r")
    assert result.exit_code == 130
    assert "resume with: chiasm train report-fusion 'my cohort' --out r --resume" in result.stderr


def test_predict_lists_the_most_probable_finding_first(monkeypatch, tmp_path: Path) -> None:
    findings = (
        Finding("mass", State.ABSENT, probability=0.123),
        Finding("pneumonia", State.PRESENT, probability=0.9),
    )
    seen: list[Any] = []

    def answer_inputs(*arguments: Any, **options: Any) -> list[Written]:
        seen.append((arguments, options))
        return [_written(Prediction("s1", "p1", findings))]

    monkeypatch.setattr("chiasm.prediction.folder.answer_inputs", answer_inputs)
    result = run("predict", "r", "a.png", "--out", tmp_path, "--report", "t.txt")
    assert result.stdout.splitlines() == ["s1: pneumonia 0.90, mass 0.12", f"the results are in {tmp_path}"]
    arguments, options = seen[0]
    assert arguments == (Path("r"), [Path("a.png")], tmp_path)
    assert options == {"report": Path("t.txt"), "record": None, "strict": False, "phrases": ()}


def test_predict_says_what_it_skipped_and_did_not_use(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "rejected.csv").write_text("where,reason\nb.png,no image\n")
    prediction = Prediction("s1", "p1", (), ignored=("report: the model reads none",))
    monkeypatch.setattr("chiasm.prediction.folder.answer_inputs", lambda *_, **__: [_written(prediction)])
    said = run("predict", "r", "a.png", "b.png", "--out", tmp_path).stdout
    assert "not used: report: the model reads none" in said
    assert f"the results are in {tmp_path}; 1 inputs were skipped, see {tmp_path / 'rejected.csv'}" in said


def test_predict_prints_what_is_said_of_the_data_once_and_what_is_said_of_a_study_with_its_name(monkeypatch, tmp_path):
    data, own = (
        Note(About.DATA, "An expert drew it."),
        Note(About.HEADER, "the file says CT; the model was trained on DX"),
    )
    made = [Prediction("s1", "p1", notes=(data, own)), Prediction("s2", "p2", notes=(data,))]
    monkeypatch.setattr("chiasm.prediction.folder.answer_inputs", lambda *_, **__: [*map(_written, made)])
    lines = run("predict", "r", "a.png", "b.png", "--out", tmp_path).stdout.splitlines()
    assert [line for line in lines if "note" in line] == ["note: An expert drew it.", f"s1: note: {own.text}"]
    (first, _) = answered("predict", "r", "a.png", "b.png", "--out", tmp_path)["predictions"]
    assert (first["notes"], first["notes_about"]) == ([data.text, own.text], ["data", "header"])
    assert first["page"] == "s1.html"


def test_a_study_that_is_refused_ends_the_command_with_one(monkeypatch, tmp_path: Path) -> None:
    def answer_inputs(*_: Any, strict: bool, **__: Any) -> list[Written]:
        assert strict
        raise InputError("the study is unlike the training data", got="the file says CT")

    monkeypatch.setattr("chiasm.prediction.folder.answer_inputs", answer_inputs)
    result = run("predict", "r", "a.dcm", "--out", tmp_path, "--strict")
    assert result.exit_code == 1 and not result.stdout
    assert result.stderr.count("the study is unlike the training data") == 1
