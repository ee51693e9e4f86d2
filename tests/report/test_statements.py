"""What a report states, as arrays that teach."""

import numpy as np

from chiasm.report.statements import common_values, stated, statement_arrays

FINDINGS = ("pleural_effusion", "consolidation", "nodule")
TEXTS = [
    "Small left pleural effusion. No consolidation.",
    "Patchy consolidation in the right lower lobe. A nodule cannot be excluded.",
    "Large right effusion and a small left effusion.",
    "",
]


def test_negation_is_absence_and_doubt_and_silence_are_nothing():
    present, known, _, _ = statement_arrays(TEXTS, FINDINGS, {})
    assert known.tolist() == [[True, True, False], [False, True, False], [True, False, False], [False] * 3]
    assert present.tolist() == [[True, False, False], [False, True, False], [True, False, False], [False] * 3]


def test_attributes_stand_beside_the_finding_they_are_said_of_and_only_where_it_is_present():
    values = {"side": ["left", "right"], "texture": ["patchy", "streaky"]}
    _, _, attributes, places = statement_arrays([*TEXTS, "No left effusion."], FINDINGS, values)
    assert attributes[:, 0].astype(int).tolist() == [[1, 0, 0, 0], [0] * 4, [1, 1, 0, 0], [0] * 4, [0] * 4]
    assert attributes[1, 1].astype(int).tolist() == [0, 1, 1, 0]
    assert not attributes[0, 1].any()
    assert places[1][1] == {"side": {"right"}, "zone": set(), "lobe": {"lower"}}
    assert places[4][0] == {"side": set(), "zone": set(), "lobe": set()}


def test_a_finding_that_is_present_now_and_was_absent_elsewhere_is_present():
    both = "No right effusion. Left pleural effusion."
    present, known, _, places = statement_arrays([both], FINDINGS, {})
    assert known[0, 0]
    assert present[0, 0]
    assert places[0][0]["side"] == {"left"}
    assert [one.mention.state.value for one in stated(both, FINDINGS)["pleural_effusion"]] == ["present"]


def test_values_are_told_apart_where_enough_reports_state_two_of_a_kind():
    texts = ["Left effusion."] * 3 + ["Right effusion."] * 2 + ["Small right effusion."] * 3
    assert common_values(texts, ("side", "extent"), FINDINGS, 3) == {"side": ["left", "right"]}
    assert common_values(texts, ("side", "extent"), ("nodule",), 1) == {}


def test_a_value_counts_once_a_report():
    texts = ["Left effusion. Left effusion. Right effusion."]
    assert common_values(texts, ("side",), FINDINGS, 2) == {}
    assert np.array_equal(statement_arrays(texts, FINDINGS, {"side": ["left", "right"]})[2][0, 0], [True, True])
