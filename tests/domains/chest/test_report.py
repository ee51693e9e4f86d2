"""The phantom's words: they agree with the truth, tell the course, and nothing of what is for image and record to tell."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from chiasm.domains.chest.lesions import CARDIOMEGALY, KINDS, SIDES, ZONES, draw_lesions
from chiasm.domains.chest.report import COURSES, HEDGED_SHARE, OMITTED_SHARE, Truth, write_report
from chiasm.report.sections import SECTIONS
from chiasm.study import Report, State

WORDS = {
    "pneumothorax": "pneumothorax",
    "pleural_effusion": "effusion",
    "atelectasis": "atelectasis",
    "consolidation": "consolidation|airspace disease",
    "mass": "mass",
    "nodule": "nodule|nodular",
    CARDIOMEGALY: "cardiomegaly|heart|cardiac",
}


@pytest.fixture(scope="module")
def written() -> list[tuple[Truth, Report, dict[str, State]]]:
    cases = []
    for number in range(1500):
        rng = np.random.default_rng(number)
        enlarged = bool(rng.random() < 0.2)
        course = int(rng.integers(5)) if rng.random() < 0.9 else None
        truth = Truth(61, "f", course, draw_lesions(0.98, enlarged, rng), enlarged, bool(rng.random() < 0.5))
        cases.append((truth, *write_report(truth, rng)))
    return cases


def sentences(report: Report, name: str) -> list[str]:
    """Those of the findings that name a kind."""
    parts = re.split(r"(?<=\.) ", report.sections["findings"])
    return [part for part in parts if re.search(WORDS[name], part.lower())]


def test_sides_and_zones_of_a_true_finding_are_its_own(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    checked = 0
    for truth, report, said in written:
        for name in truth.present - {CARDIOMEGALY}:
            if said[name] is State.NOT_MENTIONED:
                continue
            places = [(lesion.side, lesion.zone) for lesion in truth.lesions if lesion.name == name]
            told = sentences(report, name)
            assert len(told) == len(places), told
            for (side, zone), sentence in zip(places, told, strict=True):
                assert [s for s in SIDES if s in sentence.lower()] == [side]
                assert [z for z in ZONES if f"{z} zone" in sentence] in ([], [zone])
                checked += 1
    assert checked > 800


def test_what_is_said_follows_from_the_truth(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    count: Counter[State] = Counter()
    for truth, report, said in written:
        assert tuple(said) == KINDS
        for name, state in said.items():
            told = sentences(report, name)
            assert bool(told) == (state is not State.NOT_MENTIONED)
            if name in truth.present:
                assert state is not State.ABSENT
                count[state] += 1
                hedged = any(re.search(r"possibl|may |cannot|questionable", part.lower()) for part in told)
                assert hedged == (state is State.UNCERTAIN)
            else:
                assert state in (State.ABSENT, State.NOT_MENTIONED)
                assert all(re.search(r"\bno\b|not|resol|negative|normal|clearing|resected", s.lower()) for s in told)
    total = count.total()
    assert count[State.NOT_MENTIONED] / total == pytest.approx(OMITTED_SHARE, abs=0.03)
    assert count[State.UNCERTAIN] / total == pytest.approx(HEDGED_SHARE, abs=0.03)


def test_earlier_findings_need_an_earlier_examination(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    earlier = re.compile("previously|resolved|clearing|no longer")
    told = [bool(earlier.search(report.sections["findings"])) for _, report, _ in written]
    assert 0.1 < np.mean(told) < 0.6
    assert all(truth.has_prior for (truth, _, _), found in zip(written, told, strict=True) if found)


def pattern(wording: str) -> re.Pattern[str]:
    return re.compile(r"61-year-old woman, " + re.escape(wording).replace(r"\{s\}", r"[a-z ]+") + r"\.(?: |$)")


def test_the_indication_tells_the_course_and_only_one(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    patterns = [[pattern(wording) for wording in level] for level in COURSES]
    for truth, report, _ in written:
        text = report.sections["indication"]
        levels = [level for level, bank in enumerate(patterns) if any(p.match(text) for p in bank)]
        assert levels == ([] if truth.course is None else [truth.course]), text


def test_the_course_is_told_nowhere_else(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    for truth, _, _ in written[:50]:
        told = []
        for course in (None, 0, 4):
            sections = dict(write_report(replace(truth, course=course), np.random.default_rng(7))[0].sections)
            del sections["indication"]
            told.append(sections)
        assert told[0] == told[1] == told[2]


def test_nothing_is_said_of_what_image_and_record_tell(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    secret = re.compile(
        r"volume|interstiti|reticul|haz[ye]|inspirat|expan|fever|febrile|tachy|saturat|oxygen|hypox|crp|pulse"
    )
    assert not [text for _, report, _ in written if (text := report.text) and secret.search(text.lower())]


def test_sections_are_known_and_none_is_empty(written: list[tuple[Truth, Report, dict[str, State]]]) -> None:
    for _, report, _ in written:
        assert set(report.sections) <= set(SECTIONS)
        assert all(report.sections.values())
        assert "{" not in report.text
        assert "  " not in report.text
    assert len({report.sections["findings"] for _, report, _ in written}) > 0.8 * len(written)
