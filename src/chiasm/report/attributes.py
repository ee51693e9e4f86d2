"""Attributes of the findings of a report: side, lobe, zone, territory, extent, severity, texture, chronicity.

The words are in `lexicon/attributes.yaml`. Each is tied to one finding of its sentence: the one it stands in, else the one
it leads up to ("small left effusion"), else the one it follows ("opacity in the left base"). A finding that names no place
shares that of its neighbour ("streaky opacity in the left base, likely atelectasis").
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from chiasm.report.findings import Mention, find_passages, read_mentions
from chiasm.report.phrases import PhraseFinder, find_sentences
from chiasm.report.sections import Passage, one_of, read_lexicon
from chiasm.study import Report, State

PLACE = ("side", "lobe", "zone", "territory")
ATTRIBUTES = (*PLACE, "extent", "severity", "texture", "chronicity")

_PARTED = re.compile(rf"[,:(]|\b{one_of('parted')}\b", re.IGNORECASE)
_NEW_CLAUSE = re.compile(rf"[,:(]|\b{one_of('new_clause')}\b", re.IGNORECASE)
_APART = re.compile(rf"\b{one_of('apart')}\b", re.IGNORECASE)
_PLACED = re.compile(rf"\b{one_of('placed')}\b", re.IGNORECASE)


class Attribute(NamedTuple):
    """A word of the kind `kind` ("side") that says `value` ("left"), at characters start to end of the report."""

    kind: str
    value: str
    start: int
    end: int


class Described(NamedTuple):
    """A statement about a finding: the section and sentence it stands in (as characters of the text), and its attributes."""

    mention: Mention
    section: Passage
    sentence: tuple[int, int]
    attributes: tuple[Attribute, ...]

    def values(self, kind: str) -> list[str]:
        """What is said of one of `ATTRIBUTES`, each once, in the order of the text."""
        return list(dict.fromkeys(a.value for a in self.attributes if a.kind == kind))


def describe_findings(report: Report | str) -> list[Described]:
    """Every statement of `read_mentions`, in its order, with its sentence and its attributes.

    >>> (effusion,) = describe_findings("There is a small left pleural effusion.")
    >>> effusion.values("side"), effusion.values("extent")
    (['left'], ['small'])
    """
    text = report if isinstance(report, str) else report.text
    mentions = read_mentions(report)
    described: list[Described] = []
    for section in find_passages(report):
        start, passage = section.start, text[section.start : section.end]
        found: dict[int, list[Attribute]] = {}
        for match in _finder()(passage):
            pairs = [meaning.split("/") for meaning in match.meanings if "/" in meaning]
            found.setdefault(match.sentence, []).extend(
                Attribute(kind, value, match.start + start, match.end + start) for kind, value in pairs
            )
        for number, (left, right) in enumerate(find_sentences(passage)):
            sentence = (left + start, right + start)
            first, last = (bisect.bisect_left(mentions, edge, key=lambda m: m.start) for edge in sentence)
            inside = mentions[first:last]
            tied = _tie(inside, found.get(number, []), text)
            described += [Described(m, section, sentence, tuple(own)) for m, own in zip(inside, tied, strict=True)]
    return described


@cache
def _finder() -> PhraseFinder:
    lexicon = read_lexicon("attributes")
    return PhraseFinder({f"{kind}/{value}": words for kind in ATTRIBUTES for value, words in lexicon[kind].items()})


@cache
def _without_side() -> frozenset[str]:
    return frozenset(read_lexicon("attributes")["without_side"])


def _tie(mentions: Sequence[Mention], attributes: Sequence[Attribute], text: str) -> list[list[Attribute]]:
    """The attributes of each mention of one sentence."""
    spans = sorted({(m.start, m.end) for m in mentions})
    words = {(a.start, a.end) for a in attributes}
    nouns = [span for span in spans if span not in words] or spans  # "calcified" describes the nodule that follows
    tied: dict[tuple[int, int], list[Attribute]] = {span: [] for span in spans}
    for attribute in attributes if spans else ():
        tied[_owner(nouns, attribute, text)].append(attribute)
    stated = sorted({(m.start, m.end) for m in mentions if m.state is not State.ABSENT})
    shared = {span: _places_of_neighbour(stated, i, tied, text) for i, span in enumerate(stated)}
    rows = []
    for m in mentions:
        span = (m.start, m.end)
        alone = m.finding in _without_side() or m.state is State.ABSENT
        own = tied[span] + ([] if alone else shared.get(span, []))
        rows.append([a for a in own if not (a.kind == "side" and m.finding in _without_side())])
    return rows


def _owner(spans: Sequence[tuple[int, int]], attribute: Attribute, text: str) -> tuple[int, int]:
    """The finding an attribute belongs to."""
    i = bisect.bisect_right(spans, attribute.start, key=lambda span: span[0])
    if i == 0 or i == len(spans):
        return spans[max(i - 1, 0)]
    held, after = spans[i - 1], spans[i]
    if attribute.start < held[1]:
        return held
    behind, ahead = text[held[1] : attribute.start], text[attribute.end : after[0]]
    placed = _PLACED.search(behind) is not None and not _NEW_CLAUSE.search(behind)
    if not _PARTED.search(ahead) and not placed:
        return after
    if placed or not _NEW_CLAUSE.search(behind):
        return held
    return held if len(behind) <= len(ahead) else after


def _places_of_neighbour(
    spans: Sequence[tuple[int, int]], i: int, tied: dict[tuple[int, int], list[Attribute]], text: str
) -> list[Attribute]:
    """For a finding that names no place: the places of the one before it, else of the one after it."""
    own = [a for a in tied[spans[i]] if a.kind in PLACE]
    if own:
        return []
    for j in (i - 1, i + 1):
        if 0 <= j < len(spans) and (places := [a for a in tied[spans[j]] if a.kind in PLACE]):
            left, right = sorted((spans[i], spans[j]))
            if not _APART.search(text, left[1], right[0]):
                return places
    return []
