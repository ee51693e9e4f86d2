"""What one column of a record tells of a yes or no by itself: whether a label hides in it, and how it would answer.

Everywhere: values [n], numbers with NaN where missing, or objects (words) with None where missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from chiasm.metrics.bootstrap import Floats
from chiasm.metrics.controls import metadata_features

MOST_CODES = 10
"""Distinct numbers up to which they may be codes, whose order says nothing."""
FEWEST_KNOWN = 10
"""Patients of each class with a value, from which the order of the values is looked at without the others."""
_PARTS = 5


def tell(values: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """AUROC, .5 to 1, of the best reading of the column; .5 where a class is missing.

    Readings are the order of its numbers, upward or downward, with missing ones below, above or left out; and the share of
    positives of each word (or code, or of what is missing) among four fifths of the rows, by which the last fifth is ranked,
    so that a word of its own for everybody tells nothing.
    """
    if positive.all() or not positive.any():
        return 0.5
    found = [0.5]
    known = _is_known(values)
    if values.dtype == object or len(np.unique(values[known])) <= MOST_CODES:
        found.append(_auroc(_shares(_codes(values), positive), positive))
    if values.dtype != object:
        for filled in (-np.inf, np.inf):
            found.append(_either_way(_auroc(np.where(known, values, filled), positive)))
        if min(positive[known].sum(), (~positive[known]).sum()) >= FEWEST_KNOWN:
            found.append(_either_way(_auroc(values[known].astype(np.float64), positive[known])))
    return max(found)


def column_features(values: NDArray[Any]) -> Floats:
    """[n, d] of one column for `chiasm.metrics.controls.probe`: its number, and its words or codes as columns of 0 and 1."""
    if values.dtype == object:
        return metadata_features({}, {"words": values})
    known = _is_known(values)
    codes = (
        {"codes": np.array([v if k else None for v, k in zip(values, known, strict=True)], object)}
        if len(np.unique(values[known])) <= MOST_CODES
        else {}
    )
    return metadata_features({"numbers": values}, codes)


def _is_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype == object:
        return np.array([value is not None for value in values], bool)
    return np.asarray(np.isfinite(values))


def _codes(values: NDArray[Any]) -> NDArray[np.intp]:
    words = np.array(["" if value is None or value != value else str(value) for value in values], np.str_)  # NaN != NaN
    return np.unique(words, return_inverse=True)[1]


def _shares(codes: NDArray[np.intp], positive: NDArray[np.bool_]) -> Floats:
    """[n] share of positives with this code among the rows of other parts, drawn toward the share of all by one row."""
    part = np.empty(len(codes), np.intp)
    for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        part[rows] = np.arange(len(rows)) % _PARTS  # parts have the classes in equal shares
    size = (codes.max() + 1, _PARTS)
    place = np.ravel_multi_index((codes, part), size)
    count, hits = (np.bincount(place, w, size[0] * size[1]).reshape(size) for w in (np.ones(len(codes)), positive))
    others, of_them = (each.sum(axis=1, keepdims=True) - each for each in (count, hits))
    return np.asarray((of_them + positive.mean()) / (others + 1))[codes, part]


def _auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    n = int(positive.sum())
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def _either_way(auroc: float) -> float:
    return max(auroc, 1 - auroc)
