import json

import pytest

from chiasm.metrics.metric import Metric


def test_events_and_reason_are_written_where_they_are():
    figure = Metric(0.8, 0.7, 0.9, 100, "p", events=20)
    assert figure.to_json() == {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100, "protocol": "p", "events": 20}
    none = Metric(None, None, None, 3, "p", "too few", 0)
    assert none.to_json()["events"] == 0
    for metric in (figure, none, Metric(0.8, None, None, 1, "p")):
        assert Metric.from_json(metric.to_json()) == metric


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
