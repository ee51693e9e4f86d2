from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scoring import score_all

from chiasm.evaluation import warnings as warn
from chiasm.evaluation.spec import Arm, Evidence, read_truth
from chiasm.evaluation.warnings import compute_warnings, leading_arms, report_leaks, tell_added
from chiasm.heads.spec import Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.name import parse_name
from chiasm.vocabulary import snake_case


def many(evidence: Evidence, control: list[float]) -> tuple[Evidence, Truth, Resamples]:
    """The 8 studies as 40 patients, answered well by the image; the thumbnail answers with `control`."""
    pool = evidence.pool
    times = np.tile(np.arange(8), 5)
    pool = replace(pool, cohort=pool.cohort[times], row=pool.row[times], fold_model=pool.fold_model[times])
    arms = {
        p: Arm({t: v[times] for t, v in arm.values.items()}, shown=np.full((40, 1), "image"))
        for p, arm in evidence.arms.items()
    }
    arms["image"].values["findings"][:, 0] = np.tile([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.2, 0.8], 5)
    arms["thumbnail"].values["findings"][:, 0] = np.tile(control, 5)
    arms["thumbnail"].values["outcome"][:] = 0.5
    evidence = replace(evidence, pool=pool, arms=arms, heads={})
    truth = read_truth(evidence.question, pool, ())
    return evidence, truth, Resamples.draw([str(i) for i in range(40)], 300)


def test_a_control_that_comes_close_is_a_warning(evidence: Evidence) -> None:
    close, truth, resamples = many(evidence, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, 0.5])
    found = [w for w in compute_warnings(close, truth, score_all(close, truth, resamples), {}) if "Shortcut" in w]
    assert len(found) == 1
    assert "a 16 x 16 thumbnail (1 of 2 labels)" in found[0]
    assert "pneumonia: a 16 x 16 thumbnail 0.94, the image alone 1.00" in found[0]


def test_a_control_at_chance_or_far_below_is_none(evidence: Evidence) -> None:
    for control in ([0.5] * 8, [0.4, 0.5, 0.6, 0.5, 0.4, 0.3, 0.5, 0.7]):
        far, truth, resamples = many(evidence, control)
        assert not [w for w in compute_warnings(far, truth, score_all(far, truth, resamples), {}) if "Shortcut" in w]


def test_controls_say_what_they_hold_and_that_a_few_patients_do_not_part_them(evidence: Evidence) -> None:
    close, truth, resamples = many(evidence, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, 0.5])
    scores = score_all(close, truth, resamples)
    control = next(name for name in scores if str(name) == "thumbnail:findings/pneumonia/auroc")
    wide = scores[control].draws.copy()
    wide[1:] = np.resize([0.4, 1.2], len(wide) - 1)
    thumbnail = replace(close.arms["thumbnail"], details={"": "16 x 16"})
    told = replace(close, arms=close.arms | {"thumbnail": thumbnail})
    unsure = scores | {control: replace(scores[control], draws=wide)}
    (found,) = [w for w in compute_warnings(told, truth, unsure, {}) if "Shortcut" in w]
    assert "a 16 x 16 thumbnail (16 x 16; 1 of 2 labels) cannot be told apart from the image model" in found


def test_chance_is_a_warning_and_what_is_above_it_is_none(evidence: Evidence) -> None:
    well, truth, resamples = many(evidence, [0.5] * 8)
    scores = score_all(well, truth, resamples)
    chance = [w for w in compute_warnings(well, truth, scores, {}) if "from chance" in w or "than the prior" in w]
    assert chance == []
    flat = replace(well, arms=well.arms | {"": well.arms["thumbnail"]})
    found = [w for w in compute_warnings(flat, truth, score_all(flat, truth, resamples), {}) if "from chance" in w]
    assert len(found) == 2
    assert any(w.startswith("Event: the answer cannot be told from chance: AUROC 0.500 (95% interval") for w in found)


def test_one_record_column_that_is_as_good_as_the_model_is_a_warning(evidence: Evidence) -> None:
    well, truth, resamples = many(evidence, [0.5] * 8)
    column = replace(well.arms[""], details={"outcome/event": "nihss"})
    same = replace(well, arms=well.arms | {"record_column": column})
    found = [w for w in compute_warnings(same, truth, score_all(same, truth, resamples), {}) if "record column" in w]
    assert any(w.startswith("Event: one record column alone (nihss) comes close to the model (AUROC") for w in found)


def test_a_column_that_is_the_label_is_the_first_warning(evidence: Evidence, truth: Truth) -> None:
    leak = {"target": "outcome", "label": "mrs_gt_2", "column": "flag", "auroc": 1.0, "patients": 400}
    first, *_ = compute_warnings(evidence, truth, {}, {"findings": 0.9}, [leak])
    assert first == (
        "The record column flag alone tells mrs > 2 (AUROC 1.00 in 400 patients): is it the label under another name? "
        "Train without it: --set inputs.record.leave_out=[flag]."
    )


