"""The phrase language, against hand-made lexica and a slow reading of the same phrases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.report.phrases import PhraseFinder, expand


def found(phrases: str, text: str) -> list[str]:
    return [text[m.start : m.end] for m in PhraseFinder({"x": phrases})(text) if m.meanings == ("x",)]


@pytest.mark.parametrize(
    ("phrases", "text", "expected"),
    [
        ("effusion*", "Effusions, effusion; an EFFUSION", ["Effusions", "effusion", "EFFUSION"]),
        ("mass", "masses massive mass", ["mass"]),
        ("effusion, pericardial effusion", "pericardial effusion", ["pericardial effusion"]),
        ("pleural (fluid|effusion)", "pleural fluid pleural  effusion", ["pleural fluid", "pleural  effusion"]),
        ("[large] mass", "large mass. mass", ["large mass", "mass"]),
        ("cardio[ ]mediastinal", "cardiomediastinal cardio mediastinal", ["cardiomediastinal", "cardio mediastinal"]),
        ("air space", "air-space air\nspace airspace", ["air-space", "air\nspace"]),
        ("heart ... enlarged", "heart is very mildly enlarged", ["heart is very mildly enlarged"]),
        ("heart ... enlarged", "heart is one two three four enlarged", []),
        ("heart ... enlarged", "heart is not enlarged", []),
        ("heart ... enlarged", "heart, enlarged. heart. enlarged", []),
        ("can't exclude", "can't exclude", ["can't exclude"]),
    ],
)
def test_a_phrase_finds_the_words_it_stands_for(phrases: str, text: str, expected: list[str]) -> None:
    assert found(phrases, text) == expected


def test_matches_carry_their_sentence_and_commas_are_matches() -> None:
    text = "A mass. A mass, 2.5 cm mass\n\nmass\n1. mass\nmass Dr.X"
    matches = PhraseFinder({"x": "mass"})(text)
    assert [(m.sentence, m.meanings[0]) for m in matches] == [
        (0, "x"), (1, "x"), (1, ","), (1, "x"), (2, "x"), (4, "x"), (4, "x"),
    ]  # fmt: skip


def test_a_phrase_of_two_meanings_has_both() -> None:
    assert PhraseFinder({"a": "mass", "b": "mass"})("mass")[0].meanings == ("a", "b")


def test_positions_survive_letters_that_grow_when_lowered() -> None:
    text = "İİİ Mass"
    (match,) = PhraseFinder({"x": "mass"})(text)
    assert text[match.start : match.end] == "Mass"


def test_expand_is_the_product_of_all_choices() -> None:
    assert expand("(a|b) [c] d") == ["a d", "a c d", "b d", "b c d"]


@given(st.lists(st.sampled_from(["no", "effusion", "large", "pleural", "mass"]), max_size=12))
def test_plain_phrases_as_a_slow_scan_finds_them(words: list[str]) -> None:
    phrases = ["effusion", "pleural effusion", "no", "large mass", "large"]
    expected, i = [], 0
    while i < len(words):
        fitting = [p for p in phrases if words[i : i + len(p.split())] == p.split()]
        if fitting:
            expected.append(max(fitting, key=len))
        i += len(max(fitting, key=len).split()) if fitting else 1
    assert found(", ".join(phrases), " ".join(words)) == expected
