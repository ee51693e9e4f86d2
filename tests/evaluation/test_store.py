import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort
from chiasm.errors import RunError
from chiasm.evaluation.spec import Evidence
from chiasm.evaluation.store import read_evidence, write_evidence
from chiasm.seals import file_hash


def test_evidence_comes_back_to_the_last_digit(evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    back = read_evidence(tmp_path / "p", [cohort])
    assert back.question == evidence.question
    assert back.heads["description"] == evidence.heads["description"]
    assert back.neighbour == "by hand"
    assert back.pool.keys.tolist() == evidence.pool.keys.tolist()
    assert back.pool.fold_model.tolist() == evidence.pool.fold_model.tolist()
    assert list(back.arms) == list(evidence.arms)
    for prefix, arm in evidence.arms.items():
        assert (back.arms[prefix].shown is None) == (arm.shown is None)
        assert arm.shown is None or back.arms[prefix].shown.tolist() == arm.shown.tolist()
        for kind in ("values", "logits", "thresholds"):
            stored = getattr(back.arms[prefix], kind)
            assert set(stored) == set(getattr(arm, kind))
            for target, array in getattr(arm, kind).items():
                assert stored[target].dtype == array.dtype
                assert np.array_equal(stored[target], array, equal_nan=True)
    own, read = (each.heads["localization"][""] for each in (evidence, back))
    assert np.array_equal(read.values, own.values)
    assert read.geometry == own.geometry


def test_writing_twice_gives_the_same_files_and_leaves_no_old_arm(evidence: Evidence, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    before = {path: file_hash(path) for path in (tmp_path / "p").rglob("*.*")}
    assert tmp_path / "p" / "heads" / "description.nearest.json" in before
    write_evidence(evidence, tmp_path / "p")
    assert before == {path: file_hash(path) for path in (tmp_path / "p").rglob("*.*")}
    write_evidence(replace(evidence, arms={"": evidence.arms[""]}, heads={}), tmp_path / "p")
    assert {path.name for path in (tmp_path / "p").rglob("*.*")} == {"full.npz", "index.json"}


def test_a_folder_of_the_user_is_not_touched(evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "thesis.json").write_text("years of work")
    with pytest.raises(RunError, match="something else"):
        write_evidence(evidence, tmp_path)
    assert (tmp_path / "thesis.json").read_text() == "years of work"


def test_no_pickle_is_read(evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    np.savez(tmp_path / "p" / "image.npz", study_ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RunError, match="cannot be read"):
        read_evidence(tmp_path / "p", [cohort])


@pytest.mark.parametrize("name", ["index.json", "full.npz", "image.npz"])
def test_a_damaged_file_is_one_message(name: str, evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    path = tmp_path / "p" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunError, match="chiasm evaluate RUN writes them again"):
        read_evidence(tmp_path / "p", [cohort])


def test_another_schema_is_named(evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    path = tmp_path / "p" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(RunError, match="schema 99"):
        read_evidence(tmp_path / "p", [cohort])


def test_arms_about_different_studies_are_refused(evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    write_evidence(evidence, tmp_path / "p")
    with np.load(tmp_path / "p" / "image.npz") as arrays:
        content = dict(arrays)
    content["study_ids"] = content["study_ids"][::-1]
    np.savez(tmp_path / "p" / "image.npz", **content)
    with pytest.raises(RunError, match="different studies"):
        read_evidence(tmp_path / "p", [cohort])
