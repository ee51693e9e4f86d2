"""docs/tune.md: its commands run on a tiny phantom, its space is one, and its figures are those that come out."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from command_line import answered, run

from chiasm.cli import app
from chiasm.recipe import read_recipe
from chiasm.tuning.space import read_space

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "tune.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [shlex.split(line)[1:] for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
(SPACE,) = (text for kind, text in BLOCKS if kind == "yaml")
LOGISTIC = ["--set", "baseline.model=logistic", "--set", "evaluate.resamples=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("docs")
    (home / "space.yaml").write_text(re.sub(r"^(recipe|train|fusion|baseline\.).*\n", "", SPACE, flags=re.M), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        made, tuning, *_ = COMMANDS
        answered(*made)
        (home / "told.json").write_text(json.dumps(answered(*tuning, *LOGISTIC)))
        sets = ["--set", "targets=[outcome]", *LOGISTIC]
        answered("train", "baseline-record", "cohort", "--out", "plain", "--folds", "2", *sets)
    return home


def test_the_space_of_the_page_is_one(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE, "utf-8")
    space = read_space(tmp_path / "space.yaml", [read_recipe("report-fusion"), read_recipe("baseline-record")])
    assert list(space.recipes) == ["report-fusion", "baseline-record", "baseline-frozen"]
    assert ("baseline-record", "inputs.record.leave_out") in space.own


def test_the_commands_run_and_give_the_figures_of_the_page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    document = json.loads((folder / "told.json").read_text())
    named = re.findall(r"^\| `(outcome/[^`]+)` \|", PAGE, flags=re.MULTILINE)
    assert len(named) == 3
    assert all(document["metrics"][name]["value"] is not None for name in named)
    assert document["missing"] == [] and len(document["selection"]["folds"]) == 2
    *_, comparing, verifying = COMMANDS
    assert any("Chosen inside each fold" in note for note in answered(*comparing)["notes"])
    assert answered(*verifying) == {"differences": []}


def test_the_same_command_has_nothing_left_to_do(folder, monkeypatch):
    monkeypatch.chdir(folder)
    again = run(*COMMANDS[1], *LOGISTIC)
    assert again.exit_code == 0 and "auroc_optimism" in again.stdout
    assert "trained on" not in again.stderr


def test_the_defaults_are_those_of_the_page():
    given = {p.name: p.default for p in typer.main.get_command(app).commands["tune"].params}
    assert (given["trials"], given["folds"], given["inner_folds"], given["baselines"]) == (20, 5, 3, True)
    assert "20 configurations in each of 5 outer folds, judged by 3 inner folds" in PAGE
