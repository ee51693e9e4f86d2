"""Words that are one slip of the keyboard from a known one."""

import pytest

from chiasm.report.spelling import Speller

SPELLER = Speller(["effusion", "effusions", "nodule", "edema"], shortest=5)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("effusion", "effusion"),  # itself
        ("efusion", "effusion"),  # a letter lost
        ("effussion", "effusion"),  # one added
        ("effuzion", "effusion"),  # one changed
        ("effusoin", "effusion"),  # two exchanged
        ("effusons", "effusions"),
        ("eddema", "edema"),
    ],
)
def test_one_slip_is_corrected(word, meant):
    assert SPELLER.correct(word) == meant


@pytest.mark.parametrize("word", ["module", "efuzion", "ede", "infusion", ""])
def test_another_first_letter_two_slips_and_short_words_are_not(word):
    assert SPELLER.correct(word) is None
