import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError, RunError
from chiasm.evaluation.evaluate import Evaluation
from chiasm.evaluation.verify import compare, verify
from chiasm.metrics.metric import Metric


def change(path: Path, name: str, index: tuple[int, ...], value: float) -> None:
    """Put one number of an .npz to another value."""
    with np.load(path) as arrays:
        content = {key: arrays[key].copy() for key in arrays.files}
    content[name][index] = value
    np.savez_compressed(path, **content)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_untouched_run_holds(evaluated: Evaluation, run: Path) -> None:
    assert verify(run) == []
    assert verify(evaluated.out) == [], "the folder of one evaluation will do"


def test_a_changed_probability_is_found_by_its_file_and_by_its_metrics(evaluated: Evaluation, run: Path) -> None:
    change(evaluated.out / "predictions" / "full.npz", "values/findings", (1, 0), 0.15)
    found = verify(run)
    assert "predictions full.npz: the file has changed since the evaluation" in found
    assert "arm full: findings is not what its logits and the calibration give" in found
    assert any(difference.startswith("findings/pneumonia/auroc: value is 0.75") for difference in found)
    assert not any(difference.startswith("image:") for difference in found), "the other arms are as they were"


def test_whoever_also_forges_the_hashes_is_found_by_the_metrics(evaluated: Evaluation, run: Path) -> None:
    from chiasm.seals import file_hash

    path = evaluated.out / "predictions" / "full.npz"
    change(path, "values/severity", (0, 0), 9.0)
    change(path, "logits/severity", (0, 0, 0), 9.0)
    document = json.loads((evaluated.out / "evaluation.json").read_text())
    document["predictions"]["full.npz"] = file_hash(path)
    (evaluated.out / "evaluation.json").write_text(json.dumps(document))
    found = verify(run)
    assert found
    assert all("severity/score" in difference for difference in found)


def test_a_changed_figure_is_found(evaluated: Evaluation, run: Path) -> None:
    path = evaluated.out / "evaluation.json"
    document = json.loads(path.read_text())
    document["metrics"]["outcome/event/auroc"]["value"] += 0.001
    del document["metrics"]["outcome/event/brier"]
    path.write_text(json.dumps(document))
    found = verify(run)
    assert len(found) == 2
    assert found[0].startswith("outcome/event/auroc: value is")
    assert found[1] == "outcome/event/brier: computed now, but not recorded"


def test_changed_weights_and_calibration_are_found(evaluated: Evaluation, run: Path) -> None:
    (run / "weights.safetensors").write_bytes(b"other weights")
    targets = json.loads((run / "calibration.json").read_text())["targets"]
    targets["outcome"]["event"]["temperature"] = 1.0
    edit(run / "calibration.json", targets=targets)
    found = verify(run)
    assert "weights of .: the file has changed since the evaluation" in found
    assert "arm image: outcome is not what its logits and the calibration give" in found
    assert not any("findings" in difference for difference in found)
    (run / "weights.safetensors").unlink()
    assert "weights of .: the file is gone" in verify(run)


def test_a_changed_cohort_is_found(evaluated: Evaluation, run: Path, cohort: Cohort, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cohort.path, copy)
    entry = {"path": str(copy), "hash": cohort.hash, "source": "hand"}
    edit(evaluated.out / "evaluation.json", cohorts=[entry])
    assert verify(run) == []
    pixels = bytearray((copy / "pixels_2d.npy").read_bytes())
    pixels[-1] ^= 255
    (copy / "pixels_2d.npy").write_bytes(pixels)
    assert any(difference.startswith("cohort hand: ") for difference in verify(run))
    edit(evaluated.out / "evaluation.json", cohorts=[{**entry, "hash": "0" * 64}])
    with pytest.raises(CohortError, match="has changed"):
        verify(run)


def test_a_run_without_evaluation_is_an_error_and_not_a_success(run: Path) -> None:
    with pytest.raises(RunError, match="nothing was evaluated"):
        verify(run)


@pytest.mark.parametrize(("content", "message"), [("{", "damaged"), ('{"schema": 9}', "schema 9"), ("[]", "damaged")])
def test_a_damaged_or_foreign_evaluation_is_one_message(
    content: str, message: str, evaluated: Evaluation, run: Path
) -> None:
    (evaluated.out / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=message):
        verify(run)


def test_figures_may_differ_by_rounding_alone() -> None:
    def metric(value: float | None, n: int = 5) -> Metric:
        ends = (None, None) if value is None else (value - 0.1, value + 0.1)
        return Metric(value, *ends, n, "p", "why" if value is None else None)

    assert compare({"a/b/c": metric(0.5)}, {"a/b/c": metric(0.5 + 1e-9)}) == []
    assert len(compare({"a/b/c": metric(0.5)}, {"a/b/c": metric(0.5001)})) == 3
    assert len(compare({"a/b/c": metric(None)}, {"a/b/c": metric(0.5)})) == 3
    assert compare({"a/b/c": metric(0.5)}, {"a/b/c": metric(0.5, n=4)}) == ["a/b/c: n is 4, recorded is 5"]
