"""docs/grounding.md: its road runs on a small phantom, and all of its commands are understood."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from chiasm.cli import app
from chiasm.recipe import read_recipe

PAGE = (Path(__file__).parents[1] / "docs" / "grounding.md").read_text("utf-8")
BLOCKS = [
    [shlex.split(line)[1:] for line in block.splitlines() if line]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
]
COMMANDS = [command for block in BLOCKS for command in block]
COMMAND = typer.main.get_command(app)
SMALL = {
    "import": ["--option", "studies=60"],
    "train": ["--set", "train.epochs=2", "--set", "fusion.dim=32", "--set", "evaluate.resamples=100"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first block was run, with fewer studies and epochs."""
    home = tmp_path_factory.mktemp("grounding")
    assert [command[0] for command in BLOCKS[0]] == ["import", "inspect", "train", "evaluate", "verify", "predict"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for command in BLOCKS[0]:
            given = [*command, *SMALL.get(command[0], [])]
            assert not COMMAND(given, standalone_mode=False), given  # its exit code
    return home


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_of_the_page_is_understood(command):
    context = COMMAND.commands[command[0]].make_context(command[0], command[1:])
    if command[0] == "train":
        read_recipe(context.params["recipe"], context.params["set"] or [])


def test_the_figures_of_the_page_are_those_of_the_run(folder):
    metrics = json.loads((folder / "run" / "evaluation" / "evaluation.json").read_text("utf-8"))["metrics"]
    for name in ("grounding/side/auroc", "grounding/place/map_share", "localization/macro/box_iou"):
        assert name in metrics
        assert metrics[name]["protocol"].startswith("image only")
    for control in ("region_prior", "centre_prior", "organ_prior", "other_patient", "random_weights", "grad_cam"):
        assert f"{control}:localization/macro/box_iou" in metrics
    page = (folder / "run" / "evaluation" / "summary.html").read_text("utf-8")
    assert "Attributes that reports state" in page


def test_every_answer_says_where_each_phrase_lies_or_why_it_does_not(folder):
    answers = [json.loads(p.read_text("utf-8")) for p in (folder / "answers").glob("*.json")]
    assert len(answers) == 60
    for answer in answers:
        (there, absent) = answer["heads"]["phrases"]
        assert there["phrase"] == "left lower lobe consolidation"
        assert bool(there["boxes"]) != bool(there["reason"])
        assert absent["boxes"] == []
        assert absent["reason"] == "the phrase says that it is absent"
