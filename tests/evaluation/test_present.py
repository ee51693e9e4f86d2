from dataclasses import replace

import numpy as np
import pytest

from chiasm.evaluation.present import draw_confusions, draw_curves
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.study import Kind


def test_curves_of_every_binary_label(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    curves = draw_curves(evidence, truth, resamples, "")
    assert [c.name for c in curves] == ["findings/pneumonia", "findings/edema", "outcome/event"]
    pneumonia = curves[0]
    assert pneumonia.prevalence == 0.5
    area = np.trapezoid(pneumonia.roc.y, pneumonia.roc.x)
    assert area == pytest.approx(15 / 16, abs=0.01)
    assert pneumonia.spread.sum() == 8
    assert pneumonia.before is not None
    assert draw_curves(evidence, truth, resamples, "thumbnail")[0].before is None


def test_an_outcome_has_a_decision_curve_beside_the_record_alone(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    flat = replace(evidence.arms[""], values={t: np.full_like(v, 0.4) for t, v in evidence.arms[""].values.items()})
    arms = {**evidence.arms, "record": flat}
    drawn = {curves.name: curves.decision for curves in draw_curves(replace(evidence, arms=arms), truth, resamples, "")}
    assert drawn["findings/pneumonia"] is None, "nobody acts on the chance of a finding alone"
    event = drawn["outcome/event"]
    assert event is not None
    at = int(np.argmin(np.abs(event.model.x - 0.3)))
    odds = event.model.x[at] / (1 - event.model.x[at])
    # 3 of 8 have the event and are told .9, .8 and .6; one without it is told .7 and one .4 (of eight)
    labels, told = truth.labels["outcome"][:, 0], evidence.arms[""].values["outcome"][:, 0]
    acted = told >= event.model.x[at]
    worth = ((acted & (labels == 1)).sum() - odds * (acted & (labels == 0)).sum()) / 8
    assert event.model.y[at] == pytest.approx(worth)
    assert event.everybody[at] == pytest.approx((3 - 5 * odds) / 8)
    record = event.others["record only"]
    assert record.y[at] == pytest.approx(event.everybody[at]), "who says .4 to everybody acts on everybody up to .4"
    assert record.y[-1] == 0
    (roc,) = (
        c.others["record only"]
        for c in draw_curves(replace(evidence, arms=arms), truth, resamples, "")
        if c.name == "outcome/event"
    )
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(0.5), "one answer for everybody ranks nobody"


def test_levels_are_counted_against_the_most_probable(evidence: Evidence, truth: Truth) -> None:
    question = replace(
        evidence.question,
        targets={"mrs": ["mrs"]},
        kinds={"mrs": Kind.ORDINAL},
        levels={"mrs": [(0.0, 3.0, 6.0)]},
    )
    values = np.tile([0.1, 0.7, 0.2], (8, 1))[:, None]
    values[7] = np.nan
    known = replace(
        truth, labels={"mrs": np.array([[0, 3, 3, 6, 6, 6, 5, 0]], np.float32).T}, mask={"mrs": np.ones((8, 1), bool)}
    )
    (table,) = draw_confusions(replace(evidence, question=question, arms={"": Arm({"mrs": values})}), known, "")
    assert (table.name, table.levels) == ("mrs/all", ["0", "3", "6"])
    assert table.counts.tolist() == [[0, 1, 0], [0, 2, 0], [0, 3, 0]], "5 is no level, and one was not answered"


def test_a_yes_or_no_is_counted_at_the_threshold_of_each_study(evidence: Evidence, truth: Truth) -> None:
    arm = evidence.arms[""]
    threshold = np.repeat([0.85, 0.45], 4)
    moved = replace(arm, thresholds={"findings": np.stack([threshold, np.full(8, np.nan)], axis=1)})
    (table,) = draw_confusions(replace(evidence, arms={"": moved}), truth, "")
    y, yes = truth.labels["findings"][:, 0] == 1, arm.values["findings"][:, 0] >= threshold
    assert (table.name, table.levels) == ("findings/pneumonia", ["no", "yes"]), "of edema validation says no threshold"
    assert table.counts.tolist() == [[(~y & ~yes).sum(), (~y & yes).sum()], [(y & ~yes).sum(), (y & yes).sum()]]
