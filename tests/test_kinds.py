"""Every kind of outcome, all the way: a table, training with patient folds, evaluation, verification, prediction.

The record is x ~ N(0, 1) and all outcomes follow from it, so that what can be reached is known.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from asking import fold_models_over

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.evaluation.evaluate import Evaluation, evaluate
from chiasm.evaluation.verify import verify
from chiasm.prediction.folder import predict_inputs
from chiasm.recipe import parse_recipe
from chiasm.study import Kind
from chiasm.training.train import train

COUNT = 420


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two studies a patient. mRS 6 is so rare that a fold may have none; cause is lost in a fifth."""
    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=COUNT // 2), 2) + 0.1 * rng.normal(size=COUNT)
    mrs = np.clip(np.round(1.2 * x + 2 + rng.logistic(scale=0.6, size=COUNT)), 0, 6).astype(int)
    cause = np.array(["cardiac", "large", "small"])[
        ((x + 0.4 * rng.normal(size=COUNT))[:, None] > [-0.5, 0.6]).sum(axis=1)
    ]
    time, lost = rng.exponential(100 * np.exp(-1.2 * x)), rng.exponential(150, size=COUNT)
    rows = ["pid,sid,x,sex,mrs,cause,days,dead,nihss,bad"]
    for i in range(COUNT):
        known = "" if i % 5 == 4 else cause[i]
        seen = f"{min(time[i], lost[i]):.3f},{int(time[i] <= lost[i])}"
        rows.append(
            f"p{i // 2},s{i:03},{x[i]:.4f},{'fm'[i // 2 % 2]},{mrs[i]},{known},{seen},{3 * x[i] + rng.normal():.3f},{int(mrs[i] > 2)}"
        )
    (folder / "t.csv").write_text("\n".join(rows))
    outcomes = [
        {"column": "mrs", "kind": "ordinal", "target": "mrs"},
        {"column": "cause", "kind": "multiclass"},
        {"column": "days", "name": "death", "kind": "survival", "event": "dead"},
        {"column": "nihss", "kind": "regression", "target": "nihss"},
        {"column": "bad"},
    ]
    map_ = {"patient": "pid", "study": "sid", "record": ["x", "sex"], "outcomes": outcomes}
    return import_cohort("table", folder / "t.csv", folder / "cohort", options={"map": map_})


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = {
        "name": "kinds",
        "inputs": {"image": None, "text": None},
        "heads": {"localization": None, "description": None},
        "fusion": {"name": "gated", "dim": 32, "heads": 2, "modality_dropout": 0.0},
        "targets": {"mrs": {}, "category": {}, "survival": {}, "nihss": {}, "outcome": {}},
        "train": {"epochs": 14, "batch_size": 48, "learning_rate": 1e-2},
        "evaluate": {"resamples": 200},
    }
    out = tmp_path_factory.mktemp("kinds") / "run"
    train(parse_recipe(raw, "here"), [cohort.path], out, folds=3)
    return out


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return evaluate(run)


def value(evaluation: Evaluation, name: str) -> float:
    found = evaluation.metrics[name].value
    assert found is not None, evaluation.metrics[name].reason
    return found


def test_folds_have_equal_shares_of_the_first_target(run: Path, cohort: Cohort) -> None:
    info = json.loads((run / "run.json").read_text())
    assert "by mrs: its highest level" in info["stratified"]
    highest = cohort.studies.groupby("patient_id")["mrs.mrs"].max()
    counts = []
    for fold_model in info["fold_models"]:
        test = {key.partition("/")[2] for key in json.loads((run / fold_model / "split.json").read_text())["test"]}
        patients = cohort.studies.loc[cohort.studies["study_id"].isin(test), "patient_id"].unique()
        counts.append([int((highest[patients] == level).sum()) for level in range(7)])
    assert np.ptp(counts, axis=0).max() <= 1
    assert sum(map(sum, counts)) == COUNT // 2


