"""The finding labeler: sentences a radiologist would read one way, and the human codes of Open-i."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chiasm.report import attributes, findings, phrases
from chiasm.report.attributes import describe_findings
from chiasm.report.files import read_report_files
from chiasm.report.findings import label_report, label_reports, read_mentions, scheme_labels
from chiasm.report.phrases import expand
from chiasm.report.sections import read_lexicon
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
        # doubt that is not one, and doubt that stands behind
        ("Opacities most suggestive of edema.", {"edema": P}),
        ("Atelectasis versus infiltrate.", {"atelectasis": P, "infiltration": U}),
        ("Small effusions suspected.", {"pleural_effusion": U}),
        ("Pneumonia should be considered.", {"pneumonia": U}),
        ("In the appropriate clinical setting, pneumonia.", {"pneumonia": U}),
        ("Opacity compatible with pneumonia in the proper clinical setting.", {"pneumonia": U}),
        ("?pneumonia", {"pneumonia": U}),
        ("Consolidation? Effusion.", {"consolidation": U, "pleural_effusion": P}),
        ("The heart may be mildly enlarged.", {"cardiomegaly": U}),
        ("It is unclear whether this represents pneumonia.", {"pneumonia": U}),
        ("Pneumonia unlikely.", {"pneumonia": A}),
        ("Atelectasis, unlikely pneumonia.", {"atelectasis": P, "pneumonia": A}),
        # lists without a conjunction, and statements that only a comma parts
        ("No pneumothorax, small left effusion.", {"pneumothorax": A, "pleural_effusion": P}),
        ("No pneumothorax is seen, effusion in the left base.", {"pneumothorax": A, "pleural_effusion": P}),
        ("No visible effusion, edema, or mass is seen.", {"pleural_effusion": A, "edema": A, "mass": A}),
        ("There is cardiomegaly, effusion is not seen.", {"cardiomegaly": P, "pleural_effusion": A}),
        ("Effusion, edema, or mass is not seen.", {"pleural_effusion": A, "edema": A, "mass": A}),
        ("No effusion\nSmall pneumothorax", {"pleural_effusion": A, "pneumothorax": P}),
        ("There is no pleural\n effusion or\n pneumothorax.", {"pleural_effusion": A, "pneumothorax": A}),
        ("No cardiomegaly with small effusions.", {"cardiomegaly": A, "pleural_effusion": P}),
        ("Opacity which may be compatible with mild edema.", {"edema": U}),
        ("The lungs are expanded and clear of consolidation.", {"consolidation": A}),
        ("Edema is difficult to entirely exclude.", {"edema": U}),
        ("It is difficult to exclude edema.", {"edema": U}),
        # filled-in forms
        (
            "Pleural effusion: none. Pneumothorax: No. Mass: negative.",
            {"pleural_effusion": A, "pneumothorax": A, "mass": A},
        ),
        ("Heart: mildly enlarged. Effusion: small.", {"cardiomegaly": P, "pleural_effusion": P}),
        # how large a heart is, down to normal
        ("Heart size is at the upper limits of normal.", {"cardiomegaly": A}),
        ("Heart size is top normal.", {"cardiomegaly": A}),
        ("Heart size is upper limits of normal to mildly enlarged.", {"cardiomegaly": P}),
        ("Heart size is borderline.", {"cardiomegaly": P}),
        (
            "The cardiac, mediastinal and hilar contours are normal.",
            {"cardiomegaly": A, "enlarged_cardiomediastinum": A},
        ),
        ("Heart size cannot be assessed.", {}),
        # change
        ("No significant interval change in the effusion.", {"pleural_effusion": P}),
        ("No improvement in the edema.", {"edema": P}),
        ("The effusion has not resolved.", {"pleural_effusion": P}),
        ("Near complete resolution of the effusion.", {"pleural_effusion": P}),
        ("Edema, now resolved.", {"edema": A}),
        ("The lungs are not free of consolidation.", {"consolidation": P}),
        ("The mass has been resected.", {"mass": A}),
        ("The chest tube has been removed.", {"support_devices": A}),
        # comparison with an earlier image
        ("The pneumothorax seen previously has resolved.", {"pneumothorax": A}),
        ("Previously described edema is no longer seen.", {"edema": A}),
        ("The previously noted effusion has decreased.", {"pleural_effusion": P}),
        ("Since the prior study the effusion has increased.", {"pleural_effusion": P}),
        ("The previous effusion is smaller.", {"pleural_effusion": P}),
        ("Prior effusion has cleared.", {"pleural_effusion": A}),
        ("A nodule not seen on the prior exam.", {"nodule": P}),
        # what was, what is asked, what is asked for
        ("Prior pneumonia.", {}),
        ("Status post resection of a mass.", {}),
        ("Recommend CT to exclude a mass.", {}),
        ("Follow-up to document resolution of pneumonia.", {}),
        ("If there is clinical concern for pneumonia, CT.", {}),
        ("Airspace disease.", {"consolidation": P}),
        ("Nodule/mass.", {"nodule": P, "mass": U}),
        ("Cystic fibrosis without mass effect.", {}),
        ("Large vasogenic edema, cerebral edema.", {}),
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
def test_each_finding_of_a_sentence_has_the_state_that_it_says(text: str, expected: dict[str, State]) -> None:
    assert said(text) == expected


def test_every_sentence_of_the_list_is_read_as_listed() -> None:
    """Hundreds of made-up sentences, each about a few findings; all that are read otherwise are shown."""
    sentences = yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text("utf-8"))
    read = {text: {f.name: f.state.value for f in label_report(text)} for text in sentences}
    wrong = {
        text: {name: read[text][name] for name, state in said.items() if read[text][name] != state}
        for text, said in sentences.items()
    }
    assert len(sentences) > 400
    assert not {text: others for text, others in wrong.items() if others}


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
def test_any_text_at_all_is_read_without_an_error(text: str) -> None:
    for mention in read_mentions(text):
        assert mention.state is not State.NOT_MENTIONED
        assert text[mention.start : mention.end].strip()


def test_label_reports_is_label_report_for_many() -> None:
    texts = ["No effusion.", "", "Mass."]
    states = label_reports(texts, ["Effusion", "Mass"])
    assert states.tolist() == [
        ["absent", "not_mentioned"],
        ["not_mentioned", "not_mentioned"],
        ["not_mentioned", "present"],
    ]
    assert (states == State.PRESENT).sum() == 1
    assert label_reports([], ["Mass"]).shape == (0, 1)


def test_schemes_and_the_policy_for_doubt() -> None:
    (row,) = scheme_labels(["Pericardial effusion. Possible mass. Bronchial thickening."], "chestxray14")
    assert list(row) == list(scheme("chestxray14").values())
    assert {name for name, value in row.items() if value} == {"Effusion", "Pleural_Thickening"}
    (row,) = scheme_labels(["Possible pneumonia."], "chestxray14", uncertain="positive")
    assert row["Pneumonia"] == 1
    (row,) = scheme_labels(["Pericardial effusion. Airspace disease."], "chexpert")
    assert row["Pleural Effusion"] == row["Consolidation"] == 0
    rows = scheme_labels(["Atelectasis versus infiltrate.", "Question atelectasis versus infiltrate."], "chestxray14")
    assert [row["Infiltration"] for row in rows] == [1, 0]


@pytest.mark.parametrize(("name", "size"), [("chestxray14", 15), ("chexpert", 14)])
def test_every_name_of_a_scheme_can_be_read(name: str, size: int) -> None:
    """The name itself, as the scheme writes it, is read as the finding, and a no before it as its absence."""
    names = scheme(name)
    assert len(names) == size
    for finding, written in names.items():
        text = "No acute disease." if finding == "normal" else f"{written.replace('_', ' ')}."
        text = {"pleural_other": "Pleural plaques.", "support_devices": "Endotracheal tube."}.get(finding, text)
        (row,) = scheme_labels([text], name)
        assert row[written] == 1, written
        (row,) = scheme_labels([f"No {text.lower()}"], name)
        assert row[written] == 0 or finding == "normal", written


def test_the_lexicon_has_phrases_of_every_finding_and_no_phrase_is_a_rule_too() -> None:
    """Every finding has its phrases, every name is known, and no phrase is both a finding and a rule."""
    findings, rules = read_lexicon("findings"), read_lexicon("rules")
    assert set(FINDINGS) - {"normal"} <= set(findings)
    assert {state for entry in findings.values() for state in entry} <= {"present", "uncertain", "absent"}
    kinds = {f"{kind}_{side}" for kind in ("negation", "uncertain", "ignore") for side in ("before", "after")}
    others = {
        "negation_near",
        "uncertain_near",
        "alternative_before",
        "linked_before",
        "affirmed_after",
        "affirmed_near",
    }
    assert set(rules) == kinds | others | {
        "neutral",
        "comparison",
        "closing",
        "clause",
        "ends_no",
        "ends_ignore",
        "stop",
    }
    named = {
        p for entry in findings.values() for text in entry.values() for item in text.split(",") for p in expand(item)
    }
    assert not named & {p for text in rules.values() for item in text.split(",") for p in expand(item)}
    for name, coding in read_lexicon("schemes").items():
        assert name == "chiasm" or scheme(name)
        assert {word for pair in coding["counts_as"].items() for word in pair} <= set(findings)
        assert set(coding.get("positive", [])) <= {kind.rpartition("_")[0] for kind in rules}


def test_the_small_words_of_the_grammar_are_those_that_are_used() -> None:
    """Each entry is asked for by name, and none is left that nobody asks for."""
    sources = [Path(module.__file__).read_text("utf-8") for module in (attributes, findings, phrases)]
    asked = {name for source in sources for name in re.findall(r"one_of\('(\w+)'\)", source)}
    assert asked == set(read_lexicon("grammar"))


def _some_reports(shared_data: Path) -> list[str]:
    texts = read_report_files(shared_data / "openi" / "ecgen-radiology.zip")
    return [t.report.text for t in texts if int(t.id[3:]) % 20 == 0]


def test_the_words_given_name_the_finding_and_the_sentence_given_says_so(shared_data: Path) -> None:
    """Alone, the span is read as the finding, and the sentence as saying of it what the whole report was read to say."""
    made = yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text("utf-8"))
    seen = 0
    for text in (*made, *_some_reports(shared_data)):
        for described in describe_findings(text):
            finding, state, start, end, _ = described.mention
            seen += 1
            assert finding in {m.finding for m in read_mentions(text[start:end])}, text[start:end]
            alone = read_mentions(text[slice(*described.sentence)])
            assert (finding, state) in {(m.finding, m.state) for m in alone}, (finding, state)
    assert seen > 1500


def test_the_labels_agree_with_the_human_codes_of_openi(shared_data: Path) -> None:
    """Micro-F1 of the even reports, on which the rules were written, over findings with at least 5 positives."""
    with (shared_data / "openi" / "gold-labels.csv").open(encoding="utf-8") as file:
        gold = {row["filename"]: row for row in csv.DictReader(file)}
    texts = [
        t
        for t in read_report_files(shared_data / "openi" / "ecgen-radiology.zip")
        if t.id in gold and int(t.id[3:]) % 2 == 0
    ]
    rows = scheme_labels((text.report for text in texts), "chestxray14")
    names = [name for name in rows[0] if name != "No Finding"]
    truth = np.array([[int(gold[text.id][name]) for name in names] for text in texts])
    answer = np.array([[row[name] for name in names] for row in rows])
    often = truth.sum(axis=0) >= 5
    both = (truth * answer)[:, often].sum()
    f1 = 2 * both / (truth[:, often].sum() + answer[:, often].sum())
    assert len(texts) == 1548
    assert f1 > 0.955
