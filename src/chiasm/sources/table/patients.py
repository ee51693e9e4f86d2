"""The spellings of one patient's identifier."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"0*(\d+)(?:\.0+)?")
_LETTERS = re.compile(r"([a-z]+)[\s_-]*0*(\d+)")


def plain_id(name: str) -> str:
    """An identifier without what spreadsheets and people change: case, leading zeros, ".0" of a number, marks.

    >>> plain_id("007"), plain_id("7.0"), plain_id("P007"), plain_id("p-7"), plain_id("sub 12a")
    ('7', '7', 'p7', 'p7', 'sub 12a')
    """
    text = name.strip().lower()
    if match := _NUMBER.fullmatch(text):
        return match[1]
    match = _LETTERS.fullmatch(text)
    return f"{match[1]}{match[2]}" if match else text
