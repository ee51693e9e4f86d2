import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chiasm.encoding.levels import NEVER
from chiasm.encoding.plan import Layout, Plan
from chiasm.study import Kind

numbers = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)
words = st.lists(st.text(max_size=5), max_size=3).map(tuple)
names = st.text(max_size=5)


@given(
    st.builds(
        Plan,
        image_shape=st.sampled_from([None, (224, 224), (64, 64, 64)]),
        numeric=st.dictionaries(names, numbers, max_size=3),
        categories=st.dictionaries(names, words, max_size=3),
        text_sections=words,
        max_tokens=st.integers(0, 200),
        description_sections=words,
        description_max_tokens=st.integers(0, 200),
        targets=st.dictionaries(names, words, max_size=3),
        kinds=st.dictionaries(names, st.sampled_from(list(Kind)), max_size=3),
        uncertain=st.dictionaries(names, st.sampled_from(["ignore", "positive"]), max_size=3),
        scaling=st.dictionaries(names, st.lists(numbers, max_size=3).map(tuple), max_size=3),
        localized=st.lists(st.tuples(names, names), max_size=3).map(tuple),
        grid=st.sampled_from([None, (14, 14), (4, 4, 4)]),
        findings=words,
        views=words,
        levels=st.dictionaries(names, st.lists(words | numbers, max_size=2).map(tuple), max_size=2),
        rates=st.dictionaries(names, st.lists(numbers, max_size=2).map(tuple), max_size=2),
    )
)
def test_the_plan_comes_back_exactly(plan: Plan) -> None:
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert list(back.numeric) == list(plan.numeric)  # the order of columns is the order of tensors
    assert list(back.targets) == list(plan.targets)
    assert all(isinstance(kind, Kind) for kind in back.kinds.values())


def fold(labels: tuple[str, ...], levels: tuple[tuple[float | str, ...], ...], kind: Kind) -> Plan:
    return Plan(None, {}, {}, (), 0, (), 0, {"t": labels}, {"t": kind}, {}, {}, (), None, levels={"t": levels})


def test_a_fold_without_a_level_gives_it_nothing() -> None:
    """Training of the first fold had no mRS 5, that of the second no label b."""
    plans = [fold(("a", "b"), ((0.0, 6.0), (1.0, 2.0)), Kind.ORDINAL), fold(("a",), ((0.0, 5.0, 6.0),), Kind.ORDINAL)]
    layout = Layout.of(plans)
    assert layout.levels == {"t": [(0.0, 5.0, 6.0), (1.0, 2.0)]}
    assert layout.shape("t") == (2, 3)
    first = np.array([[[0.7, 0.3], [0.4, 0.6]]])
    np.testing.assert_array_equal(layout.place(plans[0], "t", first), [[[0.7, 0, 0.3], [0.4, 0.6, 0]]])
    second = np.array([[[0.2, 0.3, 0.5]]])
    np.testing.assert_array_equal(layout.place(plans[1], "t", second), [[[0.2, 0.3, 0.5], [np.nan] * 3]])
    placed = layout.place_logits(plans[0], "t", first)
    np.testing.assert_array_equal(placed[0, 0], np.float32([0.7, NEVER, 0.3]))
    np.testing.assert_array_equal(layout.take_logits(plans[0], "t", placed), first.astype(np.float32))


def test_curves_of_folds_are_read_at_common_times() -> None:
    plans = [fold(("a",), ((10.0, 30.0),), Kind.SURVIVAL), fold(("a",), ((5.0, 20.0, 40.0),), Kind.SURVIVAL)]
    layout = Layout.of(plans)
    assert layout.levels == {"t": [(5.0, 20.0, 40.0)]}
    np.testing.assert_allclose(layout.place(plans[0], "t", np.array([[[0.5, 0.3]]])), [[[0.75, 0.4, 0.3]]])
    logits = np.float32([[[-1, 2]]])
    np.testing.assert_array_equal(layout.take_logits(plans[0], "t", layout.place_logits(plans[0], "t", logits)), logits)
