"""The whole road, as a user walks it: the installed program, one process a command, and a training that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name

CHIASM = str(Path(sys.executable).with_name("chiasm"))


def _run(*arguments: object, code: int = 0) -> Any:
    """The JSON document of one command, which must end with this code; nothing else stands on standard output."""
    done = subprocess.run([CHIASM, *map(str, arguments), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def _kill_after_an_epoch(run: Path, *arguments: object) -> None:
    """Start a command and SIGKILL it once the run's history holds an epoch."""
    process = subprocess.Popen([CHIASM, *map(str, arguments)], stderr=subprocess.DEVNULL)
    history, deadline = run / "history.csv", time.monotonic() + 120
    while not (history.is_file() and len(history.read_text().splitlines()) > 1):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _tamper(file: Path) -> None:
    """Answer the opposite for one stored study."""
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["values/outcome"][0] = 1 - arrays["values/outcome"][0]
    np.savez_compressed(file, allow_pickle=False, **arrays)


def _study_folder(home: Path) -> Path:
    (home / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 140)).astype(np.uint8)
    Image.fromarray(pixels).save(home / "images" / "chest_pa.png")
    (home / "report.txt").write_text("INDICATION: Cough.\nFINDINGS: Large left pleural effusion. No pneumothorax.\n")
    (home / "record.json").write_text('{"age_years": 63, "sex": "f"}')
    return home


def test_the_whole_road_from_import_to_verify_works(small, tmp_path):
    cohort, run, out = tmp_path / "cohort", tmp_path / "run", tmp_path / "predictions"
    options = [part for option in ("studies=60", "size=64", "missing=0.1") for part in ("--option", option)]
    imported = _run("import", "phantom-chest", "--out", cohort, "--size", 64, *options)
    assert imported["counts"]["studies"] == 60

    inspected = _run("inspect", cohort)
    assert inspected["cohort"]["hash"] == imported["hash"]
    assert sum(inspected["splits"][s]["studies"] for s in ("train", "validation", "test")) == 60
    assert inspected["leakage"]["shared_patients"]["count"] == 0

    sets = [part for s in (*small, "train.epochs=8", "evaluate.resamples=200") for part in ("--set", s)]
    training = ("train", "report-fusion", cohort, "--out", run, *sets)
    _kill_after_an_epoch(run, *training)
    assert "not finished" in _run("evaluate", run, code=1)["error"]["what"]
    assert "not empty" in _run(*training, code=1)["error"]["what"]
    assert _run(*training, "--resume")["status"] == "finished"
    assert [line.split(",")[0] for line in (run / "history.csv").read_text().splitlines()[1:]] == [*"01234567"]

    evaluated = _run("evaluate", run)
    names = [parse_name(name) for name in evaluated["metrics"]]  # raises where one breaks the grammar
    assert all(Metric.from_json(metric).protocol for metric in evaluated["metrics"].values())
    assert {name.control for name in names} >= {None, "bayes", "shuffled_text", "pixel_statistics", "prior"}
    assert {name.subset for name in names} >= {None, "image", "text", "record", "image+record"}
    assert {"localization", "description", "outcome", "findings"} <= {name.target for name in names}
    assert "outcome/event/auroc" in evaluated["metrics"]
    assert evaluated == json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert (run / "evaluation" / "summary.html").stat().st_size > 10_000

    assert _run("verify", run) == {"differences": []}
    _tamper(run / "evaluation" / "predictions" / "full.npz")
    differences = _run("verify", run, code=1)["differences"]
    assert any("full.npz" in line for line in differences)
    assert any("outcome/event/" in line for line in differences)

    (prediction,) = _run("predict", run, _study_folder(tmp_path / "case"), "--out", out)["predictions"]
    assert prediction["arm"] == "report-conditioned"
    assert prediction["not_for_clinical_use"] is True
    written = json.loads((out / "case.json").read_text())
    assert written == prediction
    assert (written["overlays"], written["page"]) == ({"case/chest_pa": "case_chest_pa.png"}, "case.html")
    assert (out / "case.html").is_file()
    with Image.open(out / "case_chest_pa.png") as picture:
        assert picture.size == (140, 90)
