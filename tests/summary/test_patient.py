"""The page of one patient: what stands on it, in which order, and that nothing on it runs or is loaded."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from chiasm.summary.patient import Answer, Passage, Patient, Shown, render_patient

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def patient() -> Patient:
    explained = {
        "unit": "log-odds",
        "shares": {"image": 1.25, "record": -0.5},
        "columns": {"age_years 67": (-0.4, 0.02)},
    }
    heat = np.zeros((40, 60), np.float32)
    heat[10:20, 10:30] = 0.9
    return Patient(
        study=f"s1 {ATTACK}",
        arm="image, record",
        facts={"Run": f"run {ATTACK}"},
        answers=[
            Answer("event", "outcome", "no", False, "31%", "42%", "no", **explained),
            Answer("mass", "findings", "present", True, "83%", "50%", "present or absent", **explained),
            *(Answer(f"f{i}", "findings", "absent", False, "1%", "50%", **explained) for i in range(3)),
        ],
        unlike=[f"the file says CT {ATTACK}"],
        notes=[f"An expert drew it {ATTACK}"],
        ignored=[f"report: technique {ATTACK}"],
        coverage=0.9,
        images=[
            Shown(np.zeros((40, 60), np.uint8), np.array([[10.0, 10, 30, 20]]), heat, f"pa {ATTACK}", [("mass", "83%")])
        ],
        description=f"A mass {ATTACK}",
        report=[
            Passage("FINDINGS: "),
            Passage(f"Small mass {ATTACK}", 2, [f"mass +0.50 {ATTACK}"]),
            Passage("Large effusion.", 1, ["effusion +2.00"]),
        ],
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _text(page: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_nothing_runs_and_nothing_is_loaded(patient) -> None:
    page = _Tags()
    page.feed(render_patient(patient))
    assert "script" not in {tag for tag, _ in page.tags}
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 1 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") or name == "href" for name in attrs)]


def test_what_must_be_known_stands_before_the_answers(patient) -> None:
    text = _text(render_patient(patient))
    order = [
        "Not for clinical use",
        "Holds patient data",
        "Unlike the training data:",
        "An expert drew it",
        "Not read:",
    ]
    places = [text.index(words) for words in [*order, "Answers", "event", "mass", "What each input added"]]
    assert places == sorted(places)


def test_an_answer_is_a_row_with_its_threshold_and_set_and_its_inputs_beside_their_values(patient) -> None:
    text = _text(render_patient(patient))
    assert "mass present 83% 50% present or absent" in text
    assert "event no 31% 42% no" in text
    assert "age years 67 -0.40 ± 0.02" in text
    assert "hold the truth of 90% of patients" in text
    assert "2 more answers" in text


def test_what_a_model_does_not_say_has_no_place(patient) -> None:
    bare = Patient("s1", "image", {}, [Answer("age", "outcome", "63")])
    text = _text(render_patient(bare))
    for words in (
        "Read this first",
        "probability",
        "yes from",
        "prediction set",
        "without the report",
        "Image",
        "Generated",
    ):
        assert words not in text


def test_key_statements_are_marked_in_the_report_and_told_in_order(patient) -> None:
    page = render_patient(patient)
    assert "<mark>Large effusion.<sup>1</sup></mark>" in page
    assert page.index("<li>effusion +2.00</li>") < page.index("<li>mass +0.50 ")
    text = _text(page)
    assert text.index("FINDINGS: Small mass") < text.index("Large effusion.")
