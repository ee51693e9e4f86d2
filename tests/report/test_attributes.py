"""Attributes: each word goes to the finding a radiologist would give it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.report.attributes import ATTRIBUTES, describe_findings
from chiasm.report.findings import HELPER, read_mentions
from chiasm.report.phrases import expand
from chiasm.report.sections import read_lexicon
from chiasm.study import Report


def said(text: str) -> dict[str, dict[str, list[str]]]:
    """Finding -> kind -> values, of the findings a text names."""
    return {
        d.mention.finding: {kind: values for kind in ATTRIBUTES if (values := d.values(kind))}
        for d in describe_findings(text)
        if d.mention.finding not in (HELPER, "lung_opacity", "lung_lesion")
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # before, after, and inside the words of the finding
        (
            "Small left pleural effusion with mild cardiomegaly.",
            {"pleural_effusion": {"side": ["left"], "extent": ["small"]}, "cardiomegaly": {"severity": ["mild"]}},
        ),
        (
            "Patchy consolidation in the right lower lobe.",
            {"consolidation": {"side": ["right"], "lobe": ["lower"], "texture": ["patchy"]}},
        ),
        ("The heart is mildly enlarged.", {"cardiomegaly": {"severity": ["mild"]}}),
        # two findings, each with its own
        (
            "Consolidation in the left base and small right effusion.",
            {
                "consolidation": {"side": ["left"], "zone": ["base"]},
                "pleural_effusion": {"side": ["right"], "extent": ["small"]},
            },
        ),
        (
            "Mass in the left upper lobe, right effusion.",
            {"mass": {"side": ["left"], "lobe": ["upper"]}, "pleural_effusion": {"side": ["right"]}},
        ),
        # one word, two values
        ("Bibasilar atelectasis.", {"atelectasis": {"side": ["both"], "zone": ["base"]}}),
        ("RML pneumonia.", {"pneumonia": {"side": ["right"], "lobe": ["middle"]}}),
        ("Lingular nodule.", {"nodule": {"side": ["left"], "lobe": ["lingula"]}}),
        ("Mild to moderate edema.", {"edema": {"severity": ["mild", "moderate"]}}),
        # a neighbour's place is shared by those that name none, unless a no stands between
        (
            "Consolidation in the left base, likely pneumonia.",
            {
                "consolidation": {"side": ["left"], "zone": ["base"]},
                "pneumonia": {"side": ["left"], "zone": ["base"]},
            },
        ),
        ("Left effusion without pneumothorax.", {"pleural_effusion": {"side": ["left"]}, "pneumothorax": {}}),
        ("No left effusion.", {"pleural_effusion": {"side": ["left"]}}),
        (
            "Cardiomegaly and left effusion.",
            {"cardiomegaly": {}, "pleural_effusion": {"side": ["left"]}},
        ),
        # parted from both: the nearer one's
        (
            "Consolidation, left base, and there is no effusion.",
            {"consolidation": {"side": ["left"], "zone": ["base"]}, "pleural_effusion": {}},
        ),
        (
            "Consolidation is seen, and there is a left, small effusion.",
            {
                "consolidation": {"side": ["left"]},
                "pleural_effusion": {"side": ["left"], "extent": ["small"]},
            },
        ),
        # each sentence by itself
        ("Left effusion. Edema.", {"pleural_effusion": {"side": ["left"]}, "edema": {}}),
        # time
        ("Old healed fracture. New mass.", {"fracture": {"chronicity": ["chronic"]}, "mass": {"chronicity": ["new"]}}),
        ("Stable calcified nodule.", {"nodule": {"texture": ["calcified"], "chronicity": ["stable"]}}),
        # the brain
        (
            "Acute infarct in the left MCA territory involving the insula and frontal lobe.",
            {
                "infarct": {
                    "side": ["left"],
                    "lobe": ["insula", "frontal"],
                    "territory": ["middle_cerebral"],
                    "chronicity": ["acute"],
                }
            },
        ),
        (
            "Large hemorrhage in the right hemisphere.",
            {"hemorrhage": {"side": ["right"], "extent": ["large"]}},
        ),
        (
            "Chronic infarct of the left cerebellum in the PICA territory, small hemorrhage in the right parietal lobe.",
            {
                "infarct": {
                    "side": ["left"],
                    "lobe": ["cerebellum"],
                    "territory": ["inferior_cerebellar"],
                    "chronicity": ["chronic"],
                },
                "hemorrhage": {"side": ["right"], "lobe": ["parietal"], "extent": ["small"]},
            },
        ),
        (
            "Ischemic lesion of the right basal ganglia and an enhancing lesion in the left occipital lobe.",
            {
                "infarct": {"side": ["right"], "lobe": ["deep"]},
                "brain_lesion": {"side": ["left"], "lobe": ["occipital"]},
            },
        ),
        (
            "Multiple acute infarcts in the right anterior cerebral artery territory without hemorrhage.",
            {
                "infarct": {
                    "side": ["right"],
                    "territory": ["anterior_cerebral"],
                    "extent": ["multiple"],
                    "chronicity": ["acute"],
                },
                "hemorrhage": {},
            },
        ),
        ("", {}),
        ("Left. Right. Small.", {}),
    ],
)
def test_each_attribute_of_a_sentence_is_read_and_tied_to_its_finding(
    text: str, expected: dict[str, dict[str, list[str]]]
) -> None:
    assert said(text) == expected


def test_characters_are_those_of_the_report() -> None:
    report = Report({"history": "Left mass.", "findings": "Clear heart.  A small\n left effusion.  "})
    (described,) = [d for d in describe_findings(report) if d.mention.finding == "pleural_effusion"]
    assert report.text[slice(*described.sentence)] == "A small\n left effusion"
    assert report.text[described.section.start : described.section.end] == report.sections["findings"]
    assert [(a.kind, report.text[a.start : a.end]) for a in described.attributes] == [
        ("extent", "small"),
        ("side", "left"),
    ]


@given(st.text(alphabet=st.sampled_from("left mass, and no. effusion\n in base small İ"), max_size=80))
def test_every_mention_is_described_once(text: str) -> None:
    described = describe_findings(text)
    assert [d.mention for d in described] == read_mentions(text)
    for d in described:
        assert d.sentence[0] <= d.mention.start < d.mention.end <= d.sentence[1]
        assert all(d.sentence[0] <= a.start < a.end <= d.sentence[1] for a in d.attributes)


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind in ATTRIBUTES for value in read_lexicon("attributes")[kind]]
)
def test_each_value_is_read_from_each_of_its_words(kind: str, value: str) -> None:
    for item in read_lexicon("attributes")[kind][value].split(","):
        for phrase in expand(item):
            words = phrase.replace("*", "")
            text = f"There is an infarct, {words}."
            assert value in [v for d in describe_findings(text) for v in d.values(kind)], words


def test_the_lexicon_has_every_kind_and_no_phrase_twice_in_a_value() -> None:
    lexicon = read_lexicon("attributes")
    assert set(lexicon) == {*ATTRIBUTES, "without_side"}
    assert set(lexicon["without_side"]) <= set(read_lexicon("findings"))
    for kind in ATTRIBUTES:
        for value, words in lexicon[kind].items():
            phrases = [plain for item in words.split(",") for plain in expand(item)]
            assert len(phrases) == len(set(phrases)), f"{kind}/{value}"
