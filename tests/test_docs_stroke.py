"""docs/stroke.md: its road runs on a small phantom, its other trainings are ones that the cohort allows."""

import json
import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer

from chiasm.cli import app
from chiasm.cohort.store import Cohort
from chiasm.encoding.fit import fit_plan
from chiasm.recipe import read_recipe
from chiasm.registry import SOURCES

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "stroke.md").read_text("utf-8")
BLOCKS = [
    [line for line in block.splitlines() if line] for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
]
COMMANDS = [shlex.split(line)[1:] for block in BLOCKS for line in block]
TRAININGS = [command for command in COMMANDS if command[0] == "train"]
COMMAND = typer.main.get_command(app)


def run(*arguments: str) -> None:
    assert not COMMAND(list(arguments), standalone_mode=False), arguments  # its exit code


def small(command: list[str]) -> list[str]:
    """The command as it stands, but for the numbers that make it long."""
    more = {
        "import": ["--volume-size", "32,32,32", "--option", "studies=60"],
        "train": ["--folds", "1", "--repeats", "1", "--set", "train.epochs=1", "--set", "evaluate.resamples=100"],
    }
    return [*command, *more.get(command[0], [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first block was run, the phantom in place of the data; without the baselines, which take their time."""
    home = tmp_path_factory.mktemp("stroke")
    (road, (phantom,)) = BLOCKS[:2]
    commands = [shlex.split(line)[1:] for line in road]
    assert [command[0] for command in commands] == [
        *("import", "inspect", "write", "train", "compare", "evaluate", "verify", "predict")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for command in (shlex.split(phantom)[1:], *commands[1:]):
            if command[0] != "compare":
                run(*small(command))
    return home


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_of_the_page_is_understood(command):
    context = COMMAND.commands[command[0]].make_context(command[0], command[1:])
    if command[0] == "import":
        assert context.params["source"] in SOURCES


def test_the_road_ends_in_answers_that_rest_on_image_text_and_record(folder):
    answers = [json.loads(file.read_text("utf-8")) for file in (folder / "answers").glob("*.json")]
    assert len(answers) == 60
    assert all(answer["used"] == ["image", "text", "record"] for answer in answers)
    assert {o["name"]: o["kind"] for o in answers[0]["outcomes"]} == {"mrs_gt_2": "binary", "mrs": "ordinal"}
    document = json.loads((folder / "run" / "evaluation" / "evaluation.json").read_text("utf-8"))
    assert "written from the study's images (by template)" in document["added"][0]


def test_a_mask_and_a_chart_are_answered_as_their_study_is(folder, monkeypatch):
    """A file of 0 and 1 in the atlas' space is the same image as the cohort's: so are the answers without text."""
    monkeypatch.chdir(folder)
    cohort = Cohort.open(folder / "stroke")
    study = cohort.study(0)
    (image,) = study.images
    lesion = study.regions[0].mask
    assert lesion is not None and image.name == "lesion-mask"
    affine = np.array(image.geometry.affine).reshape(4, 4)
    nibabel.save(nibabel.Nifti1Image(lesion.astype(np.uint8), affine), folder / "mask.nii.gz")
    (folder / "record.json").write_text(json.dumps(dict(study.record.values)), "utf-8")
    (command,) = [c for c in COMMANDS if c[0] == "predict" and "mask.nii.gz" in c]
    run(*command)
    (answer,) = [json.loads(file.read_text("utf-8")) for file in (folder / "answer").glob("*.json")]
    assert answer["used"] == ["image", "record"]
    whole = json.loads((folder / "answers" / f"{study.study_id}.json").read_text("utf-8"))
    without = {f"{o['target']}/{o['name']}": o["probability"] for o in answer["outcomes"] if o["kind"] == "binary"}
    assert without["outcome/mrs_gt_2"] == pytest.approx(whole["without_report"]["outcome/mrs_gt_2"], abs=1e-5)


@pytest.mark.parametrize("command", TRAININGS, ids=" ".join)
def test_a_training_is_one_that_the_cohort_allows(command, folder):
    context = COMMAND.commands["train"].make_context("train", command[1:])
    cohort = Cohort.open(folder / "stroke")
    recipe = read_recipe(context.params["recipe"], [*(context.params["set"] or []), "inputs.record.columns=null"])
    if recipe.inputs.record is not None and recipe.inputs.record.opt_in:
        return  # the phantom has no etiology
    plan, recipe, notes = fit_plan(recipe, [cohort], [cohort.rows("train")])
    assert plan.image_shape == (32, 32, 32)
    if "nihss" in plan.targets:
        assert "nihss" not in plan.numeric and recipe.heads.get("alignment") is None
        assert any("nihss" in note for note in notes)
    else:
        assert set(plan.targets) == {"outcome", "mrs"} and "nihss" in plan.numeric


def test_the_targets_of_the_page_are_those_of_the_cohort(folder):
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", PAGE, flags=re.MULTILINE))
    targets = Cohort.open(folder / "stroke").targets
    assert told == {name: str(targets[name].kind) for name in ("outcome", "mrs", "nihss")}
