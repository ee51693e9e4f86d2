"""The round trip: what a structured report was written from is what the labeler reads in it."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.registry import SOURCES
from chiasm.report.attributes import describe_findings
from chiasm.report.content import Statement, TextContent, _implied, read_content
from chiasm.report.findings import label_report
from chiasm.report.structured import StructuredReport, build_report, find_differences
from chiasm.study import Finding, Report, State, Study
from chiasm.vocabulary import FINDINGS

SAID = (State.PRESENT, State.UNCERTAIN, State.ABSENT)
OWN = tuple(name for name in FINDINGS if name != "normal")


def facts_of(states, **details):
    said = [Statement(name, state, **details) for name, state in states.items()]
    return TextContent((*said, *_implied(said)))


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(OWN), st.sampled_from(SAID), min_size=1),
    st.sampled_from(["", "small", "large", "mild", "severe", "chronic", "patchy"]),
    st.sampled_from(["", "left", "right", "bilateral"]),
    st.sampled_from(["", "lower zone", "right upper lobe", "middle third of the image"]),
    st.sampled_from(["", "45 x 30 mm", "less than 1% of the image"]),
)
def test_every_state_of_every_finding_survives_whatever_is_said_of_it(states, manner, side, place, size):
    content = facts_of(states, manner=manner, side=side, place=place, size=size)
    report = build_report(content)
    assert find_differences(report.text, content.states) == []
    read = {f.name: f.state for f in label_report(report.text, OWN)}
    assert {name: read[name] for name in content.states} == content.states
    for name in set(OWN) - set(content.states):  # of others at most "no": no nodule reads as no lung lesion
        assert read[name] in (State.NOT_MENTIONED, State.ABSENT)


@pytest.mark.parametrize(
    "text",
    [
        "The chest is normal.",
        "No effusion or pneumothorax.",
        "Scoliosis.",
        "Tracheostomy tube in place.",
        "Possible small left effusion. Scoliosis.",
    ],
)
def test_normal_comes_back_as_it_was_read(text):
    content = read_content(Study("s", "p", report=Report({"findings": text})))
    (own,), (again,) = label_report(text, ["normal"]), label_report(build_report(content).text, ["normal"])
    assert content.states["normal"] is own.state is again.state


def _round_trip(studies) -> Counter:
    """Sources of the facts, and how many texts do not come back: every finding of the vocabulary is compared."""
    found: Counter[str] = Counter()
    for study in studies:
        if content := read_content(study):
            text = build_report(content).text
            read = {f.name: f.state for f in label_report(text, FINDINGS)}
            same = all(read[name] is state for name, state in content.states.items())
            more = [n for n in FINDINGS if n not in content.states and read[n] in SAID[:2] and n != "normal"]
            found.update(
                [
                    content.source,
                    "same" if same and not more and not find_differences(text, content.states) else "another",
                ]
            )
    return found


def test_round_trip_over_the_phantom(phantom):
    found = _round_trip(phantom.study(row) for row in range(len(phantom)))
    assert found["another"] == 0
    assert found["same"] == len(phantom)
    assert min(found["report"], found["labels"]) > 0


@pytest.mark.parametrize(("source", "folder", "n"), [("openi", "openi", 1000), ("chestxray14", "nih-chestxray14", 300)])
def test_round_trip_over_real_cohorts(shared_data, source, folder, n):
    studies = (study for study in SOURCES[source].read(shared_data / folder) if isinstance(study, Study))
    found = _round_trip(itertools.islice(studies, n))
    assert (found["another"], found["same"] > 0.98 * n) == (0, True)


def test_a_report_says_no_less_than_its_reading(phantom):
    """Of the findings the labeler reads in the study's own report, none is lost and none changes."""
    for row in range(len(phantom)):
        study = phantom.study(row)
        if study.report:
            own = {f.name: f.state for f in label_report(study.report)}
            text = build_report(read_content(study)).text
            assert {f.name: f.state for f in label_report(text)} == own


def test_a_structured_report_has_four_parts():
    report = build_report(facts_of({"pneumothorax": State.PRESENT, "edema": State.ABSENT}, manner="small", side="left"))
    assert report.text.splitlines() == [
        "DEFINITION: Pneumothorax: Air lies between the two layers of the pleura.",
        "APPEARANCE: Pneumothorax: Thin pleural line with no vessels beyond it; a deep dark sulcus when supine.",
        "OBSERVATIONS: Small left pneumothorax.",
        "VERDICT: Pneumothorax is present. No pulmonary edema.",
    ]
    assert StructuredReport.model_validate_json(report.model_dump_json()) == report


def test_a_label_of_ones_own_is_said_and_not_compared():
    content = facts_of({"covid_19": State.PRESENT, "mass": State.ABSENT})
    report = build_report(content)
    assert report.text == "OBSERVATIONS: Covid 19.\nVERDICT: Covid 19 is present. No mass."
    assert find_differences(report.text, content.states) == []


def test_unlike_names_what_differs_and_no_words_of_the_text():
    states = {"mass": State.PRESENT, "edema": State.UNCERTAIN, "fracture": State.ABSENT}
    found = find_differences("No mass. Jane Roe has edema. Possible fracture. Pneumothorax.", states)
    assert found == [
        "mass is present in the facts, but reads as absent",
        "pneumothorax is not mentioned in the facts, but reads as present",
        "pulmonary edema is uncertain in the facts, but reads as present",
        "fracture is absent in the facts, but reads as uncertain",
    ]


def test_labels_that_contradict_each_other_are_noticed():
    """The chest cannot be normal and show a mass: no text says both, and the difference is named."""
    study = Study("s", "p", findings=(Finding("normal", State.PRESENT), Finding("mass", State.PRESENT)))
    content = read_content(study)
    assert find_differences(build_report(content).text, content.states) == [
        "normal chest is present in the facts, but reads as absent"
    ]


def test_sides_and_lobes_come_back_too(phantom):
    """Every side and height that the labeler ties to a finding of the report, it ties to it in the structured report."""
    told = 0
    for row in range(len(phantom)):
        report = phantom.study(row).report
        if report:
            own, again = (_places(text) for text in (report, build_report(read_content(phantom.study(row))).text))
            assert again == own
            told += len(own)
    assert told > 50


def _places(report) -> set:
    found = set()
    strongest = {f.name: f.state for f in label_report(report)}
    for said in describe_findings(report):
        finding, state = said.mention.finding, said.mention.state
        if finding in FINDINGS and state in SAID[:2] and state is strongest[finding]:
            sides = said.values("side")
            if sides:
                found.add((finding, "both" if len(sides) > 1 else sides[0], tuple(sorted(said.values("zone")))))
    return found
