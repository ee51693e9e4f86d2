"""Example cases: bars of what each modality added, beside the image and what was written of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A patient, chosen by rule and not by eye. The texts are untrusted and are escaped on the page.

    Attributes:
        which: by which part of the rule; caption: the study. facts: the answer and the truth.
        shares: modality -> its Shapley value. texts: what and by whom -> a written text.
        pictures: caption and JPEG each. columns: record column and value -> its part of the record's share, and its error.
    """

    which: str
    caption: str
    facts: Mapping[str, str]
    shares: Mapping[str, float]
    texts: Mapping[str, str]
    pictures: Sequence[tuple[str, bytes]] = ()
    columns: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Glass:
    """What the model looked at: view -> PNG; where and of whom as a sentence."""

    pictures: Mapping[str, bytes]
    said: str


def bar(share: float, largest: float) -> tuple[float, float]:
    """Left end and width of a bar, in percent of a scale from -largest to +largest.

    >>> bar(1.0, 2.0), bar(-2.0, 2.0)
    ((50.0, 25.0), (0.0, 50.0))
    """
    width = 50 * abs(share) / (largest or 1.0)
    return (50.0 if share >= 0 else 50 - width), width
