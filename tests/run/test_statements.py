"""Sentences of a report: how they are left out, and that what they change is the answer to a report without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from chiasm.prediction.predictor import load_predictor
from chiasm.report.tokenizer import Tokenizer
from chiasm.run.ensemble import predict_together
from chiasm.run.statements import leave_out, split, truncate
from chiasm.study import Report


def test_a_text_is_left_without_each_of_its_sentences():
    text = "Mass of 3.5 cm.\nNo effusion. Normal"
    assert [text[a:b] for a, b in split(text)] == ["Mass of 3.5 cm.", "No effusion.", "Normal"]
    assert leave_out([text, "", "One."]) == [
        ["\nNo effusion. Normal", "", ""],
        ["Mass of 3.5 cm.\n Normal", "", "One."],
        ["Mass of 3.5 cm.\nNo effusion. ", "", "One."],
    ]
    assert leave_out(["", ""]) == []


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return load_predictor(tiny_run)


def test_a_change_is_the_answer_minus_that_to_the_report_without_the_sentence(predictor, phantom):
    study = next(s for s in map(phantom.study, range(len(phantom))) if s.report and len(s.report.sections) > 1)
    section = next(iter(set(predictor.plan.text_sections) & study.report.sections.keys()))
    text = "Large right pneumothorax. Normal heart. No effusion"
    with_all, without = (
        predictor(replace(study, report=Report({section: said})))
        for said in (text, "Large right pneumothorax.  No effusion")
    )
    statements = with_all.statements
    assert [text[s.start : s.end] for s in statements] == ["Large right pneumothorax.", "Normal heart.", "No effusion"]
    for a, b in zip(with_all.findings, without.findings, strict=True):
        expected = logit(a.probability) - logit(b.probability)
        assert statements[1].changes[f"{a.target}/{a.name}"] == pytest.approx(expected, abs=1e-4)
    assert max(abs(x) for x in statements[1].changes.values()) > 1e-4


def test_studies_that_are_asked_together_get_what_they_get_alone(predictor, phantom):
    (fold_model,) = [each.over([phantom]) for each in predictor.fold_models]
    rows = np.arange(6)
    together = predict_together([fold_model], rows)
    assert any(p.statements for p in together)
    for row in rows[:3]:
        (alone,) = predict_together([fold_model], rows[row : row + 1])
        for a, b in zip(together[row].statements, alone.statements, strict=True):
            assert (a.start, a.end) == (b.start, b.end)
            assert dict(a.changes) == pytest.approx(dict(b.changes), abs=1e-4)


def test_without_a_report_there_are_none_and_of_a_long_one_those_that_are_read(predictor, phantom):
    study = next(s for s in map(phantom.study, range(len(phantom))) if s.report)
    assert predictor(replace(study, report=None)).statements == ()
    section, longest = predictor.plan.text_sections[-1], predictor.plan.max_tokens
    text = "One two. " * longest
    told = predictor(replace(study, report=Report({section: text})))
    assert told.ignored and len(told.statements) == longest // 3  # a sentence is three tokens
    assert max(s.end for s in told.statements) == 9 * (longest // 3) - 1


def test_a_text_is_cut_where_the_reader_stops():
    reader = Tokenizer.train(["A mass of 3.5 cm."] * 2)
    text = "A mass of 3.5 cm. A"
    assert [truncate(text, reader, n) for n in (0, 1, 3, 5, 6, 9)] == [
        "",
        "A",
        "A mass of",
        "A mass of 3.5 cm",
        text[:17],
        text,
    ]
