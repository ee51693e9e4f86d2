"""Columns that are a label under another name are found, whatever they look like, and honest ones are not."""

from pathlib import Path

import numpy as np
import pytest

from chiasm.audit.leakage import inspect_cohort
from chiasm.audit.record import record_leaks
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.study import Finding, Kind, Outcome, Record, State, Study

N = 80


def a_study(i: int, patients: int) -> Study:
    ill, grade, noise = i % 3 == 0, i % 4, float(np.random.default_rng(i).normal())
    record = {
        "age_years": 50 + 10 * noise,
        "code": float(ill),
        "inverted": -5.0 * ill + 0.1 * noise,
        "ward": "a" if ill else ("b", "c")[i % 2],
        "unit": ("x", "y", "z")[int(abs(noise) * 7) % 3],
        "bed": f"bed {i}",
        "disposition": "morgue" if grade == 3 else ("home", "rehab")[i % 2],
    }
    if ill:
        record["biopsy_mm"] = 5 + noise
    return Study(
        f"s{i}",
        f"p{i % patients}",
        record=Record(record),
        findings=(Finding("mass", State.PRESENT if ill else State.ABSENT),),
        outcomes=(Outcome("grade", float(grade), Kind.ORDINAL, "grade"),),
    )


def cohort_of(tmp_path: Path, n: int = N, patients: int = N) -> Cohort:
    return write_cohort([a_study(i, patients) for i in range(n)], tmp_path / "c", source="hand", options={}, size=32)


def test_leaks_by_number_by_word_and_by_being_there(tmp_path: Path) -> None:
    leaks = record_leaks(cohort_of(tmp_path))
    of_mass = {leak["column"]: leak["auroc"] for leak in leaks if leak["target"] == "findings"}
    assert set(of_mass) == {"code", "inverted", "ward", "biopsy_mm"}
    assert min(of_mass.values()) > 0.99
    assert all(leak["patients"] == N for leak in leaks)


def test_a_column_may_tell_one_level_alone(tmp_path: Path) -> None:
    leaks = record_leaks(cohort_of(tmp_path))
    assert [leak["column"] for leak in leaks if leak["label"] == "grade"] == ["disposition"]


@pytest.mark.parametrize(("n", "patients"), [(20, 20), (N, 20)], ids=["few studies", "few patients"])
def test_few_patients_say_nothing(tmp_path: Path, n: int, patients: int) -> None:
    assert record_leaks(cohort_of(tmp_path, n, patients)) == []


def test_inspect_warns_of_them(tmp_path: Path) -> None:
    found = [w for w in inspect_cohort(cohort_of(tmp_path))["warnings"] if "alone tells" in w]
    assert len(found) == 5
    assert any("the record column ward alone tells findings/mass (AUROC 1.00 in 80 patients)" in w for w in found)
    assert not any(word in w for w in found for word in ("age_years", "unit", "bed"))
