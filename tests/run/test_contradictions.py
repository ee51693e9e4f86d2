"""An answer that contradicts itself says so: its findings and its description, its image and its report."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.run.contradictions import check_description, check_inputs
from chiasm.study import About, Finding, State

FOUND = (
    Finding("atelectasis", State.PRESENT),
    Finding("pleural_effusion", State.ABSENT),
    Finding("edema", State.PRESENT),
    Finding("my_own_label", State.PRESENT),
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No atelectasis. Edema.", ["atelectasis is present by its probability, and absent by the description"]),
        ("Large pleural effusion with edema.", ["pleural effusion is absent by its probability, and present by the description"]),
        ("No edema, no atelectasis. Small pleural effusion.", ["atelectasis", "pleural effusion", "edema"]),
        ("Atelectasis. No pleural effusion. Edema. No my own label.", []),
        ("Possible pleural effusion. The heart is not enlarged.", []),
        ("", []),
        (None, []),
    ],
)  # fmt: skip
def test_a_description_that_contradicts_a_finding_is_noted(text, said):
    notes = check_description(FOUND, text)
    assert len(notes) == len(said)
    assert all(note.about is About.CONTRADICTION and not note.unlike for note in notes)
    assert all(any(note.text.startswith(part) for note in notes) for part in said)


def test_image_and_report_are_at_odds_on_either_side_and_far_apart():
    image = {"findings": np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.1], [0.9, 0.1], [0.1, 0.1]])}
    text = {"findings": np.array([[0.1, 0.1], [0.8, 0.1], [0.45, 0.1], [0.1, 0.1], [0.95, 0.1]])}
    thresholds = [{"findings": np.full((5, 2), np.nan)}, {"findings": np.full((5, 2), 0.5)}]
    both = np.array([True, True, True, False, True])
    notes = check_inputs({"findings": ["edema", "mass"]}, image, text, thresholds, {"findings": {"edema": 0.3}}, both)
    assert [[note.text for note in own] for own in notes] == [
        ["edema is present by the image alone, and absent by the report alone"], [], [], [],
        ["edema is absent by the image alone, and present by the report alone"],
    ]  # fmt: skip
    far = check_inputs({"findings": ["edema", "mass"]}, image, text, thresholds, {"findings": {"edema": 0.85}}, both)
    assert far == [[], [], [], [], []], "no further apart than validation shows"
