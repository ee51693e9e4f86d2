"""Kinds of sentences that labelers read wrongly: each is read as it was meant, in several wordings."""

from pathlib import Path

import pytest
import yaml

from chiasm.report.findings import label_report
from chiasm.report.sections import split_sections
from chiasm.study import Report

KINDS = yaml.safe_load((Path(__file__).parent / "kinds.yaml").read_text("utf-8"))


@pytest.mark.parametrize(
    ("text", "meant"), [pytest.param(t, m, id=kind) for kind, texts in KINDS.items() for t, m in texts.items()]
)
def test_a_sentence_is_read_as_it_was_meant(text, meant):
    said = {finding.name: finding.state.value for finding in label_report(Report(split_sections(text)))}
    assert {name: said[name] for name in meant} == meant


@pytest.mark.parametrize("text", ["The trachea is midline.", "Within 12 mm of the midline.", "Arterial calcification."])
def test_a_word_that_also_names_a_catheter_is_none_by_itself(text):
    said = {finding.name: finding.state.value for finding in label_report(Report(split_sections(text)))}
    assert said["support_devices"] == "not_mentioned"


@pytest.mark.parametrize("text", ["Modules are placed.", "The patient was infused.", "Edna was seen."])
def test_a_known_word_is_no_misspelled_finding(text):
    said = {finding.state.value for finding in label_report(Report(split_sections(text)))}
    assert said == {"not_mentioned"}
