"""Training end to end on the phantom: what is resumed, repeated, shared between processes, and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from asking import fold_models_over
from runs import UNSEALED
from safetensors.torch import load_file
from tiny_bert import save_tiny_bert

from chiasm.errors import RunError, TrainingError
from chiasm.evaluation.evaluate import evaluate
from chiasm.evaluation.verify import verify
from chiasm.prediction.folder import predict_inputs
from chiasm.recipe import read_recipe
from chiasm.run.model import Model, build_model
from chiasm.training.train import TrainingModule, hide_columns, keep_modalities, train

LIGHT = ("heads.description=null", "train.epochs=3")


def _command(cohort: Path, out: Path, overrides, *more: str) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    chiasm = str(Path(sys.executable).with_name("chiasm"))
    return [chiasm, "train", "report-fusion", str(cohort), "--out", str(out), *sets, *more]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights.safetensors")


def test_a_killed_training_resumes_to_the_same_weights(phantom, small, tmp_path):
    overrides = [*small, "heads.description=null", "train.epochs=6", "fusion.dropout=0.2"]  # drawn from the state kept
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(read_recipe("report-fusion", overrides), [phantom.path], whole)

    process = subprocess.Popen(_command(phantom.path, broken, overrides), stderr=subprocess.DEVNULL)
    history = broken / "history.csv"
    deadline = time.monotonic() + 120
    while not history.is_file() or len(history.read_text().splitlines()) < 4:
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "weights.safetensors").exists()

    subprocess.run(_command(phantom.path, broken, overrides, "--resume"), check=True, stderr=subprocess.DEVNULL)
    a, b = _weights(whole), _weights(broken)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (whole / "history.csv").read_text() == history.read_text()
    assert json.loads((whole / "calibration.json").read_text()) == json.loads((broken / "calibration.json").read_text())


def test_dropout_acts_while_it_trains_and_not_when_it_answers(phantom, small, tmp_path):
    overrides = [*small, "heads.description=null", "train.epochs=1"]
    runs = {}
    for dropout in (0.0, 0.5):
        recipe = read_recipe("report-fusion", [*overrides, f"fusion.dropout={dropout}"])
        train(recipe, [phantom.path], tmp_path / str(dropout))
        runs[dropout] = _weights(tmp_path / str(dropout))
    assert not all(torch.equal(a, runs[0.5][name]) for name, a in runs[0.0].items())
    fold_model = fold_models_over(tmp_path / "0.5")[0]
    assert not fold_model.model.training


def test_two_processes_train_and_validate_each_study_once(phantom, small, tmp_path):
    machine = ["train.devices=2", "train.accelerator=cpu", "train.strategy=ddp"]
    overrides = [*small, *LIGHT, *machine, "train.balance.alpha=0.5"]  # the processes agree on who is ahead
    run = tmp_path / "run"
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
    command = _command(phantom.path, run, overrides, "--json")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout)["status"] == "finished"  # one document: the second process prints nothing
    header, *rows = (run / "history.csv").read_text().splitlines()
    counted = {float(row.split(",")[header.split(",").index("validation_studies")]) for row in rows}
    assert counted == {len(phantom.rows("validation"))}
    history = _history(run)
    assert min(k for name, column in history.items() if name.startswith("k_") for k in column) < 1


def test_folds_hold_every_patient_out_once_and_are_resumable(phantom, small, tmp_path):
    recipe = read_recipe("report-fusion", [*small, *LIGHT, "train.epochs=1"])
    run = tmp_path / "run"
    info = train(recipe, [phantom.path], run, folds=2)
    assert info.fold_models == ("fold-0-0", "fold-0-1")
    fold_models = fold_models_over(run)
    tested = np.concatenate([m.split["test"] for m in fold_models])
    assert sorted(tested) == list(range(len(phantom)))
    for fold_model in fold_models:
        patients = {s: set(fold_model.loader.patient_ids[rows]) for s, rows in fold_model.split.items()}
        assert not patients["train"] & patients["test"]
        assert not patients["validation"] & (patients["train"] | patients["test"])
    first = (run / "fold-0-0" / "weights.safetensors").stat().st_mtime_ns
    (run / "fold-0-1" / "calibration.json").unlink()
    train(recipe, [phantom.path], run, folds=2, resume=True)
    assert (run / "fold-0-0" / "weights.safetensors").stat().st_mtime_ns == first
    assert (run / "fold-0-1" / "calibration.json").is_file()


def test_a_loss_that_is_not_finite_stops_with_the_step_named(phantom, small, tmp_path, monkeypatch):
    real, calls = Model.losses, []

    def broken(model, outputs, batch):
        calls.append(1)
        losses = real(model, outputs, batch)
        if len(calls) == 2:
            losses["outcome_loss"] = losses["outcome_loss"]._replace(value=losses["outcome_loss"].value * torch.nan)
        return losses

    monkeypatch.setattr(Model, "losses", broken)
    with pytest.raises(TrainingError, match=r"outcome_loss\n.*epoch 0, step 1"):
        train(read_recipe("report-fusion", [*small, *LIGHT]), [phantom.path], tmp_path / "run")


def test_a_run_folder_in_use_and_another_recipe_on_resume_are_refused(phantom, small, tiny_run):
    with pytest.raises(RunError, match="not empty"):
        train(read_recipe("report-fusion", [*small, "train.epochs=1"]), [phantom.path], tiny_run)
    other = read_recipe("report-fusion", [*small, "train.epochs=2"])
    with pytest.raises(RunError, match="not the one this run was begun with"):
        train(other, [phantom.path], tiny_run, resume=True)


def test_a_changed_cohort_is_noticed_when_the_run_is_read(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    info = json.loads((run / "run.json").read_text())
    info["cohorts"][0]["hash"] = "0" * 64
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(Exception, match="has changed since the run was trained"):
        fold_models_over(run)
    info["schema"] = 99
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="schema 99"):
        fold_models_over(run)


def test_modality_dropout_never_hides_the_last_one(phantom, tiny_run):
    loader = fold_models_over(tiny_run)[0].loader
    batch = loader.batch(np.arange(len(phantom)))
    present = batch.present()
    kept = keep_modalities(batch, 0.9, seed=0, epoch=0, keys=batch.indices.numpy())
    left = torch.stack([kept[m] & present[m] for m in present], dim=1).any(dim=1)
    assert torch.equal(left, torch.stack(list(present.values()), dim=1).any(dim=1))
    none = keep_modalities(batch, 0.0, seed=0, epoch=0, keys=batch.indices.numpy())
    assert all(none[m][present[m]].all() for m in present)


def test_column_dropout_hides_its_share_never_the_last_column_and_is_keyed(phantom, tiny_run):
    loader = fold_models_over(tiny_run)[0].loader
    batch = loader.batch(np.arange(len(phantom)))
    keys = batch.indices.numpy()

    def seen(batch):
        return torch.cat([batch.record_observed, batch.record_codes > 0], dim=1)

    here = seen(batch)
    some = seen(hide_columns(batch, 0.3, 0, 0, keys))
    assert not (some & ~here).any()
    assert abs(float(some.sum() / here.sum()) - 0.7) < 0.08
    assert torch.equal(some, seen(hide_columns(batch, 0.3, 0, 0, keys)))
    assert not torch.equal(some, seen(hide_columns(batch, 0.3, 0, 1, keys)))
    assert torch.equal(seen(hide_columns(batch, 1.0, 0, 0, keys)).sum(dim=1), here.any(dim=1).long())
    assert hide_columns(batch, 0.0, 0, 0, keys) is batch


def test_the_order_of_an_epoch_is_keyed_by_seed_and_epoch(phantom, tiny_run):
    class Clock:
        world_size, global_rank = 1, 0

    def order(epoch):
        fold_model = fold_models_over(tiny_run)[0]
        module = TrainingModule(fold_model, fold_model.model)
        module.__dict__["_trainer"] = type("T", (Clock,), {"current_epoch": epoch})()
        return torch.cat([batch.indices for batch in module.train_dataloader()]).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(0)) == sorted(phantom.rows("train"))


def _history(run: Path) -> dict[str, list[float]]:
    header, *rows = (run / "history.csv").read_text().splitlines()
    columns = zip(*([float(x) for x in row.split(",")] for row in rows), strict=True)
    return dict(zip(header.split(","), columns, strict=True))


def test_watching_the_modalities_moves_no_weight_of_the_answer(phantom, small, tmp_path, monkeypatch):
    runs = (tmp_path / "a", tmp_path / "b")
    recipe = read_recipe("report-fusion", [*small, "heads.description=null", "train.epochs=2"])
    train(recipe, [phantom.path], runs[0])
    real = Model.losses

    def louder(*args):
        return {k: x._replace(value=50 * x.value) if x.watched else x for k, x in real(*args).items()}

    monkeypatch.setattr(Model, "losses", louder)
    train(recipe, [phantom.path], runs[1])
    a, b = (_weights(run) for run in runs)
    assert a.keys() == b.keys()
    assert not any("unimodal" in name for name in a)
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (_history(run) for run in runs)
    assert a["validation_loss"] == b["validation_loss"]
    assert a["validation_outcome_from_record_loss"][1] != b["validation_outcome_from_record_loss"][1]


def test_watching_draws_no_random_number_of_the_training(tiny_run):
    fold_model = fold_models_over(tiny_run)[0]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert TrainingModule(fold_model, fold_model.model).model.targets.unimodal is not None
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("encoder", "freeze", "share"),
    [("efficientnet-lite0", "false", 0.1), ("efficientnet-lite0", "true", 0.0), ("small-cnn", "true", 1.0)],
)
def test_a_pretrained_encoder_learns_at_a_tenth_of_the_rate(tiny_run, small, encoder, freeze, share):
    """A share of 0: it is frozen, and its weights are not in the optimizer. What is new learns at the full rate."""
    fold_model = fold_models_over(tiny_run)[0]
    rate = 0.004
    image = (f"inputs.image.encoder={encoder}", f"inputs.image.freeze={freeze}", f"train.learning_rate={rate}")
    recipe = read_recipe("report-fusion", [*small, *image])
    model = build_model(recipe, fold_model.plan, len(fold_model.describer), len(fold_model.describer))
    module = TrainingModule(replace(fold_model, recipe=recipe), model)
    optimizer = module.configure_optimizers()["optimizer"]
    rates = {id(p): group["initial_lr"] / rate for group in optimizer.param_groups for p in group["params"]}
    found = {name: round(rates.pop(id(p), 0.0), 9) for name, p in module.model.named_parameters()}
    assert not rates  # each weight once, and nothing else
    assert {x for name, x in found.items() if ".backbone." in name} == {share}
    assert {x for name, x in found.items() if ".backbone." not in name} == {1.0}


@pytest.mark.parametrize("freeze", [True, False])
def test_a_text_model_is_trained_where_the_recipe_says_so(phantom, small, tmp_path, freeze):
    """At a tenth of the rate; what it learned comes back with the run."""
    name = save_tiny_bert(tmp_path / "bert")
    text = [f"inputs.text.encoder={name}", f"inputs.text.freeze={str(freeze).lower()}"]
    recipe = read_recipe("report-fusion", [*small, *text, "train.epochs=1"])
    train(recipe, [phantom.path], tmp_path / "run")
    (fold_model,) = fold_models_over(tmp_path / "run")
    before = transformers.AutoModel.from_pretrained(tmp_path / "bert").state_dict()
    after = fold_model.model.encoders["text"].backbone.state_dict()
    moved = {key: float((after[key] - value).abs().max()) for key, value in before.items() if key in after}
    assert len(moved) > 10
    assert (max(moved.values()) == 0) is freeze
    batch = fold_model.loader.batch([0, 1])
    assert (batch.token_states is not None) is freeze
    module = TrainingModule(fold_model, fold_model.model)
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["initial_lr"] / recipe.train.learning_rate for group in groups for p in group["params"]}
    shares = {
        round(rates.get(id(p), 0.0), 9) for n, p in module.model.named_parameters() if n.startswith("encoders.text.b")
    }
    assert shares == {0.0 if freeze else 0.1}


def test_a_late_model_keeps_the_heads_it_answers_by(phantom, small, tmp_path):
    recipe = read_recipe("fusion-late", [*(o for o in small if not o.startswith("heads")), "train.epochs=1"])
    train(recipe, [phantom.path], tmp_path / "run")
    (fold_model,) = fold_models_over(tmp_path / "run")
    with torch.no_grad():
        outputs = fold_model.model(fold_model.loader.batch(fold_model.split["test"]))
    present = torch.stack(list(outputs.present.values()))[..., None]
    assert set(outputs.unimodal_logits) == {"image", "text", "record"}
    for target, found in outputs.logits.items():
        each = torch.stack([logits[target] for logits in outputs.unimodal_logits.values()])
        assert torch.allclose(found, (each * present).sum(dim=0) / present.sum(dim=0), atol=1e-6)


def test_balance_slows_the_modality_that_is_ahead_and_resumes_to_the_same_weights(
    phantom, small, tmp_path, monkeypatch
):
    own = [*(o for o in small if not o.startswith("heads")), "train.epochs=4"]
    recipe = read_recipe("fusion-gated", [*own, "train.balance.alpha=0.5"])
    train(recipe, [phantom.path], tmp_path / "whole")
    history = _history(tmp_path / "whole")
    ratios, factors = ([x for m in ("image", "text", "record") for x in history[f"{n}_{m}"]] for n in ("log_rho", "k"))
    assert min(ratios) < 0 < max(ratios)
    assert 0 < min(factors) < 1
    assert max(factors) <= 1

    module, epochs = sys.modules[train.__module__], []
    real = module.EpochLog.on_train_epoch_end

    def killed(self, trainer, module):
        real(self, trainer, module)
        epochs.append(trainer.current_epoch)
        if len(epochs) == 3:
            raise RuntimeError("killed")

    monkeypatch.setattr(module.EpochLog, "on_train_epoch_end", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, [phantom.path], tmp_path / "broken")
    monkeypatch.undo()
    train(recipe, [phantom.path], tmp_path / "broken", resume=True)
    a, b = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert all(torch.equal(a[name], b[name]) for name in a)
    train(read_recipe("fusion-gated", own), [phantom.path], tmp_path / "plain")
    assert not all(torch.equal(x, a[name]) for name, x in _weights(tmp_path / "plain").items())


def test_a_whole_run_of_a_baseline_is_trained_evaluated_and_verified(phantom, tmp_path):
    recipe = read_recipe("baseline-record", ["targets=[outcome]", "evaluate.resamples=100"])
    train(recipe, [phantom.path], tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert found.metrics["outcome/event/auroc"].events == 3, "too few for a figure"
    assert verify(tmp_path / "run") == []
    answers = predict_inputs(tmp_path / "run", [phantom.path], tmp_path / "answers")
    assert all(answer.used in ((), ("record",)) for answer in answers)
    listed = (tmp_path / "run" / "classifiers.csv").read_text().splitlines()
    assert listed[0] == "target,label,question,inputs,studies,strength,loss" and len(listed) == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_a_training_is_resumed_with_the_options_it_was_begun_with(tiny_run, phantom, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    recipe = read_recipe("report-fusion")
    for options, said in (
        ({"folds": 3}, "the folds are not those"),
        ({"repeats": 2}, "the folds are not those"),
        ({"init": tiny_run}, "not begun with the encoders"),
    ):
        with pytest.raises(RunError, match=said):
            train(recipe, [phantom.path], run, resume=True, **options)
