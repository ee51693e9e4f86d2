"""Comparing runs: by hand from what they stored, in either order, and loudly where they do not match."""

import json
import shutil
from html import unescape

import numpy as np
import pytest
from runs import UNSEALED
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from chiasm.cli import app
from chiasm.cohort.imports import import_cohort
from chiasm.comparison.baselines import match_baseline, train_baselines
from chiasm.comparison.compare import Difference, adjust, compare
from chiasm.errors import RunError
from chiasm.evaluation.evaluate import evaluate, publish
from chiasm.evaluation.verify import verify
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.metrics.paired import FoldTest
from chiasm.recipe import read_recipe
from chiasm.training.train import train

AUROC = "outcome/event/auroc"
NAME, BRIER = parse_name(AUROC), parse_name("outcome/event/brier")
RECORD = ("targets=[outcome]", "evaluate.resamples=200", "baseline.model=logistic")


@pytest.fixture(scope="module")
def runs(phantom, tmp_path_factory):
    """(one, other): logistic regression on the record and on its noisiest column, 3 folds twice, both evaluated."""
    home = tmp_path_factory.mktemp("runs")
    for name, more in (("one", ()), ("other", ("inputs.record.columns=[age_years]",))):
        train(read_recipe("baseline-record", [*RECORD, *more]), [phantom.path], home / name, folds=3, repeats=2)
        evaluate(home / name)
    return home / "one", home / "other"


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    return compare(runs, tmp_path_factory.mktemp("compared"))


def _stored(run, phantom):
    """(truth, known, patients, fold model [n, M], values [n], logits [n, M]) of the outcome."""
    with np.load(run / "evaluation" / "predictions" / "full.npz") as arrays:
        rows = [phantom.studies["study_id"].tolist().index(key.partition("/")[2]) for key in arrays["study_ids"]]
        truth, known = phantom.labels("outcome", ["event"])
        patients = phantom.studies["patient_id"].to_numpy()[rows]
        values, logits = arrays["values/outcome"][:, 0], arrays["logits/outcome"][:, :, 0]
        return truth[rows, 0], known[rows, 0], patients, arrays["fold_model"], values, logits


def test_a_difference_is_that_of_the_two_evaluations_and_its_interval_that_of_resampled_patients(
    runs, compared, phantom
):
    found = compared.others["other"][NAME]
    recorded = [json.loads((run / "evaluation" / "evaluation.json").read_text())["metrics"][AUROC] for run in runs]
    assert [metric.value for metric in found.values] == [metric["value"] for metric in recorded]
    assert found.difference.value == pytest.approx(recorded[0]["value"] - recorded[1]["value"])
    (truth, known, patients, _, ours, _), (*_, theirs, _) = (_stored(run, phantom) for run in runs)
    names, rng, draws = np.unique(patients[known]), np.random.default_rng(1), []
    above = truth[known][:, None] > truth[known][None, :]  # pairs of an event and none
    won = [np.sign(v[known][:, None] - v[known][None, :]) / 2 + 0.5 for v in (ours, theirs)]
    for _ in range(2000):
        count = dict(
            zip(names, np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)), strict=True)
        )
        w = np.array([count[patient] for patient in patients[known]])
        if len(set(truth[known][w > 0])) == 2:
            pairs = above * np.outer(w, w)
            draws.append((pairs * (won[0] - won[1])).sum() / pairs.sum())
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (found.difference.low, found.difference.high) == (
        pytest.approx(low, abs=0.05),
        pytest.approx(high, abs=0.05),
    )
    assert found.difference.n == len(names)


def test_the_fold_test_is_the_corrected_t_of_the_folds_own_scores(runs, compared, phantom):
    each = []
    for run in runs:
        truth, known, _, fold_model, _, logits = _stored(run, phantom)
        scores = []
        for number in range(6):
            rows, slot = np.nonzero((fold_model == number) & known[:, None])
            scores.append(roc_auc_score(truth[rows], logits[rows, slot]))
        each.append(scores)
    d = np.subtract(*each)
    found = compared.others["other"][NAME].folds
    assert isinstance(found, FoldTest)
    error = np.sqrt((1 / 6 + 1 / 2) * d.var(ddof=1))  # 20 studies tested for 40 learned from
    assert found.value == pytest.approx(d.mean())
    assert found.t == pytest.approx(
        d.mean() / error, rel=0.02
    )  # folds of 60 studies of some 50 patients are not all 20
    assert found.high == pytest.approx(d.mean() + stats.t.ppf(0.975, 5) * error, rel=0.02)
    assert found.df == 5


