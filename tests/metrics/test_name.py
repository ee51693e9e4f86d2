import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.name import _MODALITIES, MetricName, metric_name, parse_name
from chiasm.tensors import MODALITIES
from chiasm.vocabulary import snake_case

words = st.text(max_size=12).filter(lambda text: any(c in string.ascii_letters + string.digits for c in text))
controls = words.filter(lambda text: snake_case(text) not in MODALITIES)
subsets = st.lists(st.sampled_from(MODALITIES), min_size=1, unique=True)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"target": "findings", "label": "pneumonia", "metric": "auroc"}, "findings/pneumonia/auroc"),
        ({"target": "localization", "label": "Pneumonia", "metric": "t_iou_0.1"}, "localization/pneumonia/t_iou_0.1"),
        ({"target": "description", "label": None, "metric": "BLEU4"}, "description/all/bleu4"),
        ({"target": "retrieval", "label": "image_to_text", "metric": "R@10"}, "retrieval/image_to_text/r_10"),
        ({"target": "outcome", "label": "mRS > 2", "metric": "auroc"}, "outcome/mrs_2/auroc"),
        (
            {"target": "outcome", "label": "event", "metric": "auroc", "control": "bayes", "subset": "record+image"},
            "bayes:image+record:outcome/event/auroc",
        ),
        (
            {"target": "a", "label": "b", "metric": "auroc", "control": "Shuffled text", "subgroup": "age=40-65"},
            "shuffled_text:a/b/auroc@age=40_65",
        ),
    ],
)
def test_names_follow_the_grammar(arguments, name):
    assert str(metric_name(**arguments)) == name
    assert str(parse_name(name)) == name


@pytest.mark.parametrize(
    "arguments",
    [
        {"target": "", "label": "a", "metric": "b"},
        {"target": "a", "label": "++", "metric": "b"},
        {"target": "a", "label": "b", "metric": "."},
        {"target": "a", "label": "b", "metric": "c", "subset": "image+sound"},
        {"target": "a", "label": "b", "metric": "c", "subset": ()},
        {"target": "a", "label": "b", "metric": "c", "control": "Image"},
        {"target": "a", "label": "b", "metric": "c", "subgroup": "sex"},
        {"target": "a", "label": "b", "metric": "c", "subgroup": "sex="},
    ],
)
def test_names_that_could_not_be_read_back_are_refused(arguments):
    with pytest.raises(ValueError, match="got"):
        metric_name(**arguments)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a/b/c/d", "A/b/c", "x:y:a/b/c", "a/b/c@", "record+image:a/b/c", "a/b/c@d"]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=r"expected|subset|subgroup|part"):
        parse_name(name)


@given(words, st.none() | words, words, st.none() | controls, st.none() | subsets, st.none() | st.tuples(words, words))
def test_every_name_reads_back_to_its_parts(target, label, metric, control, subset, subgroup):
    subgroup = None if subgroup is None else "=".join(part.replace("=", " ") for part in subgroup)
    name = metric_name(target, label, metric, control, subset, subgroup)
    parsed = parse_name(str(name))
    assert isinstance(parsed, MetricName)
    assert parsed == name
    assert re.fullmatch(r"[\w:+/@=.]+", str(name))
    assert str(name) == str(name).lower()
    assert (parsed.control is None, parsed.subset is None, parsed.subgroup is None) == (
        control is None,
        subset is None,
        subgroup is None,
    )
    assert parsed.subset is None or set(parsed.subset.split("+")) == set(subset)


def test_modalities_are_those_of_the_model():
    assert _MODALITIES == MODALITIES