def test_only_inputs_are_looked_at_for_the_label(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = [
        {"target": "outcome", "label": "event", "column": c, "auroc": 1.0, "patients": 40} for c in ("age", "flag")
    ]
    leaks.append({**leaks[1], "label": "unknown"})
    monkeypatch.setattr(warn, "record_leaks", lambda cohort: leaks)
    asked = replace(evidence.question, columns=["flag"])
    assert warn.column_leaks(asked, evidence.pool.cohorts * 2) == [leaks[1]], "two cohorts, one sentence"
    assert warn.column_leaks(replace(asked, modalities=["image"]), evidence.pool.cohorts) == []


def test_few_patients_of_a_class_in_training_are_said(evidence: Evidence) -> None:
    """Edema is known of 4, 5, 8, 9 in training (5 has it) and of 10 and 12 in validation (10 has it)."""
    cohort = evidence.pool.cohorts[0]
    model = SimpleNamespace(
        loader=SimpleNamespace(cohorts=[cohort]),
        split={"train": np.array([4, 5, 8, 9]), "validation": np.array([10, 12])},
    )
    found = warn.few_in_training(evidence.question, [model])
    assert found[0] == (
        "Findings: fewer than 10 patients of a class in training or validation: train had of pneumonia (2), edema (1); "
        "validation had of pneumonia (0), edema (1)."
    )
    assert found[1].startswith("Outcome: fewer than 10")
    every = warn.few_in_training(evidence.question, [model, model])
    assert "in the training or validation of a fold" in every[0]


def test_a_report_that_states_the_label_leads_to_the_arm_without_it(evidence: Evidence, truth: Truth) -> None:
    leaks = report_leaks(evidence.question, truth, evidence.pool)
    # 4 pneumonias and one edema (study 10) are present; the reports state the pneumonias
    assert leaks == {"findings": 4 / 5}
    assert leading_arms(evidence.question, leaks) == ("image+record", "")
    assert leading_arms(evidence.question, {"findings": 0.1}) == ("",)
    sections = replace(evidence.question, text_sections=["history"])
    assert report_leaks(sections, truth, evidence.pool) == {"findings": 0.0}, "the history does not tell"
    alone = replace(evidence.question, modalities=["image"])
    assert report_leaks(alone, truth, evidence.pool) == {}
    assert leading_arms(alone, {}) == ("",)


def test_leaks_few_patients_and_texts_are_said(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    scores = score_all(evidence, truth, resamples)
    found = compute_warnings(evidence, truth, scores, {"findings": 0.8})
    assert found[0].startswith("The report is an input and states 80% of the present findings")
    few = next(w for w in found if w.startswith("Findings: fewer than 10 patients"))
    assert "pneumonia (4), edema (1)" in few
    assert not any("states" in w for w in compute_warnings(evidence, truth, scores, {"findings": 0.2}))


def test_shuffled_reports_that_serve_as_well_are_said(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    same = replace(evidence, arms={**evidence.arms, "shuffled_text": evidence.arms[""]})
    found = compute_warnings(same, truth, score_all(same, truth, resamples), {})
    assert any(w.startswith("Outcome: another patient's report serves as well") for w in found)


def test_repeated_descriptions_that_beat_nothing_are_said(
    evidence: Evidence, truth: Truth, resamples: Resamples
) -> None:
    dull = replace(evidence, heads={"description": {whose: ["Clear."] * 8 for whose in ("", "constant", "nearest")}})
    found = compute_warnings(dull, truth, score_all(dull, truth, resamples), {})
    assert sum("do not beat" in w for w in found) == 2
    assert not any("repeat" in w for w in found), "one of eight is more than a tenth"


def test_warnings_hold_no_identifier(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    for warning in compute_warnings(evidence, truth, score_all(evidence, truth, resamples), {"findings": 0.8}):
        assert not any(part in snake_case(warning) for part in ("s03", "p03", "featherstone"))


def test_what_is_undefined_is_no_warning(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    """Another cohort may know no label of a target: its AUROC is undefined, and says nothing of the report."""
    unknown = replace(truth, mask={target: np.zeros_like(mask) for target, mask in truth.mask.items()})
    found = compute_warnings(evidence, unknown, score_all(evidence, unknown, resamples), {})
    assert not [warning for warning in found if "nan" in warning]


def test_a_text_that_was_written_from_the_image_says_what_it_added(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warn, "read_writers", lambda path, section: {"s02": "template", "s03": "server a-model"})
    read = replace(evidence.question, targets={"outcome": ["event"]}, text_sections=["image_description"])
    one = Resamples.draw([f"p{i}" for i in range(8)], 100)
    sure, unsure = (
        one.estimate(np.r_[mid, np.linspace(low, high, 100)], "p")
        for mid, low, high in ((0.1, 0.05, 0.15), (0.02, -0.1, 0.14))
    )
    scores = {
        parse_name("added_text:outcome/event/auroc"): sure,
        parse_name("added_over_shuffled_text:outcome/event/auroc"): unsure,
    }
    source, gain = tell_added(read, evidence.pool, scores)
    assert (
        source
        == "The text was written from the study's images (by server a-model and template): it can hold nothing that they do not."
    )
    assert gain.startswith("To all other inputs it added +0.100 (95% interval +0.05")
    assert (
        "beyond chance, in AUROC of event. In place of another patient's text it added +0.020 (95% interval -0.09"
        in gain
    )
    assert gain.endswith("which cannot be told from chance.")
    assert tell_added(evidence.question, evidence.pool, scores) == [], "a report is no text of that kind"


def test_columns_of_unknown_time_lead_to_a_warning_and_to_an_arm_that_stands_first(
    evidence: Evidence, truth: Truth
) -> None:
    question = replace(evidence.question, opted_in=["etiology"])
    (first, *_) = compute_warnings(replace(evidence, question=question), truth, {}, {})
    assert first.startswith("Opted in: etiology.")
    assert leading_arms(question, {}) == ("without_opt_in", "")
    assert leading_arms(question, {"findings": 0.9}) == ("image+record", "without_opt_in", "")
