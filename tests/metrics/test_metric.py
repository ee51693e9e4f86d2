import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.metrics.metric import _MODALITIES, Metric, MetricName, metric_name, parse_name
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
    assert metric_name(**arguments) == name
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


def test_events_and_reason_are_written_where_they_are():
    figure = Metric(0.8, 0.7, 0.9, 100, "p", events=20)
    assert figure.to_json() == {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100, "protocol": "p", "events": 20}
    none = Metric(None, None, None, 3, "p", "too few", 0)
    assert none.to_json()["events"] == 0
    for metric in (figure, none, Metric(0.8, None, None, 1, "p")):
        assert Metric.from_json(metric.to_json()) == metric


@given(words, st.none() | words, words, st.none() | controls, st.none() | subsets, st.none() | st.tuples(words, words))
def test_every_name_reads_back_to_its_parts(target, label, metric, control, subset, subgroup):
    subgroup = None if subgroup is None else "=".join(part.replace("=", " ") for part in subgroup)
    name = metric_name(target, label, metric, control, subset, subgroup)
    parsed = parse_name(name)
    assert isinstance(parsed, MetricName)
    assert str(parsed) == name
    assert re.fullmatch(r"[\w:+/@=.]+", name)
    assert name == name.lower()
    assert (parsed.control is None, parsed.subset is None, parsed.subgroup is None) == (
        control is None,
        subset is None,
        subgroup is None,
    )
    assert parsed.subset is None or set(parsed.subset.split("+")) == set(subset)


def test_modalities_are_those_of_the_model():
    assert _MODALITIES == MODALITIES


def test_json_round_trip_and_an_undefined_value_is_null_with_its_reason():
    defined, undefined = Metric(0.5, 0.25, 0.75, 12, "auroc"), Metric(None, None, None, 0, "auroc", "no patient")
    assert defined.to_json() == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 12, "protocol": "auroc"}
    assert json.loads(json.dumps(undefined.to_json()))["value"] is None
    assert undefined.to_json()["reason"] == "no patient"
    for metric in (defined, undefined):
        assert Metric.from_json(json.loads(json.dumps(metric.to_json()))) == metric


@pytest.mark.parametrize(
    "fields",
    [
        (float("nan"), None, None, 1, "p", None),
        (None, None, None, 1, "p", None),
        (None, None, None, 1, "p", ""),
        (0.5, None, None, 1, "p", "why"),
        (0.5, 0.4, None, 1, "p", None),
        (0.5, 0.6, 0.4, 1, "p", None),
        (None, 0.4, 0.6, 1, "p", "why"),
    ],
)
def test_a_metric_is_never_half_defined(fields):
    with pytest.raises(ValueError, match="got"):
        Metric(*fields)
