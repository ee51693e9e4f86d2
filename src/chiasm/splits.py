"""Who trains, who validates, who is tested: always by patient, and the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
HASH_RULE = "hash 70/10/20"


def split_of(patient_id: str, seed: int) -> str:
    """The split of a patient by a hash of seed and id: 70% train, 10% validation, 20% test, whoever else is there.

    >>> [split_of(patient, seed=0) for patient in ("ann", "bob", "eve")]
    ['train', 'validation', 'test']
    """
    share = _uniform(f"{seed}:{patient_id}")
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"


def folds(
    patient_ids: Sequence[str] | NDArray[np.str_],
    k: int,
    repeats: int,
    seed: int,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> list[list[NDArray[np.int64]]]:
    """The test rows of k folds, `repeats` times over: every row in one fold of each repeat, no patient in two.

    Patients are shuffled by hash and dealt out in turn, so folds differ by at most one patient; with `strata` (a value
    a row; a patient counts as the largest of its rows') they are dealt out stratum by stratum.

    Returns:
        [repeat][fold] -> sorted rows.

    Raises:
        ValueError: k is below 2 or above the number of patients.
    """
    names, patient = np.unique(np.asarray(patient_ids, dtype=np.str_), return_inverse=True)
    if not 2 <= k <= len(names):
        raise ValueError(f"k must be an int in [2, {len(names)}], the number of patients. Got {k} instead.")
    result = []
    for repeat in range(repeats):
        fold = np.empty(len(names), np.int64)
        fold[_dealt(names, patient, strata, f"{seed}:{repeat}")] = np.arange(len(names)) % k
        result.append([np.flatnonzero(fold[patient] == number) for number in range(k)])
    return result


def draw(
    patient_ids: Sequence[str] | NDArray[np.str_],
    share: float,
    key: str,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> NDArray[np.int64]:
    """The rows of a share of the patients, at least of one; with `strata` of the same share of each stratum."""
    names, patient = np.unique(np.asarray(patient_ids, dtype=np.str_), return_inverse=True)
    steps = np.floor(np.arange(len(names) + 1) * min(share, 1.0) + 1e-9)
    chosen = np.zeros(len(names), bool)
    chosen[_dealt(names, patient, strata, key)] = np.diff(steps) > 0 if steps[-1] else np.arange(len(names)) == 0
    return np.flatnonzero(chosen[patient])


def _dealt(names: NDArray[np.str_], patient: NDArray[np.intp], strata: object, key: str) -> NDArray[np.intp]:
    """The order in which patients are dealt out: stratum by stratum, shuffled by a hash."""
    stratum = np.zeros(len(names), np.int64)
    if strata is not None:
        np.maximum.at(stratum, patient, np.unique(np.asarray(strata), return_inverse=True)[1])
    return np.lexsort((np.array([_uniform(f"{key}:{name}") for name in names]), stratum))


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
