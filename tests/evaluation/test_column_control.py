from dataclasses import replace

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, cohort_from_studies
from chiasm.evaluation.column_control import RECORD_COLUMN
from chiasm.evaluation.controls import Taught
from chiasm.heads.spec import Pool, Question
from chiasm.study import Kind, Outcome, Record, Study

N = 60


def a_study(i: int) -> Study:
    event, noise = i % 3 == 0, float(np.random.default_rng(i).normal())
    record = {
        "age_years": 50 + 10 * noise,
        "nihss": 10.0 * event + noise,
        "ward": "a" if event else "b",
        "event": float(event),
    }
    late = frozenset({"ward"})
    return Study(
        f"s{i:02}", f"p{i:02}", record=Record(record, unknown_time=late), outcomes=(Outcome("event", float(event)),)
    )


@pytest.fixture(scope="module")
def wards() -> Cohort:
    return cohort_from_studies([a_study(i) for i in range(N)], size=32)


@pytest.fixture(scope="module")
def asked() -> Question:
    return Question(
        {"outcome": ["event"]}, {"outcome": Kind.BINARY}, {}, modalities=["record"], columns=["age_years", "nihss"]
    )


def fold(cohort: Cohort, train: list[np.ndarray], tested: np.ndarray, models: np.ndarray) -> tuple[Taught, Pool]:
    pool = Pool([cohort], np.zeros(len(tested), np.int64), tested, models)
    return Taught([cohort], train, tested, ndim=2), pool


def test_the_column_that_tells_most_is_found_and_answers(wards: Cohort, asked: Question) -> None:
    train, tested = np.arange(40), np.arange(40, N)
    arm = RECORD_COLUMN.compute(asked, *fold(wards, [train], tested, np.zeros((20, 1), np.int64)))
    assert arm is not None
    ill = tested % 3 == 0
    said = arm.values["outcome"][:, 0]
    assert said[ill].min() > said[~ill].max()
    assert arm.detail("outcome", "event") == "nihss"


def test_columns_are_chosen_among_training_patients_alone(wards: Cohort, asked: Question) -> None:
    """In training the truth is turned to follow the age; the tested patients, whom nihss would tell, change nothing."""
    train, tested = np.arange(40), np.arange(40, N)
    taught, pool = fold(wards, [train], tested, np.zeros((20, 1), np.int64))
    ages = pool.cohorts[0].studies["record.age_years"].to_numpy(float)

    class Turned(Taught):
        def labels(self, question: Question, target: str):  # type: ignore[no-untyped-def]
            values, mask = super().labels(question, target)
            values[train, 0] = ages[train] > np.median(ages[train])
            return values, mask

    arm = RECORD_COLUMN.compute(asked, Turned(**vars(taught)), pool)
    assert arm is not None
    assert arm.detail("outcome", "event") == "age_years"


def test_folds_that_choose_differently_are_said(wards: Cohort, asked: Question) -> None:
    both = replace(asked, columns=["nihss", "ward"])
    models = np.repeat([[0], [1], [2]], 20, axis=0)
    arm = RECORD_COLUMN.compute(
        both, *fold(wards, [np.arange(20, N), np.arange(40), np.arange(0, N, 3)], np.arange(N), models)
    )
    assert arm is not None
    assert np.isnan(arm.values["outcome"][40:, 0]).all(), "the third fold's training has one class"
    assert np.isfinite(arm.values["outcome"][:40, 0]).all()


def test_without_a_record_among_the_inputs_open_columns_are_asked(wards: Cohort, asked: Question) -> None:
    """Neither the label itself nor a column of unknown time."""
    images = replace(asked, modalities=["image"], columns=())
    arm = RECORD_COLUMN.compute(images, *fold(wards, [np.arange(40)], np.arange(40, N), np.zeros((20, 1), np.int64)))
    assert arm is not None
    assert arm.detail("outcome", "event") == "nihss"
    nothing = replace(asked, columns=())
    assert (
        RECORD_COLUMN.compute(nothing, *fold(wards, [np.arange(40)], np.arange(40, N), np.zeros((20, 1), np.int64)))
        is None
    )
