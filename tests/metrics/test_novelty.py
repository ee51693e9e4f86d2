"""The distance equals x' C^-1 x under a shrunk covariance that is written out, and rises with what is not of training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from chiasm.metrics import novelty
from chiasm.metrics.novelty import fit_cloud, held_out_distances


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 12)) @ rng.normal(size=(12, 12)) + 3


@pytest.mark.parametrize("d", [3, 12])
def test_the_distance_is_that_of_the_covariance_of_ledoit_and_wolf(values, d):
    values, one = values[:, :d], np.zeros(d, np.int64)
    cloud, new = fit_cloud(values, one), np.random.default_rng(1).normal(size=(5, d))
    x = (values - values.mean(axis=0)) / values.std(axis=0)
    c = LedoitWolf(assume_centered=True).fit(x).covariance_
    z = (new - values.mean(axis=0)) / values.std(axis=0)
    slow = [np.sqrt(row @ np.linalg.inv(c) @ row / d) for row in z]
    np.testing.assert_allclose(cloud.distance(new), slow, rtol=1e-9)


def test_directions_that_are_not_kept_share_one_variance(values, monkeypatch):
    monkeypatch.setattr(novelty, "DIRECTIONS", 4)
    cloud, one = fit_cloud(values, np.zeros(12, np.int64)), np.ones((1, 12))
    x = (values - values.mean(axis=0)) / values.std(axis=0)
    level, turn = np.linalg.eigh(x.T @ x / len(x))
    level, turn = level[::-1], turn[:, ::-1]
    whole = LedoitWolf(assume_centered=True).fit(x)
    a = whole.shrinkage_
    shared = np.concatenate([level[:4], np.full(8, level[4:].mean())])
    c = turn @ np.diag((1 - a) * shared + a * level.mean()) @ turn.T
    z = (one - values.mean(axis=0)) / values.std(axis=0)
    assert cloud.distance(one)[0] == pytest.approx(float(np.sqrt(z[0] @ np.linalg.inv(c) @ z[0] / 12)))
    assert cloud.directions.shape == (4, 12)


def test_a_corner_that_is_always_black_is_not_infinitely_far():
    values = np.random.default_rng(0).normal(size=(30, 4))
    values[:, 3] = 0
    cloud = fit_cloud(values, np.array([0, 0, 0, 0]))
    assert cloud.scale[3] == pytest.approx(0.1 * np.sqrt(np.mean(values.std(axis=0) ** 2)))
    alone = fit_cloud(values, np.array([0, 0, 0, 1]))
    assert alone.scale[3] == 1, "a group without any spread"
    assert np.isfinite(cloud.distance(np.ones((1, 4)))).all() and np.isfinite(alone.distance(np.ones((1, 4)))).all()


def test_a_patient_is_held_out_with_all_images():
    """Copies of a far point lie near a cloud of which they are part; held out, all are far."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 30))
    values[:6] = 4 + rng.normal(size=30) + 0.01 * rng.normal(size=(6, 30))
    patients = np.array(["far"] * 6 + [f"p{i}" for i in range(54)])
    groups = np.zeros(30, np.int64)
    held = held_out_distances(values, groups, patients)
    assert held[:6].min() > 2 * fit_cloud(values, groups).distance(values)[:6].max()
    alone = held_out_distances(values, groups, np.array([str(i) for i in range(60)]))
    assert held[:6].min() > 1.5 * alone[:6].max()


def test_distances_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    values, patients, order = rng.normal(size=(40, 5)), np.array([f"p{i // 2}" for i in range(40)]), rng.permutation(40)
    groups = np.zeros(5, np.int64)
    there = held_out_distances(values, groups, patients)[order]
    np.testing.assert_allclose(held_out_distances(values[order], groups, patients[order]), there)
