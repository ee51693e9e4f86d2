"""How far a vector lies from those of training: the Mahalanobis distance under a shrunk covariance.

The covariance is that of Ledoit & Wolf (2004), (1 - a) S + a m I of standardized features, with a chosen from the data; it has an
inverse where there are more features than patients. Its few largest directions are kept, the others share one variance.
Distances to training data are read against those of held-out patients, never of what was fitted: a point of the fit lies in
its own span, and near. As a score for images of another kind: Lee et al. (2018), of the features of a frozen network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from chiasm.metrics.bootstrap import Floats

DIRECTIONS = 64
"""Directions of the covariance that are kept."""
FLOOR = 0.1
"""A feature's deviation counts as at least this share of its group's: a corner that is always black is not infinitely far."""
FOLDS = 5
"""Parts of the patients, each held out of the fit that its distances come from."""


@dataclass(frozen=True)
class Cloud:
    """Where training lies.

    Attributes:
        mean, scale: [d] of each feature. directions: [k, d], orthonormal, of the standardized features.
        variances: [k] along them; rest: [1] of every other direction.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    variances: Floats
    rest: Floats

    def distance(self, values: Floats) -> Floats:
        """[n, d] -> [n] Mahalanobis distances, per feature: sqrt(x' C^-1 x / d)."""
        x = (values - self.mean) / self.scale
        along = x @ self.directions.T
        beside = np.maximum((x**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squared = (along**2 / self.variances).sum(axis=1) + beside / self.rest[0]
        return np.asarray(np.sqrt(squared / values.shape[1]))


def fit_cloud(values: Floats, groups: NDArray[np.int64]) -> Cloud:
    """The cloud of [n, d] training vectors, n >= 2.

    Args:
        groups: [d] number of the group of each feature, those that are measured on one scale.
    """
    n, d = values.shape
    mean, spread = values.mean(axis=0), values.std(axis=0)
    usual = np.array([np.sqrt(np.mean(spread[groups == group] ** 2)) for group in range(groups.max() + 1)])
    scale = np.maximum(spread, FLOOR * usual[groups])
    scale[scale == 0] = 1.0
    x = (values - mean) / scale
    gram = (x.T @ x if d <= n else x @ x.T) / n  # S, or what has the same eigenvalues but zeros and is smaller
    variances, vectors = eigh(gram, subset_by_index=[max(0, len(gram) - DIRECTIONS), len(gram) - 1])
    there = np.flatnonzero(variances > 1e-12 * variances[-1])[::-1]
    variances, vectors = variances[there], vectors[:, there]
    directions = vectors.T if d <= n else (vectors / np.sqrt(n * variances)).T @ x
    total, k = float(np.trace(gram)), len(variances)
    m = total / d or 1.0
    # Ledoit & Wolf (2004), lemma 3.2 and section 3.3: b is the error of S, c its distance from m I
    squared = float((gram**2).sum())
    b = float(((x**2).sum(axis=1) ** 2).sum() / n**2 - squared / n)
    c = squared - d * m**2
    a = float(np.clip(b / c, 0.01, 1.0)) if c > 1e-12 else 1.0
    rest = max(0.0, total - float(variances.sum())) / max(1, d - k)
    shrunk, others = (1 - a) * variances + a * m, np.array([(1 - a) * rest + a * m])
    return Cloud(mean, scale, directions, shrunk, others)


def held_out_distances(values: Floats, groups: NDArray[np.int64], patients: NDArray[np.str_]) -> Floats:
    """[n] the distance of each vector [n, d] to a cloud that no vector of its patient is part of.

    Patients are dealt to `FOLDS` parts in a random order of a fixed seed; there are at least two of them.
    """
    _, whose = np.unique(patients, return_inverse=True)
    order = np.random.default_rng(0).permutation(whose.max() + 1)
    part = (order % min(FOLDS, len(order)))[whose]
    distances = np.empty(len(values))
    for held in range(part.max() + 1):
        own = part == held
        distances[own] = fit_cloud(values[~own], groups).distance(values[own])
    return distances
