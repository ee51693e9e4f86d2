import numpy as np

from chiasm.metrics.attribution import shapley, subsets


def test_shapley_of_a_sum_is_each_part_and_of_an_interaction_is_shared():
    modalities = ["image", "text", "record"]
    part = {"image": 1.0, "text": -2.0, "record": 0.5}

    def value(chosen):
        both = 3.0 if {"image", "record"} <= set(chosen) else 0.0
        return np.array([sum(part[m] for m in chosen) + both])

    found = shapley({s: value(s) for s in subsets(modalities)}, modalities)
    assert np.allclose([found[m][0] for m in modalities], [1.0 + 1.5, -2.0, 0.5 + 1.5])


def test_shapley_sums_to_the_difference_between_all_and_none():
    rng = np.random.default_rng(0)
    modalities = ["image", "text", "record"]
    values = {s: rng.normal(size=(4, 3)) for s in subsets(modalities)}
    found = shapley(values, modalities)
    assert np.allclose(sum(found.values()), values[tuple(modalities)] - values[()])
