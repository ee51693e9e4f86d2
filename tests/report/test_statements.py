"""What a report states, as arrays that teach."""

from chiasm.report.statements import attribute_values, stated, statement_arrays

FINDINGS = ("pleural_effusion", "consolidation", "nodule")
TEXTS = [
    "Small left pleural effusion. No consolidation.",
    "Patchy consolidation in the right lower lobe. A nodule cannot be excluded.",
    "Large right effusion and a small left effusion.",
    "",
]


def test_negation_is_absence_and_doubt_and_silence_are_nothing():
    present, known, _, _ = statement_arrays(TEXTS, FINDINGS, ())
    assert known.tolist() == [[True, True, False], [False, True, False], [True, False, False], [False] * 3]
    assert present.tolist() == [[True, False, False], [False, True, False], [True, False, False], [False] * 3]


def test_attributes_stand_beside_the_finding_they_are_said_of_and_only_where_it_is_present():
    _, _, attributes, places = statement_arrays([*TEXTS, "No left effusion."], FINDINGS, ("side", "texture"))
    assert attributes[:, 0, :3].astype(int).tolist() == [[1, 0, 0], [0] * 3, [1, 1, 0], [0] * 3, [0] * 3]
    names = [*attribute_values("side"), *attribute_values("texture")]
    assert [name for name, said in zip(names, attributes[1, 1], strict=True) if said] == ["right", "patchy"]
    assert not attributes[0, 1].any()
    assert places[1][1] == [{"side": ["right"], "zone": [], "lobe": ["lower"]}]
    assert [own["side"] for own in places[2][0]] == [["right"], ["left"]]
    assert places[4][0] == []


def test_a_finding_that_is_present_now_and_was_absent_elsewhere_is_present():
    both = "No right effusion. Left pleural effusion."
    present, known, _, places = statement_arrays([both], FINDINGS, ())
    assert known[0, 0]
    assert present[0, 0]
    assert [own["side"] for own in places[0][0]] == [["left"]]
    assert [one.mention.state.value for one in stated(both, FINDINGS)["pleural_effusion"]] == ["present"]


def test_the_values_of_a_kind_are_those_of_the_lexicon():
    assert attribute_values("side") == ("left", "right", "both")
    assert statement_arrays([""], FINDINGS, ("side", "severity"))[2].shape == (1, 3, 3 + 4)
