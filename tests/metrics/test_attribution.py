import numpy as np

from chiasm.encoding.plan import Layout
from chiasm.metrics.attribution import additive, attribute, numbers, shapley, subsets, told
from chiasm.study import Kind

LAYOUT = Layout(
    {"outcome": ["event"], "mrs": ["mrs"], "kind": ["kind"], "nihss": ["nihss"]},
    {"outcome": Kind.BINARY, "mrs": Kind.ORDINAL, "kind": Kind.MULTICLASS, "nihss": Kind.REGRESSION},
    {"mrs": [(0.0, 2.0, 6.0)], "kind": [("a", "b")]},
)


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


def test_every_kind_of_answer_is_told_in_numbers_that_add_up():
    values = {
        "outcome": np.array([[0.8]]),
        "mrs": np.array([[[0.5, 0.25, 0.25]]]),
        "kind": np.array([[[0.9, 0.1, 0.0]]]),  # a level that another label has, not this one
        "nihss": np.array([[7.0]]),
    }
    assert [each.name for each in numbers(LAYOUT)] == [
        "outcome/event",
        "mrs/mrs",
        "kind/kind=a",
        "kind/kind=b",
        "nihss/nihss",
    ]
    found = told(values, LAYOUT)
    assert (found["outcome"].tolist(), found["nihss"].tolist()) == ([[0.8]], [[7.0]])
    assert found["mrs"].tolist() == [[0.5 + 1.5]]
    scaled = additive(values, LAYOUT)
    np.testing.assert_allclose(scaled["outcome"], [[np.log(4)]])
    np.testing.assert_allclose(scaled["kind"], np.log([[0.9, 0.1]]))
    assert scaled["mrs"].tolist() == [[2.0]]
    assert np.isfinite(additive(values | {"outcome": np.array([[1.0]])}, LAYOUT)["outcome"]).all(), (
        "a certain answer too"
    )


def test_what_a_modality_adds_to_a_probability_is_counted_in_log_odds():
    layout = Layout({"outcome": ["event"]}, {"outcome": Kind.BINARY}, {})
    p = {(): 0.5, ("image",): 0.8, ("record",): 0.5, ("image", "record"): 0.9}
    answers = {subset: {"outcome": np.array([[value]])} for subset, value in p.items()}
    found = attribute(answers, layout, ["image", "record"])["outcome"]
    # image: mean of log 4 - 0 and log 9 - 0; record: mean of 0 and log 9 - log 4
    np.testing.assert_allclose(found["image"], [[(np.log(4) + np.log(9)) / 2]])
    np.testing.assert_allclose(found["record"], [[np.log(9 / 4) / 2]])
