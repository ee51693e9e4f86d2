"""The search for the phrases of a lexicon in a text: a small phrase language, compiled once, longest match first.

The language is described at the top of `lexicon/findings.yaml`. A text is walked word by word; the first word of a phrase
selects the few patterns that can match there, so a thousand phrases cost little more than ten.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from chiasm.report.sections import one_of

_GROUP = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
_GAP = rf"(?:(?!{one_of('gap')}\b)[\w'/]+{{space}}){{{{0,4}}}}?"
_SPACE = r"(?: *\n *| *- *|:? +)"
_SENTENCE = r"[.!?;](?=\s|\Z|[a-z]{2})|(?<=\s)\(\d{1,2}\)(?=\s)|\n[ \r]*\n|\n(?= *(?:\d+[.)]|[-*•]) )|\x1e"
_SHORT_LINE = re.compile(r"^([^\n]{1,50})\n(?=[ \t]*[A-Z])", re.MULTILINE)  # a line that was not wrapped: a sentence
_Tree = dict[str, "_Tree"]  # word -> what may follow it; "": a phrase ends here
_LONGEST = 40  # characters of the longest word a lexicon holds; more of a word is not looked up
_QUESTION = r"(?<![^\s(/])\?(?= ?\w)"  # "?pneumonia"
_TOKEN = re.compile(rf"(?P<word>[^\W_]+|{_QUESTION})|(?P<sentence>{_SENTENCE})|(?P<comma>[,:])")


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
        trees: dict[str, dict[str, _Tree]] = {}  # first word -> meaning -> the words that follow
        for meaning, listed in phrases.items():
            for words in (plain.split() for item in listed.split(",") for plain in expand(item)):
                tree = trees.setdefault(words[0], {}).setdefault(meaning, {})
                for word in words[1:]:
                    tree = tree.setdefault(word, {})
                tree[""] = {}
        self._exact: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        self._prefix: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for first, meanings in trees.items():
            begins = re.match(r"([^\W_]+|\?)(\*?)", first)
            assert begins is not None, f"a phrase begins with a word: {first!r}"
            table = self._prefix if begins.group(2) else self._exact
            patterns = table.setdefault(begins.group(1), [])
            patterns += [(re.compile(_pattern(first, tree)), meaning) for meaning, tree in meanings.items()]
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
                    (m.end(), meaning)
                    for pattern, meaning in self._candidates(token.group()[:_LONGEST])
                    if (m := pattern.match(text, start))
                ]
                if found:
                    done = max(end for end, _ in found)
                    meanings = tuple(dict.fromkeys(meaning for end, meaning in found if end == done))
                    matches.append(Match(start, done, sentence, meanings))
        return matches

    def _find_candidates(self, word: str) -> Sequence[tuple[re.Pattern[str], str]]:
        prefixes = (self._prefix.get(word[:n], ()) for n in range(1, len(word) + 1))
        return list(itertools.chain(self._exact.get(word, ()), *prefixes))


def find_sentences(text: str) -> list[tuple[int, int]]:
    """Characters start to end of each sentence, as `Match.sentence` numbers them, white space around it left out.

    >>> find_sentences("No effusion. Mass")
    [(0, 11), (13, 17)]
    """
    ends = [(m.start(), m.end()) for m in _TOKEN.finditer(_lower(text)) if m.lastgroup == "sentence"]
    spans = zip([0, *(end for _, end in ends)], [*(start for start, _ in ends), len(text)], strict=True)
    pieces = [(start, text[start:end]) for start, end in spans]
    return [
        (start + len(piece) - len(piece.lstrip()), start + max(len(piece.rstrip()), len(piece) - len(piece.lstrip())))
        for start, piece in pieces
    ]


def expand(phrase: str) -> list[str]:
    """The plain phrases (only words, `*` and `...`) a phrase stands for.

    >>> expand("[pleural] (fluid|effusion*)")
    ['fluid', 'effusion*', 'pleural fluid', 'pleural effusion*']
    """
    group = _GROUP.search(phrase)
    if not group:
        return [" ".join(re.split(r"[\s-]+", phrase.lower().strip()))]
    inside, optional = group.groups()
    choices = inside.split("|") if optional is None else ["", *optional.split("|")]
    before, after = phrase[: group.start()], phrase[group.end() :]
    return [plain for choice in choices for plain in expand(before + choice + after)]


def _pattern(word: str, tree: _Tree) -> str:
    """One regular expression for a word and all that may follow it; more words are preferred to fewer."""
    if word == "...":
        own, space = _GAP.format(space=_SPACE), ""
    else:
        end = {"*": r"[^\W_]*\b", "+": ",", "?": ""}.get(word[-1], r"\b")
        own, space = re.escape(word.rstrip("*+")) + end, _SPACE
    following = sorted((w for w in tree if w), key=lambda w: (w == "...", w[-1] == "*", -len(w)))
    if not following:
        return own
    more = f"{space}(?:{'|'.join(_pattern(w, tree[w]) for w in following)})"
    return f"{own}(?:{more})?" if "" in tree else own + more


def _lower(text: str) -> str:
    """Lower case, tabs as spaces, plain apostrophes, the ends of short lines marked; every character in its place (some, as İ, grow when lowered)."""
    if "\n" in text:
        text = _SHORT_LINE.sub("\\1\x1e", text)
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    return lower.replace("\t", " ").replace("’", "'")
