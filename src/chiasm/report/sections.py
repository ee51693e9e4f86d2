"""The sections of a report. Nothing is lost: every word that is not a heading is in exactly one section.

Headings come as in MIMIC (`IMPRESSION:` in capitals, indented), Open-i, or freely (inside a line, alone on a line,
bold, with a dash). Their spellings are in `lexicon/headings.yaml`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from chiasm.report.spelling import Speller

SECTIONS = (
    "indication",
    "history",
    "technique",
    "comparison",
    "findings",
    "impression",
    "recommendation",
    "addendum",
    "caption",
    "other",
)
_LONGEST = 48  # characters of the longest heading, with room for marks around it
_WRAPPED = 50  # characters of the shortest line that may go on in the next one
_HEAD = ("indication", "history", "technique", "comparison")  # sections of one paragraph that stand before the findings
_ALONE = re.compile(
    r"^[ \t]{0,80}([#*]{0,6}[ \t]{0,4}[A-Za-z][A-Za-z &/-]{1,40}[*]{0,2})[ \t]{0,80}(?:$|[-–—][ \t]|(?<=\t)(?=\S))",
    re.MULTILINE,
)
_BRACKETED = re.compile(r"[\[<]([A-Za-z][A-Za-z &/-]{1,40})[\]>]:?")
_MARKS = re.compile(r"(?:\s|_{2,}|\bx{4,}\b|\([^()]*\))+\Z")  # behind a heading: "FINDING(S) ___:"
_SENTENCE_START = re.compile(r".*(?:[.;!?)\]][ \t]+|[\n\r])", re.DOTALL)
_CAPITALS = re.compile(r"[A-Z][A-Z &/-]*\Z")
_SHORTEST = 7  # letters of a heading that may hold a slip of the keyboard
_EXPORTED = re.compile(  # what exports write for the end of a line or a space
    r"(?P<space>&nbsp;|&#160;|</?(?:b|i|u|em|strong|span|font)\b[^<>\n]{0,80}>)|(?:\\r)?\\n|\\r(?![a-z])|\\\.br\\|"
    r"</?(?:br|p|div|li|ul|ol|td|tr|table|h\d|html|body|pre)\b[^<>\n]{0,80}>|&lt;/?(?:br|p|div) ?/?&gt;|_x000d_(?:\n)?|\||\r\n?|[~^](?=\s*[a-z]{3}|\s*$)",
    re.IGNORECASE,
)
_MAY_BE_EXPORTED = re.compile(r"[<|\\&^~\r]|_x000", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*(?=\S)")


class Passage(NamedTuple):
    """Characters start to end of a text, and the section they belong to."""

    section: str
    start: int
    end: int


def read_lexicon(name: str) -> dict[str, Any]:
    """One of the YAML files of `chiasm/report/lexicon`."""
    text = (resources.files("chiasm.report") / "lexicon" / f"{name}.yaml").read_text("utf-8")
    return dict(yaml.safe_load(text))


@cache
def _grammar() -> dict[str, Any]:
    return read_lexicon("grammar")


def one_of(words: str) -> str:
    """The words of an entry of `lexicon/grammar.yaml` as a regular expression.

    >>> one_of("singular")
    '(?:is|was|has)'
    """
    return f"(?:{'|'.join(map(re.escape, _grammar()[words].split()))})"


def split_sections(text: str) -> dict[str, str]:
    """Section -> its text, in the order of the report; a text without headings is all "findings".

    A section that comes twice is joined by a newline; empty ones are left out.

    >>> split_sections("INDICATION: Cough. FINDINGS: No effusion. IMPRESSION: Normal.")
    {'indication': 'Cough.', 'findings': 'No effusion.', 'impression': 'Normal.'}
    >>> split_sections("The heart is large.")
    {'findings': 'The heart is large.'}
    """
    sections: dict[str, str] = {}
    for section, start, end in find_sections(text):
        sections[section] = "\n".join(filter(None, (sections.get(section), text[start:end])))
    return sections


def find_sections(text: str) -> list[Passage]:
    """The passages of a text in order, without headings and outer white space."""
    text = plain_lines(text)
    headings = _find_headings(text)
    named = {section for section, _, _ in headings}
    unnamed = "other" if "findings" in named else "findings"
    starts = [*(start for _, start, _ in headings), len(text)]
    passages = [Passage(unnamed, 0, starts[0])]
    for (section, _, start), end in zip(headings, starts[1:], strict=True):
        body = _strip(text, Passage(section, start, end))
        cut = _PARAGRAPH.search(text, body.start, body.end) if section in _HEAD and "findings" not in named else None
        if cut:  # the findings stand under no heading of their own, in a paragraph below the last one of the head
            passages += [Passage(section, start, cut.start()), Passage(unnamed, cut.end(), end)]
        else:
            passages.append(Passage(unnamed if section == "title" else section, start, end))
    return [p for p in (_strip(text, passage) for passage in passages) if p.start < p.end]


def _find_headings(text: str) -> list[tuple[str, int, int]]:
    """(section, start of the heading, end of the heading) in order."""
    found: dict[int, tuple[str, int]] = {}
    for colon in (match.start() for match in re.finditer(":", text)):
        before = text[max(0, colon - _LONGEST) : colon]
        sentence = _SENTENCE_START.match(before)
        capitals = _CAPITALS.search(before)
        phrases = [before[sentence.end() :] if sentence else before]
        if capitals:  # in the middle of a line only capitals are a heading: "... at 9 am XXXX IMPRESSION: Normal."
            phrases += [capitals.group()[word.start() :] for word in re.finditer(r"\b[A-Z]", capitals.group())]
        for phrase in phrases:
            section = _heading(phrase)
            whole = phrase is phrases[0] or (capitals is not None and phrase == capitals.group())
            if section and (whole or section != "technique"):  # "CHEST, TWO VIEWS: Clear." is no list of views
                bold = len(text[colon + 1 : colon + 3]) - len(text[colon + 1 : colon + 3].lstrip("*"))
                found[colon - len(phrase)] = (section, colon + 1 + bold)
                break
    for match in _BRACKETED.finditer(text):
        if section := _heading(match.group(1)):
            found.setdefault(match.start(), (section, match.end()))
    for match in _ALONE.finditer(text):
        words = match.group(1)
        title = words.isupper() or not words[0].isalpha() or (words[0].isupper() and _ends(text, match.start()))
        if title and (section := _heading(words)):
            found.setdefault(match.start(1), (section, match.end()))
    return [(section, start, end) for start, (section, end) in sorted(found.items())]


def _ends(text: str, line: int) -> bool:
    """Whether a sentence has ended above the line that starts here: if not, the line is the rest of a wrapped one.

    A line too short to have been wrapped is a sentence too.
    """
    above = text[max(0, line - 200) : line]
    return not above[-2:].strip() or not above.strip()[-1].isalnum() or len(above.splitlines()[-1]) < _WRAPPED


def plain_lines(text: str) -> str:
    """The text with every mark of an export (a written-out \\n, <br>, |, &nbsp;) as blanks, and a line end where it is one.

    Every other character keeps its place.

    >>> plain_lines("No mass.<br>Edema.")
    'No mass.   \\nEdema.'
    """

    if not _MAY_BE_EXPORTED.search(text):
        return text

    def blank(mark: re.Match[str]) -> str:
        return " " * (len(mark.group()) - 1) + (" " if mark["space"] else "\n")

    return _EXPORTED.sub(blank, text)


def _heading(phrase: str) -> str | None:
    name = _normal(phrase.strip("#* \t"))
    return _headings().get(name) or _headings().get(_speller().correct(name) or "")


@cache
def _speller() -> Speller:
    return Speller(_headings(), _SHORTEST)


@cache
def _headings() -> dict[str, str]:
    return {_normal(name): section for section, names in read_lexicon("headings").items() for name in names}


def _normal(phrase: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[&/]|-| and ", " ", _MARKS.sub("", phrase.lower()))).strip()


def _strip(text: str, passage: Passage) -> Passage:
    """The passage without white space at its ends."""
    inner = text[passage.start : passage.end]
    start = passage.start + len(inner) - len(inner.lstrip())
    return Passage(passage.section, start, start + len(inner.strip()))
