"""Parts of an installed package: its entry points are known to the command line, and a recipe that names them trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = """
import torch
from torch import nn

from chiasm.heads.head import Head, Loss
from chiasm.models.fusion.vectors import mean_token, side_by_side
from chiasm.models.record.encoder import RecordEncoder
from chiasm.tensors import Fused


class Sum(nn.Module):
    def __init__(self, modalities, dim, heads, dropout):
        super().__init__()
        self.join = nn.Linear(len(modalities) * dim, dim)

    def forward(self, tokens):
        vectors = {m: mean_token(t) for m, t in tokens.items()}
        return Fused(self.join(side_by_side(vectors)), vectors, tokens)


class SizeHead(Head):
    name = "size"

    def build(self, shape):
        return SizeLayers()

    def losses(self, outputs, batch):
        size = outputs.heads["size"]["size"]
        return {"size_loss": Loss((size - 2).square().mean(), torch.tensor(len(size)))}


class SizeLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.size = nn.Parameter(torch.zeros(()))

    def forward(self, seen):
        return {"size": self.size.expand(len(seen.fused.vector))}


class Chart(RecordEncoder):
    pass
"""
ENTRY_POINTS = """
[chiasm.fusion]
their-sum = their_parts:Sum

[chiasm.head]
size = their_parts:SizeHead

[chiasm.record_encoder]
chart = their_parts:Chart
"""
RECIPE = {
    "name": "theirs",
    "inputs": {"image": None, "text": None, "record": {"encoder": "chart"}},
    "fusion": {"name": "their-sum", "dim": 16, "heads": 2},
    "targets": {"outcome": {}},
    "heads": {"size": {}},
    "train": {"epochs": 1},
}


@pytest.fixture
def chiasm(tmp_path: Path):
    """`chiasm` on a path where a distribution is installed, with or without it."""
    site = tmp_path / "site"
    (site / "their_parts-1.0.dist-info").mkdir(parents=True)
    (site / "their_parts.py").write_text(PARTS)
    (site / "their_parts-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-parts\nVersion: 1.0\n"
    )
    (site / "their_parts-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "theirs.yaml").write_text(json.dumps(RECIPE))

    def run(*arguments: object, installed: bool = True) -> subprocess.CompletedProcess[str]:
        path = [*([str(site)] if installed else []), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [str(Path(sys.executable).with_name("chiasm")), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


def test_a_recipe_of_parts_of_an_installed_package_trains_and_without_it_says_so(chiasm, phantom, tmp_path):
    recipe, run = tmp_path / "theirs.yaml", tmp_path / "run"
    done = chiasm("train", recipe, phantom.path, "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    header, row = (run / "history.csv").read_text().splitlines()
    course = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    assert 0 < course["validation_size_loss"] < 4  # of 2 squared, before the first step
    missing = chiasm("evaluate", run, installed=False)
    assert missing.returncode == 1
    assert "must be one of late-mean" in missing.stderr and "must be columns" in missing.stderr
    assert "there is no head size" in missing.stderr
