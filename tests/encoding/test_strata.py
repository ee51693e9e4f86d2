"""What folds are to have equal shares of, for every kind of a first target."""

from pathlib import Path
from typing import Any

import numpy as np

from chiasm.cohort.store import write_cohort
from chiasm.encoding.strata import find_strata
from chiasm.recipe import parse_recipe
from chiasm.study import Finding, Kind, Outcome, Record, State, Study


def strata(tmp_path: Path, truths: list[tuple[Any, ...]], target: str) -> tuple[list[int], str]:
    studies = []
    for i, items in enumerate(truths):
        findings = tuple(item for item in items if isinstance(item, Finding))
        outcomes = tuple(item for item in items if isinstance(item, Outcome))
        studies.append(Study(f"s{i:02}", f"p{i:02}", record=Record({"x": 1.0}), findings=findings, outcomes=outcomes))
    cohort = write_cohort(studies, tmp_path / "c", source="hand", options={})
    recipe = parse_recipe({"name": "x", "targets": {"not_there": {}, target: {}, "findings": {}}}, "here")
    found, said = find_strata(recipe, [cohort])
    return found.tolist(), said


def test_any_finding_that_is_present(tmp_path: Path) -> None:
    yes, no, hedged = State.PRESENT, State.ABSENT, State.UNCERTAIN
    truths = [(Finding("a", no), Finding("b", yes)), (Finding("a", no),), (Finding("a", hedged),), (Finding("b", no),)]
    found, said = strata(tmp_path, truths, "findings")
    assert found == [2, 1, 0, 1], "who is not known stands apart"
    assert "any of its labels is present" in said


def test_levels_classes_and_events(tmp_path: Path) -> None:
    ordinal = [(Outcome("mrs", level, Kind.ORDINAL, "t"),) for level in (6.0, 0.0, None, 2.0)]
    assert strata(tmp_path / "a", ordinal, "t")[0] == [3, 1, 0, 2]
    classes = [(Outcome("cause", word, Kind.MULTICLASS, "t"),) for word in ("small", "large", "small", None)]
    assert strata(tmp_path / "b", classes, "t")[0] == [2, 1, 2, 0]
    times = [(Outcome("death", time, Kind.SURVIVAL, "t", event=event),) for time, event in ((5.0, True), (9.0, False))]
    assert strata(tmp_path / "c", times, "t")[0] == [1, 0]


def test_a_number_is_stratified_by_its_fifths(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(50).astype(float)
    found, said = strata(tmp_path, [(Outcome("nihss", v, Kind.REGRESSION, "t"),) for v in values], "t")
    np.testing.assert_array_equal(found, np.searchsorted([9.8, 19.6, 29.4, 39.2], values))
    assert "by t: the fifth that nihss falls into" in said


def test_a_cohort_without_the_targets_has_one_stratum(tmp_path: Path) -> None:
    recipe = parse_recipe({"name": "x", "targets": {"a": {}}}, "here")
    cohort = write_cohort([Study("s", "p", record=Record({"x": 1.0}))], tmp_path / "c", source="hand", options={})
    found, said = find_strata(recipe, [cohort])
    assert (found.tolist(), said) == ([0], "")


def test_what_is_the_same_for_everybody_is_no_stratum(tmp_path: Path) -> None:
    yes, no = State.PRESENT, State.ABSENT
    all_ill = [(Finding("a", yes), Finding("b", yes if i == 2 else no)) for i in range(4)]
    found, said = strata(tmp_path / "a", all_ill, "t")
    assert (found, "the value of b" in said) == ([0, 0, 1, 0], True), "each has a, so one label decides"
    constant = [(Outcome("died", 1.0, target="t"), Finding("a", yes if i < 2 else no)) for i in range(4)]
    found, said = strata(tmp_path / "b", constant, "t")
    assert (found, "by findings" in said) == ([1, 1, 0, 0], True), "the first target that differs at all"
