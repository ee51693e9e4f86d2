"""Phrases of hand-made reports on hand-made maps."""

from dataclasses import replace

import numpy as np
import pytest

from chiasm.evaluation.phrases import GROUPS, score_phrases
from chiasm.evaluation.spec import Evidence
from chiasm.heads.spec import Case, Truth
from chiasm.metrics.bootstrap import Resamples


@pytest.fixture
def case(evidence: Evidence, truth: Truth, resamples: Resamples) -> Case:
    """Reports say "Pneumonia of the left lower zone, case 3." or "No pneumonia. Clear lungs, case 2."."""
    return Case(evidence.question, evidence.pool, truth, resamples)


def rates(evidence: Evidence, case: Case, arm: str = "image") -> dict[str, float]:
    return {str(name): float(x.draws[0]) for name, x in score_phrases(evidence, case, arm).items()}


def test_a_phrase_is_given_a_box_where_its_finding_is_seen(evidence: Evidence, case: Case) -> None:
    found = rates(evidence, case)
    arm = evidence.arms["image"]
    seen = arm.values["findings"][:, 0] >= arm.thresholds["findings"][:, 0]
    odd = np.array([False, True] * 4)
    assert found["phrase/present/box_rate"] == pytest.approx(seen[odd].mean())
    # the next patient of studies 2, 6 and 10 states pneumonia, which is ruled out there; that of 14 is the first one, who does not
    assert found["phrase/foreign/box_rate"] == pytest.approx(seen[[0, 2, 4]].mean())
    assert found["phrase/negated/box_rate"] == found["phrase/normal/box_rate"] == 0


def test_confidence_tells_what_can_be_pointed_at_from_what_cannot(evidence: Evidence, case: Case) -> None:
    sure = replace(evidence.arms["image"], values={**evidence.arms["image"].values})
    sure.values["findings"] = np.stack([np.array([0.1, 0.9] * 4), np.full(8, 0.5)], axis=1)
    found = rates(replace(evidence, arms={"image": sure}), case)
    assert found["phrase/present/box_rate"] == 1
    assert found["phrase/foreign/box_rate"] == 0
    assert found["phrase/all/groundable_auroc"] == 1


def test_without_maps_or_without_that_arm_there_is_nothing_to_say(evidence: Evidence, case: Case) -> None:
    assert not score_phrases(replace(evidence, heads={}), case, "image")
    assert not score_phrases(evidence, case, "image+text")


def test_every_group_says_what_it_is() -> None:
    assert list(GROUPS) == ["present", "negated", "normal", "foreign"]
