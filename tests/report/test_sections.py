"""Sections: the styles of MIMIC, Open-i and free text, and the property that no word is lost."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.report.files import read_report_files
from chiasm.report.sections import SECTIONS, find_sections, read_lexicon, split_sections

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough at 10:30  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation.

 IMPRESSION:

 No acute process.
"""


def test_a_report_in_the_style_of_mimic_has_its_five_sections() -> None:
    assert split_sections(MIMIC) == {
        "technique": "CHEST (PA AND LAT)",
        "indication": "___F with cough at 10:30  // eval for infection",
        "comparison": "None.",
        "findings": "There is no focal consolidation.",
        "impression": "No acute process.",
    }


def test_mimic_findings_without_a_heading_are_the_paragraph_below_the_head() -> None:
    text = "FINAL REPORT\n HISTORY:  ___-year-old.\n\n PA VIEW OF THE CHEST:  The lungs\n are clear.\n\n IMPRESSION:  Normal."
    assert split_sections(text) == {
        "history": "___-year-old.",
        "findings": "PA VIEW OF THE CHEST:  The lungs\n are clear.",
        "impression": "Normal.",
    }


def test_a_history_of_two_paragraphs_stays_whole_beside_a_findings_heading() -> None:
    assert split_sections("History: A.\n\nB.\n\nFindings: C.") == {"history": "A.\n\nB.", "findings": "C."}


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("The heart is large.", {"findings": "The heart is large."}),
        ("", {}),
        (" \n\t ", {}),
        ("FINDINGS:", {}),
        ("XXXX COMPARISON: XXXX. FINDINGS: ok", {"other": "XXXX", "comparison": "XXXX.", "findings": "ok"}),
        ("findings: one\nconclusion: two", {"findings": "one", "impression": "two"}),
        ("**Findings:** one\n**Impression:** two", {"findings": "one", "impression": "two"}),
        ("## Findings\none\n\n## Conclusion\ntwo", {"findings": "one", "impression": "two"}),
        ("FINDINGS\none\nOPINION\ntwo", {"findings": "one", "impression": "two"}),
        ("Findings - one.\nOpinion – two", {"findings": "one.", "impression": "two"}),
        ("Clinical Information: a. Findings & Impression: b", {"history": "a.", "findings": "b"}),
        ("Findings: a. Impression: b. Findings: c", {"findings": "a.\nc", "impression": "b."}),
        ("A chest film. Impression: fine.", {"findings": "A chest film.", "impression": "fine."}),
        ("Findings: size: 3 cm; the findings: none", {"findings": "size: 3 cm; the findings: none"}),
        (
            "Chest film\nIndication\nRule out mass\nFindings\nClear\nImpression\nNormal",
            {"other": "Chest film", "indication": "Rule out mass", "findings": "Clear", "impression": "Normal"},
        ),
        (
            "Findings: there is no change in the appearance of this limited\nStudy\nof the chest",
            {"findings": "there is no change in the appearance of this limited\nStudy\nof the chest"},
        ),
        ("Indication\tmass?\nFINDINGS\tclear", {"indication": "mass?", "findings": "clear"}),
        (
            "HX: fever. FINDINGS: clear. IMP: normal",
            {"history": "fever.", "findings": "clear.", "impression": "normal"},
        ),
        # marks of de-identification, brackets, plurals in brackets
        ("FINDINGS ___: one IMPRESSION XXXX: two", {"findings": "one", "impression": "two"}),
        ("FINDING(S): one\nIMPRESSION (FINAL): two", {"findings": "one", "impression": "two"}),
        ("[Findings] one\n[Impression] two [sic]", {"findings": "one", "impression": "two [sic]"}),
        (
            "INDICATION: ___ F COMPARISON: ___ FINDINGS: ___ base",
            {"indication": "___ F", "comparison": "___", "findings": "___ base"},
        ),
        # inside a line
        (
            "HISTORY: a COMPARISON: b TECHNIQUE: AP FINDINGS: c IMPRESSION: d",
            {"history": "a", "comparison": "b", "technique": "AP", "findings": "c", "impression": "d"},
        ),
        ("EXAM: AP FILM FINDINGS: c", {"technique": "AP FILM", "findings": "c"}),
        # a title over the findings is no heading of the technique, a line of a filled-in form no heading at all
        (
            "CHEST, TWO VIEWS: Clear.\n\nIMPRESSION: Normal.",
            {"findings": "CHEST, TWO VIEWS: Clear.", "impression": "Normal."},
        ),
        (
            "FINDINGS:\nHeart: normal\nLungs: clear\nIMPRESSION:\nNormal",
            {"findings": "Heart: normal\nLungs: clear", "impression": "Normal"},
        ),
        ("FINDINGS:\r\nClear.\r\nIMPRESSION :\r\nNormal.", {"findings": "Clear.", "impression": "Normal."}),
        ("Findings: limited\nstudy\nof the chest", {"findings": "limited\nstudy\nof the chest"}),
    ],
)
def test_headings_are_found_in_every_style(text: str, sections: dict[str, str]) -> None:
    assert split_sections(text) == sections


def test_every_heading_of_the_lexicon_leads_to_its_section() -> None:
    headings = read_lexicon("headings")
    assert set(headings) - {"title"} == set(SECTIONS)
    for section, names in headings.items():
        for name in names:
            expected = "findings" if section == "title" else section
            assert split_sections(f"{name.upper()}: word") == {expected: "word"} or section == "title", name


_PIECES = st.sampled_from(
    [
        "FINDINGS:",
        "Impression:",
        "\n",
        "\n\n",
        " ",
        ". ",
        "heart",
        "IMPRESSION\n",
        "History - ",
        "10:30",
        "**",
        "XXXX",
        "___",
        "[Findings]",
        "FINDING(S):",
        "a:b",
    ]
)


@given(st.lists(_PIECES | st.text(max_size=8), max_size=25).map("".join))
def test_every_word_but_the_headings_is_in_one_section(text: str) -> None:
    passages = find_sections(text)
    held = [i for _, start, end in passages for i in range(start, end)]
    assert held == sorted(set(held)), "passages are in order and do not overlap"
    assert all(section in SECTIONS and text[start:end] == text[start:end].strip() for section, start, end in passages)
    left = "".join(c if i not in set(held) else "\n" for i, c in enumerate(text))
    words = {"findings", "finding", "s", "impression", "history", "xxxx"}
    outside = {word.strip("_") for word in re.findall(r"\w+", left.lower())} - {""}
    assert outside <= words, "only headings stand outside the passages, with the marks beside them"


def test_the_sections_of_openi_come_back_from_their_joined_text(shared_data: Path) -> None:
    """Reports written in one line, as "COMPARISON: ... FINDINGS: ...", give back their findings and impression."""
    reports = [text.report.sections for text in read_report_files(shared_data / "openi" / "ecgen-radiology.zip")]
    for sections in reports[::4]:
        again = split_sections(" ".join(f"{name.upper()}: {text}" for name, text in sections.items()))
        assert all(again.get(name) == sections.get(name) for name in ("findings", "impression"))
    assert len(reports) == 3184
