"""What the heads show on the page, from hand-made evidence."""

from dataclasses import replace

import pytest
from scoring import locate_all

from chiasm.evaluation.spec import Evidence
from chiasm.heads.head import Section, open_heads
from chiasm.heads.spec import Case, Truth
from chiasm.metrics.bootstrap import Resamples


@pytest.fixture
def case(evidence: Evidence, truth: Truth, resamples: Resamples) -> Case:
    return Case(evidence.question, evidence.pool, truth, resamples)


def section_of(evidence: Evidence, case: Case, name: str) -> Section:
    section = open_heads(evidence.question)[name].section(evidence.heads[name], case, {})
    assert section is not None
    return section


def test_pictures_go_from_the_worst_to_the_best(evidence: Evidence, case: Case) -> None:
    pictures = section_of(evidence, case, "localization").pictures
    assert [p.which for p in pictures] == ["worst", "rank 2 of 4", "rank 3 of 4", "best"]
    assert {p.group for p in pictures} == {"pneumonia"}
    ious = [float(p.caption.split("IoU ")[1].split(" ")[0]) for p in pictures]
    assert ious == sorted(ious)
    assert ious[0] == pytest.approx(min(p.scores["box_iou"] for p in locate_all(evidence)), abs=0.01)
    assert "study s07" in pictures[0].caption
    assert pictures[0].pixels.shape == (64, 64), "the original frame, not the stored one"
    assert pictures[0].truth.tolist() == [[16, 16, 48, 48]]


def test_texts_stand_beside_reference_and_neighbour(evidence: Evidence, case: Case) -> None:
    said = ["Clear lungs" for _ in case.truth.references]
    said[6], said[3] = case.truth.references[6], "Nothing at all"
    told = {"description": {**evidence.heads["description"], "": said}}
    texts = section_of(replace(evidence, heads=told), case, "description").texts
    assert [text.which for text in texts] == ["best", "median", "worst"]
    assert list(texts[0].texts) == ["the model", "reference", "nearest neighbour's report"]
    assert texts[0].texts["the model"] == texts[0].texts["reference"] == case.truth.references[6]
    assert texts[0].texts["nearest neighbour's report"] == evidence.heads["description"]["nearest"][6]
    assert "study s14" in texts[0].caption
    assert texts[2].caption.startswith("CIDEr 0.00")
    assert texts[0].pixels is not None
