"""Encoders that begin with what another run taught them, and trainings that do not disturb each other."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import fold_models_over
from runs import UNSEALED
from safetensors.torch import load_file, save_file
from tiny_bert import save_tiny_bert

import chiasm
from chiasm.atomic import locked
from chiasm.errors import InputError, RunError
from chiasm.recipe import read_recipe
from chiasm.run.folder import read_run
from chiasm.run.seen import count_seen, digest_studies
from chiasm.run.split import read_split
from chiasm.training.train import train

MODULE = sys.modules[train.__module__]
LIGHT = ("heads.description=null", "train.epochs=1")


def encoders_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: x for k, x in load_file(folder / "weights.safetensors").items() if k.startswith("encoders.")}


@pytest.fixture
def begun(monkeypatch):
    """The encoders of each fold model before its first step, and what frozen ones make of its texts."""
    found = []
    real = MODULE._optimize

    def noted(fold_model, module):
        state = {k: x.clone() for k, x in fold_model.model.state_dict().items()}
        found.append((state, fold_model.loader.batch(np.arange(4))))
        real(fold_model, module)

    monkeypatch.setattr(MODULE, "_optimize", noted)
    return found


def test_encoders_begin_with_the_weights_and_the_words_of_the_run(phantom, small, tiny_run, tmp_path, begun, capfd):
    recipe = read_recipe("report-fusion", [*small, *LIGHT, "train.seed=9"])
    info = train(recipe, [phantom.path], tmp_path / "run", init=tiny_run)
    given = encoders_of(tiny_run)
    state = begun[0][0]
    assert len(given) > 30
    assert {k for k in state if k.startswith("encoders.")} == set(given)
    assert all(torch.equal(state[name], x) for name, x in given.items())
    own = load_file(tiny_run / "weights.safetensors")
    anew = [name for name in own if name.startswith(("fusion.", "targets.")) and name.endswith("weight")]
    assert anew and not all(torch.equal(state[name], own[name]) for name in anew)
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == (tiny_run / "tokenizer.json").read_bytes()

    assert info == read_run(tmp_path / "run")
    assert (info.init.path, info.init.modalities) == (str(tiny_run), ("image", "text", "record"))
    said = f"begin with those of the run {tiny_run.name} (weights {info.init.hash[:12]})"
    assert said in info.notes[0] and said in capfd.readouterr().err
    page = chiasm.evaluate(tmp_path / "run").page.read_text("utf-8")
    methods = page[page.index("Methods and reproduction") :]
    assert said in methods and f"--out NEW_RUN --init {tiny_run}" in methods

    train(recipe, [phantom.path], tmp_path / "anew")
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "anew"))
    assert not any(torch.equal(a[name], b[name]) for name in a if name.endswith("embedding.weight"))
    assert read_run(tmp_path / "anew").init is None


def test_a_modality_that_one_of_the_two_lacks_is_said(phantom, small, tiny_run, tmp_path, begun):
    recipe = read_recipe("report-fusion", [*small, *LIGHT, "inputs.record=null"])
    info = train(recipe, [phantom.path], tmp_path / "run", init=tiny_run)
    assert info.init.modalities == ("image", "text")
    assert "The run that it starts from has an encoder of record, which is not used here." in info.notes
    info = train(read_recipe("report-fusion", [*small, *LIGHT]), [phantom.path], tmp_path / "b", init=tmp_path / "run")
    assert "The run that it starts from has no encoder of record: that one begins anew." in info.notes
    assert not torch.equal(
        begun[1][0]["encoders.record.slope"], load_file(tiny_run / "weights.safetensors")["encoders.record.slope"]
    )
    # whom the first of the three runs has seen, the last one's encoders have seen too
    theirs = set(read_split(tmp_path / "run").seen) | set(read_split(tiny_run).seen)
    assert set(read_split(tmp_path / "b").seen_before) == theirs
    only = ["inputs.image=null", "inputs.text=null", "heads.localization=null"]
    with pytest.raises(RunError, match="no encoder to start from"):
        train(
            read_recipe("report-fusion", [*small, *LIGHT, *only]), [phantom.path], tmp_path / "c", init=tmp_path / "run"
        )


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("fusion.dim=16", r"fusion\.dim: 16 here, 32 there; encoders\.image\..*and \d+ more"),
        ("inputs.image.encoder=monai:resnet10", r"inputs\.image\.encoder: monai:resnet10 here, small-cnn there"),
        ("inputs.record.leave_out=[age_years]", r"numeric record columns: .*encoders\.record\.\w+: \[\d+, 32"),
        ("heads.localization.stride=16", r"encoders\.image\.laterals\.2\.bias: none here, \[32\] there"),
    ],
)
def test_encoders_that_differ_are_refused_with_what_differs(phantom, small, tiny_run, tmp_path, override, named):
    with pytest.raises(RunError, match=named):
        train(read_recipe("report-fusion", [*small, *LIGHT, override]), [phantom.path], tmp_path / "run", init=tiny_run)
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_chart_that_differ_are_refused_and_not_quoted(phantom, small, tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "other", ignore=UNSEALED)
    plan = json.loads((tmp_path / "other" / "plan.json").read_text())
    column = next(iter(plan["categories"]))
    plan["categories"][column] = plan["categories"][column][::-1]  # the same shapes, another meaning
    (tmp_path / "other" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RunError, match="words of record columns are other ones\n"):
        train(read_recipe("report-fusion", [*small, *LIGHT]), [phantom.path], tmp_path / "run", init=tmp_path / "other")


def test_a_run_that_cannot_begin_another_is_refused(phantom, small, tiny_run, tmp_path):
    recipe = read_recipe("report-fusion", [*small, *LIGHT])
    with pytest.raises(RunError, match="not a run"):
        train(recipe, [phantom.path], tmp_path / "run", init=phantom.path)
    with pytest.raises(RunError, match="baseline has no encoders"):
        train(read_recipe("baseline-record"), [phantom.path], tmp_path / "run", init=tiny_run)
    shutil.copytree(tiny_run, tmp_path / "half", ignore=UNSEALED)
    info = json.loads((tmp_path / "half" / "run.json").read_text())
    (tmp_path / "half" / "run.json").write_text(json.dumps({**info, "status": "training"}))
    with pytest.raises(RunError, match="not finished"):
        train(recipe, [phantom.path], tmp_path / "run", init=tmp_path / "half")


def test_patients_who_were_seen_are_not_tested(phantom, small, tiny_run, tmp_path):
    """One split begins folds: most patients of each fold's test were trained on."""
    recipe = read_recipe("report-fusion", [*small, *LIGHT])
    with pytest.raises(InputError, match="has seen patients on whom this one is to be tested") as refused:
        train(recipe, [phantom.path], tmp_path / "run", init=tiny_run, folds=2)
    assert int(refused.value.got.removesuffix(" patients")) > 10
    assert "fold k starts from fold k" in refused.value.remedy
    assert not any(patient in str(refused.value) for patient in phantom.studies["patient_id"])
    assert list(tmp_path.iterdir()) == []


