from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from scoring import by_name, locate_all, score_all
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from chiasm.evaluation.score import Scores, score_arm, without_text
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.name import parse_name


@pytest.fixture(scope="module")
def scores(evidence: Evidence, truth: Truth, resamples: Resamples) -> Scores:
    return by_name(score_all(evidence, truth, resamples))


def value(scores: Scores, name: str) -> float:
    return float(scores[name].draws[0])


def test_every_name_follows_the_grammar_and_every_arm_is_told_apart(scores: Scores) -> None:
    parsed = [parse_name(name) for name in scores]
    arms = {(n.control, n.subset) for n in parsed if n.target == "findings"}
    assert arms == {
        (None, None),
        (None, "image"),
        (None, "image+record"),
        (None, "image+text+record"),
        ("shuffled_text", None),
        ("thumbnail", None),
        ("prior", None),
        ("added_text", None),
        ("added_over_image", None),
        ("added_over_shuffled_text", None),
    }
    assert {n.metric for n in parsed if n.target == "severity"} == {"mae", "r"}


def test_figures_that_a_hand_can_compute(scores: Scores) -> None:
    assert value(scores, "findings/pneumonia/auroc") == pytest.approx(15 / 16)
    # positives by falling score: ranks 1, 2, 3, and 5 behind one false positive
    assert value(scores, "findings/pneumonia/auprc") == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert value(scores, "findings/pneumonia/f1") == pytest.approx(2 * 3 / (2 * 3 + 1 + 1)), "3 hits, 1 false, 1 missed"
    squares = [0.01, 0.01, 0.04, 0.04, 0.09, 0.09, 0.36, 0.25]
    assert value(scores, "findings/pneumonia/brier") == pytest.approx(np.mean(squares))
    assert value(scores, "severity/score/mae") == pytest.approx(0.5)
    assert value(scores, "image:severity/score/mae") == pytest.approx(0.0)
    assert value(scores, "severity/score/r") == pytest.approx(1.0)
    assert value(scores, "shuffled_text:findings/pneumonia/auroc") == pytest.approx(1 / 16)
    assert value(scores, "thumbnail:findings/pneumonia/auroc") == 1.0


def test_a_hedged_label_is_left_out_and_patients_are_counted(scores: Scores, evidence: Evidence, truth: Truth) -> None:
    known = truth.mask["findings"][:, 1]
    expected = roc_auc_score(truth.labels["findings"][known, 1], evidence.arms[""].values["findings"][known, 1])
    assert value(scores, "findings/edema/auroc") == pytest.approx(expected)
    assert scores["findings/edema/auroc"].metric().n == 5, "6 studies, two of one patient"
    assert scores["findings/pneumonia/auroc"].metric().n == 7


def test_the_average_names_its_labels(scores: Scores) -> None:
    mean = (value(scores, "findings/pneumonia/auroc") + value(scores, "findings/edema/auroc")) / 2
    assert value(scores, "findings/macro/auroc") == pytest.approx(mean)
    assert "pneumonia, edema" in scores["findings/macro/auroc"].protocol
    assert "outcome/macro/auroc" not in scores, "one label needs no average"


def test_f1_without_a_threshold_says_why(scores: Scores) -> None:
    metric = scores["findings/edema/f1"].metric()
    assert metric.value is None
    assert metric.reason is not None
    assert "no threshold" in metric.reason


