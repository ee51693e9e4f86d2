"""How often prediction sets hold the truth, and how large they are, counted on fingers; for everybody and for one group."""

from dataclasses import replace

import numpy as np
import pytest

from chiasm.evaluation.labels import read_column, score_label
from chiasm.evaluation.score import score_arm
from chiasm.evaluation.spec import Arm
from chiasm.heads.spec import Question, Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.study import Kind

QUESTION = Question(
    targets={"event": ["event"], "mrs": ["mrs"], "nihss": ["nihss"]},
    kinds={"event": Kind.BINARY, "mrs": Kind.ORDINAL, "nihss": Kind.REGRESSION},
    uncertain={},
    levels={"mrs": [(0.0, 1.0, 2.0)]},
)
EVENT, MRS, NIHSS = [1, 0, 1, 0], [0, 1, 2, 0], [3.0, 10.0, 4.0, 6.0]
TRUTH = Truth(
    labels={t: np.array(v, np.float32)[:, None] for t, v in (("event", EVENT), ("mrs", MRS), ("nihss", NIHSS))},
    mask={t: np.ones((4, 1), bool) for t in QUESTION.targets},
    groups={"sex=f": np.array([True, True, False, False]), "sex=m": np.array([False, False, True, True])},
    bayes={},
    references=[""] * 4,
)
ARM = Arm(
    values={
        "event": np.array([[0.9], [0.6], [0.3], [0.1]]),
        "mrs": np.array([[[0.7, 0.2, 0.1]], [[0.6, 0.3, 0.1]], [[0.2, 0.5, 0.3]], [[0.1, 0.3, 0.6]]]),
        "nihss": np.array([[4.0], [6.0], [4.5], [20.0]]),
    },
    # how strange a truth may be: each row has its own, the last none, for its validation was too small
    quantiles={t: np.array([[r], [r], [s], [np.nan]]) for t, r, s in (("event", 0.3, 0.7), ("mrs", 0.65, 0.4), ("nihss", 2.0, 0.5))},
)  # fmt: skip
RESAMPLES = Resamples.draw(list("abcd"), 50)


def found(target: str, rows: list[int]) -> dict[str, float]:
    column = read_column(QUESTION, TRUTH, ARM, RESAMPLES, target, 0, np.array(rows))
    scores = score_label(QUESTION, target, 0, column, whole=False, prior=False)
    return {name: float(scores[name].draws[0]) for name in ("coverage", "set_size", "interval_width") if name in scores}


def test_a_binary_set_holds_the_answers_that_are_likely_enough():
    # .9: {1}, which is so; .6 at quantile .3: nothing has .7, so {1}, the most probable; .3 at quantile .7: {0, 1}
    assert found("event", [0, 1, 2, 3]) == {
        "coverage": pytest.approx(2 / 3),
        "set_size": pytest.approx((1 + 1 + 2) / 3),
    }


def test_an_ordinal_set_grows_from_the_mode():
    # at .65: of .7 {0}; of .6 then .3 {0, 1}; at .4: of .5 {1}, for 2 comes when .5 is gathered
    assert found("mrs", [0, 1, 2, 3]) == {"coverage": pytest.approx(2 / 3), "set_size": pytest.approx((1 + 2 + 1) / 3)}


def test_an_interval_reaches_as_far_as_the_radius():
    assert found("nihss", [0, 1, 2, 3]) == {
        "coverage": pytest.approx(2 / 3),
        "interval_width": pytest.approx((4 + 4 + 1) / 3),
    }


def test_a_group_is_counted_by_itself():
    scores = {}
    for group, who in TRUTH.groups.items():
        scores |= score_arm(QUESTION, TRUTH, ARM, RESAMPLES, "", group, who)
    coverage = {str(name): estimate.draws[0] for name, estimate in scores.items() if name.metric == "coverage"}
    assert coverage == {
        "event/all/coverage@sex=f": 0.5,
        "mrs/all/coverage@sex=f": 1.0,
        "nihss/all/coverage@sex=f": 0.5,
        "event/all/coverage@sex=m": 1.0,
        "mrs/all/coverage@sex=m": 0.0,
        "nihss/all/coverage@sex=m": 1.0,
    }


def test_without_any_radius_the_reason_names_how_many_patients_it_takes():
    none = replace(ARM, quantiles={t: np.full((4, 1), np.nan) for t in ARM.values})
    column = read_column(QUESTION, TRUTH, none, RESAMPLES, "nihss", 0, np.arange(4))
    reason = score_label(QUESTION, "nihss", 0, column, whole=True, prior=False)["coverage"].metric().reason
    assert reason == "no interval: validation had too few patients; 90% need at least 9"
