"""Fixtures that several rooms share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_made import a_study, an_image
from hypothesis import settings
from shapes import check_shapes

check_shapes()

from chiasm.study import Image, Study  # noqa: E402

settings.register_profile("untimed", deadline=None)  # tests share their cores, and the first example loads lexicons
settings.load_profile("untimed")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the program sets it: tests share their cores


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    return a_study


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Image]:
    return an_image


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory):
    """A small phantom cohort of 64 px: images, reports, records, findings with regions, an outcome."""
    from chiasm.cohort.imports import import_cohort

    out = tmp_path_factory.mktemp("phantom") / "cohort"
    return import_cohort("phantom-chest", None, out, size=64, options={"studies": 60, "size": 64, "missing": 0.1})


@pytest.fixture(scope="session")
def strokes(tmp_path_factory: pytest.TempPathFactory):
    """A small phantom-stroke cohort: volumes with an atlas, records, outcomes, and a text written from each image's facts."""
    from chiasm.cohort.compose import write_texts
    from chiasm.cohort.imports import import_cohort
    from chiasm.cohort.store import Cohort
    from chiasm.report.writers import open_writer

    out = tmp_path_factory.mktemp("strokes") / "cohort"
    options = {"studies": 60, "missing": 0.1}
    cohort = import_cohort("phantom-stroke", None, out, volume_size=(32, 32, 32), options=options)
    write_texts(cohort, open_writer("template"), "image-description")
    return Cohort.open(out)


SMALL = (
    "inputs.image.encoder=small-cnn",
    "inputs.image.size=64",
    "fusion.dim=32",
    "fusion.heads=2",
    "heads.localization.stride=8",
    "heads.description.max_tokens=24",
    "heads.description.layers=1",
    "heads.description.beams=2",
    "inputs.text.max_tokens=48",
    "train.batch_size=16",
    "train.epochs=4",
)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Overrides that make a recipe train in seconds on the phantom cohort."""
    return SMALL


@pytest.fixture(scope="session")
def tiny_run(phantom, small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of report-fusion on the phantom cohort, one epoch: trained once, read by many; never changed."""
    from chiasm.recipe import read_recipe
    from chiasm.training.train import train

    out = tmp_path_factory.mktemp("tiny") / "run"
    train(read_recipe("report-fusion", [*small, "train.epochs=1"]), [phantom.path], out)
    return out
