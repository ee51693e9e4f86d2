from hypothesis import given
from hypothesis import strategies as st

from chiasm.plan import Plan
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
    )
)
def test_the_plan_comes_back_exactly(plan: Plan) -> None:
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert list(back.numeric) == list(plan.numeric)  # the order of columns is the order of tensors
    assert list(back.targets) == list(plan.targets)
    assert all(isinstance(kind, Kind) for kind in back.kinds.values())
