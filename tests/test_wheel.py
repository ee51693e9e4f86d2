"""What is shipped: the wheel holds every file the package reads, and works where nothing else of the project is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "chiasm"

RENDER = """
import json
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.summary.page import Summary, render
metrics = {parse_name("findings/mass/auroc"): Metric(0.8113, 0.7, 0.9, 40, "area")}
print(json.dumps(render(Summary(title="a & b", facts={"Cohort": "made"}, metrics=metrics))))
"""
LABEL = """
import json
from chiasm import label_report
found = label_report("FINDINGS: Large left pleural effusion. No pneumothorax.")
print(json.dumps({finding.name: finding.state for finding in found if finding.span}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the source distribution, and of the wheel that is built from it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    folder = wheel.parent / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _answer(site: Path, *arguments: str) -> Any:
    """The JSON that a fresh Python prints which imports chiasm from `site`, far from the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=site.parent, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    shipped = {name for name in shipped if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == shipped
    for pattern in ("recipes/*.yaml", "report/lexicon/*.yaml", "summary/*.html", "summary/*.css", "py.typed"):
        assert [name for name in names if Path(name).match(f"chiasm/{pattern}")], pattern
    assert not [name for name in names if "tests" in Path(name).parts]


def test_both_distributions_hold_the_licence_that_the_project_names(built, wheel):
    text = (ROOT / "LICENSE").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        assert archive.read(licence) == text
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode().splitlines()
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        (licence,) = [name for name in archive.getnames() if name.endswith("/LICENSE")]
        member = archive.extractfile(licence)
        assert member is not None and member.read() == text


def test_what_is_imported_is_the_wheel(site):
    script = "import json, chiasm; print(json.dumps([chiasm.__file__, *chiasm.__path__]))"
    assert all(Path(path).is_relative_to(site) for path in _answer(site, "-c", script))
    assert (site / "bin" / "chiasm").is_file()


def test_the_wheel_reads_its_recipes(site):
    listed = _answer(site, "-c", "from chiasm.cli import main; main()", "recipes", "--json")["recipes"]
    assert {recipe["name"] for recipe in listed} == {path.stem for path in (PACKAGE / "recipes").glob("*.yaml")}
    assert all(recipe["about"] for recipe in listed)


def test_the_wheel_reads_its_lexicon(site):
    assert _answer(site, "-c", LABEL) == {"pleural_effusion": "present", "pneumothorax": "absent"}


def test_the_wheel_renders_its_page(site):
    page = _answer(site, "-c", RENDER)
    assert "a &amp; b" in page
    assert "0.811" in page
    assert (PACKAGE / "summary" / "summary.css").read_text("utf-8").splitlines()[-1] in page
