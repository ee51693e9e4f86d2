from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chiasm.cohort.store import Cohort
from chiasm.evaluation.controls import (
    METADATA,
    PIXELS,
    THUMBNAIL,
    Taught,
    constant_texts,
    find_neighbour,
    nearest_texts,
    prior_arm,
    shared_with_training,
)
from chiasm.heads.spec import Pool, Question

TEST = [2, 3, 6, 7, 10, 11, 14, 15]
TRAIN = [0, 1, 4, 5, 8, 9, 12, 13]
MEMBER = np.zeros((8, 1), np.int64)


@pytest.fixture
def taught(cohort: Cohort) -> Taught:
    return Taught([cohort], [np.array(TRAIN)], np.array(TEST), ndim=2)


def test_the_prior_is_the_mean_of_the_training_studies(question: Question, taught: Taught) -> None:
    prior = prior_arm(question, taught, MEMBER)
    assert prior.values["findings"][:, 0].tolist() == [0.5] * 8
    # edema is known of 4, 5, 8, 9, 12, 13 and present in 5
    assert prior.values["findings"][:, 1] == pytest.approx([1 / 6] * 8)
    assert prior.values["outcome"][:, 0].tolist() == [3 / 8] * 8
    assert prior.values["severity"][:, 0] == pytest.approx([np.mean(TRAIN) / 2] * 8)


def test_each_fold_has_the_prior_of_its_own_training(question: Question, cohort: Cohort) -> None:
    taught = Taught([cohort], [np.array([1, 3]), np.array([0, 2])], np.array(TEST), ndim=2)
    prior = prior_arm(question, taught, np.repeat([[0], [1]], 4, axis=0))
    assert prior.values["findings"][:, 0].tolist() == [1.0] * 4 + [0.0] * 4
    together = prior_arm(question, taught, np.tile([0, 1], (8, 1)))
    assert together.values["findings"][:, 0].tolist() == [0.5] * 8


def test_a_control_that_knows_the_brightness_tells_pneumonia(question: Question, taught: Taught, pool: Pool) -> None:
    odd = np.arange(8) % 2 == 1
    for control in (PIXELS, THUMBNAIL):
        arm = control.compute(question, taught, pool)
        assert arm is not None
        p = arm.values["findings"][:, 0]
        assert p[odd].min() > p[~odd].max(), control.title
        assert not arm.logits, "a control has no threshold"
        assert np.isnan(arm.values["severity"]).all(), "controls answer binary labels"


def test_metadata_see_no_pixel(
    question: Question, taught: Taught, pool: Pool, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = METADATA.compute(question, taught, pool)
    monkeypatch.setitem(cohort.arrays, "pixels_2d", np.zeros_like(cohort.arrays["pixels_2d"]))
    after = METADATA.compute(question, taught, pool)
    assert before is not None and after is not None
    assert np.array_equal(before.values["findings"], after.values["findings"])


def test_metadata_are_what_differs_and_is_no_input(question: Question, taught: Taught, pool: Pool) -> None:
    def held(**more: Any) -> str:
        arm = METADATA.compute(replace(question, **more), taught, pool)
        assert arm is not None
        return arm.detail("findings", "pneumonia")

    assert held() == "view, age, sex", "all images have one size, one spacing and one modality"
    assert held(columns=("age_years",)) == "view, sex; age is an input of the model"
    said = held(columns=("age_years", "sex"), reads_view=True)
    assert said == "nothing that differs between studies; age and sex and view are inputs of the model"


def test_controls_learn_from_training_studies_alone(question: Question, taught: Taught, pool: Pool) -> None:
    """Fitted on even (healthy) studies only there is one class: no answer, though the test studies have both."""
    blind = replace(taught, train=[np.array([0, 4, 8, 12])])
    arm = THUMBNAIL.compute(question, blind, pool)
    assert arm is not None
    assert np.isnan(arm.values["findings"][:, 0]).all()


def test_the_constant_report_is_the_one_nearest_to_all(question: Question, taught: Taught) -> None:
    texts = constant_texts(question, replace(taught, train=[np.array([0, 4, 8, 1])]), MEMBER)
    assert len(set(texts)) == 1
    assert texts[0].startswith("No pneumonia"), "three of four training reports read so"


def test_the_nearest_neighbour_is_found_by_its_picture(question: Question, cohort: Cohort) -> None:
    """Asked for training studies themselves, each finds its own report."""
    taught = Taught([cohort], [np.array(TRAIN)], np.array(TRAIN), ndim=2)
    texts = nearest_texts(question, taught, MEMBER)
    assert texts == [cohort.texts(["findings"])[i] for i in TRAIN]
    assert "thumbnails" in find_neighbour(taught)


def test_the_nearest_neighbour_by_features(question: Question, cohort: Cohort) -> None:
    """Features say that study i is like study 15 - i, whatever the pixels are."""
    likeness = np.random.default_rng(0).normal(size=(16, 6, 1, 1)).astype(np.float16)
    likeness[TEST] = likeness[TRAIN[::-1]] * 3
    taught = Taught([cohort], [np.array(TRAIN)], np.array(TEST), 2, [[np.zeros((16, 2, 4, 4), np.float16), likeness]])
    texts = nearest_texts(question, taught, MEMBER)
    assert "features" in find_neighbour(taught)
    own = cohort.texts(["findings"])
    found = [own.index(text) for text in texts]
    assert np.mean(np.array(found) == TRAIN[::-1]) >= 0.5, "standardizing moves some, not most"


def test_what_training_and_test_share_is_said(cohort: Cohort, taught: Taught, pool: Pool) -> None:
    assert shared_with_training(taught, pool) == []
    leaky = replace(taught, train=[np.array([*TRAIN, 14])])
    patients, pixels = shared_with_training(leaky, pool)
    assert patients.startswith("1 patients stand both")
    assert pixels.startswith("1 images stand")


def test_fold_models_that_share_a_patient_with_the_tested_count_it_once(taught: Taught, pool: Pool) -> None:
    """As five folds do, of which four were trained on the same patient."""
    leaky = replace(taught, train=[np.array([0, 2]), np.array([2, 4])])
    both = replace(pool, fold_model=np.tile([0, 1], (8, 1)))
    patients, pixels = shared_with_training(leaky, both)
    assert patients.startswith("1 patients ")
    assert pixels.startswith("1 images ")


def test_of_several_fold_models_those_that_know_a_label_answer_for_the_controls(
    question: Question, cohort: Cohort, pool: Pool
) -> None:
    """Edema is hedged, so unknown, in all that the second fold was trained on."""
    taught = Taught([cohort], [np.array([4, 5, 8, 9]), np.array([0, 1, 2, 3])], np.array(TEST), ndim=2)
    fold_model = np.tile([0, 1], (8, 1))
    assert prior_arm(question, taught, fold_model).values["findings"][:, 1].tolist() == [0.25] * 8
    arm = THUMBNAIL.compute(question, taught, replace(pool, fold_model=fold_model))
    assert arm is not None
    assert np.isfinite(arm.values["findings"][:, 1]).all()
