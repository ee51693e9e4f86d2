"""Trainings of one process: one at a time, and the caller's randomness stays as it was."""

import sys
import threading

import pytest
import torch

import chiasm
from chiasm.errors import RecipeError, RunError
from chiasm.training import train as module
from chiasm.tuning.tune import tune


@pytest.fixture
def recipe(small):
    own = [o for o in small if not o.startswith(("heads.", "train.epochs"))]
    return chiasm.read_recipe("fusion-early", [*own, "train.epochs=1"])


def test_a_second_training_in_another_thread_is_refused(recipe, phantom, tmp_path, monkeypatch):
    inside, done = threading.Event(), threading.Event()
    fit = module._fit_all

    def slow(*arguments):
        inside.set()
        assert done.wait(60)
        return fit(*arguments)

    monkeypatch.setattr(module, "_fit_all", slow)
    thread = threading.Thread(target=chiasm.train, args=(recipe, phantom, tmp_path / "first"))
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(RunError, match="another training runs in this process"):
            chiasm.train(recipe, phantom, tmp_path / "second")
        with pytest.raises(RunError, match="another training runs in this process"):
            tune(recipe, phantom, tmp_path / "third", trials=1, folds=2, inner_folds=2, baselines=False)
    finally:
        done.set()
        thread.join()
    assert not (tmp_path / "second").exists()
    monkeypatch.undo()
    assert chiasm.train(recipe, phantom, tmp_path / "second").status == "finished", "once it is over another may begin"


def test_training_and_loading_leave_the_callers_random_state(recipe, phantom, tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    chiasm.train(recipe, phantom, tmp_path / "run")
    chiasm.load_predictor(tmp_path / "run")
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.parametrize("change", [{"train.devices": 2}, {"train.strategy": "ddp"}, {"train.devices": "auto"}])
def test_several_processes_from_a_notebook_are_told_what_to_use(recipe, phantom, tmp_path, monkeypatch, change):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(RecipeError, match="notebook") as caught:
        chiasm.train(chiasm.read_recipe(recipe, change), phantom, tmp_path / "run")
    assert "chiasm train mine.yaml" in caught.value.remedy
    assert not (tmp_path / "run").exists()
