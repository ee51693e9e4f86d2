"""The examples of CONTRIBUTING.md are run: what they register trains and answers."""

import re
from pathlib import Path

import numpy as np
import pytest

import chiasm
from chiasm.recipe import parse_recipe
from chiasm.registry import REGISTRIES
from chiasm.run.fold_model import load_fold_models
from chiasm.sources.registry import find_source
from chiasm.training.train import train

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
NAMES = {
    "head": "length",
    "source": "my-layout",
    "fusion": "sum",
    "image-encoder": "edges",
    "text-encoder": "words",
}


@pytest.fixture(scope="module")
def registered():
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(block, scope)
    yield
    for kind, name in NAMES.items():
        REGISTRIES[kind].remove(name)


def test_the_examples_register_their_parts(registered):
    assert all(name in REGISTRIES[kind] for kind, name in NAMES.items())
    assert find_source("my-layout").options == ("limit",)


def test_head_encoders_and_family_of_the_examples_learn(registered, phantom, tmp_path):
    recipe = parse_recipe(
        {
            "name": "examples",
            "inputs": {"image": {"encoder": "edges", "size": 64}, "text": {"encoder": "words"}, "record": {}},
            "fusion": {"name": "sum", "dim": 16, "heads": 2},
            "targets": {"outcome": {}},
            "heads": {"length": {}},
            "train": {"epochs": 1},
        },
        "here",
    )
    train(recipe, [phantom.path], tmp_path / "run")
    (fold_model,) = load_fold_models(tmp_path / "run")
    assert {"length"} == set(fold_model.model.heads)
    encoders = fold_model.model.encoders
    assert [type(encoders["image"].backbone).__name__, type(encoders["text"]).__name__] == ["Edges", "Words"]
    words = chiasm.evaluate(tmp_path / "run")
    assert (tmp_path / "run" / "evaluation" / "predictions" / "heads" / "length.npz").is_file()
    with np.load(tmp_path / "run" / "evaluation" / "predictions" / "heads" / "length.npz") as stored:
        assert stored["words"].shape == (words.record.studies, 1)
