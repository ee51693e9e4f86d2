"""Phrases are found on the map of the finding they name, in the part of the image that they name."""

import numpy as np
import pytest

from chiasm.geometry import Geometry
from chiasm.prediction.phrases import ground
from chiasm.study import Finding, Prediction, State


@pytest.fixture
def answer() -> Prediction:
    """Consolidation in the image's lower right (the patient's left lower zone) and, less, in its upper left; no effusion."""
    grid = np.full((4, 4), 0.1, np.float32)
    grid[3, 3], grid[0, 0] = 0.5, 0.4
    return Prediction(
        "s",
        "p",
        findings=(
            Finding("consolidation", State.PRESENT, "findings", "chiasm", 0.8),
            Finding("pleural_effusion", State.ABSENT, "findings", "chiasm", 0.2),
            Finding("edema", State.PRESENT, "findings", "chiasm", 0.9),
        ),
        maps={("i", f"findings/{name}"): grid for name in ("consolidation", "pleural_effusion")},
        geometries={"i": Geometry.identity((4, 4))},
    )


def test_a_phrase_without_a_place_has_all_boxes_of_its_finding(answer):
    found = ground(answer, "Patchy consolidation.")
    assert found.finding == "findings/consolidation"
    assert [box.box for box in found.boxes] == [(3, 3, 4, 4), (0, 0, 1, 1)]
    assert [box.score for box in found.boxes] == pytest.approx([1.0, 0.75])
    assert found.confidence == pytest.approx(0.8)
    assert found.to_json()["boxes"][0]["image_id"] == "i"


@pytest.mark.parametrize(
    ("phrase", "box", "score"),
    [
        ("left lower lobe consolidation", (3, 3, 4, 4), 1.0),
        ("consolidation in the right upper zone", (0, 0, 1, 1), 0.75),
    ],
)
def test_words_of_place_choose_among_them(answer, phrase, box, score):
    found = ground(answer, phrase)
    assert [b.box for b in found.boxes] == [box]
    assert found.confidence == pytest.approx(0.8 * score)


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("no consolidation", "the phrase says that it is absent"),
        ("the osseous structures are intact", "no finding is named"),
        ("left pleural effusion", "the model does not see the finding"),
        ("right lower lobe consolidation", "the model sees the finding elsewhere"),
        ("pulmonary edema", "the model has no map of this finding"),
    ],
)
def test_a_phrase_with_nothing_to_point_at_has_no_box_and_a_reason(answer, phrase, reason):
    found = ground(answer, phrase)
    assert found.boxes == ()
    assert found.confidence == 0
    assert found.reason == reason
