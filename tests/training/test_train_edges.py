"""Training where there is little: few patients, nothing to validate on, a kill after the last epoch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asking import answer, fold_models_over

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import RecipeError, TrainingError
from chiasm.evaluation.evaluate import evaluate
from chiasm.geometry import Geometry
from chiasm.metrics.attribution import subsets
from chiasm.metrics.calibration import fit_temperature
from chiasm.recipe import Evaluate, read_recipe
from chiasm.run.calibrate import calibrate, judge
from chiasm.study import Image, Outcome, Study
from chiasm.training.folds import split_patients
from chiasm.training.train import train

LIGHT = ("heads.description=null", "heads.localization=null", "inputs.image.size=32", "train.epochs=1")


def a_cohort(out: Path, known: tuple[str, ...] = ("train", "validation", "test"), count: int = 12) -> Cohort:
    """Two studies a patient; the outcome is known in the splits `known`."""

    def study(i: int) -> Study:
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32)).astype(np.uint8)
        split = ("train", "validation", "test")[i // 2 % 3]
        outcomes = (Outcome("event", float(i % 2)),) if split in known else ()
        image = Image(f"i{i}", pixels, Geometry.identity((32, 32)))
        return Study(f"s{i:02}", f"p{i // 2}", images=(image,), outcomes=outcomes, split=split)

    return write_cohort([study(i) for i in range(count)], out, source="hand", options={}, size=32)


@pytest.fixture
def recipe(small):
    return read_recipe("report-fusion", [o for o in (*small, *LIGHT) if not o.startswith("heads.") or "null" in o])


def test_a_fold_of_few_patients_has_one_who_validates(tmp_path):
    cohort = a_cohort(tmp_path / "c")
    for seed in range(8):
        for _, (rows,), _ in split_patients([cohort], 3, 1, seed):
            people = {s: set(cohort.studies["patient_id"].to_numpy()[own]) for s, own in rows.items()}
            assert all(people.values())
            assert sum(map(len, people.values())) == 6, "nobody is in two splits"


def test_validation_that_knows_no_label_is_an_error_and_no_fault(tmp_path, recipe):
    cohort = a_cohort(tmp_path / "c", known=("train", "test"))
    with pytest.raises(TrainingError, match="nothing to train or validate on") as caught:
        train(recipe, [cohort.path], tmp_path / "run")
    assert caught.value.got == "4 of 4 train studies, 0 of 4 validation studies"
    assert not (tmp_path / "run").exists()  # the advised --folds can have the same --out


def test_a_kill_between_the_last_epoch_and_calibration_trains_no_further(tmp_path, recipe):
    cohort = a_cohort(tmp_path / "c")
    run = tmp_path / "run"
    train(recipe, [cohort.path], run)
    weights, history = (run / "weights.safetensors").read_bytes(), (run / "history.csv").read_text()
    calibration = json.loads((run / "calibration.json").read_text())
    (run / "calibration.json").unlink()
    (run / "checkpoints" / "last.safetensors").unlink()  # so that training on would show
    train(recipe, [cohort.path], run, resume=True)
    assert (run / "weights.safetensors").read_bytes() == weights
    assert (run / "history.csv").read_text() == history
    assert json.loads((run / "calibration.json").read_text()) == calibration


@pytest.mark.parametrize("override", ["precision=banana", "accelerator=banana", "devices=banana", "strategy=banana"])
def test_what_lightning_cannot_run_is_said_before_anything_is_written(tmp_path, small, override):
    cohort = a_cohort(tmp_path / "c")
    with pytest.raises(RecipeError, match=f"train.{override}"):
        train(read_recipe("report-fusion", [*small, f"train.{override}"]), [cohort.path], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_set_of_inputs_has_a_temperature_of_its_own(tiny_run):
    fold_model = fold_models_over(tiny_run)[0]
    rows = np.arange(len(fold_model.loader))
    wide = replace(fold_model, split={**fold_model.split, "validation": rows})
    label = fold_model.plan.targets["outcome"][0]
    fit = calibrate([judge(wide)], Evaluate()).fit("outcome", label)
    assert set(fit.shown) == {"+".join(s) for s in subsets(("image", "text", "record"))[1:]}
    said = answer(fold_model, rows, subset=("image", "record"), maps=False)
    truth, mask = fold_model.loader.labels["outcome"][:, 0], fold_model.loader.label_mask["outcome"][:, 0]
    both = mask & np.array([{"image", "record"} <= set(s.split("+")) for s in said.shown])
    expected = fit_temperature(truth, said.logits["outcome"][:, 0], both)
    assert fit.shown["image+record"].temperature == pytest.approx(expected)
    assert not calibrate([judge(fold_model)], Evaluate()).fit("outcome", label).shown, "three studies cannot say"


def test_validation_too_small_for_a_coverage_makes_no_sets(tmp_path, recipe):
    """Four validation studies of two patients: 90% need nine patients, and half of them one."""
    cohort = a_cohort(tmp_path / "c")
    train(recipe, [cohort.path], tmp_path / "run")
    (fold_model,) = fold_models_over(tmp_path / "run")
    assert fold_model.calibration.fit("outcome", "event").quantile is None
    shown = np.array(["image"])
    assert np.isnan(fold_model.quantiles("outcome", shown)).all()
    assert calibrate([judge(fold_model)], Evaluate(coverage=0.5)).fit("outcome", "event").quantile is not None
    metric = evaluate(tmp_path / "run").metrics["outcome/event/coverage"]
    assert metric.value is None
    assert "90% need at least 9" in metric.reason
