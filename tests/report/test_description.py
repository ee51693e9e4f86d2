"""The text of a stroke lesion against sentences written by hand, and of drawn regions."""

import pytest

from chiasm.domains.stroke.territories import TERRITORIES
from chiasm.report.content import Statement, TextContent, read_content
from chiasm.report.description import build_description
from chiasm.report.findings import label_report
from chiasm.report.structured import build_report
from chiasm.study import State, Study

LESION = {
    "lesion_volume_ml": 42.06,
    "hemisphere": "left",
    "foci": 3.0,
    "cortical_share": 0.55,
    "subcortical_share": 0.43,
    "infratentorial_share": 0.0,
    "ventricle_share": 0.06,
    "midline_distance_mm": 11.7,
    "territory_7_share": 0.604,
    "territory_9_share": 0.25,
    "territory_15_share": 0.05,
    "territory_2_share": 0.019,  # too little to be named
    "flair_visible": "axial, coronal",
    "flair_contrast": 1.4,
    "flair_contrast_plane": "axial",
}


def test_a_lesion_reads_like_a_radiologists_paragraph():
    description = build_description(TextContent(measured=LESION, names=TERRITORIES))
    assert description.findings == (
        "There is a moderate ischemic lesion in the left hemisphere with a volume of 42 ml.",
        "It consists of 3 separate foci.",
        "It lies mainly in the territory of the frontal branches of the left middle cerebral artery (60%), and in those of "
        "the parietal branches of the left middle cerebral artery (25%) and the insular branches of the left middle "
        "cerebral artery (5%).",
        "It involves cortex (55%) and subcortical tissue (43%).",
        "Its outline extends into a lateral ventricle (6%).",
        "It comes within 12 mm of the midline.",
        "On FLAIR it is visible on the axial and coronal planes, where it is clearly brighter than the brain around it.",
    )
    assert description.impression == (
        "Moderate multifocal ischemic lesion in the left hemisphere, mainly of the frontal branches of the left middle "
        "cerebral artery, 42 ml."
    )
    assert description.text.startswith("FINDINGS: There is a moderate") and "\nIMPRESSION: Moderate" in description.text


@pytest.mark.parametrize(
    ("volume", "word"),
    [
        (0.1, "punctate"),
        (1.2, "small"),
        (9.96, "small to moderate"),
        (30, "moderate"),
        (100, "large"),
        (400, "very large"),
    ],
)
def test_the_size_of_a_lesion_is_named_by_its_class(volume, word):
    (first, *_) = build_description(TextContent(measured={"lesion_volume_ml": volume})).findings
    assert f"a {word} ischemic lesion " in first


def test_what_is_not_known_is_not_said():
    description = build_description(
        TextContent(measured={"lesion_volume_ml": 2.0, "hemisphere": "both", "flair_visible": "not visible"})
    )
    assert description.findings == (
        "There is a small to moderate ischemic lesion in both hemispheres with a volume of 2.0 ml.",
        "On FLAIR it is not visible on the pictured planes.",
    )


def test_a_volume_of_zero_is_described_as_no_lesion():
    description = build_description(TextContent(measured={"lesion_volume_ml": 0.0}))
    assert description.text == "FINDINGS: No ischemic lesion is delineated.\nIMPRESSION: No measurable ischemic lesion."


def test_drawn_regions_are_described_one_sentence_each():
    said = [
        Statement("pleural_effusion", State.PRESENT, side="left", place="lower zone", size="45 x 30 mm"),
        Statement("mass", State.PRESENT, side="right"),
        Statement("mass", State.PRESENT, side="left"),
    ]
    description = build_description(TextContent(tuple(said)))
    assert description.findings == ("Left pleural effusion, lower zone, 45 x 30 mm.", "Right mass.", "Left mass.")
    assert description.impression == "Pleural effusion, mass."
    read = {f.name for f in label_report(description.text) if f.state is State.PRESENT}
    assert read == {"pleural_effusion", "mass", "lung_lesion"}


def test_nothing_measured_is_no_description():
    assert build_description(TextContent()) is None


def test_the_structured_report_of_a_lesion():
    content = read_content(Study("s", "p", facts=LESION), TERRITORIES)
    report = build_report(content)
    assert report.observations == build_description(content).findings
    assert report.text.endswith("VERDICT: Ischemic lesion is present.")
    none = build_report(read_content(Study("s", "p", facts={"lesion_volume_ml": 0.0})))
    assert none.text.endswith("VERDICT: No ischemic lesion.")


@pytest.mark.parametrize(
    ("volume", "said"),
    [(0.001, "less than 0.01 ml"), (0.04, "0.04 ml"), (0.12, "0.1 ml"), (2.0, "2.0 ml"), (42.06, "42 ml")],
)
def test_no_lesion_that_is_there_has_a_volume_of_zero(volume, said):
    (first, *_) = build_description(TextContent(measured={"lesion_volume_ml": volume})).findings
    assert first.endswith(f"with a volume of {said}.")