def test_fold_k_starts_from_fold_k_and_from_no_other(phantom, small, tmp_path, begun):
    recipe = read_recipe("report-fusion", [*small, *LIGHT, "heads.localization=null", "inputs.text=null"])
    train(recipe, [phantom.path], tmp_path / "first", folds=2)
    again = read_recipe("report-fusion", [*small, *LIGHT, "heads.localization=null", "train.learning_rate=0.002"])
    train(again, [phantom.path], tmp_path / "second", folds=2, init=tmp_path / "first")
    for fold, (state, _) in enumerate(begun[2:]):
        given = encoders_of(tmp_path / "first" / f"fold-0-{fold}")
        assert all(torch.equal(state[name], x) for name, x in given.items())
    with pytest.raises(RunError, match="other folds"):
        train(again, [phantom.path], tmp_path / "third", folds=3, init=tmp_path / "first")
    with pytest.raises(RunError, match="other folds"):
        train(again, [phantom.path], tmp_path / "third", init=tmp_path / "first")
    other = read_recipe("report-fusion", [*small, *LIGHT, "train.seed=5"])
    with pytest.raises(InputError, match="has seen patients"):  # as many folds, and other ones
        train(other, [phantom.path], tmp_path / "third", folds=2, init=tmp_path / "first")


def test_a_patient_is_known_by_name_in_the_source_or_by_pixels(phantom):
    train_rows, test_rows = phantom.rows("train"), phantom.rows("test")
    seen = digest_studies([phantom], [train_rows])
    patients = phantom.studies["patient_id"].iloc[train_rows].nunique()
    assert count_seen([phantom], [train_rows], seen) == patients
    assert count_seen([phantom], [test_rows], seen) == 0

    class Elsewhere:  # the same people under another source
        source, studies, images, image_study = "elsewhere", phantom.studies, phantom.images, phantom.image_study
        people = np.array([f"elsewhere/{patient}" for patient in phantom.studies["patient_id"]])

    pictured = np.intersect1d(train_rows, phantom.image_study)
    assert count_seen([Elsewhere], [train_rows], digest_studies([phantom], [pictured[:3]])) == 3
    assert count_seen([Elsewhere], [test_rows], seen) == 0


def stop_after(monkeypatch, epochs: int) -> None:
    real, count = MODULE.EpochLog.on_train_epoch_end, []

    def killed(self, trainer, module):
        real(self, trainer, module)
        count.append(1)
        if len(count) > epochs:
            raise RuntimeError("killed")

    monkeypatch.setattr(MODULE.EpochLog, "on_train_epoch_end", killed)


