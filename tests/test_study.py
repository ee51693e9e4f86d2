"""The nouns: frozen, and a prediction says by what it was answered."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from chiasm.study import Finding, Prediction, Record, Report, State, Study


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


def test_studies_and_predictions_are_equal_by_value(make_study):
    one, other = make_study(0), make_study(0)
    assert one == other and hash(one) == hash(other)
    assert one.images[0] == other.images[0]
    brighter = replace(one.images[0], pixels=one.images[0].pixels + 1)
    for changed in (
        replace(one, study_id="another"),
        replace(one, images=(brighter, *one.images[1:])),
        replace(one, record=Record({"age_years": -1.0})),
        replace(one, facts={"volume_ml": 3.0}),
    ):
        assert changed != one
    maps = {("i", "findings/mass"): np.array([[0.5, np.nan]], np.float32)}
    assert Prediction("s", "p", maps=maps) == Prediction("s", "p", maps={key: x.copy() for key, x in maps.items()})
    assert Prediction("s", "p", maps=maps) != Prediction(
        "s", "p", maps={key: x.astype(float) for key, x in maps.items()}
    )
    assert Prediction("s", "p") != Study("s", "p")


def test_what_is_shown_fits_a_screen_and_holds_no_word_of_a_report(make_study):
    study = replace(
        make_study(0), report=Report({"findings": "SECRET " * 400}), record=Record({f"c{i}": 1.0 for i in range(99)})
    )
    answer = Prediction(
        "s", "p", tuple(Finding(f"finding_{i}", State.ABSENT, probability=0.123) for i in range(40)), used=("image",)
    )
    for shown in (study, *study.images, study.report, study.record, answer, *study.regions):
        assert len(repr(shown)) < 400
        assert "SECRET" not in repr(shown)
    assert "finding_0 0.12" in repr(answer) and "35 more" in repr(answer)


def test_the_table_of_a_prediction_is_escaped():
    answer = Prediction("<b>s</b>", "p", (Finding("mass", State.PRESENT, probability=0.9),), description="a < b")
    page = answer._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;s" in page and "a &lt; b" in page and "0.90" in page
