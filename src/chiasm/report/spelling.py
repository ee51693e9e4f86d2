"""Words that are one slip of the keyboard away from a known word.

Two words are near if leaving out at most one letter of each makes them equal (symmetric delete, as in SymSpell): one letter
lost, added, changed, or two exchanged. Slips rarely hit the first letter, so it must be the same: "modules" are no nodules.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


class Speller:
    """The known words of at least `shortest` letters: shorter ones are too near to other words."""

    def __init__(self, words: Iterable[str], shortest: int) -> None:
        self._shortest = shortest
        self._near: dict[str, str] = {}
        for word in sorted(words):
            if len(word) >= shortest:
                for less in _leave_out(word):
                    self._near.setdefault(less, word)
        self.correct = lru_cache(maxsize=1 << 16)(self._correct)

    def _correct(self, word: str) -> str | None:
        """The known word that this one was to be, itself if it is known, or None."""
        if len(word) < self._shortest - 1:
            return None
        near = (self._near.get(less) for less in _leave_out(word))
        return next((known for known in near if known and known[0] == word[0]), None)


def _leave_out(word: str) -> list[str]:
    """The word, then the word without each of its letters."""
    return [word, *(word[:i] + word[i + 1 :] for i in range(len(word)))]
