"""The folder of a run: its models are read only where their files are those that training wrote."""

import shutil
from pathlib import Path

import pytest

from chiasm.errors import RunError
from chiasm.run.fold_model import load_fold_models
from chiasm.run.folder import check_run


@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.json", "plan.json", "tokenizer.json"])
def test_files_of_a_run_that_have_changed_are_refused(name: str, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, copy_function=shutil.copy)  # other times: the content decides
    assert len(load_fold_models(run)) == 1
    raw = (run / name).read_bytes()
    last = bytes([raw[-1] ^ 1]) if name.endswith("safetensors") else raw[-1:] + b" "  # a bit of a weight; a blank
    (run / name).write_bytes(raw[:-1] + last)
    with pytest.raises(RunError):
        load_fold_models(run)
    with pytest.raises(RunError, match="changed since it was trained") as caught:
        check_run(run)
    assert caught.value.got == name
    (run / "files.json").unlink()  # of a training before there were hashes
    check_run(run)
