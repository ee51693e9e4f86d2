"""Phantoms of another kind are noted by header, by pixels alone and by chart; new ones of the same kind rarely are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from asking import fold_models_over
from runs import UNSEALED

from chiasm.cohort.store import write_cohort
from chiasm.models.image import descriptor
from chiasm.models.image.descriptor import describe_images
from chiasm.models.image.encoder import EfficientNetBackbone
from chiasm.prediction.predictor import Predictor, load_predictor
from chiasm.recipe import read_recipe
from chiasm.run.fold_model import load_fold_models
from chiasm.run.notes import describe
from chiasm.run.novelty import read_novelty
from chiasm.sources.phantom_chest import read as phantoms
from chiasm.study import About, Record, View
from chiasm.training.train import train


def frontal(studies):
    """The frontal view of each, as a picture file has it: without a header."""
    plain = [[replace(i, dicom_modality="", view=View.OTHER) for i in s.images if i.view is View.PA] for s in studies]
    return [replace(s, images=tuple(images), regions=()) for s, images in zip(studies, plain, strict=True)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    """A run on 90 frontal phantoms."""
    home = tmp_path_factory.mktemp("frontal")
    studies = [replace(s, images=s.images[:1]) for s in phantoms(studies=90, size=64)]
    boxed = [replace(s, regions=tuple(r for r in s.regions if r.image_id == s.images[0].image_id)) for s in studies]
    write_cohort(boxed, home / "cohort", source="test", options={}, size=64)
    train(read_recipe("report-fusion", [*small, "train.epochs=1"]), [home / "cohort"], home / "run")
    return home / "run"


@pytest.fixture(scope="module")
def predictor(run):
    return load_predictor(run)


@pytest.fixture(scope="module")
def new():
    return list(islice(phantoms(studies=60, size=64, seed=7), 60))


def about(prediction, kind):
    return [note.text for note in prediction.notes if note.about is kind]


def changed(study, change):
    (image,) = frontal([study])[0].images
    return replace(study, images=(replace(image, pixels=np.ascontiguousarray(change(image.pixels))),), regions=())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 255 - x,
        lambda x: np.rot90(x),
        lambda x: np.rot90(x, 2),
        lambda x: np.random.default_rng(0).integers(0, 256, x.shape).astype(np.uint8),
        lambda x: np.tile(x[::2, ::2], (2, 2)),
    ],
)
def test_pixels_of_another_kind_are_noted(predictor, new, change):
    notes = [about(answer, About.PIXELS) for answer in predictor.batch([changed(s, change) for s in new[:8]])]
    assert all(len(own) == 1 for own in notes)
    assert notes[0][0].startswith("the image is unlike those of training, by its pixels alone: 98% of new patients")


def test_lateral_views_are_noted_by_their_header_and_without_it(predictor, new):
    lateral = [replace(s, images=s.images[1:], regions=()) for s in new if len(s.images) == 2]
    blind = [replace(s, images=(replace(s.images[0], dicom_modality="", view=View.OTHER),)) for s in lateral]
    assert len(lateral) > 10
    for answer in predictor.batch(lateral):
        assert about(answer, About.HEADER) == ["the file says view lateral; the model was trained on PA"]
    without = predictor.batch(blind)
    assert not any(about(answer, About.HEADER) for answer in without)
    assert np.mean([bool(about(answer, About.PIXELS)) for answer in without]) > 0.9


def test_new_patients_of_the_same_kind_are_seldom_noted(predictor, new):
    answers = predictor.batch(frontal(new))
    assert sum(note.unlike for answer in answers for note in answer.notes) <= 0.05 * len(new)


def test_an_image_is_named_where_a_study_has_several(predictor, new):
    study = next(s for s in new if len(s.images) == 2)
    (said,) = about(predictor(replace(study, regions=())), About.HEADER)
    assert said.startswith(f"image {study.images[1].image_id}: the file says view lateral")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"age_years": 600.0}, "record: age_years lies above the range of training"),
        ({"age_years": -3.0}, "record: age_years is negative, which no value of training is"),
        ({"sex": "q"}, "record: sex is none of the words of training (f, m)"),
    ],
)
def test_charts_of_another_kind_are_noted(predictor, new, values, said):
    study = frontal(new[:1])[0]
    usual = dict(study.record.values)
    assert usual.keys() >= values.keys()
    (found,) = about(predictor(replace(study, record=Record({**usual, **values}))), About.RECORD)
    assert found.startswith(said)
    assert about(predictor(replace(study, record=Record(dict.fromkeys(usual)))), About.RECORD) == []


def test_a_run_without_the_check_says_so(run, new, tmp_path):
    old = shutil.copytree(run, tmp_path / "old", ignore=UNSEALED)
    (old / "novelty.json").unlink()
    (note,) = [n for n in load_predictor(old)(frontal(new[:1])[0]).notes if n.about is not About.CONTRADICTION]
    assert note.about is About.UNCHECKED and "train again" in note.text


def test_too_few_patients_to_judge_pixels_are_said(run, new, tmp_path):
    few = shutil.copytree(run, tmp_path / "few", ignore=UNSEALED)
    stored = json.loads((few / "novelty.json").read_text("utf-8"))
    (few / "novelty.json").write_text(json.dumps(stored | {"pixels": None}), "utf-8")
    answer = load_predictor(few)(changed(new[0], lambda x: 255 - x))
    assert len(about(answer, About.UNCHECKED)) == 1 and not about(answer, About.PIXELS)


def test_the_threshold_is_kept_by_the_patients_it_was_fitted_on(run):
    (fold_model,) = fold_models_over(run)
    seen = fold_model.novelty.pixels
    own = np.concatenate([fold_model.split["train"], fold_model.split["validation"]])
    patients = len(set(fold_model.loader.patient_ids[own]))
    assert (seen.patients, seen.images, seen.coverage) == (patients, len(own), 0.98)
    assert fold_model.novelty.headers == {"dicom_modality": ("DX",), "body_part": ("CHEST",), "view": ("pa",)}
    assert fold_model.novelty.ranges.keys() == set(fold_model.plan.numeric)
    _, values, _ = describe(fold_model, own)
    assert np.mean(fold_model.cloud.distance(values) > seen.threshold) < 0.02, "what was fitted on lies nearer"


@pytest.mark.parametrize("knowing", [0, 1, 2])
def test_pixels_are_unlike_where_any_fold_model_finds_them_so(run, new, knowing):
    """A fold model that was trained on an image knows it; one that was not is the one that can tell."""
    (fold_model,) = load_fold_models(run)
    knows = replace(
        fold_model, novelty=replace(fold_model.novelty, pixels=replace(fold_model.novelty.pixels, threshold=1e9))
    )
    fold_models = [knows] * knowing + [fold_model] * (2 - knowing)
    answer = Predictor(fold_models)(changed(new[0], lambda x: 255 - x))
    assert bool(about(answer, About.PIXELS)) == (knowing < 2)


def test_a_frozen_network_is_asked_once(phantom, tmp_path, monkeypatch):
    """A model whose encoder is the network of descriptions is described by what that has seen, with the same vectors."""
    cohort = shutil.copytree(phantom.path, tmp_path / "cohort", ignore=shutil.ignore_patterns("cache"))
    settings = ["baseline.model=logistic", "inputs.image.size=64", "inputs.text=null"]
    train(read_recipe("baseline-frozen", settings), [cohort], tmp_path / "run")
    (fold_model,) = fold_models_over(tmp_path / "run")
    rows = fold_model.split["test"]
    monkeypatch.setattr(descriptor, "reference_network", lambda: pytest.fail("the images were seen already"))
    _, shared, groups = describe(fold_model, rows)
    monkeypatch.undo()
    again, same = describe_images(torch.from_numpy(fold_model.loader.pixels(rows)), None)
    np.testing.assert_allclose(shared, again, atol=0.05)
    np.testing.assert_array_equal(groups, same)
    assert read_novelty(tmp_path / "run")[1] is not None

    counted = []
    real = EfficientNetBackbone.forward
    monkeypatch.setattr(EfficientNetBackbone, "forward", lambda self, x: counted.append(len(x)) or real(self, x))
    made = next(iter(phantoms(studies=1, size=64, seed=7)))
    load_predictor(tmp_path / "run")(made)
    assert sum(counted) == len(made.images), "each image is encoded once"


def test_volumes_are_described_by_a_thumbnail():
    pixels = torch.arange(2 * 16**3, dtype=torch.float32).reshape(2, 1, 16, 16, 16)
    values, groups = describe_images(pixels, None)
    assert values.shape == (2, 512) and not groups.any()
    assert values[0, 0] == pytest.approx(float(pixels[0, 0, :2, :2, :2].mean()))