def test_a_run_and_its_copy_differ_by_nothing(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "copy", ignore=UNSEALED)
    found = compare([runs[0], tmp_path / "copy"], tmp_path / "out")
    for difference in found.others["copy"].values():
        if difference.difference.value is not None:
            assert difference.difference.value == difference.difference.low == difference.difference.high == 0
            assert difference.p == 1 and difference.better == "neither"
    assert found.others["copy"][NAME].folds == "all folds differ by 0: there is no spread to test by"


def test_the_other_way_round_every_sign_turns(runs, compared, tmp_path):
    turned = compare(runs[::-1], tmp_path / "out").others["one"]
    for name, d in compared.others["other"].items():
        if d.difference.value is None:
            continue
        e = turned[name]
        assert e.difference.value == pytest.approx(-d.difference.value)
        if d.difference.low is not None:
            assert (e.difference.low, e.difference.high) == (
                pytest.approx(-d.difference.high),
                pytest.approx(-d.difference.low),
            )
        assert e.p == pytest.approx(d.p)
        assert e.better == {"first": "other", "other": "first", "neither": "neither"}[d.better]


def test_subsets_that_both_have_are_compared_and_controls_and_subgroups_are_not(compared):
    names = set(map(str, compared.others["other"]))
    assert {AUROC, f"record:{AUROC}", "outcome/event/brier"} <= names
    assert not any("@" in name or name.startswith(("prior", "bayes")) for name in names)


def test_other_studies_are_left_out_loudly_and_without_shared_folds_there_is_no_fold_test(
    runs, phantom, tmp_path, capsys
):
    train(read_recipe("baseline-record", list(RECORD)), [phantom.path], tmp_path / "split")
    found = compare([runs[0], tmp_path / "split"], tmp_path / "out")
    tested = len(phantom.rows("test"))
    note = next(each for each in found.notes if "left out" in each)
    assert note.startswith(f"{60 - tested} of 60 studies that one answered are left out")
    said = capsys.readouterr().err
    assert note in said and "split was not evaluated yet" in said
    assert found.record.studies == tested
    assert found.others["split"][NAME].folds == "a run without folds has one training"


def test_runs_that_share_no_study_or_are_one_are_refused(runs, tmp_path):
    cohort = import_cohort(
        "phantom-chest", None, tmp_path / "cohort", size=64, seed=5, options={"studies": 30, "size": 64}
    )
    train(read_recipe("baseline-record", list(RECORD)), [cohort.path], tmp_path / "elsewhere")
    with pytest.raises(RunError, match="no study in common"):
        compare([runs[0], tmp_path / "elsewhere"], tmp_path / "out")
    with pytest.raises(RunError, match="two runs or more, each named once"):
        compare([runs[0], runs[0]], tmp_path / "out")
    with pytest.raises(RunError, match="chiasm compare RUN --baselines"):
        compare([runs[0]])
    assert not (tmp_path / "out").exists()


def test_a_target_whose_hedged_findings_mean_another_thing_is_not_compared(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "copy", ignore=UNSEALED)
    index = tmp_path / "copy" / "evaluation" / "predictions" / "index.json"
    document = json.loads(index.read_text())
    document["question"]["uncertain"]["outcome"] = "positive"
    index.write_text(json.dumps(document))
    found = compare([runs[0], tmp_path / "copy"], tmp_path / "out")
    assert NAME not in found.others["copy"]
    assert any(note.startswith("outcome: not compared with copy") for note in found.notes)


# --- several others ----------------------------------------------------------------------------------------------------


def _difference(value: float, reach: float, p: float, folds: FoldTest | str = "no folds") -> Difference:
    metric = Metric(0.7, None, None, 50, "x")
    return Difference((metric, metric), Metric(value, value - reach, value + reach, 50, "x"), p, folds)


