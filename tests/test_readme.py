"""README's commands are ones that exist, with options, recipes and keys that exist; its Python runs."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from chiasm.cli import app
from chiasm.recipe import read_recipe
from chiasm.registry import SOURCES

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if line.startswith("chiasm")
]


def test_the_readme_shows_every_command():
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown | {"demo", "recipes"} == set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_readme_is_understood(command):
    _, name, *arguments = shlex.split(command)
    context = typer.main.get_command(app).commands[name].make_context(name, list(arguments))
    if name == "train":
        read_recipe(context.params["recipe"], context.params["set"] or [])
    if name == "import":
        assert context.params["source"] in SOURCES


def test_the_python_of_readme_runs_one_block_after_the_other_to_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, str(README), "exec"), names)
    assert len(names["cohort"]) == 60
    assert len(names["answers"].merge(names["cohort"].studies, on="study_id")) == len(names["answers"])
    assert names["prediction"].study_id == names["cohort"].study(0).study_id
    assert capsys.readouterr().out.startswith(f"{names['prediction'].arm} 0.")


def test_the_pictures_of_the_readme_exist():
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text("utf-8")):
        assert (README.parent / picture).is_file()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_make_targets_of_a_page_exist(page):
    makefile = (README.parent / "Makefile").read_text("utf-8")
    named = re.findall(r"^make (\w+)", (README.parent / page).read_text("utf-8"), flags=re.MULTILINE)
    assert "test" in named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []
