"""Each sentence of a model says what the facts say: right texts in other words pass, whatever is invented does not."""

from dataclasses import replace

import pytest

from chiasm.domains.stroke.territories import TERRITORIES
from chiasm.report.content import Statement, TextContent
from chiasm.report.structured import build_report
from chiasm.report.writers import Task
from chiasm.report.writers.check import check_document, complete_report
from chiasm.report.writers.entailment import find_unsupported, read_given
from chiasm.report.writers.task import fill_template
from chiasm.study import State

CHEST = Task(
    "structured-report",
    TextContent(
        (
            Statement("pleural_effusion", State.PRESENT, "small", "left", "lower zone", "45 x 30 mm"),
            Statement("cardiomegaly", State.PRESENT, "mild"),
            Statement("nodule", State.UNCERTAIN, side="right", place="upper lobe"),
            Statement("lung_lesion", State.UNCERTAIN),
            Statement("lung_opacity", State.ABSENT),
            Statement("pneumothorax", State.ABSENT),
            Statement("mass", State.ABSENT),
        ),
        source="report",
    ),
)
STROKE = Task(
    "image-description",
    TextContent(
        measured={
            "lesion_volume_ml": 12.34, "hemisphere": "left", "territory_7_share": 1.0, "foci": 2.0, "cortical_share": 0.8,
            "subcortical_share": 0.2, "midline_distance_mm": 12.0,
        },
        source="measurements",
        names=TERRITORIES,
    ),
)  # fmt: skip


def unsupported(task, *sentences):
    return find_unsupported(sentences, read_given(task, fill_template(task)))


@pytest.mark.parametrize(
    "sentence",
    [
        "A small effusion is seen on the left.",
        "There is a small left-sided pleural effusion in the lower zone, measuring approximately 45 x 30 mm.",
        "The heart is mildly enlarged.",
        "Mild cardiac enlargement is noted.",
        "Small left pleural fluid.",
        "Possible nodule in the right upper lobe.",
        "A nodule in the RUL is suspected.",
        "There is no pneumothorax.",
        "No evidence of pneumothorax or lung opacity.",
        "No consolidation.",  # a consolidation is an opacity, and there is none
        "No mass.",
        "Tiny effusion at the left, 45 x 30 mm in size.",
        "The image shows slight cardiomegaly, and a possible lung lesion.",
    ],
)
def test_what_the_facts_say_may_be_said_in_other_words(sentence):
    assert unsupported(CHEST, sentence) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "There is an infarct of 12 ml in the left hemisphere.",
        "Left hemispheric stroke, approximately 12 ml in volume.",
        "It consists of two foci.",
        "Two separate foci are seen.",
        "It lies in the frontal branches of the left middle cerebral artery.",
        "The lesion is predominantly cortical (80%).",
        "It involves mainly the cortex.",
        "It reaches within 12 mm of the midline.",
    ],
)
def test_what_was_measured_may_be_said_in_other_words(sentence):
    assert unsupported(STROKE, sentence) == []


INVENTED = [
    *("Free air under the diaphragm.", "Status post sternotomy.", "Urgent surgery is needed.", "Mr Miller was examined."),
    *("A CT of the chest is recommended.", "A pacemaker is in place.", "There is a rib fracture.", "No rib fracture is seen."),
    *("Fever and cough are present.", "This is an elderly man.", "Compared with the prior study this has progressed."),
    *("This is caused by heart failure.", "The outlook is poor.", "The film is rotated.", "Troponin is raised."),
    *("This is suspicious for malignancy.", "Antibiotics were given.", "The aorta is tortuous.", "The spine is degenerative."),
    *("A motion artefact is present.", "This is definitely the diagnosis.", "The soft tissues are swollen."),
    *("Known history of tuberculosis.", "It was taken on Monday.", "The patient was transferred.", "It is seen."),
]  # fmt: skip


RIGHT = ("Small left pleural effusion.", "Cardiomegaly.", "Possible nodule.", "Possible lung lesion.")


def check(task, sentence=""):
    """The reasons against a right text with one more sentence."""
    own, more = fill_template(task), (sentence,) if sentence else ()
    if task is STROKE:
        return check_document(own.model_copy(update={"findings": (*own.findings, *more)}), task, own)
    return check_document(complete_report((*RIGHT, *more), build_report(task.content).verdict, task), task, own)


@pytest.mark.parametrize("sentence", INVENTED)
@pytest.mark.parametrize("task", [CHEST, STROKE], ids=["chest", "stroke"])
def test_an_invented_sentence_is_caught(task, sentence):
    assert check(task) == []
    assert check(task, sentence) != []


@pytest.mark.parametrize("sentence", ["Mr Miller was examined.", "A letter of Jane Roe."])
def test_no_word_of_an_invented_sentence_is_told(sentence):
    (reason,) = unsupported(CHEST, sentence)
    assert reason == "sentence 1 says what stands in no fact"


@pytest.mark.parametrize(
    "sentence",
    [
        "Small right pleural effusion.",  # the side of another finding
        "Large left pleural effusion.",
        "Small left pleural effusion in the upper lobe.",
        "Chronic left pleural effusion.",
        "Severe cardiomegaly.",
        "Calcified nodule in the right upper lobe is possible.",
        "There is a nodule in the right upper lobe.",  # not a doubt any more
        "No nodule.",
        "Left hemothorax.",
        "The heart of Miller is enlarged.",  # within the gap of a phrase
        "Small left pleural effusion, and free air.",
        "Small left pleural effusion. Free air.",  # two sentences in one
    ],
)
def test_an_attribute_or_a_state_of_another_finding_is_caught(sentence):
    assert check(CHEST, sentence) != []


def test_a_sentence_of_the_report_may_be_said_again_but_not_turned_around():
    told = replace(
        CHEST, report="Sternotomy wires are intact. No free air under the diaphragm. Possible calcified granuloma."
    )
    assert unsupported(told, "Sternotomy wires are seen.", "No free air.") == []
    assert len(unsupported(told, "Free air under the diaphragm.")) == 1
    assert len(unsupported(told, "Sternotomy wires under the diaphragm.")) == 1, "words of two sentences"
