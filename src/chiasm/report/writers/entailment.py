"""Entailment: whether a language model's sentence says nothing but what it was given.

A closed world: each finding that the labeler reads in a sentence must have that state in the facts, each attribute must be known
of that finding, and each other word must stand in the facts, the draft or a sentence of the report that says as much, or be one of
`lexicon/neutral.yaml`, which say nothing by themselves. So what no list of forbidden words could foresee is caught as well. A
sentence that does state a fact may hold a few words beyond, for nobody can list how facts are said; none of them a name, of the
language of findings, or of `lexicon/guarded.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from chiasm.report.attributes import Described, describe_findings
from chiasm.report.content import broader, render_statement
from chiasm.report.description import ImageDescription
from chiasm.report.findings import HELPER
from chiasm.report.phrases import PhraseFinder, expand, find_sentences
from chiasm.report.sections import read_lexicon
from chiasm.report.writers.task import Document, Task
from chiasm.study import Report, State

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_ALIKE = {("extent", "small"): ("severity", "mild"), ("extent", "moderate"): ("severity", "moderate"),
          ("extent", "large"): ("severity", "severe")}  # fmt: skip
_ALIKE |= {value: key for key, value in _ALIKE.items()}
_DENIED, _DOUBTED = "negation", "uncertain"
_COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Value = tuple[str, str]
ASIDE = 3
"""Words that stand in no list and that a sentence may hold which states a fact: "Attention is drawn to a small effusion"."""
ANCHORS = 2
"""Words of the facts that make a sentence without a finding state one: "It lies in the frontal branches"."""


class _Said(NamedTuple):
    """A sentence of the report: its words, and whether it denies or doubts."""

    words: frozenset[str]
    cues: frozenset[str]


@dataclass(frozen=True)
class Given:
    """What a text may say.

    Attributes:
        states: finding -> state of the facts. mentions: (finding, state) that draft and report state. named: findings of facts and
            draft, whose names in the labeler's lexicon may be used; what the report alone says keeps its words.
        attributes: finding -> kinds and values that are known of it; everywhere: of whatever.
        words: of facts and draft. report: its sentences.
    """

    states: dict[str, State]
    mentions: frozenset[tuple[str, State]]
    named: frozenset[str]
    attributes: dict[str, set[Value]]
    everywhere: frozenset[Value]
    words: frozenset[str]
    report: tuple[_Said, ...] = field(default=())


def read_given(task: Task, own: Document) -> Given:
    """What a task and the template's document of it give to say."""
    content = task.content
    draft = [render_statement(said) for said in content.statements if said.state in (State.PRESENT, State.UNCERTAIN)]
    draft += [*own.findings, own.impression] if isinstance(own, ImageDescription) else list(own.observations)
    described = [d for sentence in draft for d in _describe(sentence)]
    named = (content.states.keys() | {d.mention.finding for d in described}) - {HELPER}
    described += describe_findings(Report({"findings": task.report})) if task.report else []
    known: dict[str, set[Value]] = {}
    for each in described:
        known.setdefault(each.mention.finding, set()).update((a.kind, a.value) for a in each.attributes)
    text = " ".join((content.to_json(), *draft))
    everywhere = set().union(*known.values(), *(values for _, _, values in _attributes(f"{text} {task.report}")))
    return Given(
        content.states,
        frozenset((each.mention.finding, each.mention.state) for each in described),
        frozenset(named),
        known,
        frozenset(everywhere),
        frozenset(_alike([*_words(text), *re.findall(r"\d+", text)])),
        tuple(_Said(frozenset(_words(s)), _cues(s)) for s in _sentences(task.report)),
    )


def find_unsupported(sentences: Sequence[str], given: Given) -> list[str]:
    """A reason for each sentence that says more than it was given, or nothing; no word of it stands in the reason."""
    found = []
    for number, sentence in enumerate(sentences, start=1):
        for part in _sentences(sentence) or [sentence]:
            if reason := _unsupported(part, given):
                found.append(f"sentence {number} {reason}")
                break
    return found


def _unsupported(sentence: str, given: Given) -> str:
    """What a sentence says beyond what was given; "" if nothing."""
    described = _describe(sentence)
    together: dict[tuple[int, int], list[Described]] = {}
    for each in described:
        together.setdefault((each.mention.start, each.mention.end), []).append(each)
    if not all(_group_stated(group, given) for group in together.values()):
        return "states a finding that the facts do not"
    spans = [span for span, group in together.items() if {d.mention.finding for d in group} & given.named]
    for group in together.values():
        known = set().union(*(given.attributes.get(d.mention.finding, set()) for d in group))
        known |= given.everywhere if len(given.attributes) == 1 or not known else set()
        for attribute in (a for d in group for a in d.attributes):
            value = (attribute.kind, attribute.value)
            if group[0].mention.state is not State.ABSENT and not {value, _ALIKE.get(value, value)} & known:
                return "says of a finding what the facts do not"
    spans += [(a, b) for a, b, values in _attributes(sentence) if values & given.everywhere]
    loose = [
        word.group()
        for word in _WORD.finditer(sentence.lower())
        if not any(a <= word.start() < b and _is_phrased(word.group()) for a, b in spans)
    ]
    foreign = {word for word in loose if not _among(word, _neutral()) and not _among(word, given.words)}
    counts = {word for number, word in enumerate(_COUNTS) if str(number) in given.words}
    foreign -= counts
    cues = _cues(sentence)
    if described or len({w for w in loose if _among(w, given.words) and not _among(w, _neutral())}) >= ANCHORS:
        strange = {word for word in foreign if _is_phrased(word) or _is_name(word, sentence)}
        foreign = foreign if strange or len(foreign) > ASIDE else set()
    if foreign and not any(all(_among(w, said.words) for w in foreign) and said.cues == cues for said in given.report):
        return "says what stands in no fact"
    anchored = (
        described
        or foreign
        or counts & set(loose)
        or any(_among(w, given.words) and not _among(w, _neutral()) for w in loose)
    )
    return "" if anchored or re.search(r"\d", sentence) else "says nothing of the facts"


