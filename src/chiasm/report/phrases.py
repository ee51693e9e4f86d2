"""Finding the phrases of a lexicon in a text: a small phrase language, compiled once, longest match first.

The language is described at the top of `lexicon/findings.yaml`. A text is walked word by word; the first word of a phrase
selects the few patterns that can match there, so a thousand phrases cost little more than ten.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

_GROUP = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
_GAP = r"(?:(?!(?:no|not|normal|without|and|or)\b)[\w'/]+{space}){{0,4}}?"
_SPACE = r"(?: *\n *| *- *| +)"
_SENTENCE = r"[.!?;](?=\s|\Z|[a-z]{2})|\n[ \r]*\n|\n(?= *(?:\d+[.)]|[-*•]) )"
_LONGEST = 40  # characters of the longest word a lexicon holds; more of a word is not looked up
_TOKEN = re.compile(rf"(?P<word>[^\W_]+)|(?P<sentence>{_SENTENCE})|(?P<comma>[,:])")


class Match(NamedTuple):
    """A phrase at characters start to end; `meanings` are the keys it was listed under.

    `sentence` numbers the sentences of the text; a comma or colon is a match of the meaning ",".
    """

    start: int
    end: int
    sentence: int
    meanings: tuple[str, ...]


class PhraseFinder:
    """All phrases of a lexicon: meaning -> comma-separated phrases."""

    def __init__(self, phrases: Mapping[str, str]) -> None:
        meanings: dict[str, list[str]] = {}
        for meaning, listed in phrases.items():
            for phrase in (plain for item in listed.split(",") for plain in expand(item)):
                if meaning not in meanings.setdefault(phrase, []):
                    meanings[phrase].append(meaning)
        ordered = sorted(meanings, key=len, reverse=True)
        self._exact: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {}
        self._prefix: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {}
        for phrase in ordered:
            first = re.match(r"([^\W_]+)(\*?)", phrase)
            assert first is not None, f"a phrase begins with a word: {phrase!r}"
            table = self._prefix if first.group(2) else self._exact
            table.setdefault(first.group(1), []).append((_pattern(phrase), tuple(meanings[phrase])))
        self._candidates = lru_cache(maxsize=1 << 16)(self._find_candidates)

    def __call__(self, text: str) -> list[Match]:
        """Every phrase, comma and colon in order; no two overlap. Positions are those of `text`."""
        text = _lower(text)
        matches: list[Match] = []
        sentence, done = 0, 0
        for token in _TOKEN.finditer(text):
            start = token.start()
            if start < done:
                continue
            kind = token.lastgroup
            if kind == "sentence":
                sentence += 1
            elif kind == "comma":
                matches.append(Match(start, start + 1, sentence, (",",)))
            else:
                found = [
                    (m.end(), means)
                    for p, means in self._candidates(token.group()[:_LONGEST])
                    if (m := p.match(text, start))
                ]
                if found:
                    done, _ = longest = max(found, key=lambda item: item[0])
                    means = [meaning for end, listed in found if end == done for meaning in listed]
                    matches.append(Match(start, longest[0], sentence, tuple(dict.fromkeys(means))))
        return matches

    def _find_candidates(self, word: str) -> Sequence[tuple[re.Pattern[str], tuple[str, ...]]]:
        prefixes = (self._prefix.get(word[:n], ()) for n in range(1, len(word) + 1))
        return list(itertools.chain(self._exact.get(word, ()), *prefixes))


def expand(phrase: str) -> list[str]:
    """The plain phrases (only words, `*` and `...`) a phrase stands for.

    >>> expand("[pleural] (fluid|effusion*)")
    ['fluid', 'effusion*', 'pleural fluid', 'pleural effusion*']
    """
    group = _GROUP.search(phrase)
    if not group:
        return [" ".join(phrase.lower().split())]
    inside, optional = group.groups()
    choices = inside.split("|") if optional is None else ["", *optional.split("|")]
    before, after = phrase[: group.start()], phrase[group.end() :]
    return [plain for choice in choices for plain in expand(before + choice + after)]


def _pattern(phrase: str) -> re.Pattern[str]:
    parts: list[str] = []
    for word in re.split(r"[\s-]+", phrase):
        if word == "...":
            parts.append(_GAP.format(space=_SPACE))
        else:
            parts.append(re.escape(word.rstrip("*")) + (r"[^\W_]*" if word.endswith("*") else "") + r"\b")
    text = parts[0]
    for left, right in itertools.pairwise(parts):
        text += right if left.startswith("(?:") else _SPACE + right
    return re.compile(text)


def _lower(text: str) -> str:
    """Lower case and tabs as spaces, every character in its place (some capitals, as İ, grow when lowered)."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    return lower.replace("\t", " ")
