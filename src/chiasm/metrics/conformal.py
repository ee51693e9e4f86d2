"""Sets and intervals that hold the truth with a stated chance: split conformal prediction (Angelopoulos & Bates 2021).

On validation patients each truth has a nonconformity score; the quantile is the score that the stated share of them stays
within. A prediction set holds what scores no more. If a new patient is like those of validation, the truth is in the set
with at least the stated chance, whatever the model is worth: a poor one has large sets.

    binary, multiclass  1 - probability of the truth (least ambiguous sets; Sadinle et al. 2019)
    ordinal             the probability gathered before the truth, from the most probable level on, always to the more
                        probable neighbour (adaptive sets, section 2.1 of the above; contiguous as in Lu et al. 2022)
    regression          |truth - prediction| (section 2.2 with a constant width)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.metrics.bootstrap import Floats


def conformal_quantile(scores: ArrayLike, patients: ArrayLike, coverage: float) -> float | None:
    """The smallest score that `coverage` of n patients, and one more that may be any, stay within.

    Each patient weighs 1, whatever the number of studies (Dunn et al. 2022, pooled CDFs): the first score s for which the
    weights of scores <= s reach coverage * (n + 1). None where there is none: n is too small (`least_patients`).

    Args:
        scores, patients: [m] of the studies with a known truth, and whose they are.
    """
    s = np.asarray(scores, np.float64)
    _, whose, many = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    order = np.argsort(s, kind="stable")
    reached = np.cumsum(1 / many[whose[order]])
    enough = np.flatnonzero(reached >= coverage * (len(many) + 1) - 1e-9)
    return float(s[order[enough[0]]]) if len(enough) else None


def least_patients(coverage: float) -> int:
    """The patients that validation needs for a coverage.

    >>> least_patients(0.9), least_patients(0.95)
    (9, 19)
    """
    return int(np.ceil(coverage / (1 - coverage) - 1e-9))


def nonconformity(probabilities: Floats, ordinal: bool = False) -> Floats:
    """[n, Q] probabilities of levels -> [n, Q] nonconformity score of each, were it the truth."""
    if not ordinal:
        return np.asarray(1 - probabilities)
    n, width = probabilities.shape
    rows = np.arange(n)
    low = high = probabilities.argmax(axis=1)
    padded = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)  # level q stands at q + 1; nothing beyond
    scores, gathered = np.zeros((n, width)), probabilities[rows, low]
    for _ in range(width - 1):
        down = padded[rows, low] >= padded[rows, high + 2]
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
        new = np.where(down, low, high)
        scores[rows, new] = gathered
        gathered = gathered + probabilities[rows, new]
    return scores


def prediction_set(probabilities: Floats, quantiles: Floats, ordinal: bool = False) -> NDArray[np.bool_]:
    """[n, Q] and [n] -> [n, Q]: the levels whose nonconformity is at most the quantile, and always the most probable one."""
    most = probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])
    return np.asarray((nonconformity(probabilities, ordinal) <= quantiles[:, None] + 1e-12) | most)
