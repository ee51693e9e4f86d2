"""Masking of names, dates, record and phone numbers and addresses, before a language model reads a report.

The rules are `lexicon/identifiers.yaml`. Where it is in doubt a word is masked: an eponym lost costs little. Text in
capitals hides names from every rule that goes by capitals; so `mask_identifiers` is a second fence, never the only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from chiasm.report.sections import read_lexicon

_INSIDE = re.compile(r"(?<=[\w,)'’] )\(?[A-Z][a-z][\w’'-]{0,30}")
_BEFORE = re.compile(r"\b([A-Z][a-z’'-]{1,30}) (?=\[NAME\])")


def mask_identifiers(text: str, known: Iterable[str] = ()) -> str:
    """The text with each identifier replaced by its kind in brackets.

    Args:
        known: this study's own identifiers, masked wherever they stand.

    >>> mask_identifiers("Seen by Dr. Jane Roe on 3/14/2021, MRN 0042317. Small effusion of 12 mm.")
    'Seen by [NAME] on [DATE], [ID]. Small effusion of 12 mm.'
    """
    for own in sorted((word for word in known if len(word) > 2), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "[ID]", text, flags=re.IGNORECASE)
    for mark, patterns in _patterns():
        for pattern in patterns:
            text = pattern.sub(mark, text)
    text = _INSIDE.sub(lambda word: word.group() if _kept(word.group()) else "[NAME]", text)
    text = _BEFORE.sub(lambda word: word.group() if _kept(word.group(1)) else "", text)
    return re.sub(r"\[NAME\](?:[ ,]+\[NAME\])+", "[NAME]", text)


@cache
def _patterns() -> list[tuple[str, list[re.Pattern[str]]]]:
    listed = read_lexicon("identifiers")["patterns"]
    return [
        (mark, [re.compile(p, re.IGNORECASE | re.MULTILINE) for p in patterns]) for mark, patterns in listed.items()
    ]


def _kept(word: str) -> bool:
    """Whether a capitalized word is medicine; of "Swan-Ganz" each part must be."""
    parts = re.findall(r"[A-Z][a-z]+", word)
    return all(part in _keep() for part in parts)


@cache
def _keep() -> frozenset[str]:
    return frozenset(read_lexicon("identifiers")["keep"].split())
