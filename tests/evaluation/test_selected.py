"""Inner figure and optimism by hand, with a figure that is undefined, and what the page says of a choice."""

import pytest

from chiasm.evaluation.selected import selected_metrics, tell_selection, tell_tried
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.run.selection import Chosen, Selection, read_selection, write_selection

AUROC = parse_name("outcome/event/auroc")
SELECTION = Selection(
    metric=str(AUROC),
    recipes=("a", "b"),
    space={"train.epochs": [1, 2]},
    trials=5,
    inner_folds=3,
    seed=0,
    folds={
        "fold-0-0": Chosen(2, "b", {"train.epochs": 2, "train.learning_rate": 0.0012345}, 0.8, 0.7, 4, 1),
        "fold-0-1": Chosen(0, "a", {}, 0.7, 0.7, 5, 0),
    },
)


def test_the_optimism_is_the_inner_figure_minus_the_outer_one():
    metrics = {AUROC: Metric(0.7, 0.6, 0.85, 40, "p")}
    found = selected_metrics(SELECTION, metrics)
    inner, optimism = (found[AUROC._replace(metric=f"auroc_{name}")] for name in ("inner", "optimism"))
    assert (inner.value, inner.low, inner.n) == (pytest.approx(0.75), None, 40)
    assert "took part in the choice" in inner.protocol
    assert (optimism.value, optimism.low, optimism.high) == pytest.approx((0.05, -0.1, 0.15))
    assert len(found) == 2


def test_without_an_outer_figure_there_is_no_optimism():
    found = selected_metrics(SELECTION, {AUROC: Metric(None, None, None, 3, "p", "one class")})
    assert found[AUROC._replace(metric="auroc_optimism")].reason == "one class"
    assert selected_metrics(SELECTION, {}) == {} == selected_metrics(None, {AUROC: Metric(0.7, None, None, 3, "p")})


def test_the_page_tells_what_each_fold_chose():
    metrics = {AUROC: Metric(0.7, 0.6, 0.85, 40, "p")}
    told = tell_selection(SELECTION, metrics | selected_metrics(SELECTION, metrics))
    assert told.said[0].startswith("Chosen inside each fold from 4 to 5 configurations of a, b, by AUROC of ")
    assert told.said[1].endswith("optimism 0.050.") and "1 configurations could not" in told.said[2]
    assert told.rows == [
        ("fold-0-0", "b", "train.epochs 2, train.learning_rate 0.00123", "0.800", "0.700"),
        ("fold-0-1", "a", "as it stands", "0.700", "0.700"),
    ]


def test_one_configuration_by_hand_is_no_choice():
    assert tell_tried(0) == tell_tried(1) == ""
    assert tell_tried(7).startswith("7 configurations were evaluated on these test patients; this is one of them;")


def test_what_is_written_is_read_back(tmp_path):
    assert read_selection(tmp_path) is None
    write_selection(tmp_path, SELECTION)
    assert read_selection(tmp_path) == SELECTION
