"""--check full and `chiasm verify COHORT`: what has changed without a trace of size or time is seen."""

import os
import shutil
from pathlib import Path

import pytest
from command_line import run

from chiasm.cohort.store import Cohort
from chiasm.commands.check import check_fully
from chiasm.errors import ChiasmError


def flip(file: Path) -> None:
    """Another last byte, at the same time."""
    about, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_cohort_is_verified_by_its_pixels_and_tables(phantom: Cohort, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(phantom.path, copy)
    assert run("verify", copy).exit_code == 0
    flip(copy / "pixels_2d.npy")
    Cohort.open_unchanged(copy)  # the fast check does not see it
    result = run("verify", copy)
    assert result.exit_code == 1 and "changed" in result.stderr


@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.json"])
def test_a_full_check_of_a_run_compares_every_hash(name: str, tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    check_fully([copy, tmp_path])
    flip(copy / name)
    with pytest.raises(ChiasmError) as caught:
        check_fully([copy])
    assert caught.value.got == name
