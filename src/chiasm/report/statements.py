"""What a report states of findings, as arrays: present or absent, the attributes it names, the words themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from chiasm.report.attributes import Described, describe_findings
from chiasm.report.sections import read_lexicon
from chiasm.study import State

PLACE = ("side", "zone", "lobe")
"""Kinds of words that name a part of the lungs."""


@cache
def attribute_values(kind: str) -> tuple[str, ...]:
    """The values of a kind of attribute that the lexicon tells apart."""
    return tuple(read_lexicon("attributes")[kind])


def stated(text: str, findings: Sequence[str]) -> dict[str, list[Described]]:
    """Finding -> its statements, of those findings that the text speaks of with certainty and without contradiction.

    A finding that is both present and absent (in two places, or now and before) is present.
    """
    found: dict[str, list[Described]] = {}
    for one in describe_findings(text) if text else ():
        if one.mention.finding in findings and one.mention.state in (State.PRESENT, State.ABSENT):
            found.setdefault(one.mention.finding, []).append(one)
    return {name: _present(own) or own for name, own in found.items()}


def _present(own: Sequence[Described]) -> list[Described]:
    return [one for one in own if one.mention.state is State.PRESENT]


def _values(own: Sequence[Described], kind: str) -> set[str]:
    """What is said of a kind where the finding is present."""
    return {value for one in _present(own) for value in one.values(kind)}


def statement_arrays(
    texts: Sequence[str], findings: Sequence[str], kinds: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], list[list[list[dict[str, list[str]]]]]]:
    """What n texts state of C findings.

    Returns:
        present, known: [n, C]; attributes: [n, C, A] over the values of every kind, side by side, none of a kind that is not stated;
        and of each text and finding the words of place of each of its statements by kind, none where it is not present.
    """
    pairs = [(kind, value) for kind in kinds for value in attribute_values(kind)]
    present, known = np.zeros((2, len(texts), len(findings)), bool)
    attributes = np.zeros((len(texts), len(findings), len(pairs)), bool)
    places: list[list[list[dict[str, list[str]]]]] = []
    for i, text in enumerate(texts):
        said = stated(text, findings)
        for c, name in enumerate(findings):
            own = said.get(name, [])
            known[i, c], present[i, c] = bool(own), bool(_present(own))
            attributes[i, c] = [value in _values(own, kind) for kind, value in pairs]
        placed = [[{k: one.values(k) for k in PLACE} for one in _present(said.get(n, []))] for n in findings]
        places.append(placed)
    return present, known, attributes, places
