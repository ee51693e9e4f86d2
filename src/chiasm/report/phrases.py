"""The search for the phrases of a lexicon in a text: a small phrase language, compiled once, longest match first.

The language is described at the top of `lexicon/findings.yaml`. A text is walked word by word; the first word of a phrase
selects the few patterns that can match there, so a thousand phrases cost little more than ten.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from chiasm.report.sections import one_of, plain_lines
from chiasm.report.spelling import Speller

_GROUP = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
_GAP = rf"(?:(?!(?:{one_of('gap')}|{{nouns}})\b)[\w'/]+{{space}}){{{{0,4}}}}?"
_NO_NOUN = r"(?!)"
_SPACE = r"(?: *\n *| *- *|:? +)"
_SENTENCE = r"[.!?;](?=\s|\Z|[a-z]{2})|(?<=\s)\(\d{1,2}\)(?=\s)|\n[ \r]*\n|\n(?= *(?:\d+[.)]|[-*•]) )|\x1e"
_SHORT_LINE = re.compile(  # a line that was not wrapped: a sentence, unless its last or the next word says otherwise
    rf"^(?![^\n]*(?:,|(?i:(?<![-:=] )\b{one_of('goes_on')}))[ \t]*\n)([^\n]{{1,50}})\n(?=[ \t]*(?!(?i:{one_of('goes_back')}\b))[A-Z])",
    re.MULTILINE,
)
_Tree = dict[str, "_Tree"]  # word -> what may follow it; "": a phrase ends here
_LONGEST = 40  # characters of the longest word a lexicon holds; more of a word is not looked up
_QUESTION = r"(?<![^\s(/])\?(?= ?\w)"  # "?pneumonia"
_TOKEN = re.compile(
    rf"(?P<word>[^\W_]+|{_QUESTION})|(?P<sentence>{_SENTENCE})|(?P<comma>[,:(=]|\?(?=\))|(?<=\s)[-–—](?=\s))"
)


class Match(NamedTuple):
    """A phrase at characters start to end; `meanings` are the keys it was listed under.

    `sentence` numbers the sentences of the text. What parts clauses (comma, colon, "(", "=", a dash between blanks) is a match
    of the meaning ",", and a question mark behind words one of the meaning "?".
    """

    start: int
    end: int
    sentence: int
    meanings: tuple[str, ...]


class PhraseFinder:
    """All phrases of a lexicon: meaning -> comma-separated phrases.

    Args:
        nouns: words, `*` allowed, that "..." neither passes over nor ends before: "heart ... enlarged" is not said by "heart
            with a pacemaker, enlarged", nor by "heart border meets enlarged nodules".
        speller: corrects words with which no phrase begins.
    """

    def __init__(self, phrases: Mapping[str, str], nouns: Iterable[str] = (), speller: Speller | None = None) -> None:
        nouns = list(nouns)
        ends = [re.escape(noun.rstrip("*")) + (r"[^\W_]*" if noun[-1] == "*" else "") for noun in nouns]
        self._nouns = f"(?:{'|'.join(ends)})" if ends else _NO_NOUN
        self._speller = speller
        trees: dict[str, dict[str, _Tree]] = {}  # first word -> meaning -> the words that follow
        for meaning, listed in phrases.items():
            for words in (plain.split() for item in listed.split(",") for plain in expand(item)):
                tree = trees.setdefault(words[0], {}).setdefault(meaning, {})
                for word in words[1:]:
                    tree = tree.setdefault(word, {})
                tree[""] = {}
        self._exact: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        self._prefix: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        self._suffix: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for first, meanings in trees.items():
            begins = re.match(r"(\*?)([^\W_]+|\?)(\*?)", first)
            assert begins is not None, f"a phrase begins with a word: {first!r}"
            table = self._suffix if begins.group(1) else self._prefix if begins.group(3) else self._exact
            patterns = table.setdefault(begins.group(2), [])
            for meaning, tree in meanings.items():
                ahead = rf"(?!{_SPACE}{self._nouns}\b)" if nouns and "/" in meaning else ""
                patterns.append((re.compile(_pattern(first, tree, self._nouns, ahead)), meaning))
        self._candidates = lru_cache(maxsize=1 << 16)(self._find_candidates)

    def __call__(self, text: str) -> list[Match]:
        """Every phrase and mark in order; no two overlap. Positions are those of `text`."""
        text = _lower(text)
        matches: list[Match] = []
        sentence, done = 0, 0
        for token in _TOKEN.finditer(text):
            start = token.start()
            if start < done:
                continue
            kind = token.lastgroup
            if kind != "word" and token.group() == "?":
                matches.append(Match(start, start + 1, sentence, ("?",)))
            elif kind == "comma":
                matches.append(Match(start, start + 1, sentence, (",",)))
            if kind == "sentence":
                sentence += 1
            elif kind == "word":
                correct, candidates = self._candidates(token.group()[:_LONGEST])
                read, shift = (text, 0)
                if correct:  # the phrase is looked for in the text as it was to be
                    read = text[:start] + correct + text[token.end() :]
                    shift = token.end() - start - len(correct)
                found = [(m.end() + shift, meaning) for p, meaning in candidates if (m := p.match(read, start))]
                if found:
                    done = max(end for end, _ in found)
                    meanings = tuple(dict.fromkeys(meaning for end, meaning in found if end == done))
                    matches.append(Match(start, done, sentence, meanings))
        return matches

    def _find_candidates(self, word: str) -> tuple[str, Sequence[tuple[re.Pattern[str], str]]]:
        """The word as it was to be if it is misspelled, else "", and the patterns that may match there."""
        if found := self._begin_with(word):
            return "", found
        correct = self._speller.correct(word) if self._speller else None
        return (correct, self._begin_with(correct)) if correct else ("", [])

    def _begin_with(self, word: str) -> Sequence[tuple[re.Pattern[str], str]]:
        prefixes = (self._prefix.get(word[:n], ()) for n in range(1, len(word) + 1))
        suffixes = (self._suffix.get(word[n:], ()) for n in range(2, len(word)))
        named = list(itertools.chain(self._exact.get(word, ()), *prefixes))
        return named or list(itertools.chain(*suffixes))  # "cardiomegaly" is not some other "*megaly"


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


def _pattern(word: str, tree: _Tree, nouns: str, ahead: str, gapped: bool = False) -> str:
    """One regular expression for a word and all that may follow it; more words are preferred to fewer.

    `ahead` is what must hold behind a phrase with a gap.
    """
    gapped = gapped or word == "..."
    if word == "...":
        own, space = _GAP.format(space=_SPACE, nouns=nouns), ""
    else:
        end = {"*": r"[^\W_]*\b", "+": ",", "?": ""}.get(word[-1], r"\b")
        begin = r"[^\W_]*" if word[0] == "*" else ""
        own, space = begin + re.escape(word.strip("*+")) + end, _SPACE
    following = sorted((w for w in tree if w), key=lambda w: (w == "...", w[-1] == "*", -len(w)))
    last = ahead if gapped else ""
    if not following:
        return own + last
    more = f"{space}(?:{'|'.join(_pattern(w, tree[w], nouns, ahead, gapped) for w in following)})"
    return f"{own}(?:{more}|{last})" if "" in tree else own + more


def _lower(text: str) -> str:
    """Lower case, tabs as spaces, plain apostrophes, the ends of short lines marked; every character in its place (some, as İ, grow when lowered)."""
    text = plain_lines(text)
    if "\n" in text:
        text = _SHORT_LINE.sub("\\1\x1e", text)
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    return lower.replace("\t", " ").replace("’", "'")
