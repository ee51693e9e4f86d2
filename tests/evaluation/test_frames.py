"""Figures and answers as tables: every figure, every tested study under the ids of the cohort."""

import numpy as np
import pytest

from chiasm.cohort.store import write_cohort
from chiasm.errors import InputError
from chiasm.evaluation.frames import metrics_frame, predictions_frame
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Pool, Question
from chiasm.metrics.metric import Metric
from chiasm.study import Kind, Outcome, Report, Study

COLUMNS = ["arm", "subset", "target", "label", "metric", "subgroup", "value", "low", "high", "n", "events", "protocol"]


def test_the_frame_has_every_figure_and_its_parts(evaluated):
    frame = evaluated.frame()
    assert list(frame.columns) == COLUMNS
    assert list(frame.index) == list(evaluated.metrics)
    row = frame.loc["findings/pneumonia/auroc"]
    assert tuple(row[["arm", "subset", "target", "label", "metric", "subgroup"]]) == (
        *("model", "all", "findings", "pneumonia", "auroc", ""),
    )
    assert row["value"] == pytest.approx(15 / 16)
    assert {"all", "image", "image+record"} <= set(frame.loc[frame["arm"] == "model", "subset"])


def test_names_with_a_control_a_subset_or_a_subgroup_and_an_undefined_value_stay_whole():
    frame = metrics_frame(
        {
            "shuffled_text:outcome/all/auroc": Metric(0.5, 0.4, 0.6, 10, "a", events=3),
            "image+record:findings/mass/auroc@sex=f": Metric(0.7, None, None, 4, "b"),
            "outcome/all/auroc@age=65_plus": Metric(None, None, None, 2, "c", reason="two patients"),
        }
    )
    assert frame[["arm", "subset", "subgroup"]].to_numpy().tolist() == [
        ["shuffled_text", "all", ""],
        ["model", "image+record", "sex=f"],
        ["model", "all", "age=65_plus"],
    ]
    assert frame["value"].isna().tolist() == [False, False, True]
    assert frame["protocol"].iloc[2] == "c; undefined: two patients"
    assert frame["events"].iloc[0] == 3 and frame["events"].isna().sum() == 2


def test_predictions_join_with_the_studies_and_give_the_figure_again(evaluated, cohort):
    frame = evaluated.predictions()
    joined = frame.merge(cohort.studies, on=["study_id", "patient_id"])
    assert len(joined) == len(frame), "every row has its study"
    assert set(frame["study_id"]) == {f"s{i:02}" for i in (2, 3, 6, 7, 10, 11, 14, 15)}
    own = frame.query("target == 'findings' and label == 'pneumonia'")
    yes, no = (own.loc[own["truth"].astype(float) == value, "answer"].to_numpy() for value in (1, 0))
    pairs = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
    assert pairs == pytest.approx(evaluated.metrics["findings/pneumonia/auroc"].value)
    unknown = frame.query("target == 'findings' and label == 'edema'")
    assert unknown["truth"].isna().sum() == 2, "a hedged finding has no truth"


def test_an_arm_is_asked_by_its_prefix(evaluated):
    assert len(evaluated.predictions("image")) == len(evaluated.predictions())
    with pytest.raises(InputError, match="no such arm"):
        evaluated.predictions("imagine")


KINDS = {
    Kind.REGRESSION: ([1.0, 1.5], [[0.9], [1.4]], None, [1.0, 1.5], [0.9, 1.4]),
    Kind.ORDINAL: ([0.0, 2.0], [[[0.2, 0.8]], [[0.6, 0.4]]], (0.0, 2.0), [0.0, 2.0] * 2, [0.2, 0.6, 0.8, 0.4]),
    Kind.MULTICLASS: (["b", "a"], [[[0.2, 0.8]], [[0.6, 0.4]]], ("a", "b"), ["b", "a"] * 2, [0.2, 0.6, 0.8, 0.4]),
    Kind.SURVIVAL: ([3.0, 5.0], [[[0.9, 0.8]], [[0.7, 0.4]]], (2.0, 6.0), [3.0, -5.0] * 2, [0.9, 0.7, 0.8, 0.4]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_levels_stand_in_rows_of_their_own_and_truths_in_their_units(tmp_path, kind):
    values, said, levels, truths, answers = KINDS[kind]
    event = (True, False) if kind is Kind.SURVIVAL else (None, None)
    studies = [
        Study(
            f"s{i}",
            f"p{i}",
            outcomes=(Outcome("grade", value, kind, event=event[i]),),
            report=Report({"findings": "x"}),
        )
        for i, value in enumerate(values)
    ]
    cohort = write_cohort(studies, tmp_path / "c", source="hand", options={})
    pool = Pool.find([cohort], ["0/s0", "0/s1"], np.array([[0, 3], [0, 3]]))
    question = Question(
        {"outcome": ["grade"]}, {"outcome": kind}, {}, levels={} if levels is None else {"outcome": [levels]}
    )
    frame = predictions_frame(Evidence(question, pool, {"": Arm({"outcome": np.array(said)})}, {}, ""))
    assert frame["truth"].tolist() == truths
    assert frame["answer"].tolist() == answers
    assert frame["level"].tolist() == ([""] * 2 if levels is None else [level for level in levels for _ in range(2)])
    assert frame["fold"].tolist() == ["0+3"] * len(frame)
    assert frame["threshold"].isna().all()