def _group_stated(group: Sequence[Described], given: Given) -> bool:
    """Whether what one name says is given: the labeler reads a lung lesion in "nodule", and its absence in "no nodule"."""
    read = {d.mention.finding: d.mention.state for d in group}
    return any(
        _stated(finding, state, given) and read.keys() - {finding} <= set(broader(finding))
        for finding, state in read.items()
    )


def _stated(finding: str, state: State, given: Given) -> bool:
    """Whether a finding has this state in what was given, or follows from it."""
    own = given.states.get(finding)
    if (finding, state) in given.mentions or own is state:
        return True
    if state is State.UNCERTAIN:
        return own is State.PRESENT
    if state is State.ABSENT and finding not in ("normal", "support_devices"):
        return own is None and any(given.states.get(wider) is State.ABSENT for wider in broader(finding))
    return False


def _describe(sentence: str) -> list[Described]:
    return describe_findings(Report({"findings": sentence}))


def _sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in find_sentences(text) if text[a:b].strip()]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("_", " "))


def _among(word: str, words: frozenset[str]) -> bool:
    """Whether a word, or another form of it, is among these: "effusions", "hemispheric" of "hemisphere"."""
    return word in words or any(_one_stem(word, other) for other in words if other[:4] == word[:4])


def _one_stem(a: str, b: str) -> bool:
    """Whether two words differ in their endings alone: in up to three letters after five or more that they share."""
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"{a}s" == b or f"{b}s" == a or (shared >= 5 and max(len(a), len(b)) - shared <= 3)


def _alike(words: list[str]) -> set[str]:
    """The words, and those of `alike` that say the same."""
    groups = [set(group) for group in read_lexicon("neutral")["alike"]]
    return set(words).union(*(group for group in groups if group & set(words)))


@cache
def _neutral() -> frozenset[str]:
    kinds = (words for name, words in read_lexicon("neutral").items() if name != "alike")
    return frozenset(word for words in kinds for word in words.split())


@cache
def _lexicon() -> tuple[frozenset[str], tuple[str, ...]]:
    """The words that phrases of findings and attributes are made of, and beginnings of words."""
    kinds = [kind for kind in read_lexicon("attributes").values() if isinstance(kind, dict)]
    phrases = [p for entry in (*read_lexicon("findings").values(), *kinds) for p in entry.values()]
    words = {w for listed in phrases for item in str(listed).split(",") for p in expand(item) for w in p.split()} - {
        "..."
    }
    begun = tuple(word.rstrip("*") for word in words if word.endswith("*"))
    return frozenset(word.rstrip("*+") for word in words), begun


def _is_phrased(word: str) -> bool:
    """Whether a word within a phrase is one of the lexicon's; a gap in a phrase hides no other word."""
    whole, begun = _lexicon()
    return word in whole or word.startswith(begun)


def _is_name(word: str, sentence: str) -> bool:
    """Whether a word is written with a capital where no sentence begins."""
    return any(m.start() > 0 and m.group()[0].isupper() for m in re.finditer(rf"\b{word}\b", sentence, re.IGNORECASE))


@cache
def _cue_finder() -> PhraseFinder:
    return PhraseFinder({k: v for k, v in read_lexicon("rules").items() if k.startswith((_DENIED, _DOUBTED))})


def _cues(sentence: str) -> frozenset[str]:
    """Whether a sentence denies or doubts something."""
    return frozenset(m.partition("_")[0] for match in _cue_finder()(sentence) for m in match.meanings if "_" in m)


@cache
def _attribute_finder() -> PhraseFinder:
    kinds = {k: v for k, v in read_lexicon("attributes").items() if isinstance(v, dict)}
    return PhraseFinder({f"{kind}/{value}": words for kind, values in kinds.items() for value, words in values.items()})


def _attributes(text: str) -> list[tuple[int, int, set[Value]]]:
    """Start, end, and kinds and values of each word that describes, whatever it describes."""
    found = []
    for match in _attribute_finder()(text):
        pairs = (meaning.split("/") for meaning in match.meanings if "/" in meaning)
        found.append((match.start, match.end, {(kind, value) for kind, value in pairs}))
    return found
