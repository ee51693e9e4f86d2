"""The finding labeler: sentences a radiologist would read one way, and the human codes of Open-i."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.report.findings import label_report, label_texts, read_mentions, scheme_labels
from chiasm.report.phrases import expand
from chiasm.report.sections import read_lexicon
from chiasm.report.texts import read_texts
from chiasm.study import Report, State
from chiasm.vocabulary import FINDINGS, scheme

P, A, U = State.PRESENT, State.ABSENT, State.UNCERTAIN


def said(text: str) -> dict[str, State]:
    """What a text says, without what follows from it (`normal`) and broader names of the same words."""
    derived = ("normal", "lung_opacity", "lung_lesion")
    return {f.name: f.state for f in label_report(text) if f.state is not State.NOT_MENTIONED and f.name not in derived}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # plain
        ("Small left pleural effusion.", {"pleural_effusion": P}),
        ("Borderline cardiomegaly.", {"cardiomegaly": P}),
        # one negation over a list, and where it ends
        (
            "No effusion, pneumothorax, or consolidation.",
            {"pleural_effusion": A, "pneumothorax": A, "consolidation": A},
        ),
        ("No pneumothorax, but a small effusion.", {"pneumothorax": A, "pleural_effusion": P}),
        ("No effusion, and the heart is enlarged.", {"pleural_effusion": A, "cardiomegaly": P}),
        ("No effusion. Pneumothorax.", {"pleural_effusion": A, "pneumothorax": P}),
        ("Cardiomegaly without edema.", {"cardiomegaly": P, "edema": A}),
        ("The lungs are clear of consolidation or effusion.", {"consolidation": A, "pleural_effusion": A}),
        ("Neither effusion nor pneumothorax.", {"pleural_effusion": A, "pneumothorax": A}),
        # negation from behind
        ("Pneumothorax is not seen.", {"pneumothorax": A}),
        ("There is cardiomegaly and effusion is not seen.", {"cardiomegaly": P, "pleural_effusion": A}),
        ("Effusion or pneumothorax is not identified.", {"pleural_effusion": A, "pneumothorax": A}),
        ("Pneumonia is unlikely.", {"pneumonia": A}),
        # normal words deny too
        ("The heart size is normal.", {"cardiomegaly": A}),
        ("The heart is not enlarged.", {"cardiomegaly": A}),
        ("The costophrenic angles are sharp.", {"pleural_effusion": A}),
        # a "no" that denies nothing, and one that denies a "no"
        ("No change in the left effusion.", {"pleural_effusion": P}),
        ("Effusion is not significantly changed.", {"pleural_effusion": P}),
        ("Not without effusion.", {"pleural_effusion": P}),
        # doubt
        ("Possible pneumonia.", {"pneumonia": U}),
        ("This may represent pneumonia.", {"pneumonia": U}),
        ("A small pneumothorax cannot be excluded.", {"pneumothorax": U}),
        ("Cannot exclude pneumonia.", {"pneumonia": U}),
        ("Infiltrate consistent with pneumonia.", {"infiltration": P, "pneumonia": P}),
        ("Atelectasis versus pneumonia.", {"atelectasis": P, "pneumonia": U}),
        ("No consolidation to suggest pneumonia.", {"consolidation": A, "pneumonia": A}),
        ("Consolidation to suggest pneumonia.", {"consolidation": P, "pneumonia": U}),
        ("No focal consolidation concerning for pneumonia.", {"consolidation": A, "pneumonia": A}),
        ("Atelectasis rather than pneumonia.", {"atelectasis": P, "pneumonia": A}),
        # time
        ("The effusion has resolved.", {"pleural_effusion": A}),
        ("Interval resolution of the effusion.", {"pleural_effusion": A}),
        ("Effusion, decreased since the prior study.", {"pleural_effusion": P}),
        ("History of pneumonia, now with effusion.", {"pleural_effusion": P}),
        ("Films to rule out pneumonia.", {}),
        # names that hold another name
        ("Pericardial effusion.", {}),
        ("Subcutaneous emphysema.", {}),
        # the strongest statement of a report
        ("No definite effusion. Small effusion.", {"pleural_effusion": P}),
        ("Possible effusion. No effusion.", {"pleural_effusion": U}),
        # only what was seen, not what was asked
        ("INDICATION: Pneumonia. FINDINGS: No effusion.", {"pleural_effusion": A}),
        ("", {}),
        ("Der Herzschatten ist normal groß.", {}),
    ],
)
def test_sentences(text: str, expected: dict[str, State]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Heart size is normal.", P),
        ("PICC in place.", P),
        ("No acute cardiopulmonary disease.", P),
        ("Possible nodule.", A),
        ("Scoliosis. No effusion.", A),
        ("Der Herzschatten.", State.NOT_MENTIONED),
    ],
)
def test_normal_follows_from_the_others(text: str, state: State) -> None:
    assert label_report(text, ["No Finding"])[0].state is state


def test_names_come_back_in_the_order_asked_for() -> None:
    asked = ["Pneumothorax", "Effusion", "my_own"]
    assert [f.name for f in label_report("x", asked)] == ["pneumothorax", "pleural_effusion", "my_own"]
    assert [f.name for f in label_report("x")] == list(FINDINGS)


@pytest.mark.parametrize(
    "report",
    [
        "HISTORY: Effusion. FINDINGS: A mass.\n\nIMPRESSION: No   effusion.",
        Report({"history": "Effusion.", "technique": "", "findings": "A mass.", "impression": "No   effusion."}),
    ],
)
def test_spans_point_into_the_text(report: Report | str) -> None:
    text = report if isinstance(report, str) else report.text
    spans = {f.name: text[slice(*f.span)] for f in label_report(report) if f.span}
    assert spans == {"mass": "mass", "lung_lesion": "mass", "pleural_effusion": "effusion"}


@given(st.text(alphabet=st.sampled_from("no effusion,.\n mass is not seen possible versus İ "), max_size=80))
def test_any_text_is_read(text: str) -> None:
    for mention in read_mentions(text):
        assert mention.state is not State.NOT_MENTIONED
        assert text[mention.start : mention.end].strip()


def test_label_texts_is_label_report_for_many() -> None:
    texts = ["No effusion.", "", "Mass."]
    states = label_texts(texts, ["Effusion", "Mass"])
    assert states.tolist() == [
        ["absent", "not_mentioned"],
        ["not_mentioned", "not_mentioned"],
        ["not_mentioned", "present"],
    ]
    assert (states == State.PRESENT).sum() == 1
    assert label_texts([], ["Mass"]).shape == (0, 1)


def test_schemes_and_the_policy_for_doubt() -> None:
    (row,) = scheme_labels(["Pericardial effusion. Possible mass. Bronchial thickening."], "chestxray14")
    assert list(row) == list(scheme("chestxray14").values())
    assert {name for name, value in row.items() if value} == {"Effusion", "Pleural_Thickening"}
    (row,) = scheme_labels(["Possible pneumonia."], "chestxray14", uncertain="positive")
    assert row["Pneumonia"] == 1
    (row,) = scheme_labels(["Pericardial effusion."], "chexpert")
    assert row["Pleural Effusion"] == 0


def test_the_lexicon_is_consistent() -> None:
    """Every finding has its phrases, every name is known, and no phrase is both a finding and a rule."""
    findings, rules = read_lexicon("findings"), read_lexicon("rules")
    assert set(FINDINGS) - {"normal"} <= set(findings)
    assert {state for entry in findings.values() for state in entry} <= {"present", "uncertain", "absent"}
    kinds = {f"{kind}_{side}" for kind in ("negation", "uncertain", "ignore") for side in ("before", "after")}
    assert set(rules) == kinds | {"linked_before", "neutral", "stop"}
    named = {
        p for entry in findings.values() for text in entry.values() for item in text.split(",") for p in expand(item)
    }
    assert not named & {p for text in rules.values() for item in text.split(",") for p in expand(item)}
    for name, joined in read_lexicon("schemes").items():
        assert set(joined) <= set(scheme(name).values())
        assert {member for members in joined.values() for member in members} <= set(findings)


def test_human_codes_of_openi(shared_data: Path) -> None:
    """Micro-F1 of the even reports, on which the rules were written, over findings with at least 5 positives."""
    with (shared_data / "openi" / "gold-labels.csv").open(encoding="utf-8") as file:
        gold = {row["filename"]: row for row in csv.DictReader(file)}
    texts = [
        t for t in read_texts(shared_data / "openi" / "ecgen-radiology.zip") if t.id in gold and int(t.id[3:]) % 2 == 0
    ]
    rows = scheme_labels((text.report for text in texts), "chestxray14")
    names = [name for name in rows[0] if name != "No Finding"]
    truth = np.array([[int(gold[text.id][name]) for name in names] for text in texts])
    answer = np.array([[row[name] for name in names] for row in rows])
    often = truth.sum(axis=0) >= 5
    both = (truth * answer)[:, often].sum()
    f1 = 2 * both / (truth[:, often].sum() + answer[:, often].sum())
    assert len(texts) == 1548
    assert f1 > 0.92
