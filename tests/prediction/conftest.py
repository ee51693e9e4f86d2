"""New studies as files, and a run that calls every finding present."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from runs import UNSEALED

from chiasm.demo import write_study
from chiasm.sources.phantom_chest import read as phantoms
from chiasm.study import Study


@pytest.fixture(scope="session")
def new_studies() -> list[Study]:
    """Three phantoms that no run has seen; the first has two images, the others one."""
    return list(islice(phantoms(studies=3, size=64, seed=1), 3))


@pytest.fixture
def folders(new_studies: list[Study], tmp_path: Path) -> list[Path]:
    return [write_study(study, tmp_path / "studies") for study in new_studies]


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Write a gray picture of any shape; its pixels follow from the seed."""

    def write(name: str = "scan.png", shape: tuple[int, int] = (90, 140), seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 9)).astype(np.uint8)
        Picture.fromarray(coarse).resize(shape[::-1]).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def keen_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` with every probability above its threshold, so that every map is cut into boxes."""
    run = tmp_path_factory.mktemp("keen") / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    calibration = json.loads((run / "calibration.json").read_text("utf-8"))
    for labels in calibration["targets"].values():
        for label in labels:
            labels[label] = {**labels[label], "threshold": 0.0, "map_threshold": 0.0}
    (run / "calibration.json").write_text(json.dumps(calibration), "utf-8")
    return run
