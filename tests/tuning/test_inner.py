"""Inner folds lie inside their outer fold, and the figure of a configuration is that of their tested patients."""

import json

import numpy as np
import pytest
from charts import chart_cohort, chart_recipe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from chiasm.cohort.store import write_cohort
from chiasm.errors import RecipeError, RunError, TrainingError
from chiasm.metrics.name import parse_name
from chiasm.recipe import parse_recipe
from chiasm.study import Kind, Outcome, Record, Study
from chiasm.training.folds import split_patients
from chiasm.tuning.inner import choose_metric, inner_folds, mean_figure, score_configuration

AUROC = parse_name("outcome/event/auroc")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return chart_cohort(tmp_path_factory.mktemp("charts") / "cohort")


def test_inner_folds_test_each_patient_of_training_and_validation_once_and_no_other(cohort):
    for _, outer, seed in split_patients([cohort], 3, 1, 0):
        inside = set(outer[0]["train"]) | set(outer[0]["validation"])
        inner = list(inner_folds(chart_recipe(), [cohort], outer, seed, 4))
        assert sorted(row for (part,) in inner for row in part["test"]) == sorted(inside)
        for (part,) in inner:
            rows = [set(part[split]) for split in ("train", "validation", "test")]
            assert set.union(*rows) == inside and sum(map(len, rows)) == len(inside)
            share = cohort.labels("outcome", ["event"])[0][part["test"], 0].mean()
            assert share == pytest.approx(
                cohort.labels("outcome", ["event"])[0][sorted(inside), 0].mean(), abs=1 / len(part["test"])
            )


def test_the_figure_of_an_inner_fold_is_that_of_a_regression_by_hand(cohort, tmp_path):
    ((_, outer, seed), *_) = split_patients([cohort], 3, 1, 0)
    inner = list(inner_folds(chart_recipe(), [cohort], outer, seed, 2))
    called = []
    found = score_configuration(
        chart_recipe(), [cohort], inner, seed, AUROC, tmp_path / "work", lambda: called.append(1)
    )
    truth, x = cohort.labels("outcome", ["event"])[0][:, 0], cohort.studies["record.dull"].to_numpy()
    for (part,), figure in zip(inner, found, strict=True):
        slope = LogisticRegression(C=1e-3).fit(x[part["train"], None], truth[part["train"]]).coef_[0, 0]
        assert figure == pytest.approx(roc_auc_score(truth[part["test"]], slope * x[part["test"]]))
    assert len(called) == 2
    left = sorted(path.name for path in (tmp_path / "work").rglob("*") if path.is_file())
    assert left == ["score.json"] * 2, "the figure is all that stays"
    again = score_configuration(
        chart_recipe(), [cohort], inner, seed, AUROC, tmp_path / "work", lambda: called.append(1)
    )
    assert again == found and len(called) == 2


def test_a_figure_that_no_model_has_is_named(cohort, tmp_path):
    ((_, outer, seed), *_) = split_patients([cohort], 3, 1, 0)
    inner = list(inner_folds(chart_recipe(), [cohort], outer, seed, 2))
    with pytest.raises(RunError, match="no qwk") as caught:
        score_configuration(
            chart_recipe(), [cohort], inner, seed, parse_name("outcome/event/qwk"), tmp_path, lambda: None
        )
    assert "auroc" in caught.value.expected


def test_what_ends_the_work_leaves_what_is_done(cohort, tmp_path):
    ((_, outer, seed), *_) = split_patients([cohort], 3, 1, 0)
    inner = list(inner_folds(chart_recipe(), [cohort], outer, seed, 2))

    def once() -> None:
        if (tmp_path / "inner-0").is_dir():
            raise TrainingError("the time is over")

    with pytest.raises(TrainingError, match="over"):
        score_configuration(chart_recipe(), [cohort], inner, seed, AUROC, tmp_path, once)
    assert json.loads((tmp_path / "inner-0" / "score.json").read_text())["figure"] > 0
    assert not (tmp_path / "inner-1").exists()


@pytest.mark.parametrize(
    ("outcomes", "labels", "name"),
    [
        ([Outcome("t", 1.0, target="t")], None, "t/all/auroc"),
        ([Outcome("a", 1.0, target="t")], None, "t/a/auroc"),
        ([Outcome("a", 1.0, target="t"), Outcome("b", 0.0, target="t")], None, "t/macro/auroc"),
        ([Outcome("a", 1.0, target="t"), Outcome("b", 0.0, target="t")], ["b"], "t/b/auroc"),
        ([Outcome("t", 3.5, Kind.REGRESSION, "t")], None, "t/all/r"),
        ([Outcome("t", 3.0, Kind.ORDINAL, "t")], None, "t/all/qwk"),
        ([Outcome("t", "small", Kind.MULTICLASS, "t")], None, "t/all/auroc"),
        ([Outcome("t", 3.5, Kind.SURVIVAL, "t", event=True)], None, "t/all/c_index"),
    ],
)
def test_the_leading_figure_of_the_first_target_that_is_there(tmp_path, outcomes, labels, name):
    studies = [Study(f"s{i}", f"p{i}", record=Record({"x": 1.0}), outcomes=tuple(outcomes)) for i in range(2)]
    cohort = write_cohort(studies, tmp_path / "c", source="hand", options={})
    recipe = parse_recipe({"name": "x", "targets": {"findings": {}, "t": {"labels": labels}}}, "here")
    assert str(choose_metric(recipe, [cohort])) == name


def test_another_figure_must_be_one_of_the_kind(cohort):
    assert str(choose_metric(chart_recipe(), [cohort], "auprc")) == "outcome/event/auprc"
    with pytest.raises(RecipeError, match="cannot be chosen by ece") as caught:
        choose_metric(chart_recipe(), [cohort], "ece")
    assert caught.value.expected.startswith("auroc, auprc")
    with pytest.raises(RecipeError, match="no target of the recipe"):
        choose_metric(chart_recipe("targets=[findings]"), [cohort])


def test_the_mean_is_over_folds_in_which_it_is_defined():
    assert mean_figure([0.5, None, 0.7]) == pytest.approx(0.6)
    assert mean_figure([None, None]) is None and mean_figure([]) is None
    assert np.isclose(mean_figure([0.25]) or 0, 0.25)
