"""The labeler: each finding of a report as present, absent, uncertain or not mentioned, and the words that say so.

Phrases of `lexicon/findings.yaml` are found sentence by sentence; cues of `lexicon/rules.yaml` (negation, doubt, history)
reach forward or back over them, as in NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009). A finding that comes
more than once takes the strongest statement: present, then uncertain, then absent.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiasm.report.phrases import Match, PhraseFinder, expand
from chiasm.report.sections import Passage, find_sections, one_of, read_lexicon
from chiasm.report.spelling import Speller
from chiasm.study import Finding, Report, State
from chiasm.vocabulary import FINDINGS, canonical, scheme

LABELED_SECTIONS = ("findings", "impression", "addendum", "caption")
"""The sections that are labelled. What the referring doctor asks or fears (indication, history) is not a finding."""
READER = "chiasm-labeler"
HELPER = "other_abnormality"
"""The name in the lexicon for all that only tells whether a report is normal."""

_STRENGTH = {State.PRESENT: 3, State.UNCERTAIN: 2, State.ABSENT: 1, State.NOT_MENTIONED: 0}
_STATE = {  # of a finding, by the kind of cue it stands under
    "": State.PRESENT,
    "affirmed": State.PRESENT,
    "negation": State.ABSENT,
    "uncertain": State.UNCERTAIN,
    "alternative": State.UNCERTAIN,
    "linked": State.UNCERTAIN,
    "ignore": State.NOT_MENTIONED,
}
_SEEN_THROUGH = (",", "comparison", "closing", "clause")
_OWN_CLAUSE = re.compile(rf"\b{one_of('own_clause')}\b|, {one_of('subject')} ", re.IGNORECASE)
_SINGULAR = re.compile(rf"{one_of('singular')} ", re.IGNORECASE)
_JOINED = re.compile(rf",|/|\b{one_of('joined')}\b", re.IGNORECASE)
_PLURAL = re.compile(rf"{one_of('plural')} ", re.IGNORECASE)
_AND = re.compile(rf"/|\b{one_of('joined')}\b", re.IGNORECASE)
_APPOSED = re.compile(rf" *{one_of('apposed')}\b", re.IGNORECASE)
_ANSWER = re.compile(r"\s*(yes|no|none)\b", re.IGNORECASE)
_ANSWERED = (":", "-", "–", "—", "=", "(")  # "Effusion: no", "Effusion (no)"
_OR = re.compile(rf"\b{one_of('one_of')}\b", re.IGNORECASE)
_NOT_ABNORMAL = ("normal", "support_devices")
_NO_FINDING = "not_a_finding"  # in the lexicon: a name that holds the name of a finding


class Mention(NamedTuple):
    """One mention of one finding: the characters start to end name it.

    `cue` is the kind of words of `lexicon/rules.yaml` that it stands under ("negation", "alternative", ...; "" for none).
    """

    finding: str
    state: State
    start: int
    end: int
    cue: str = ""


_SILENCE = Mention("normal", State.NOT_MENTIONED, 0, 0)


def label_report(report: Report | str, findings: Sequence[str] | None = None) -> list[Finding]:
    """One `Finding` for each name in `findings` (any scheme's spelling; default: all of `chiasm.vocabulary.FINDINGS`).

    Only the sections of `LABELED_SECTIONS` count. The span is that of the words that name the finding, in the text given (for a
    `Report`: in `report.text`), or None if it is not mentioned or follows from the others (`normal`).

    >>> [(f.state.value, f.span) for f in label_report("Small effusion. No pneumothorax.", ["Effusion", "Pneumothorax"])]
    [('present', (6, 14)), ('absent', (19, 31))]
    """
    strongest = take_strongest(read_mentions(report))
    names = FINDINGS if findings is None else tuple(canonical(name) for name in findings)
    mentions = [strongest.get(name, Mention(name, State.NOT_MENTIONED, 0, 0)) for name in names]
    return [Finding(m.finding, m.state, reader=READER, span=(m.start, m.end) if m.end else None) for m in mentions]


def label_reports(reports: Iterable[Report | str], findings: Sequence[str] | None = None) -> NDArray[np.str_]:
    """[reports, findings] of the values of `State`: `label_report` without spans."""
    names = FINDINGS if findings is None else tuple(canonical(name) for name in findings)
    rows = [take_strongest(read_mentions(report)) for report in reports]
    states = [[row[name].state.value if name in row else State.NOT_MENTIONED.value for name in names] for row in rows]
    return np.array(states, dtype=np.str_).reshape(len(rows), len(names))


def scheme_labels(
    reports: Iterable[Report | str], name: str, uncertain: Literal["positive", "negative"] = "negative"
) -> list[dict[str, int]]:
    """0 or 1 for each finding of a published scheme ("chestxray14", "chexpert") in its own names, in its order.

    An uncertain finding counts as the argument `uncertain` says, except where `lexicon/schemes.yaml` has another rule.
    """
    return [count_labels(read_mentions(report), name, uncertain) for report in reports]


def count_labels(mentions: Sequence[Mention], name: str, uncertain: str) -> dict[str, int]:
    """`scheme_labels` of one report that has been read."""
    rules = _schemes()[name]
    hedges = set(rules.get("positive", ())) if uncertain == "negative" else set(_STATE)
    found = {
        rules["counts_as"].get(m.finding, m.finding)
        for m in mentions
        if m.state is State.PRESENT or (m.state is State.UNCERTAIN and m.cue in hedges)
    }
    if take_strongest(mentions, name).get("normal", _SILENCE).state is State.PRESENT:
        found.add("normal")
    return {own: int(finding in found) for finding, own in scheme(name).items()}


def take_strongest(mentions: Iterable[Mention], name: str = "chiasm") -> dict[str, Mention]:
    """Finding -> its strongest mention, counted as scheme `name` says, and `normal`, which follows from the others."""
    strongest: dict[str, Mention] = {}
    counts_as: Mapping[str, str] = _schemes()[name]["counts_as"]
    for mention in mentions:
        finding = counts_as.get(mention.finding, mention.finding)
        held = strongest.get(finding)
        if held is None or _STRENGTH[mention.state] > _STRENGTH[held.state]:
            strongest[finding] = mention if finding == mention.finding else mention._replace(finding=finding)
    if strongest:
        abnormal = any(_STRENGTH[m.state] > 1 for finding, m in strongest.items() if finding not in _NOT_ABNORMAL)
        strongest["normal"] = Mention("normal", State.ABSENT if abnormal else State.PRESENT, 0, 0)
    return strongest


@cache
def _schemes() -> dict[str, dict[str, Any]]:
    return read_lexicon("schemes")


def read_mentions(report: Report | str) -> list[Mention]:
    """Every mention of a finding in the sections of `LABELED_SECTIONS`, in order, before the strongest is taken."""
    text = report if isinstance(report, str) else report.text
    mentions: list[Mention] = []
    for _, start, end in find_passages(report):
        passage = text[start:end]
        for _, sentence in itertools.groupby(_finder()(passage), key=lambda match: match.sentence):
            found = _read_sentence(list(sentence), passage)
            mentions += [m._replace(start=m.start + start, end=m.end + start) for m in found]
    return mentions


def find_passages(report: Report | str) -> list[Passage]:
    """Where the sections of `LABELED_SECTIONS` lie in the text."""
    if isinstance(report, str):
        return [passage for passage in find_sections(report) if passage.section in LABELED_SECTIONS]
    passages, position = [], 0
    for section, text in report.sections.items():
        if text:  # as in Report.text
            if section in LABELED_SECTIONS:
                passages.append(Passage(section, position, position + len(text)))
            position += len(text) + 1
    return passages


@cache
def _finder() -> PhraseFinder:
    phrases = {
        f"{name}/{state}": text for name, entry in read_lexicon("findings").items() for state, text in entry.items()
    }
    speller = Speller(read_lexicon("spelling")["words"].split(), shortest=5)
    return PhraseFinder({**phrases, **read_lexicon("rules")}, _nouns(), speller)


def _nouns() -> set[str]:
    """The words that name a finding by themselves, and the last words of devices."""
    entries = {
        name: entry["present"] for name, entry in read_lexicon("findings").items() if name not in (HELPER, _NO_FINDING)
    }
    named = {name: [p.split() for item in text.split(",") for p in expand(item)] for name, text in entries.items()}
    alone = {words[0] for phrases in named.values() for words in phrases if len(words) == 1}
    return alone | {words[-1] for words in named["support_devices"]}


def _read_sentence(matches: Sequence[Match], text: str) -> list[Mention]:
    """The statements of one sentence: cues before reach forward, cues after reach back."""
    cues = [""] * len(matches)  # of each match that is a finding
    cue = ""
    fresh = closed = False  # nothing has come since the cue; the next comma ends it
    begins = False  # a statement of its own may begin here: a comma stands right before
    for i, match in enumerate(matches):
        kind, _, side = match.meanings[0].rpartition("_")
        begins = not fresh and i > 0 and matches[i - 1].meanings == (",",) and match.start - matches[i - 1].end < 2
        if "/" in match.meanings[0]:
            if _OWN_CLAUSE.search(text, max(match.start - 2, 0), match.end):  # "no effusion, the heart is enlarged"
                cue = ""
            cues[i], fresh = cue, False
        elif side == ",":
            fresh = False
            cue = "" if closed or cue == "ignore" else cue
        elif side == "clause":
            cue = "" if begins and cue == "negation" else cue
        elif side == "no":  # ends_no
            cue = "" if cue in ("negation", "ignore") else cue
        elif side == "ignore":  # ends_ignore
            cue = "" if cue == "ignore" or (begins and cue == "negation") else cue
        elif side == "closing":
            closed = cue == "negation" and not fresh
        elif side == "?":
            answer = _ANSWER.match(text, match.end)
            if not answer or answer.group(1).lower() != "yes":
                _reach_back(matches, i, cues, "negation" if answer else "uncertain", text)
        elif side == "after" or _belongs_before(matches, i, kind, side, text):
            _reach_back(matches, i, cues, kind, text)
            closed = closed or (kind == "affirmed" and cue == "negation")
        elif kind == "affirmed":  # before a finding: "prior infection with stable nodule", "no effusion, stable nodule"
            cue = "" if cue == "ignore" or (begins and cue == "negation") else cue
        elif side in ("before", "near"):
            held = cue == "negation" and (kind == "linked" or (fresh and kind == "uncertain"))
            held |= kind == "alternative" and cue != ""
            cue, fresh, closed = cue if held else kind, True, False  # "no evidence suggestive of" stays a no
        elif side != "comparison":  # stop, neutral
            cue = ""
    mentions = []
    for match, cue in zip(matches, cues, strict=True):
        for finding, own in (meaning.rsplit("/", 1) for meaning in match.meanings if "/" in meaning):
            mentions.append(Mention(finding, _combine(State(own), _STATE[cue]), match.start, match.end, cue))
    return [m for m in mentions if m.state is not State.NOT_MENTIONED and m.finding != _NO_FINDING]


def _belongs_before(matches: Sequence[Match], i: int, kind: str, side: str, text: str) -> bool:
    """Whether cue i, of a kind that may stand on either side, belongs to the finding before it; so does "Effusion: no"."""
    if side == "before":
        return 0 < i == len(matches) - 1 and text[matches[i - 1].start] in _ANSWERED
    if side != "near":
        return False
    if kind == "negation" and "/" in matches[i - 1].meanings[0] and 0 <= matches[i].start - matches[i - 1].end < 2:
        return True
    ahead = (m.meanings[0] for m in matches[i + 1 :] if m.meanings[0] not in _SEEN_THROUGH[1:])
    return "/" not in next(ahead, "") and any("/" in match.meanings[0] for match in matches[:i])


def _reach_back(matches: Sequence[Match], i: int, cues: list[str], kind: str, text: str) -> None:
    """Set the findings that cue i follows: those of one list; of "an effusion and a mass is not seen" only the mass.

    A comma alone joins no list: of "cardiomegaly, effusion is not seen" only the effusion. Where a "no" stands before, a cue
    that affirms ends it for a finding behind a comma alone ("no effusion, the tube remains") and for no other.
    """
    singular = _SINGULAR.match(text, matches[i].start) is not None
    reached, listed, one_of = -1, False, False
    for j in range(i - 1, -1, -1):
        meaning = matches[j].meanings[0]
        if meaning in _SEEN_THROUGH or meaning.startswith("affirmed_"):
            continue
        if "/" not in meaning:
            break
        if reached >= 0:
            between = text[matches[j].end : reached]
            one_of = one_of or _OR.search(between) is not None
            listed = listed or _AND.search(between) is not None
            if not _JOINED.search(between) or not listed or (singular and not one_of):
                break
        else:
            between = text[matches[j].end : matches[i].start]
            head, comma, rest = between.rpartition(",")
            if comma and "," not in head and rest.strip() and not _APPOSED.match(rest):
                break  # what the cue is said of stands behind the comma: "edema, infection less likely"
            listed = ":" in between or (
                _PLURAL.match(text, matches[i].start) is not None and text[matches[j].end - 1] != "s"
            )
            if kind == "affirmed" and cues[j] != "ignore":
                if cues[j] == "negation" and "," not in between and _stands_alone(matches, j, cues, text):
                    cues[j] = kind
                break
        cues[j], reached = kind, matches[j].start


def _stands_alone(matches: Sequence[Match], j: int, cues: Sequence[str], text: str) -> bool:
    """Whether only a comma joins finding j to the one before it, which stands under the same cue."""
    before = next((k for k in range(j - 1, -1, -1) if matches[k].meanings[0] not in _SEEN_THROUGH), -1)
    if before < 0 or "/" not in matches[before].meanings[0]:
        return False
    between = text[matches[before].end : matches[j].start]
    return "," in between and not _AND.search(between)


def _combine(own: State, cue: State) -> State:
    """The state of a phrase that by itself says `own`, under a cue."""
    if own is State.PRESENT:
        return cue
    return own if own is State.ABSENT or cue is State.PRESENT else cue
