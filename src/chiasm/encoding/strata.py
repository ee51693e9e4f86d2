"""What patient folds are to have equal shares of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort
from chiasm.encoding.fit import class_words
from chiasm.recipe import Recipe
from chiasm.study import Kind

QUINTILES = (0.2, 0.4, 0.6, 0.8)


def find_strata(
    recipe: Recipe, cohorts: Sequence[Cohort], among: Sequence[NDArray[np.int64]] | None = None
) -> tuple[NDArray[np.int64], str]:
    """The stratum of every study of all cohorts, and a sentence that says what it is.

    It is of the first target of the recipe whose known values differ at all; a study of which it is not known is in a stratum
    of its own.

    Args:
        among: rows of each cohort; the values of no other study are looked at, and the strata are of these.
    """
    among = [np.arange(len(c)) for c in cohorts] if among is None else among
    for target in recipe.targets:
        if any(target in cohort.targets for cohort in cohorts):
            stratum, known, what = _stratum(recipe, cohorts, target, among)
            if len(np.unique(stratum[known])) > 1:
                numbers = np.unique(np.where(known, stratum, -np.inf), return_inverse=True)[1]
                said = (
                    f"Folds have equal shares of patients by {target}: {what}; of several studies the highest counts."
                )
                return np.asarray(numbers, np.int64), said
    return np.zeros(sum(map(len, among)), np.int64), ""


def _stratum(
    recipe: Recipe, cohorts: Sequence[Cohort], target: str, among: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
    """[studies] stratum by one target, where it is known, and what it is."""
    infos = [cohort.targets[target] for cohort in cohorts if target in cohort.targets]
    labels = recipe.targets[target].labels or tuple(dict.fromkeys(label for info in infos for label in info.labels))
    words = [class_words(infos, label) for label in labels]
    parts = [cohort.labels(target, labels, recipe.targets[target].uncertain, words) for cohort in cohorts]
    values, mask = (
        np.concatenate([each[own] for each, own in zip(part, among, strict=True)]) for part in zip(*parts, strict=True)
    )
    kind, first, known = infos[0].kind, values[:, 0].astype(np.float64), mask[:, 0]
    if kind in (Kind.BINARY, Kind.ORDINAL):
        highest, any_known = (
            np.where(mask, values, -np.inf).max(axis=1).astype(np.float64),
            np.asarray(mask.any(axis=1)),
        )
        if (
            len(labels) > 1 and len(np.unique(highest[any_known])) < 2
        ):  # everybody has one of them: by the label that tells most apart
            rarer = [
                min((values[:, k] > 0)[mask[:, k]].sum(), (values[:, k] <= 0)[mask[:, k]].sum())
                for k in range(len(labels))
            ]
            k = int(np.argmax(rarer))
            return values[:, k].astype(np.float64), mask[:, k], f"the value of {labels[k]}"
        several = "whether any of its labels is present" if len(labels) > 1 else "its value"
        return highest, any_known, "its highest level" if kind is Kind.ORDINAL else several
    if kind is Kind.MULTICLASS:
        return first, known, f"the class of {labels[0]}"
    if kind is Kind.SURVIVAL:
        return np.where(np.signbit(first), 0.0, 1.0), known, f"whether {labels[0]} happened"
    edges = np.quantile(first[known], QUINTILES) if known.any() else np.zeros(0)
    return np.searchsorted(edges, first).astype(np.float64), known, f"the fifth that {labels[0]} falls into"