def test_every_arm_is_scored_on_those_who_have_all_inputs(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    shown = np.array([["image+text+record"]] * 6 + [["image+record"]] * 2)
    arms = {**evidence.arms, "": replace(evidence.arms[""], shown=shown)}
    found = by_name(score_all(replace(evidence, arms=arms, heads={}), truth, resamples))
    y = np.array([0, 1] * 3)
    for prefix in ("", "image", "thumbnail"):
        name = f"{prefix}:findings/pneumonia/auroc@inputs=complete".lstrip(":")
        expected = roc_auc_score(y, evidence.arms[prefix].values["findings"][:6, 0])
        assert found[name].draws[0] == pytest.approx(expected), prefix
    assert not [name for name in score_all(evidence, truth, resamples) if "complete" in str(name)], (
        "nobody has all three"
    )


def test_each_row_is_cut_at_its_own_threshold(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    thresholds = np.repeat([0.85, 0.45], 4)
    arm = replace(evidence.arms[""], thresholds={"findings": np.stack([thresholds, np.full(8, np.nan)], axis=1)})
    found = by_name(score_arm(evidence.question, truth, arm, resamples))["findings/pneumonia/f1"]
    expected = f1_score([0, 1] * 4, arm.values["findings"][:, 0] >= thresholds)
    assert found.draws[0] == pytest.approx(expected)
    assert "0.45 to 0.85" in found.metric().protocol


def test_a_label_its_fold_model_does_not_know_is_left_out(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    values = {t: v.copy() for t, v in evidence.arms[""].values.items()}
    values["findings"][6:, 0] = np.nan
    found = by_name(score_arm(evidence.question, truth, Arm(values), resamples))["findings/pneumonia/auroc"]
    assert found.draws[0] == 1.0, "without the last two studies all pairs are in order"
    assert found.metric().n == 6


def test_groups_are_scored_on_their_rows_alone(scores: Scores, evidence: Evidence, truth: Truth) -> None:
    who = truth.groups["age=65_plus"]
    y, p = truth.labels["findings"][who, 0], evidence.arms[""].values["findings"][who, 0]
    assert value(scores, "findings/pneumonia/auroc@age=65_plus") == pytest.approx(roc_auc_score(y, p))
    assert value(scores, "findings/pneumonia/auprc@age=65_plus") == pytest.approx(average_precision_score(y, p))
    assert "image+record:findings/pneumonia/auroc@sex=f" in scores, "the arm without the report has groups, too"
    assert "image:findings/pneumonia/auroc@sex=f" not in scores
    undefined = scores["findings/pneumonia/auroc@sex=m"].metric()
    assert (undefined.value, undefined.n) == (None, 4), "all men here have pneumonia"


def test_the_full_model_stands_among_the_subsets(scores: Scores) -> None:
    assert scores["image+text+record:outcome/event/auroc"] is scores["outcome/event/auroc"]


def test_bayes_is_scored_on_the_same_patients(scores: Scores) -> None:
    # event is true of 6, 7, 14: exactly those with .9
    assert value(scores, "bayes:image:outcome/event/auroc") == 1.0
    assert value(scores, "bayes:image:outcome/event/brier") == pytest.approx((3 * 0.01 + 5 * 0.04) / 8)
    assert scores["bayes:image:outcome/event/auroc"].metric().n == 7


def test_the_prior_ranks_nobody(scores: Scores) -> None:
    assert "prior:findings/pneumonia/auroc" not in scores
    assert value(scores, "prior:findings/pneumonia/auprc") == 0.5, "the share of positives"
    assert value(scores, "prior:findings/pneumonia/brier") == 0.25


def test_calibration_is_measured_before_and_after(scores: Scores) -> None:
    before, after = value(scores, "findings/pneumonia/ece_uncalibrated"), value(scores, "findings/pneumonia/ece")
    raw = 1 / (
        1 + ((1 - np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, 0.5])) / [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, 0.5]) ** 2
    )
    assert before == pytest.approx(np.abs(raw - [0, 1] * 4).mean(), abs=1e-6), "eight bins of one study each"
    assert after == pytest.approx(np.mean([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.6, 0.5]))
    assert "thumbnail:findings/pneumonia/ece_uncalibrated" not in scores


def test_maps_are_scored_where_readers_drew_on_original_pixels(evidence: Evidence) -> None:
    located = locate_all(evidence)
    assert [(pair.study, pair.channel) for pair in located] == [(1, 0), (3, 0), (5, 0), (7, 0)], (
        "odd studies, pneumonia"
    )
    exact, beside = located[0].scores, located[1].scores
    # bilinear between cell centres: the cut at .5 lies on the edges of the cells
    assert exact["miou"] == pytest.approx(1.0, abs=0.06)
    assert exact["pointing"] == 1.0
    assert beside["miou"] < 0.4
    assert beside["t_iou_0.5"] == 0.0


def test_a_map_is_cut_at_the_threshold_of_the_fold_model_that_answered(evidence: Evidence) -> None:
    maps = evidence.heads["localization"][""]
    faint = replace(maps, values=(maps.values * 0.4).astype(np.float16), thresholds=np.array([[0.5, 0.5], [0.2, 0.2]]))
    pool = replace(evidence.pool, fold_model=np.array([[0], [0], [1], [1], [1], [1], [1], [1]]))
    first, _, second, _ = locate_all(replace(evidence, heads={"localization": {"": faint}}, pool=pool))
    assert (first.study, first.scores["box_iou"], first.scores["miou"]) == (1, 0.0, 0.0), "nothing reaches .5"
    assert second.study == 5
    assert second.scores["box_iou"] > 0.9
    assert second.scores["miou"] > 0.9


def test_localization_is_averaged_over_images(scores: Scores, evidence: Evidence) -> None:
    each = [pair.scores["miou"] for pair in locate_all(evidence)]
    assert value(scores, "localization/pneumonia/miou") == pytest.approx(np.mean(each))
    assert "localization/edema/miou" not in scores, "nobody drew it"


def test_texts_are_scored_beside_their_controls(scores: Scores) -> None:
    assert value(scores, "description/all/bleu4") == pytest.approx(1.0, abs=1e-6)
    assert value(scores, "description/all/finding_f1") == 1.0
    assert value(scores, "constant:description/all/finding_f1") == 0.0, "it says there is no pneumonia"
    assert value(scores, "shuffled_image:description/all/finding_f1") == 0.0, "odd and even have changed places"
    assert value(scores, "constant:description/all/distinct_ratio") == 1 / 8
    assert value(scores, "description/all/cider") > value(scores, "nearest:description/all/cider")


def test_the_arm_without_text_has_all_other_modalities(evidence: Evidence) -> None:
    assert without_text(evidence.question) == "image+record"
    assert without_text(replace(evidence.question, modalities=["image"])) == ""


def test_over_folds_patients_are_ranked_among_those_whom_one_model_answered(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    """The second model answers every label 10 log-odds higher: pooled that harms, within folds it does not."""
    arm = evidence.arms[""]
    shifted = {target: own.copy() for target, own in arm.values.items()}
    shifted["findings"][4:] = expit(logit(arm.values["findings"][4:]) + 10)
    pool = replace(evidence.pool, fold_model=np.repeat([[0], [1]], 4, axis=0))
    moved = replace(evidence, pool=pool, arms={"": replace(arm, values=shifted)}, heads={})
    found = by_name(score_all(moved, truth, resamples))
    y, p = truth.labels["findings"][:, 0], shifted["findings"][:, 0]
    pairs = [(i, j) for i in np.flatnonzero(y == 1) for j in np.flatnonzero(y == 0) if (i < 4) == (j < 4)]
    within = np.mean([(p[i] > p[j]) + 0.5 * (p[i] == p[j]) for i, j in pairs])
    assert value(found, "findings/pneumonia/auroc") == pytest.approx(within)
    pooled = value(found, "findings/pneumonia/auroc_pooled")
    assert pooled == pytest.approx(roc_auc_score(y, p))
    assert pooled < within
    again = replace(moved, pool=replace(pool, fold_model=np.zeros((8, 1), np.int64)))
    assert "findings/pneumonia/auroc_pooled" not in by_name(score_all(again, truth, resamples)), (
        "one model has one scale"
    )


def test_repeats_are_averaged_as_figures_and_not_as_answers(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    """Two models of one fold each, one right and one wrong: their mean answers are ties, the mean of their AUROC is .5."""
    right = np.tile([0.1, 0.9], 4)
    both = np.stack([right, 1 - right], axis=1)[:, :, None]
    arm = Arm.of({"findings": np.concatenate([both, both], axis=2), "outcome": both, "severity": both})
    assert (arm.values["findings"] == 0.5).all()
    pool = replace(evidence.pool, fold_model=np.tile([[0, 1]], (8, 1)))
    found = by_name(
        score_all(
            replace(evidence, pool=pool, arms={"": replace(arm, shown=evidence.arms[""].shown)}, heads={}),
            truth,
            resamples,
        )
    )
    assert value(found, "findings/pneumonia/auroc") == 0.5
    keen = replace(arm, each={**arm.each, "findings": np.stack([right, right], axis=1)[:, :, None].repeat(2, axis=2)})
    found = by_name(
        score_all(
            replace(evidence, pool=pool, arms={"": replace(keen, shown=evidence.arms[""].shown)}, heads={}),
            truth,
            resamples,
        )
    )
    assert value(found, "findings/pneumonia/auroc") == 1.0, "whatever their mean is said to be"


def test_detection_ranks_the_boxes_of_all_images_and_counts_those_without_the_label(scores: Scores) -> None:
    """Boxes of one score, in the order of the studies: four of images without pneumonia are wrong, study 7 has two beside its own,
    and three of four true boxes are found, at ranks 2, 7 and 9: precision 1/2, 2/7, 3/9, of which the envelope is 1/2, 1/3, 1/3."""
    for iou in (0.3, 0.5):
        assert value(scores, f"localization/pneumonia/ap_{iou}") == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 4)
    assert scores["localization/all/rodeo_total"].undefined == "there is one class"
    assert 3 * (32 / 34) ** 2 / 9 < value(scores, "localization/all/rodeo_shape") < 4 / 9


def test_a_threshold_fitted_on_validation_boxes_gives_a_second_figure_and_no_other_box(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    maps = evidence.heads["localization"][""]
    faint = replace(maps, values=(maps.values * 0.4).astype(np.float16), fitted=np.array([[0.3, 0.3]]))
    found = by_name(score_all(replace(evidence, heads={"localization": {"": faint}}), truth, resamples))
    whole = by_name(
        score_all(
            replace(evidence, heads={"localization": {"": replace(maps, thresholds=np.array([[0.75, 0.75]]))}}),
            truth,
            resamples,
        )
    )
    assert value(found, "localization/pneumonia/miou") == value(found, "localization/pneumonia/box_iou") == 0
    assert value(found, "localization/pneumonia/miou_fitted") == pytest.approx(
        value(whole, "localization/pneumonia/miou")
    )
    assert "localization/pneumonia/miou_fitted" not in whole
