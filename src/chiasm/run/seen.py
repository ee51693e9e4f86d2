"""Whom a model has seen: digests of patients and of pixels, so that a later training can tell without the cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort


def digest_studies(cohorts: Sequence[Cohort], rows: Sequence[NDArray[np.int64]]) -> set[str]:
    """Of the patients of these studies of each cohort, and of the pixels of their images."""
    found: set[str] = set()
    for cohort, own in zip(cohorts, rows, strict=True):
        found |= set(_people(cohort)[own].tolist())
        found |= set(_pixels(cohort)[np.isin(cohort.image_study, own)].tolist())
    return found


def count_seen(cohorts: Sequence[Cohort], rows: Sequence[NDArray[np.int64]], seen: set[str]) -> int:
    """Patients among these studies who were seen, by their name in the source or by an image, pixel by pixel."""
    known: set[str] = set()
    for cohort, own in zip(cohorts, rows, strict=True):
        people = _people(cohort)
        known |= set(people[own].tolist()) & seen
        image = np.isin(cohort.image_study, own) & np.isin(_pixels(cohort), list(seen))
        known |= set(people[cohort.image_study[image]].tolist())
    return len(known)


def _people(cohort: Cohort) -> NDArray[np.str_]:
    """[n]"""
    return np.array([_digest(f"patient {person}") for person in cohort.people], dtype=np.str_)


def _pixels(cohort: Cohort) -> NDArray[np.str_]:
    """[images]"""
    return np.array([_digest(f"pixels {pixels}") for pixels in cohort.images["pixel_hash"]], dtype=np.str_)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
