"""Tuning end to end: blind to the tested patients, gone on with after a kill, and a run like any other at the end."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from charts import SPACE, chart_cohort, chart_recipe
from safetensors.torch import load_file
from torch import equal

from chiasm.comparison.compare import compare
from chiasm.encoding.strata import find_strata
from chiasm.errors import RunError
from chiasm.evaluation.evaluate import evaluate, publish
from chiasm.evaluation.verify import verify
from chiasm.prediction.folder import predict_inputs
from chiasm.recipe import read_recipe, write_recipe
from chiasm.run.selection import read_selection
from chiasm.training.folds import split_patients
from chiasm.training.train import train
from chiasm.tuning.space import read_space
from chiasm.tuning.tune import Asked, Job, tune, tune_fold

SMALL = {"trials": 4, "folds": 2, "inner_folds": 2}
AUROC = "outcome/event/auroc"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """charts/, a cohort, and space.yaml."""
    home = tmp_path_factory.mktemp("tune")
    chart_cohort(home / "charts")
    (home / "space.yaml").write_text(SPACE, "utf-8")
    return home


@pytest.fixture(scope="module")
def tuned(home):
    return tune([chart_recipe()], home / "charts", home / "tuned", space=home / "space.yaml", **SMALL)


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    return ours.keys() == theirs.keys() and all(equal(ours[k], theirs[k]) for k in ours)


def journal(run: Path, fold: str = "fold-0-0"):
    """(recipe, settings, figure) of each trial, as the journal holds them."""
    raw = [json.loads(line) for line in (run / "tuning" / fold / "journal.log").read_text().splitlines()]
    told = [each for each in raw if each["op_code"] == 4]
    return [(t["user_attrs"]["recipe"], t["user_attrs"]["settings"], t["value"]) for t in told]


def test_each_fold_takes_its_best_trial_and_outer_inner_and_optimism_are_told(tuned, home):
    assert tuned.missing == ()
    selection = read_selection(home / "tuned")
    assert selection is not None and selection == tuned.selection
    for fold, chosen in selection.folds.items():
        values = [value for _, _, value in journal(home / "tuned", fold)]
        assert (chosen.inner, chosen.number) == (max(values), values.index(max(values)))
        read = [json.loads(each).get("inputs.record.columns", ["dull"]) for _, each, _ in journal(home / "tuned", fold)]
        assert (chosen.as_given, chosen.tried) == (values[0], len({str(columns) for columns in read}))
        assert chosen.inner > 0.7 > chosen.as_given, "what tells much was found"
        assert chosen.settings["inputs.record.columns"] != ["dull"]
        recipe = yaml.safe_load((home / "tuned" / fold / "recipe.yaml").read_text())
        assert recipe["inputs"]["record"]["columns"] == chosen.settings["inputs.record.columns"]
    metrics = json.loads((home / "tuned" / "evaluation" / "evaluation.json").read_text())["metrics"]
    inner = np.mean([chosen.inner for chosen in selection.folds.values()])
    assert metrics[f"{AUROC}_inner"]["value"] == pytest.approx(inner)
    outer, optimism = metrics[AUROC], metrics[f"{AUROC}_optimism"]
    assert optimism["value"] == pytest.approx(inner - outer["value"])
    assert (optimism["low"], optimism["high"]) == (inner - outer["high"], inner - outer["low"])
    assert tuned.document()["metrics"][AUROC] == outer


def test_a_tuned_run_is_verified_predicted_published_and_compared_like_any_other(tuned, home, tmp_path):
    assert verify(home / "tuned") == []
    assert len(predict_inputs(home / "tuned", [home / "charts"], tmp_path / "answers")) == 150
    train(chart_recipe(), [home / "charts"], tmp_path / "plain", folds=2)
    compared = compare([home / "tuned", tmp_path / "plain"], tmp_path / "out")
    assert any(note.startswith("tuned: Chosen inside each fold from ") for note in compared.notes)
    page = publish(home / "tuned").page.read_text("utf-8")
    assert "configurations of baseline-record, by AUROC of " in page and "in 2 inner folds of its own" in page
    assert "inputs.record.columns [&#39;sharp" in page and "optimism" in page
    assert "chiasm tune baseline-record" in page and "chiasm train" not in page


def test_what_is_chosen_is_trained_as_train_would(tuned, home, tmp_path):
    selection = read_selection(home / "tuned")
    assert selection is not None
    for number, (fold, chosen) in enumerate(selection.folds.items()):
        space = read_space(home / "space.yaml", [chart_recipe()])
        recipe = space.build(chosen.recipe, chosen.settings)
        train(recipe, [home / "charts"], tmp_path / str(number), folds=2)
        assert same_weights(home / "tuned" / fold, tmp_path / str(number) / fold)
        own = (tmp_path / str(number) / fold / "split.json").read_text()
        assert (home / "tuned" / fold / "split.json").read_text() == own


def test_tested_patients_have_no_part_in_the_choice(home, tmp_path):
    """All outcomes of the tested patients are turned: trials, choice and weights stay as they were."""
    cohort = chart_cohort(tmp_path / "a")
    strata, _ = find_strata(chart_recipe(), [cohort])
    ((fold, parts, seed), *_) = split_patients([cohort], 2, 1, 0, strata)
    tested = cohort.studies["study_id"].to_numpy()[parts[0]["test"]]
    event = cohort.labels("outcome", ["event"])[0][parts[0]["test"], 0]
    changed = chart_cohort(tmp_path / "b", changed=dict(zip(tested, (1 - event).tolist(), strict=True)))
    assert changed.hash != cohort.hash
    space = read_space(home / "space.yaml", [chart_recipe()])
    for name, own in (("a", cohort), ("b", changed)):
        asked = Asked((), {}, AUROC, 3, 2, 1, 2, own.hash)
        tune_fold(Job(tmp_path / f"run-{name}", space, asked, [own]), fold, parts, seed, lambda: None)
    assert journal(tmp_path / "run-a") == journal(tmp_path / "run-b")
    assert same_weights(tmp_path / "run-a" / fold, tmp_path / "run-b" / fold)


@pytest.mark.slow
def test_a_killed_tuning_goes_on_with_the_same_trials(tuned, home, tmp_path):
    write_recipe(chart_recipe(), tmp_path / "recipe.yaml")
    chiasm = str(Path(sys.executable).with_name("chiasm"))
    counts = ["--trials", "4", "--folds", "2", "--inner-folds", "2"]
    command = [chiasm, "tune", str(tmp_path / "recipe.yaml"), str(home / "charts"), "--out", str(tmp_path / "out")]
    command += ["--space", str(home / "space.yaml"), *counts]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log, deadline = tmp_path / "out" / "tuning" / "fold-0-0" / "journal.log", time.monotonic() + 240
    while not log.is_file() or len(log.read_bytes().splitlines()) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "run.json").exists()
    again = tune([chart_recipe()], home / "charts", tmp_path / "out", space=home / "space.yaml", **SMALL)
    assert again.selection == tuned.selection
    for fold in ("fold-0-0", "fold-0-1"):
        assert journal(tmp_path / "out", fold) == journal(home / "tuned", fold)
        assert same_weights(tmp_path / "out" / fold, home / "tuned" / fold)


def test_parts_and_a_budget_say_what_is_missing_and_the_last_one_finishes(tuned, home, tmp_path):
    def go(**more):
        return tune([chart_recipe()], home / "charts", tmp_path / "out", space=home / "space.yaml", **SMALL, **more)

    nothing = go(budget_minutes=0)
    assert nothing.missing == tuple(
        f"out, part {part}: 4 of 4 configurations and the training of what is chosen" for part in (0, 1)
    )
    assert go(part=1).missing == nothing.missing[:1]
    assert not (tmp_path / "out" / "run.json").exists()
    before = (tmp_path / "out" / "fold-0-1" / "weights.safetensors").stat().st_mtime_ns
    done = go(part=0)
    assert done.missing == () and done.selection == tuned.selection
    assert (tmp_path / "out" / "fold-0-1" / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="no such part"):
        go(part=2)


def test_another_question_in_the_same_folder_is_refused(tuned, home, tmp_path):
    with pytest.raises(RunError, match="asked otherwise") as caught:
        tune([chart_recipe()], home / "charts", home / "tuned", space=home / "space.yaml", **{**SMALL, "trials": 5})
    assert caught.value.got == "other trials"
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        tune([chart_recipe()], home / "charts", tmp_path, space=home / "space.yaml", **SMALL)


def test_no_configuration_with_a_figure_is_an_error_that_says_why(home, tmp_path, monkeypatch):
    monkeypatch.setattr("chiasm.tuning.inner.score_fold", lambda *_: None)
    with pytest.raises(RunError, match="no configuration has a figure"):
        tune([chart_recipe()], home / "charts", tmp_path / "out", space=home / "space.yaml", **SMALL)


@pytest.mark.slow
def test_folds_may_choose_different_recipes_and_baselines_are_tuned_beside(phantom, small, tmp_path, monkeypatch):
    """A network and the record alone, one of each: their answers are evaluated, verified and predicted together."""
    cohort = shutil.copytree(phantom.path, tmp_path / "cohort")
    sets = [o for o in small if not o.startswith("heads.")]
    network = read_recipe(
        "report-fusion", [*sets, "heads={}", "inputs.text=null", "targets=[outcome]", "train.epochs=1"]
    )
    (tmp_path / "space.yaml").write_text(
        "train.epochs: [1, 2]\nbaseline.model: [logistic]\nrecipe: [baseline-record]\n"
    )
    found = {"fold-0-0": 0, "fold-0-1": 1}  # the network, then the baseline

    def score(recipe, cohorts, inner, seed, metric, home, progress):
        fold = home.parents[1].name
        return [0.9 if (recipe.baseline is None) == (found[fold] == 0) else 0.6]

    monkeypatch.setattr("chiasm.tuning.tune.score_configuration", score)
    monkeypatch.setattr("chiasm.tuning.tune.BASELINES", ("baseline-record",))
    out = tmp_path / "out"
    tuned = tune([network], cohort, out, space=tmp_path / "space.yaml", trials=2, folds=2, inner_folds=2)
    assert tuned.selection is not None
    assert [chosen.recipe for chosen in tuned.selection.folds.values()] == ["report-fusion", "baseline-record"]
    assert verify(out) == []
    assert len(predict_inputs(out, [cohort], tmp_path / "answers")) == 60
    metrics = evaluate(out).metrics
    assert metrics[AUROC].n == metrics[f"image:{AUROC}"].n and metrics[AUROC].value is not None
    assert any("different settings" in note for note in json.loads((out / "run.json").read_text())["notes"])
    assert read_selection(out / "baselines" / "baseline-record") is not None
    assert list(compare([out]).others) == ["baseline-record"]