def test_holm_runs_over_the_others_of_one_figure_and_decides_who_is_better():
    test = FoldTest(0.1, 0.0, 0.2, 2.0, 9, 0.04)
    found = adjust(
        {
            "a": {NAME: _difference(0.1, 0.05, 0.01, test), BRIER: _difference(0.1, 0.05, 0.01)},
            "b": {NAME: _difference(-0.1, 0.08, 0.03, test)},
            "c": {NAME: _difference(0.1, 0.09, 0.04)},
        }
    )
    assert [found[o][NAME].p_adjusted for o in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert [found[o][NAME].better for o in "abc"] == ["first", "neither", "neither"]
    assert found["a"][NAME].folds_p_adjusted == pytest.approx(0.08)  # of the two that have folds
    assert found["a"][BRIER].p_adjusted == 0.01
    assert found["a"][BRIER].better == "other"  # a lower Brier score is better


# --- baselines ---------------------------------------------------------------------------------------------------------


def test_a_baseline_is_given_what_the_run_was_given():
    asked = read_recipe(
        "report-fusion",
        ["inputs.text.sections=[history]", "inputs.record.opt_in=[troponin]", "inputs.image.size=64", "train.seed=7"],
    )
    found = match_baseline(read_recipe("baseline-frozen"), asked)
    assert found.inputs.text.sections == ("history",) and found.inputs.text.encoder == "minilm"
    assert found.inputs.record.opt_in == ("troponin",) and found.inputs.image.size == 64
    assert found.targets == asked.targets and found.train.seed == 7
    assert (
        match_baseline(read_recipe("baseline-frozen"), read_recipe("report-fusion", ["inputs.text=null"])).inputs.text
        is None
    )
    assert match_baseline(read_recipe("baseline-record"), read_recipe("report-fusion", ["inputs.record=null"])) is None


def test_a_network_that_does_not_beat_a_baseline_says_so_on_its_own_page(phantom, small, tmp_path):
    run = tmp_path / "net"
    small = [*small, "heads.description=null", "heads.localization=null", "targets=[outcome]", "evaluate.resamples=100"]
    network = read_recipe("report-fusion", [o for o in small if not o.startswith("heads.") or o.endswith("null")])
    network = network.model_copy(update={"train": network.train.model_copy(update={"epochs": 1})})
    train(network, [phantom.path], run, folds=2)
    (home,) = train_baselines(run, ["baseline-record"])
    written = (home / "weights.safetensors", home / "fold-0-0" / "weights.safetensors")
    stamp = written[1].stat().st_mtime_ns
    assert train_baselines(run, ["baseline-record"]) == [home]
    assert written[1].stat().st_mtime_ns == stamp  # it stands, and is not trained again
    found = compare([run])  # the baselines in the run's folder take part unasked
    assert found.record.runs[1].recipe == "baseline-record"
    assert isinstance(found.others["baseline-record"][NAME].folds, FoldTest)  # the same folds
    (warning,) = found.warnings
    assert "baseline-record (AUROC" in warning
    assert json.loads((run / "evaluation" / "evaluation.json").read_text())["warnings"][0] == warning
    assert warning in unescape((run / "evaluation" / "summary.html").read_text())
    assert verify(run) == []
    assert publish(run).warnings[0] == warning  # and again, from the comparison that stands there
    document = json.loads((run / "comparison" / "compare.json").read_text())
    document["runs"][0]["weights"] = {}
    (run / "comparison" / "compare.json").write_text(json.dumps(document))
    assert "of an earlier training" in publish(run).warnings[0]


def test_the_command_answers_in_json_and_for_people(runs, tmp_path):
    arguments = ["compare", *map(str, runs), "--out", str(tmp_path / "out")]
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert set(document["metrics"][AUROC]) >= {"value", "low", "high", "n", "protocol"}
    found = document["comparisons"]["other"][AUROC]
    assert found["of"][0] - found["of"][1] == pytest.approx(found["value"])
    assert found["folds"]["df"] == 5
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == document
    assert AUROC in CliRunner().invoke(app, arguments).stdout
    assert "phantom-0" not in json.dumps(document) + (tmp_path / "out" / "compare.html").read_text()  # no identifiers
    assert CliRunner().invoke(app, ["compare", str(tmp_path / "nothing")]).exit_code == 1
