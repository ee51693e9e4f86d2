"""The command line: what goes to which stream, exit codes, and one message for an error.

Packages that take minutes are replaced by small functions; the whole road through all of them has a test of its own.
"""

import inspect
import json
from pathlib import Path

import pytest
from command_line import run

from chiasm.cli import COMMANDS


def test_the_commands_are_those_of_the_design() -> None:
    listed = run("--help").stdout.partition("Commands:")[2]
    assert "..." not in listed, "a description is too long for its line"
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == [
        *("demo", "sources", "recipes", "import", "inspect", "label", "write"),
        *("train", "tune", "evaluate", "compare", "predict", "verify"),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_the_command_and_every_argument_and_option(name: str) -> None:
    function = COMMANDS[name]
    assert (inspect.getdoc(function) or "").endswith(".")
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        (explained,) = parameter.annotation.__metadata__
        assert explained.help and explained.help.endswith((".", ")")), f"{name}: {parameter.name}"


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
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_no_command_at_all_shows_the_help() -> None:
    assert "Commands:" in run().output


def test_version_option_prints_the_version() -> None:
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


def test_a_bug_shows_where_it_is_and_none_of_its_words(monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("patient John Doe")

    monkeypatch.setattr("chiasm.evaluation.verify.verify", broken)
    for as_json in ([], ["--json"]):
        result = run("verify", "r", *as_json)
        assert result.exit_code == 1
        assert "this is a bug in chiasm: ValueError at commands/evidence.py:" in result.stderr
        assert "John" not in result.output
    assert "John" in run("verify", "r", "--debug").stderr


def test_a_failing_file_system_is_no_bug(monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/disk/run")

    monkeypatch.setattr("chiasm.evaluation.verify.verify", full)
    result = run("verify", "r")
    assert result.exit_code == 1
    assert result.stderr == "error: No space left on device\n  where: /disk/run\n"


def test_standard_output_is_the_answer_alone(monkeypatch) -> None:
    def chatty(_: object) -> list[str]:
        print("a library says hello")  # noqa: T201
        return []

    monkeypatch.setattr("chiasm.evaluation.verify.verify", chatty)
    result = run("verify", "r", "--json")
    assert json.loads(result.stdout) == {"differences": []}
    assert "hello" in result.stderr


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
