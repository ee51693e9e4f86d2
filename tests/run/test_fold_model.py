"""The models of a run as they are read back, and what they answer as arrays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from asking import answer, fold_models_over, maps_of
from fits import calibration_of
from hypothesis import given
from hypothesis import strategies as st
from runs import UNSEALED
from scipy.special import expit, logit

from chiasm.cohort.store import write_cohort
from chiasm.encoding.plan import Plan
from chiasm.errors import CohortError, RunError
from chiasm.run import infer
from chiasm.run.answers import calibrated, fitted
from chiasm.run.fold_model import load_fold_models, over_own_cohorts
from chiasm.run.folder import read_run
from chiasm.run.infer import find_partners
from chiasm.study import Kind


@pytest.fixture(scope="module")
def fold_model(tiny_run):
    return fold_models_over(tiny_run)[0]


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A run that may be broken."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=UNSEALED)
    return run


def _over(run, studies, folder):
    """The fold model of a run over these studies as a cohort of their own."""
    cohort = write_cohort(studies, folder, source="test", options={}, size=64)
    return fold_models_over(run, [cohort])[0]


def _assert_same(a, b, atol=1e-5):
    assert a.logits.keys() == b.logits.keys()
    for target, values in a.logits.items():
        np.testing.assert_allclose(values, b.logits[target], atol=atol)


# --- reading a run -----------------------------------------------------------------------------------------------------


def test_the_split_is_that_of_the_cohort(fold_model, phantom):
    assert {s: rows.tolist() for s, rows in fold_model.split.items()} == {
        s: phantom.rows(s).tolist() for s in fold_model.split
    }
    assert not fold_models_over(fold_model.folder, [phantom])[0].split  # named, it is another cohort


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "training"}, "not finished"),
        ({"schema": 99}, "another schema version"),
        ({"fold_models": ["gone"]}, "damaged"),
        ({"folds": "two"}, "folds: Input should be a valid integer"),
        ({"fold": 2}, "fold: "),
        ({"cohorts": [{"path": "c", "hash": "h"}]}, "cohorts.0.source: "),
    ],
)
def test_a_run_that_cannot_be_used_says_why(copy, phantom, change, said):
    info = json.loads((copy / "run.json").read_text()) | change
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=said):
        fold_models_over(copy, [phantom])


@pytest.mark.parametrize(
    "name", ["plan.json", "recipe.yaml", "tokenizer.json", "split.json", "calibration.json", "weights.safetensors"]
)
def test_a_lost_or_cut_file_of_a_run_is_one_error(copy, phantom, name):
    content = (copy / name).read_bytes()
    if name != "recipe.yaml":  # half a YAML file can be a recipe
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(RunError, match="damaged"):
            fold_models_over(copy, [phantom])
    (copy / name).unlink()
    with pytest.raises(RunError, match="damaged"):
        fold_models_over(copy, [phantom])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 99}, "another schema version"),
        ({"targets": {"findings": {"edema": {"temperature": "warm"}}}}, "targets.findings.edema.temperature: "),
        ({"targets": {"findings": {"edema": {"temperatur": 1.0}}}}, "targets.findings.edema.temperatur: "),
    ],
)
def test_a_calibration_that_does_not_fit_names_file_and_key(copy, change, said):
    path = copy / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=said) as error:
        load_fold_models(copy)
    assert error.value.where == str(path)
    assert "warm" not in str(error.value), "no value is quoted"


def test_a_run_without_a_calibration_is_refused_rather_than_answered_uncalibrated(copy):
    (copy / "calibration.json").unlink()
    with pytest.raises(RunError, match="damaged"):
        load_fold_models(copy)


@pytest.mark.parametrize("text", ["", "[", "[1]", "3"])
def test_run_json_that_is_none(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match="damaged"):
        read_run(tmp_path)


def test_weights_of_another_model_are_refused(copy, phantom):
    recipe = (copy / "recipe.yaml").read_text()
    assert "dim: 32" in recipe
    (copy / "recipe.yaml").write_text(recipe.replace("dim: 32", "dim: 64"))
    with pytest.raises(RunError, match="damaged"):
        fold_models_over(copy, [phantom])


def test_a_cohort_of_another_size_is_refused(tiny_run, phantom, tmp_path):
    cohort = write_cohort([phantom.study(0)], tmp_path / "c", source="test", options={}, size=32)
    with pytest.raises(CohortError, match="another size"):
        fold_models_over(tiny_run, [cohort])


def test_other_cohorts_are_brought_to_the_same_weights(tiny_run, phantom):
    (stored,) = load_fold_models(tiny_run)
    own, other = over_own_cohorts(tiny_run, [stored])[0], stored.over([phantom])
    assert own.model is other.model is stored.model
    assert own.split.keys() == {"train", "validation", "test"}
    assert other.split == {}
    assert not hasattr(stored, "loader")


# --- what is answered --------------------------------------------------------------------------------------------------


def test_answers_do_not_hang_on_who_is_asked_beside(fold_model, phantom, monkeypatch):
    rows = phantom.rows("test")
    whole = answer(fold_model, rows, describe=True)
    monkeypatch.setattr(infer, "BATCH", 3)
    small = answer(fold_model, rows, describe=True)
    _assert_same(whole, small)
    (maps, index), (other, other_index) = maps_of(whole), maps_of(small)
    np.testing.assert_allclose(maps.astype(float), other.astype(float), atol=5e-3)
    np.testing.assert_array_equal(index, other_index)
    assert whole.heads["description"] == small.heads["description"]
    assert len(whole.heads["description"]) == len(rows)
    back = answer(fold_model, rows[::-1])
    np.testing.assert_allclose(whole.logits["findings"], back.logits["findings"][::-1], atol=1e-5)


def test_every_map_is_filed_under_its_image(fold_model, phantom):
    rows = phantom.rows("test")[::-1]
    said = answer(fold_model, rows)
    maps, index = maps_of(said)
    assert index.tolist() == [[row, image] for row in rows for image in phantom.image_rows(row)]
    assert len(index) > len(rows)  # some have two images
    for place in range(0, len(maps), 5):
        row = index[place, 0]
        alone = answer(fold_model, np.array([row]))
        grids, places = maps_of(alone)
        own = grids[places[:, 1] == index[place, 1]]
        np.testing.assert_allclose(maps[place].astype(float), own[0].astype(float), atol=5e-3)
    assert answer(fold_model, rows, maps=False).heads == {}


@pytest.mark.parametrize(
    ("subset", "lost"),
    [
        (("image",), {"report": None, "record": None}),
        (("text",), {"images": (), "record": None}),
        (("image", "record"), {"report": None}),
    ],
)
def test_a_subset_is_the_answer_to_studies_that_hold_no_more(tiny_run, fold_model, phantom, tmp_path, subset, lost):
    full = [phantom.study(row) for row in range(20)]
    full = [study for study in full if study.images and study.report and study.record]
    assert len(full) > 10
    here = _over(tiny_run, full, tmp_path / "full")
    bare = _over(tiny_run, [replace(study, **lost) for study in full], tmp_path / "bare")
    indices = np.arange(len(full))
    _assert_same(answer(here, indices, subset=subset), answer(bare, indices))


def test_no_study_at_all(fold_model):
    said = answer(fold_model, np.zeros(0, np.int64))
    assert {t: v.shape for t, v in said.logits.items()} == {t: (0, len(n)) for t, n in fold_model.plan.targets.items()}
    assert maps_of(said) == (None, None)


# --- shuffled controls -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_partners_are_of_other_patients(patients, random):
    random.shuffle(patients)
    ids = np.array([f"p{p}" for p in patients])
    partner = find_partners(ids)
    assert set(partner) <= set(range(len(ids)))
    if len(set(patients)) > 1:
        assert (ids[partner] != ids).all()
    if 2 * max(map(patients.count, patients)) <= len(patients):
        assert sorted(partner) == list(range(len(ids)))  # then everybody's report is used once


def test_shuffled_text_is_the_own_study_with_another_patients_report(tiny_run, fold_model, phantom, tmp_path):
    rows = np.arange(len(phantom))
    partner = find_partners(fold_model.loader.patient_ids[rows])
    studies = [phantom.study(row) for row in rows]
    assert all(studies[a].patient_id != studies[b].patient_id for a, b in zip(rows, partner, strict=True))
    swapped = [replace(studies[a], report=studies[b].report) for a, b in zip(rows, partner, strict=True)]
    kept = [i for i, s in enumerate(swapped) if s.images or s.report or s.record]
    other = _over(tiny_run, [swapped[i] for i in kept], tmp_path / "swapped")
    assert other.loader.study_ids.tolist() == fold_model.loader.study_ids[kept].tolist()
    said = answer(fold_model, rows, shuffled="text")
    for target, values in answer(other, np.arange(len(kept))).logits.items():
        np.testing.assert_allclose(said.logits[target][kept], values, atol=1e-5)
    own = answer(fold_model, rows)
    assert np.abs(said.logits["findings"] - own.logits["findings"]).max() > 1e-3
    np.testing.assert_array_equal(maps_of(said)[0], maps_of(own)[0])


def test_shuffled_images_are_described_as_the_partners(fold_model, phantom):
    rows = np.arange(len(phantom))
    said = answer(
        fold_model, rows, shuffled="image", subset=("image",), describe=True, maps=False
    )  # studies have one image or two
    own = answer(fold_model, rows, subset=("image",), describe=True)
    partner = find_partners(fold_model.loader.patient_ids[rows])
    np.testing.assert_allclose(said.logits["findings"], own.logits["findings"][partner], atol=1e-5)
    assert said.heads["description"] == [own.heads["description"][i] for i in partner]


# --- calibration -------------------------------------------------------------------------------------------------------


def test_logits_are_divided_by_the_temperature_of_what_the_study_shows():
    plan = Plan(
        None, {}, {}, (), 0, (), 0, {"findings": ("a", "b"), "severity": ("s",)},
        {"findings": Kind.BINARY, "severity": Kind.REGRESSION}, {}, {"severity": ((10.0, 2.0),)}, (), None, ("findings",),
    )  # fmt: skip
    logits = {"findings": np.array([[2.0, 2.0]], np.float32), "severity": np.array([[-1.5]], np.float32)}
    shown = np.array(["image"])
    values = calibrated(logits, shown, plan, calibration_of({"findings": {"a": {"temperature": 4.0}}}))
    np.testing.assert_allclose(values["findings"], [[expit(0.5), expit(2.0)]])
    own = calibration_of({"findings": {"a": {"temperature": 4.0, "shown": {"image": {"temperature": 1.0}}}}})
    np.testing.assert_allclose(calibrated(logits, shown, plan, own)["findings"], [[expit(2.0), expit(2.0)]])
    np.testing.assert_allclose(calibrated(logits, np.array(["text"]), plan, own)["findings"][0, 0], expit(0.5))
    assert values["severity"].tolist() == [[7.0]]


def test_a_fold_model_answers_at_its_temperatures(fold_model, phantom):
    rows = phantom.rows("test")
    said = answer(fold_model, rows)
    for target in fold_model.calibration.targets:
        if fold_model.plan.kinds[target] is not Kind.BINARY:
            continue
        temperature = fitted(
            fold_model.calibration, "temperature", target, fold_model.plan.targets[target], said.shown, 1.0
        )
        p = fold_model.probabilities(said)[target]
        np.testing.assert_allclose(logit(p) * temperature, said.logits[target], atol=1e-4)


def test_a_hidden_column_is_one_that_nobody_observed(fold_model):
    plan, indices = fold_model.plan, np.arange(12)
    columns = (*plan.numeric, *plan.categories)
    assert len(columns) > 1
    unseen = answer(fold_model, indices, hidden_columns=columns, maps=False)
    _assert_same(unseen, answer(fold_model, indices, subset=("image", "text"), maps=False))
    assert not any("record" in shown for shown in unseen.shown)
    one = answer(fold_model, indices, hidden_columns=columns[:1], maps=False)
    assert any("record" in shown for shown in one.shown), "the others are still there"
    assert any(
        not np.allclose(values, one.logits[target]) for target, values in answer(fold_model, indices).logits.items()
    )
    _assert_same(
        answer(fold_model, indices, hidden_columns=["no such column"], maps=False),
        answer(fold_model, indices, maps=False),
    )
