"""The nouns: frozen, and a prediction says by what it was answered."""

from dataclasses import FrozenInstanceError

import pytest

from chiasm.study import Prediction, Report, Study


def test_the_text_of_a_report_is_its_sections_in_order_without_empty_ones():
    report = Report({"history": "Cough.", "findings": "", "impression": "Clear lungs."})
    assert report.text == "Cough.\nClear lungs."
    assert Report({}).text == ""


@pytest.mark.parametrize(
    ("used", "arm"),
    [
        ((), "prior"),
        (("image",), "image"),
        (("image", "record"), "image+record"),
        (("text",), "report-conditioned"),
        (("image", "text", "record"), "report-conditioned"),
    ],
)
def test_an_answer_that_read_a_report_says_so(used, arm):
    assert Prediction("s", "p", used=used).arm == arm


def test_a_noun_is_not_changed():
    with pytest.raises(FrozenInstanceError):
        Study("s", "p").split = "test"
