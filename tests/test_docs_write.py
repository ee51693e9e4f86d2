"""docs/write.md: its commands are understood, and it names every column, file and writer."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import chiasm
from chiasm.cli import app
from chiasm.cohort.generated import COLUMNS, SECTION_KINDS
from chiasm.report.writers import TEXT_KINDS
from chiasm.report.writers.ask import LONGEST_REPORT

PAGE = (Path(__file__).parents[1] / "docs" / "write.md").read_text("utf-8")
COMMANDS = [
    line.split("#")[0] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_is_understood(command):
    _, name, *arguments = shlex.split(command)
    assert name == "write"
    typer.main.get_command(app).commands[name].make_context(name, arguments)


def test_every_column_and_section_is_named():
    assert [name for name in COLUMNS.names if f"`{name}`" not in PAGE] == []
    assert [name for name in SECTION_KINDS if f"[{name}]" not in PAGE] == []
    assert tuple(SECTION_KINDS.values()) == TEXT_KINDS
    assert f"{LONGEST_REPORT:,} characters" in " ".join(PAGE.split())


def test_the_files_that_may_be_changed_are_there():
    lexicon = Path(chiasm.__file__).parent / "report" / "lexicon"
    for name in ("wording", "entities", "guarded", "identifiers"):
        assert f"{name}.yaml" in PAGE and (lexicon / f"{name}.yaml").is_file()