def test_each_kind_learns_what_the_record_says(evaluation: Evaluation) -> None:
    """The bounds are a little below what the true x reaches: qwk .70, C .78, r .95, AUROC of cause .90."""
    assert value(evaluation, "mrs/all/qwk") > 0.55
    assert value(evaluation, "mrs/all/mae") < 0.95
    assert value(evaluation, "mrs/all/auroc_gt_2") > 0.8
    assert value(evaluation, "category/cause/auroc") > 0.84
    assert value(evaluation, "category/cause/balanced_accuracy") > 0.6
    assert value(evaluation, "survival/death/c_index") > 0.7
    assert value(evaluation, "survival/death/ibs") < value(evaluation, "prior:survival/death/ibs") - 0.02
    assert value(evaluation, "mrs/all/rps") < value(evaluation, "prior:mrs/all/rps") - 0.02
    assert value(evaluation, "nihss/all/r") > 0.85
    assert 0.6 < value(evaluation, "outcome/bad/calibration_slope") < 1.7
    assert value(evaluation, "outcome/bad/net_benefit_0.3") > 0
    assert "prior:mrs/all/qwk" not in evaluation.metrics, "one answer for everybody ranks nobody"


@pytest.mark.parametrize("label", ["mrs/all", "category/cause", "nihss/all", "outcome/bad"])
def test_likely_sets_cover_as_stated(evaluation: Evaluation, label: str) -> None:
    """Some 15 validation patients a fold: the coverage of one draw is a beta variable around .9 of sd .05, here three."""
    assert 0.82 < value(evaluation, f"{label}/coverage") < 0.99
    size = "interval_width" if label.startswith("nihss") else "set_size"
    assert value(evaluation, f"{label}/{size}") > 0.8
    assert f"{label}/coverage@sex=f" in evaluation.metrics


def test_what_was_stored_gives_the_same_figures_again(run: Path, evaluation: Evaluation) -> None:
    assert verify(run) == []


def test_a_prediction_tells_the_whole_answer(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "record.json").write_text('{"x": 2.5, "sex": "f"}')
    (prediction,) = predict_inputs(run, [tmp_path / "new"], tmp_path / "out")
    by_kind = {o.kind: o for o in prediction.outcomes}
    assert set(by_kind) == set(Kind)
    mrs, cause, death, nihss = (by_kind[k] for k in (Kind.ORDINAL, Kind.MULTICLASS, Kind.SURVIVAL, Kind.REGRESSION))
    assert list(mrs.distribution) == [str(level) for level in range(7)]
    assert sum(mrs.distribution.values()) == pytest.approx(1)
    assert mrs.value == max(range(7), key=lambda level: mrs.distribution[str(level)])
    assert mrs.probability == mrs.distribution[f"{mrs.value:g}"]
    assert mrs.expected == pytest.approx(sum(int(level) * p for level, p in mrs.distribution.items()))
    assert mrs.expected > 3
    assert mrs.prediction_set is not None
    assert mrs.value in mrs.prediction_set
    assert (np.diff(mrs.prediction_set) == 1).all()
    assert mrs.coverage == 0.9
    assert cause.value == "small"
    assert cause.distribution["small"] > 0.6
    curve = [1.0, *death.distribution.values()]
    assert (np.diff(curve) <= 0).all()
    assert death.probability == pytest.approx(1 - curve[-1])
    edges = np.array([0.0, *map(float, death.distribution)])
    assert death.value == pytest.approx(np.trapezoid(curve, edges), rel=1e-3)
    assert nihss.prediction_set is not None
    assert nihss.prediction_set[0] < nihss.value < nihss.prediction_set[1]
    written = json.loads(next((tmp_path / "out").glob("new.json")).read_text())
    assert {o["kind"]: o["prediction_set"] is not None for o in written["outcomes"]}["ordinal"]
    assert set(written["contributions"]["record"]) >= {"mrs/mrs", "category/cause=small", "survival/death"}


def test_levels_are_those_of_each_folds_training(run: Path, cohort: Cohort) -> None:
    for fold_model in fold_models_over(run):
        taught = fold_model.split["train"]
        values, mask = cohort.labels("mrs", ["mrs"])
        assert fold_model.plan.levels["mrs"] == (tuple(np.unique(values[taught][mask[taught]]).tolist()),)
        times, known = cohort.labels("survival", ["death"])
        events = times[taught][known[taught] & ~np.signbit(times[taught])]
        assert fold_model.plan.levels["survival"][0][-1] == events.max()