def test_a_resumed_training_needs_the_other_run_no_more(phantom, small, tiny_run, tmp_path, monkeypatch):
    recipe = read_recipe("report-fusion", [*small, "heads.description=null", "train.epochs=3"])
    shutil.copytree(tiny_run, tmp_path / "init", ignore=UNSEALED)
    train(recipe, [phantom.path], tmp_path / "whole", init=tmp_path / "init")
    stop_after(monkeypatch, 1)
    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, [phantom.path], tmp_path / "broken", init=tmp_path / "init")
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "init")
    train(recipe, [phantom.path], tmp_path / "broken", init=tmp_path / "init", resume=True)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_before_its_first_epoch_a_training_needs_the_other_run_as_it_was(
    phantom, small, tiny_run, tmp_path, monkeypatch
):
    recipe = read_recipe("report-fusion", [*small, *LIGHT])
    shutil.copytree(tiny_run, tmp_path / "init", ignore=UNSEALED)

    def killed(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr(MODULE, "_optimize", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, [phantom.path], tmp_path / "run", init=tmp_path / "init")
    monkeypatch.undo()
    (tmp_path / "init").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="is gone"):
        train(recipe, [phantom.path], tmp_path / "run", resume=True)
    weights = tmp_path / "moved" / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(RunError, match="not the run that the training was begun with"):
        train(recipe, [phantom.path], tmp_path / "run", resume=True, init=tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "init")
    with pytest.raises(RunError, match="another one now"):
        train(recipe, [phantom.path], tmp_path / "run", resume=True)
    (tmp_path / "init").rename(tmp_path / "moved")
    weights.write_bytes(kept)
    train(recipe, [phantom.path], tmp_path / "run", resume=True, init=tmp_path / "moved")
    assert read_run(tmp_path / "run").status == "finished"


def test_features_of_a_frozen_encoder_are_those_of_the_weights_it_begins_with(
    phantom, small, tmp_path, begun, monkeypatch
):
    """A text model that the first run trained is frozen in the second, which reads its states from a cache, resumed too."""
    own = [*small, "heads.description=null", "heads.localization=null", "inputs.image=null"]
    own += [f"inputs.text.encoder={save_tiny_bert(tmp_path / 'bert')}"]
    learning = ["inputs.text.freeze=false", "train.epochs=1", "train.learning_rate=0.1"]
    train(read_recipe("report-fusion", [*own, *learning]), [phantom.path], tmp_path / "first")
    frozen = read_recipe("report-fusion", [*own, "train.epochs=2"])
    train(frozen, [phantom.path], tmp_path / "whole", init=tmp_path / "first")
    _, batch = begun[1]
    (first,) = fold_models_over(tmp_path / "first")
    with torch.no_grad():
        states = first.model.encoders["text"].extract(batch.token_ids, batch.token_mask)
    torch.testing.assert_close(batch.token_states.float(), states, atol=4e-3, rtol=1e-3)
    stop_after(monkeypatch, 1)
    with pytest.raises(RuntimeError, match="killed"):
        train(frozen, [phantom.path], tmp_path / "broken", init=tmp_path / "first")
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "first")
    train(frozen, [phantom.path], tmp_path / "broken", resume=True)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_trainings_do_not_write_one_run(phantom, small, tiny_run, tmp_path):
    recipe = read_recipe("report-fusion", [*small, "train.epochs=1"])
    shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    (tmp_path / "run" / "calibration.json").unlink()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    with (
        locked(tmp_path / "run.lock", RunError, "busy"),
        pytest.raises(RunError, match="another training is writing this run"),
    ):
        train(recipe, [phantom.path], tmp_path / "run", resume=True)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    train(recipe, [phantom.path], tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "calibration.json").is_file()
    assert not (tmp_path / "run.lock").exists()


def test_territories_begin_with_what_the_other_run_measured_and_by_its_atlas(strokes, tmp_path, begun):
    own = ["train.epochs=1", "fusion.dim=8", "fusion.heads=2", "heads.alignment=null"]
    recipe = read_recipe("stroke-prognosis", own)
    train(recipe, [strokes.path], tmp_path / "first")
    file = tmp_path / "first" / "weights.safetensors"
    weights = load_file(file)
    weights["encoders.image.mean"] += 1  # as training studies of another cohort would measure
    save_file(weights, file)
    train(recipe, [strokes.path], tmp_path / "second", init=tmp_path / "first")
    assert torch.equal(begun[1][0]["encoders.image.mean"], weights["encoders.image.mean"])
    weights["encoders.image.backbone.regions"][0, 0, 0] += 1
    save_file(weights, file)
    with pytest.raises(RunError, match="regions of the atlas are other ones"):
        train(recipe, [strokes.path], tmp_path / "third", init=tmp_path / "first")


def test_an_evaluation_elsewhere_says_whom_the_run_before_had_seen(phantom, small, tiny_run, tmp_path):
    """A run of other patients begins with one that has seen these, and is tested on them."""
    options = {"studies": 40, "size": 64}
    other = chiasm.import_cohort("phantom-chest", None, tmp_path / "other", size=64, seed=77, options=options)
    recipe = read_recipe("report-fusion", [*small, *LIGHT, "evaluate.resamples=100"])
    train(recipe, [other.path], tmp_path / "run", init=tiny_run)
    seen = phantom.studies["patient_id"][phantom.studies["split"] != "test"].nunique()
    said = f"{seen} of the tested patients were seen by the run that the encoders begin with."
    assert said in chiasm.evaluate(tmp_path / "run", phantom.path).warnings
    assert not any("begin with" in warning for warning in chiasm.evaluate(tmp_path / "run").warnings)
