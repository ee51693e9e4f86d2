from dataclasses import replace

import numpy as np
import pytest
from scoring import by_name, locate_all, score_all

from chiasm.cohort.store import Cohort
from chiasm.domains.chest.frame import organ_field
from chiasm.evaluation.controls import Taught
from chiasm.evaluation.map_controls import CENTRE, ORGANS, OTHER, REGIONS
from chiasm.evaluation.spec import Evidence
from chiasm.evaluation.warnings import compute_warnings
from chiasm.heads.spec import Pool, Question, Truth
from chiasm.metrics.bootstrap import Resamples

TEST = [2, 3, 6, 7, 10, 11, 14, 15]
TRAIN = [0, 1, 4, 5, 8, 9, 12, 13]
BOX = (slice(8, 24), slice(8, 24))  # pixels 16..47 of 64, on a grid of 32 cells


@pytest.fixture
def taught(cohort: Cohort) -> Taught:
    return Taught([cohort], [np.array(TRAIN)], np.array(TEST), ndim=2)


def test_the_region_prior_is_the_mean_of_the_training_regions(question: Question, taught: Taught, pool: Pool) -> None:
    maps = REGIONS.compute(question, taught, pool)
    assert maps is not None
    expected = np.zeros((32, 32))
    expected[BOX] = 1.0  # the same box in each of the four training images with pneumonia
    assert maps.values.shape == (8, 2, 32, 32)
    assert (maps.values[:, 0] == expected).all()
    assert not maps.values[:, 1].any(), "no training patient has a region of edema"
    assert maps.image_row.tolist() == TEST, "image i of this cohort is of study i"


def test_each_fold_model_answers_by_its_own_training_patients(question: Question, cohort: Cohort, pool: Pool) -> None:
    taught = Taught([cohort], [np.array([1, 3]), np.array([0, 2])], np.array(TEST), ndim=2)
    apart = replace(pool, fold_model=np.repeat([[0], [1]], 4, axis=0))
    maps = REGIONS.compute(question, taught, apart)
    assert maps is not None
    assert maps.values[:4, 0].any() and not maps.values[4:, 0].any()


def test_without_training_regions_only_the_centre_says_something(
    question: Question, cohort: Cohort, pool: Pool
) -> None:
    taught = Taught([cohort], [np.array([0, 2, 4])], np.array(TEST), ndim=2)
    assert REGIONS.compute(question, taught, pool) is None
    maps = CENTRE.compute(question, taught, pool)
    assert maps is not None
    middle = maps.values[0, 0, 15:17, 15:17]
    assert (middle == maps.values[0, 0].max()).all()
    assert np.array_equal(maps.values[0, 0], maps.values[0, 0].T)
    assert maps.thresholds.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(("within", "there"), [("organ", True), ("image", False)])
def test_the_bare_organ_stands_beside_maps_that_are_bound_to_them(within, there, question, taught, pool) -> None:
    asked = replace(question, heads={"localization": {"options": {"within": within}, "state": None}})
    maps = ORGANS.compute(asked, taught, pool)
    assert (maps is not None) is there
    if maps is not None:
        assert np.allclose(maps.values[:, 1], organ_field("edema", (32, 32)), atol=1e-3)


def test_maps_that_a_control_equals_are_warned_of(
    question: Question, taught: Taught, pool: Pool, evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    prior = REGIONS.compute(question, taught, pool)
    own = evidence.heads["localization"][""]
    beside = replace(evidence, heads={"localization": {"": own, "region_prior": prior}})
    found = by_name(score_all(beside, truth, resamples))
    prior_iou = (32 / 34) ** 2  # every box is the same; the map is drawn between its cells, one pixel wider
    assert found["region_prior:localization/pneumonia/box_iou"].draws[0] == pytest.approx(prior_iou)
    said = compute_warnings(beside, truth, score_all(beside, truth, resamples), {})
    (warning,) = [each for each in said if "does not beat where training regions lie" in each]
    model = np.mean([pair.scores["box_iou"] for pair in locate_all(evidence)])
    assert f"IoU of the best box {model:.2f} against {prior_iou:.2f}" in warning


def test_the_map_of_another_patient_is_of_the_same_view_and_keeps_the_place_of_the_image(
    pool: Pool, evidence: Evidence
) -> None:
    own = evidence.heads["localization"][""]
    marked = replace(own, values=np.arange(8, dtype=np.float16)[:, None, None, None] * np.ones_like(own.values))
    found = OTHER.remake(marked, pool, [])
    assert found is not None
    views = [str(pool.cohorts[0].images["view"].iloc[i]) for i in own.image_row.tolist()]
    whose = found.values[:, 0, 0, 0].astype(int).tolist()
    assert all(pool.patients[i] != pool.patients[j] for i, j in enumerate(whose))
    assert all(views[i] == views[j] for i, j in enumerate(whose) if views[i] == "pa"), "of AP there is one patient"
    assert found.study.tolist() == own.study.tolist() and list(found.geometry) == list(own.geometry)
    assert OTHER.remake(own, replace(pool, row=np.full(8, pool.row[0])), []) is None, "there is one patient"
