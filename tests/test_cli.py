"""The command line: what goes to which stream, exit codes, one message for an error, and that a command calls its room.

Rooms that take minutes are stood in for by small functions; the road through all of them has a test of its own.
"""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from chiasm.cli import app
from chiasm.errors import RunError
from chiasm.study import Finding, Prediction, State

COMMANDS = [
    "demo",
    "sources",
    "recipes",
    "import",
    "inspect",
    "label",
    "write",
    "train",
    "evaluate",
    "compare",
    "predict",
    "verify",
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answered(*arguments: object) -> Any:
    """The JSON document of a command that must succeed."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Callable[..., Any]], None]:
    """Replace a function of a room (by module, because `chiasm.training.train` is the function)."""
    return lambda module, name, function: monkeypatch.setattr(importlib.import_module(module), name, function)


# --- what all commands share -------------------------------------------------------------------------------------------


def test_the_commands_are_those_of_the_design() -> None:
    listed = run("--help").stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_in_json_and_can_be_debugged(command: str) -> None:
    text = run(command, "--help").stdout
    assert "--json" in text
    assert "--debug" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["train"],
        ["train", "report-fusion", "c"],
        ["import", "table", "x", "--out", "c", "--split", "odd"],
        ["train", "report-fusion", "c", "--out", "r", "--folds", "0"],
    ],
)
def test_wrong_use_is_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_nothing_at_all_shows_the_help() -> None:
    assert "Commands:" in run().output


def test_the_version() -> None:
    assert run("--version").stdout.startswith("chiasm 0.")


def test_an_error_is_one_message_with_its_facts() -> None:
    result = run("train", "report-fusoin", "c", "--out", "r")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == "error: no such recipe"
    assert "got: report-fusoin" in result.stderr
    assert "what to do: did you mean report-fusion?" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_in_json_is_a_document_too() -> None:
    result = run("train", "report-fusion", "c", "--out", "r", "--set", "trian.epochs=1", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "RecipeError"
    assert "did you mean train?" in error["what"]


@pytest.mark.parametrize("arguments", [["--debug", "verify", "no-run"], ["verify", "no-run", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "RunError" in result.stderr


def test_a_bug_shows_where_it_is_and_none_of_its_words(stand_in) -> None:  # type: ignore[no-untyped-def]
    def broken(*_: object) -> None:
        raise ValueError("patient John Doe")

    stand_in("chiasm.evaluation.verify", "verify", broken)
    for as_json in ([], ["--json"]):
        result = run("verify", "r", *as_json)
        assert result.exit_code == 1
        assert "this is a bug in chiasm: ValueError at cli.py" in result.stderr
        assert "John" not in result.output
    assert "John" in run("verify", "r", "--debug").stderr


def test_a_failing_file_system_is_no_bug(stand_in) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/disk/run")

    stand_in("chiasm.evaluation.verify", "verify", full)
    result = run("verify", "r")
    assert result.exit_code == 1
    assert result.stderr == "error: No space left on device\n  where: /disk/run\n"


def test_standard_output_is_the_answer_alone(stand_in) -> None:  # type: ignore[no-untyped-def]
    def chatty(_: object) -> list[str]:
        print("a library says hello")  # noqa: T201
        return []

    stand_in("chiasm.evaluation.verify", "verify", chatty)
    result = run("verify", "r", "--json")
    assert json.loads(result.stdout) == {"differences": []}
    assert "hello" in result.stderr


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_training_says_how_to_go_on(stand_in, monkeypatch, how) -> None:  # type: ignore[no-untyped-def]
    """Lightning answers Ctrl-C by leaving with SystemExit."""

    def interrupted(*_: object, **__: object) -> None:
        raise how(1)

    stand_in("chiasm.training.train", "train", interrupted)
    monkeypatch.setattr("sys.argv", ["chiasm", "train", "report-fusion", "my cohort", "--out", "r"])
    result = run("train", "report-fusion", "my cohort", "--out", "r")
    assert result.exit_code == 130
    assert "resume with: chiasm train report-fusion 'my cohort' --out r --resume" in result.stderr


# --- the commands ------------------------------------------------------------------------------------------------------


def test_sources_and_recipes_are_listed() -> None:
    from chiasm.recipe import recipe_names
    from chiasm.sources.registry import NAMES

    assert [s["name"] for s in answered("sources")["sources"]] == list(NAMES)
    assert [r["name"] for r in answered("recipes")["recipes"]] == recipe_names()
    assert all(name in run("sources").stdout for name in NAMES)


def test_import_of_a_phantom(tmp_path: Path) -> None:
    out = tmp_path / "c"
    options = ["--option", "studies=12", "--option", "size=64"]
    document = answered("import", "phantom-chest", "--out", out, "--size", 64, "--seed", 3, *options)
    meta = json.loads((out / "cohort.json").read_text("utf-8"))
    assert (meta["counts"]["studies"], meta["size"], meta["seed"]) == (12, 64, 3)
    assert document == {"cohort": str(out), "hash": meta["hash"], "counts": meta["counts"]}
    again = run("import", "phantom-chest", "--out", out)
    assert again.exit_code == 1
    assert str(out) in again.stderr


def test_import_of_a_table_with_a_map_counts_what_it_could_not_take(tmp_path: Path) -> None:
    rows = ["pid,txt,dead", "p1,No effusion.,0", "p2,Mass.,1", ",Lost.,0"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", "utf-8")
    columns = {"patient": "pid", "report": "txt", "outcomes": [{"column": "dead"}]}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(columns), "utf-8")
    arguments = ["import", "table", tmp_path / "t.csv", "--map", tmp_path / "map.yaml", "--out", tmp_path / "c"]
    result = run(*arguments, "--split", "hash")
    assert result.exit_code == 0, result.stderr
    assert "2 studies" in result.stdout
    assert "1 inputs were not taken" in result.stdout
    assert "rejected.csv" in result.stdout
    strict = run(*arguments[:-1], tmp_path / "d", "--strict")
    assert strict.exit_code == 1
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel", "x"], "did you mean table?"),
        (["openi", "no/such/folder"], "no/such/folder"),
        (["phantom-chest", "--option", "studeis=3"], "did you mean studies?"),
        (["phantom-chest", "--option", "studies"], "--option needs key=value"),
        (["phantom-chest", "--option", "studies=["], "not YAML"),
        (["phantom-chest", "--volume-size", "64,64"], "three numbers"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("import", *arguments, "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "c").exists()


def test_inspect(phantom) -> None:  # type: ignore[no-untyped-def]
    document = answered("inspect", phantom.path)
    assert document
    assert run("inspect", phantom.path).stdout.strip()
    assert run("inspect", "no-cohort").exit_code == 1


def test_label_of_a_text_and_of_a_cohort(tmp_path: Path, phantom) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "r.txt").write_text("FINDINGS: No effusion.", "utf-8")
    document = answered("label", tmp_path / "r.txt", "--out", tmp_path / "l.csv")
    assert document == {
        "labels": str(tmp_path / "l.csv"),
        "details": None,
        "notes": None,
        "reports": 1,
        "silent": 0,
        "repeated": 0,
        "rejected": 0,
    }
    document = answered("label", phantom.path, "--out", tmp_path / "l.csv", "--scheme", "chestxray14")
    assert document["reports"] == phantom.meta["counts"]["reports"]
    assert document["reports"] + document["rejected"] == len(phantom), "a study without a report is said to have none"
    lines = (tmp_path / "l.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("filename,Atelectasis,")
    assert {line.split(",")[0] for line in lines[1:]} <= set(phantom.studies["study_id"])
    assert run("label", tmp_path / "no.txt", "--out", tmp_path / "l.csv").exit_code == 1


def test_label_says_which_reports_it_did_not_understand(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("A dog.", "utf-8")
    said = run("label", tmp_path / "r.txt", "--out", tmp_path / "l.csv").stdout
    assert "labels of 1 report in" in said and "1 say nothing of any finding" in said
    assert f"why stands in {tmp_path / 'l.notes.csv'}" in said
    (tmp_path / "l.csv").unlink()
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "text": "Mass."}\n{"id": 1, "text": "No mass."}\n{\n', "utf-8")
    said = run("label", tmp_path / "twice.jsonl", "--out", tmp_path / "l.csv").stdout
    assert "1 have an id that another row has too; 1 inputs were not labelled" in said


def test_train_hands_everything_over(stand_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    seen: dict[str, Any] = {}

    def train(recipe: Any, cohorts: Any, out: Path, **options: Any) -> dict[str, Any]:
        seen.update(recipe=recipe, cohorts=cohorts, out=out, **options)
        return {"fold_models": 6}

    stand_in("chiasm.training.train", "train", train)
    settings = ["--set", "train.epochs=7", "--set", "targets=[outcome]"]
    document = answered(
        *("train", "report-fusion", "a", "b", "--out", "r", *settings, "--folds", 3, "--repeats", 2, "--resume")
    )
    assert document == {"fold_models": 6}
    assert (seen["recipe"].train.epochs, list(seen["recipe"].targets)) == (7, ["outcome"])
    assert (seen["cohorts"], seen["out"]) == ([Path("a"), Path("b")], Path("r"))
    assert (seen["resume"], seen["folds"], seen["repeats"]) == (True, 3, 2)


def test_evaluate_prints_the_first_figures_and_the_warnings(stand_in) -> None:  # type: ignore[no-untyped-def]
    figure = {"value": 0.81234, "low": 0.7, "high": 0.9, "n": 12, "protocol": "p"}
    undefined = {"value": None, "low": None, "high": None, "n": 12, "protocol": "p", "reason": "one class"}
    names = ["mass/auroc", "hernia/auroc", "macro/auroc", "mass/ece", "macro/ece", "mass/brier", "mass/auroc@sex=f"]
    metrics: dict[str, Any] = {f"findings/{name}": figure for name in names}
    metrics |= {"findings/hernia/auroc": undefined, "image:findings/mass/auroc": figure, "outcome/event/ece": figure}
    evaluation = SimpleNamespace(
        document=lambda: {"metrics": metrics},
        warnings=["a shortcut comes close"],
        page=Path("r/evaluation/summary.html"),
    )
    stand_in("chiasm.evaluation.evaluate", "evaluate", lambda *_: evaluation)
    assert answered("evaluate", "r")["metrics"] == metrics
    assert [" ".join(line.split()) for line in run("evaluate", "r").stdout.splitlines()] == [
        "findings/mass/auroc 0.812 [0.700, 0.900] n=12",
        "findings/macro/auroc 0.812 [0.700, 0.900] n=12",
        "findings/macro/ece 0.812 [0.700, 0.900] n=12",
        "outcome/event/ece 0.812 [0.700, 0.900] n=12",
        "figures that are undefined: 1 (one class)",
        "warning: a shortcut comes close",
        "the page: r/evaluation/summary.html",
    ]


def test_predict_lists_the_likeliest_first(stand_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    findings = (
        Finding("mass", State.ABSENT, probability=0.123),
        Finding("pneumonia", State.PRESENT, probability=0.9),
    )
    seen: list[Any] = []

    def predict_inputs(*arguments: Any, **options: Any) -> list[Prediction]:
        seen.append((arguments, options))
        return [Prediction("s1", "p1", findings)]

    stand_in("chiasm.prediction.folder", "predict_inputs", predict_inputs)
    result = run("predict", "r", "a.png", "--out", tmp_path, "--report", "t.txt")
    assert result.stdout.splitlines() == ["s1: pneumonia 0.90, mass 0.12", f"all of it in {tmp_path}"]
    arguments, options = seen[0]
    assert arguments == (Path("r"), [Path("a.png")], tmp_path)
    assert options == {"report": Path("t.txt"), "record": None}


def test_predict_says_what_it_did_not_take(stand_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "rejected.csv").write_text("where,reason\nb.png,no image\n")
    prediction = Prediction("s1", "p1", (), ignored=("report: the model reads none",))
    stand_in("chiasm.prediction.folder", "predict_inputs", lambda *_, **__: [prediction])
    said = run("predict", "r", "a.png", "b.png", "--out", tmp_path).stdout
    assert "not used: report: the model reads none" in said
    assert f"all of it in {tmp_path}; 1 inputs were not taken, see {tmp_path / 'rejected.csv'}" in said


def test_verify_fails_on_a_difference(stand_in) -> None:  # type: ignore[no-untyped-def]
    stand_in("chiasm.evaluation.verify", "verify", lambda _: ["findings/mass/auroc: 0.8 is 0.7"])
    result = run("verify", "r", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"differences": ["findings/mass/auroc: 0.8 is 0.7"]}
    assert "1 metrics differ" in result.stderr
    assert run("verify", "r").stdout == ""


def test_demo_prints_what_the_demo_says(stand_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stand_in("chiasm.demo", "run_demo", lambda out: {"page": str(out / "summary.html"), "text": "AUROC 0.8"})
    assert answered("demo", "--out", tmp_path) == {"page": str(tmp_path / "summary.html")}
    assert run("demo", "--out", tmp_path).stdout == "AUROC 0.8\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "nothing"],
        ["verify", "nothing"],
        ["evaluate", "nothing"],
        ["predict", "nothing", "x.png", "--out", "p"],
    ],
)
def test_a_wrong_path_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "nothing" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_schema_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 99, "versions": {"chiasm": "9.9"}}', "utf-8")
    result = run("evaluate", tmp_path)
    assert result.exit_code == 1
    assert "schema 99" in result.stderr
    assert issubclass(RunError, Exception)


def test_write_says_what_became_of_every_text(phantom, tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohort = shutil.copytree(phantom.path, tmp_path / "cohort")
    document = json.loads(run("write", str(cohort), "--limit", "5", "--json").stdout)
    assert (document["kind"], document["written"], document["acceptance"]) == ("structured-report", 5, 1.0)
    text = run("write", str(cohort)).stdout
    assert f"{len(phantom)} of {len(phantom)} studies have a text of this writer" in text
    assert f"studies worked at now: {len(phantom) - 5}; done before: 5" in text
    assert f"accepted: {len(phantom)} of {len(phantom)} (100%)" in text, "the rate is of all that stand"
    again = json.loads(run("write", str(cohort), "--json").stdout)
    assert (again["written"], again["acceptance"]) == (0, 1.0)
    described = run("write", str(cohort), "--kind", "image-description")
    assert "have none: nothing is known to write from (no region drawn" in described.stdout
    silent = int(described.stdout.split("silent: ")[1].split()[0])
    assert silent > 0 and f"{len(phantom) - silent} of {len(phantom)} studies have a text" in described.stdout


def test_write_names_what_it_cannot_take(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert "this is no cohort" in run("write", str(tmp_path)).stderr
    assert run("write", str(tmp_path), "--kind", "poem").exit_code == 2
