"""What a report says of each finding: present, absent, uncertain or not mentioned, and the words that say so.

Phrases of `lexicon/findings.yaml` are found sentence by sentence; cues of `lexicon/rules.yaml` (negation, doubt, history)
reach forward or back over them, as in NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009). A finding that comes
more than once takes the strongest statement: present, then uncertain, then absent.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiasm.report.phrases import Match, PhraseFinder
from chiasm.report.sections import find_sections, read_lexicon
from chiasm.study import Finding, Report, State
from chiasm.vocabulary import FINDINGS, canonical, scheme

READ = ("findings", "impression", "addendum", "caption")
"""The sections that are read. What the referring doctor asks or fears (indication, history) is not a finding."""
READER = "chiasm-labeler"

_STRENGTH = {State.PRESENT: 3, State.UNCERTAIN: 2, State.ABSENT: 1, State.NOT_MENTIONED: 0}
_CUE_STATE = {
    "negation": State.ABSENT,
    "uncertain": State.UNCERTAIN,
    "linked": State.UNCERTAIN,
    "ignore": State.NOT_MENTIONED,
}
_VERB = re.compile(r"\b(?:is|are|was|were|appears?|remains?)\b", re.IGNORECASE)
_AND = re.compile(r"\band\b", re.IGNORECASE)
_NOT_ABNORMAL = ("normal", "support_devices")


class Mention(NamedTuple):
    """One statement about one finding: the characters start to end name it."""

    finding: str
    state: State
    start: int
    end: int


def label_report(report: Report | str, findings: Sequence[str] | None = None) -> list[Finding]:
    """One `Finding` for each name in `findings` (any scheme's spelling; default: all of `chiasm.vocabulary.FINDINGS`).

    Only the sections of `READ` count. The span is that of the words that name the finding, in the text given (for a
    `Report`: in `report.text`), or None if it is not mentioned or follows from the others (`normal`).

    >>> [(f.state.value, f.span) for f in label_report("Small effusion. No pneumothorax.", ["Effusion", "Pneumothorax"])]
    [('present', (6, 14)), ('absent', (19, 31))]
    """
    strongest = _strongest(read_mentions(report))
    names = FINDINGS if findings is None else tuple(canonical(name) for name in findings)
    mentions = [strongest.get(name, Mention(name, State.NOT_MENTIONED, 0, 0)) for name in names]
    return [Finding(m.finding, m.state, reader=READER, span=(m.start, m.end) if m.end else None) for m in mentions]


def label_texts(reports: Iterable[Report | str], findings: Sequence[str] | None = None) -> NDArray[np.str_]:
    """[reports, findings] of the values of `State`: `label_report` without spans."""
    names = FINDINGS if findings is None else tuple(canonical(name) for name in findings)
    rows = [_strongest(read_mentions(report)) for report in reports]
    states = [[row[name].state.value if name in row else State.NOT_MENTIONED.value for name in names] for row in rows]
    return np.array(states, dtype=np.str_).reshape(len(rows), len(names))


def scheme_labels(
    reports: Iterable[Report | str], name: str, uncertain: Literal["positive", "negative"] = "negative"
) -> list[dict[str, int]]:
    """0 or 1 for each finding of a published scheme ("chestxray14", "chexpert") in its own names, in its order.

    A hedged finding counts as `uncertain` says. Where a scheme's coding joins findings, `lexicon/schemes.yaml` says so.
    """
    joined: Mapping[str, Sequence[str]] = read_lexicon("schemes").get(name, {})
    members = {own: tuple(joined.get(own, (finding,))) for finding, own in scheme(name).items()}
    positive = {State.PRESENT, State.UNCERTAIN} if uncertain == "positive" else {State.PRESENT}
    rows = []
    for report in reports:
        found = {m.finding for m in _strongest(read_mentions(report)).values() if m.state in positive}
        rows.append({own: int(not found.isdisjoint(names)) for own, names in members.items()})
    return rows


def read_mentions(report: Report | str) -> list[Mention]:
    """Every statement about a finding in the sections of `READ`, in order, before the strongest is taken."""
    text = report if isinstance(report, str) else report.text
    mentions: list[Mention] = []
    for start, end in _passages(report):
        passage = text[start:end]
        for _, sentence in itertools.groupby(_finder()(passage), key=lambda match: match.sentence):
            found = _read_sentence(list(sentence), passage)
            mentions += [m._replace(start=m.start + start, end=m.end + start) for m in found]
    return mentions


def _passages(report: Report | str) -> list[tuple[int, int]]:
    """Where the sections that count lie in the text."""
    if isinstance(report, str):
        return [(start, end) for section, start, end in find_sections(report) if section in READ]
    passages, position = [], 0
    for section, text in report.sections.items():
        if text:  # as in Report.text
            if section in READ:
                passages.append((position, position + len(text)))
            position += len(text) + 1
    return passages


@cache
def _finder() -> PhraseFinder:
    phrases = {
        f"{name}/{state}": text for name, entry in read_lexicon("findings").items() for state, text in entry.items()
    }
    return PhraseFinder({**phrases, **read_lexicon("rules")})


def _read_sentence(matches: Sequence[Match], text: str) -> list[Mention]:
    """The statements of one sentence: cues before reach forward, then cues after reach back."""
    states: list[State | None] = [None] * len(matches)  # by match; None: not a finding
    cue: State | None = None
    fresh = False  # nothing has come since the cue
    for i, match in enumerate(matches):
        if "/" in match.meanings[0]:
            if _VERB.search(text, match.start, match.end):  # a clause of its own: "no effusion, the heart is enlarged"
                cue = None
            states[i] = State.PRESENT if cue is None else cue
            fresh = False
        elif match.meanings[0] == ",":
            fresh = False
            cue = None if cue is State.NOT_MENTIONED else cue
        else:
            meaning, _, side = match.meanings[0].rpartition("_")
            if side == "after":
                _reach_back(matches, i, states, _CUE_STATE[meaning], text)
            elif side == "before":
                held = cue is State.ABSENT and (meaning == "linked" or (fresh and meaning == "uncertain"))
                cue = cue if held else _CUE_STATE[meaning]  # "no evidence suggestive of" stays a no
                fresh = True
            else:  # stop, neutral
                cue = None
    mentions = []
    for match, state in zip(matches, states, strict=True):
        for finding, own in (meaning.rsplit("/", 1) for meaning in match.meanings if "/" in meaning):
            assert state is not None
            mentions.append(Mention(finding, _combine(State(own), state), match.start, match.end))
    return [m for m in mentions if m.state is not State.NOT_MENTIONED]


def _reach_back(matches: Sequence[Match], i: int, states: list[State | None], state: State, text: str) -> None:
    """Set the findings that cue i follows: those of one list; of "an effusion and a mass is not seen" only the mass."""
    cue = matches[i]
    singular = text[cue.start : cue.start + 3].lower() in ("is ", "was", "has")
    reached = cue.start
    for j in range(i - 1, -1, -1):
        meaning = matches[j].meanings[0]
        if meaning == ",":
            continue
        if "/" not in meaning:
            break
        if singular and reached < cue.start and _AND.search(text, matches[j].end, reached):
            break
        states[j], reached = state, matches[j].start


def _combine(own: State, cue: State) -> State:
    """The state of a phrase that by itself says `own`, under a cue."""
    if own is State.PRESENT:
        return cue
    return own if own is State.ABSENT or cue is State.PRESENT else cue


def _strongest(mentions: Iterable[Mention]) -> dict[str, Mention]:
    """Finding -> its strongest mention, and `normal`, which follows from the others."""
    strongest: dict[str, Mention] = {}
    for mention in mentions:
        held = strongest.get(mention.finding)
        if held is None or _STRENGTH[mention.state] > _STRENGTH[held.state]:
            strongest[mention.finding] = mention
    if strongest:
        abnormal = any(_STRENGTH[m.state] > 1 for name, m in strongest.items() if name not in _NOT_ABNORMAL)
        strongest["normal"] = Mention("normal", State.ABSENT if abnormal else State.PRESENT, 0, 0)
    return strongest
