from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import RunError
from chiasm.evaluation.spec import Arm, Evidence, read_truth, subgroups
from chiasm.heads.spec import Pool, Question, Truth, mean_known
from chiasm.study import Record


def test_a_pool_finds_its_studies(cohort: Cohort) -> None:
    pool = Pool.find([cohort], ["0/s14", "0/s03"], np.array([[0], [1]]))
    assert pool.row.tolist() == [14, 3]
    assert pool.keys.tolist() == ["0/s14", "0/s03"]
    assert pool.patients.tolist() == ["0/p14", "0/p03"]


def test_two_cohorts_are_one_pool(cohort: Cohort) -> None:
    pool = Pool.find([cohort, cohort], ["1/s03", "0/s03"], np.zeros((2, 1), np.int64))
    assert pool.cohort.tolist() == [1, 0]
    assert len(set(pool.patients)) == 2, "patients of two cohorts are never merged"
    assert pool.column("record.sex").tolist() == ["m", "m"]


def test_predictions_of_another_cohort_are_refused(cohort: Cohort) -> None:
    with pytest.raises(RunError, match="does not hold") as caught:
        Pool.find([cohort], ["0/s03", "0/elsewhere"], np.zeros((2, 1), np.int64))
    assert "elsewhere" not in str(caught.value), "an identifier is no part of a message"


def test_truth_is_read_in_own_units_and_hedges_are_masked(truth: Truth) -> None:
    assert truth.labels["findings"][:, 0].tolist() == [0, 1] * 4
    assert truth.mask["findings"][:, 1].tolist() == [False, False] + [True] * 6
    assert truth.labels["severity"][:, 0].tolist() == [1, 1.5, 3, 3.5, 5, 5.5, 7, 7.5]
    assert truth.bayes["image"].tolist() == [0.2, 0.2, 0.9, 0.9, 0.2, 0.2, 0.9, 0.2]
    assert truth.references[1] == "Pneumonia of the left lower zone, case 3."


def test_a_hedge_can_count_as_positive(evidence: Evidence) -> None:
    question = Question(**{**evidence.question.__dict__, "uncertain": {"findings": "positive"}})
    truth = read_truth(question, evidence.pool, ())
    assert truth.labels["findings"][:2, 1].tolist() == [1, 1]
    assert truth.mask["findings"].all()


def test_groups_by_sex_age_and_view(truth: Truth) -> None:
    sizes = {name: int(who.sum()) for name, who in truth.groups.items()}
    # ages 25 30 45 50 65 70 85 90; odd studies with i % 4 > 1 are men; 14 and 15 are AP
    assert sizes == {
        "sex=f": 4,
        "sex=m": 4,
        "age=18_40": 2,
        "age=40_65": 2,
        "age=65_plus": 4,
        "view=ap": 2,
        "view=pa": 6,
    }
    assert truth.groups["age=65_plus"].tolist() == [False] * 4 + [True] * 4, "65 is in the band that begins with it"


def test_a_group_of_everybody_is_none(cohort: Cohort) -> None:
    pool = Pool.find([cohort], ["0/s02", "0/s06"], np.zeros((2, 1), np.int64))
    assert set(subgroups(pool, (18, 40, 65))) == {"age=18_40", "age=40_65"}, "one sex and one view: nothing to compare"


def test_the_mean_of_what_is_known() -> None:
    assert np.array_equal(
        mean_known(np.array([[1, 3], [np.nan, 5], [np.nan, np.nan]]), axis=1), [2, 5, np.nan], equal_nan=True
    )


def test_the_only_label_named_like_its_target_is_all(question: Question) -> None:
    alone = Question({"lung_opacity": ["lung_opacity"], "outcome": ["event"]}, {}, {})
    assert alone.name_of("lung_opacity", "lung_opacity") == "all"
    assert alone.name_of("outcome", "event") == "event"


def test_ages_in_words_make_no_age_bands(cohort: Cohort, tmp_path: Path) -> None:
    rows = [replace(cohort.study(i), record=Record({"age_years": ("40-50", "50-60")[i % 2]})) for i in (2, 3, 6)]
    worded = write_cohort(rows, tmp_path / "c", source="hand", options={}, size=32)
    pool = Pool.find([worded, cohort], ["0/s02", "0/s03", "1/s02"], np.zeros((3, 1), np.int64))
    assert np.array_equal(pool.numbers("record.age_years"), [np.nan, np.nan, 25], equal_nan=True)
    assert not [name for name in subgroups(pool, (18, 40, 65)) if name.startswith("age")]


def test_an_answer_is_a_yes_from_its_threshold_and_from_a_half_where_validation_could_not_say() -> None:
    values = {"findings": np.zeros((3, 2)), "outcome": np.zeros((3, 1))}
    arm = Arm(values, thresholds={"findings": np.array([[0.2, np.nan], [0.3, 0.9], [np.nan, 0.1]])})
    assert arm.yes_from("findings", 0).tolist() == [0.2, 0.3, 0.5]
    assert arm.yes_from("findings", 1).tolist() == [0.5, 0.9, 0.1]
    assert arm.yes_from("outcome", 0).tolist() == [0.5, 0.5, 0.5]
