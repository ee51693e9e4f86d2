"""What each modality added: exact Shapley values over modality subsets (Shapley 1953; few modalities, so all subsets)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset, the empty one first, each in the given order.

    >>> subsets(["image", "text"])
    [(), ('image',), ('text',), ('image', 'text')]
    """
    return [chosen for size in range(len(modalities) + 1) for chosen in combinations(modalities, size)]


def shapley(
    values: Mapping[tuple[str, ...], NDArray[np.floating]], modalities: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """The average of what a modality adds to v(S) over all orders in which modalities can arrive.

    Args:
        values: v of every subset of `subsets(modalities)`, arrays of one shape (logits [n, L]).

    Returns:
        modality -> values of that shape; they sum to v(all) - v(none).
    """
    n = len(modalities)
    result = {}
    for modality in modalities:
        total = np.zeros_like(values[()], dtype=np.float64)
        for rest in subsets([m for m in modalities if m != modality]):
            joined = tuple(m for m in modalities if m in rest or m == modality)
            weight = factorial(len(rest)) * factorial(n - len(rest) - 1) / factorial(n)
            total += weight * (np.asarray(values[joined], np.float64) - values[rest])
        result[modality] = total
    return result
