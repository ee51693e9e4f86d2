from itertools import permutations

import numpy as np
import pytest

from chiasm.encoding.plan import Layout
from chiasm.metrics.attribution import Coalition, ColumnShares, additive, attribute, numbers, shapley, subsets, told
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


# --- columns -----------------------------------------------------------------------------------------------------------


def _game(seed: int, modalities: list[str], columns: list[str]) -> dict[Coalition, np.ndarray]:
    """Random values [3] of every coalition, those without a column alike whoever asks."""
    rng = np.random.default_rng(seed)
    others = [m for m in modalities if m != "record"]
    return {(rest, shown): rng.normal(size=3) for rest in subsets(others) for shown in subsets(columns)}


def _by_orders(values: dict[Coalition, np.ndarray], modalities: list[str], columns: list[str]) -> dict[str, np.ndarray]:
    """The slow way: every order of modalities and, inside the record, every order of columns."""
    total, count = {c: np.zeros(3) for c in columns}, 0
    for arrival in permutations(modalities):
        before = set(arrival[: arrival.index("record")])
        rest = tuple(m for m in modalities if m in before)
        for order in permutations(columns):
            count += 1
            for place, column in enumerate(order):
                shown = tuple(c for c in columns if c in order[:place])
                joined = tuple(c for c in columns if c in order[: place + 1])
                total[column] += values[rest, joined] - values[rest, shown]
    return {column: each / count for column, each in total.items()}


@pytest.mark.parametrize(
    ("modalities", "columns"), [(["record"], 3), (["image", "record"], 4), (["image", "text", "record"], 3)]
)
def test_shares_of_columns_are_means_over_all_orders_and_sum_to_the_records(
    modalities: list[str], columns: int
) -> None:
    names = [f"c{i}" for i in range(columns)]
    values, shares = _game(1, modalities, names), ColumnShares(modalities, names)
    assert shares.exact
    assert set(shares.coalitions) <= values.keys()
    found = shares.share(values)
    for column, expected in _by_orders(values, modalities, names).items():
        np.testing.assert_allclose(found[column][0], expected, atol=1e-12)
        assert not found[column][1].any()
    whole = {
        tuple(m for m in modalities if m in (*rest, *(["record"] if on else []))): values[
            rest, tuple(names) if on else ()
        ]
        for rest in subsets([m for m in modalities if m != "record"])
        for on in (True, False)
    }
    np.testing.assert_allclose(sum(s for s, _ in found.values()), shapley(whole, modalities)["record"], atol=1e-12)


def test_of_many_columns_shares_are_near_the_exact_ones_within_their_errors() -> None:
    """An additive game with one interaction of three columns: what is exact can be written down."""
    names = [f"c{i}" for i in range(10)]
    size = np.arange(10) / 5 - 1
    shares = ColumnShares(["image", "record"], names)
    assert not shares.exact

    def value(rest: tuple[str, ...], shown: tuple[str, ...]) -> np.ndarray:
        at = [int(c[1:]) for c in shown]
        return np.array([size[at].sum() + 3.0 * ({0, 1, 2} <= set(at)) + 0.5 * len(rest)])

    found = shares.share({coalition: value(*coalition) for coalition in shares.coalitions})
    exact = size + np.where(np.arange(10) < 3, 1.0, 0.0)
    for i, name in enumerate(names):
        share, error = found[name]
        assert abs(share[0] - exact[i]) <= 1e-9 + 4 * error[0]
        assert (error[0] > 1e-9) == (i < 3), "an order and its reverse agree on all else"
    assert sum(s[0] for s, _ in found.values()) == pytest.approx(size.sum() + 3.0)
    assert len(shares.coalitions) <= 2 * 8 * 11
