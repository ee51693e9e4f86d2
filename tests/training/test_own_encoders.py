"""Encoders of a user's own: no network is called with nothing, and a run owns what its encoders are built by."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import IMAGE, TEXT, save_family

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import RecipeError, RunError
from chiasm.geometry import Geometry
from chiasm.models.image.encoder import ImageEncoder, build_backbone
from chiasm.models.text.encoder import BiLSTM
from chiasm.prediction.predictor import load_predictor
from chiasm.recipe import ImageInput, read_recipe
from chiasm.registry import TEXT_ENCODERS
from chiasm.study import Image, Outcome, Study
from chiasm.training.train import train

PLAIN = ("heads.description=null", "heads.localization=null", "train.epochs=1")


@pytest.fixture
def models(tmp_path):
    """A tiny ViT and a tiny BERT in folders."""
    return save_family(tmp_path / "vit", IMAGE, "ViT"), save_family(tmp_path / "bert", TEXT, "BERT")


def asked(small, image, text, *more):
    own = [o for o in small if not o.startswith("heads.")]
    return read_recipe(
        "report-fusion", [*own, *PLAIN, f"inputs.image.encoder={image}", f"inputs.text.encoder={text}", *more]
    )


def probabilities(run: Path, studies: list[Study]) -> np.ndarray:
    return np.array([[f.probability for f in p.findings] for p in load_predictor(run).batch(studies)])


def subsets_of(study: Study) -> list[Study]:
    """The study as it is, and without each of its parts."""
    return [study, *(Study(study.study_id, study.patient_id, **{k: v for k, v in whole.items() if k != part})
                     for whole in [{"images": study.images, "report": study.report, "record": study.record}]
                     for part in whole)]  # fmt: skip


@pytest.mark.parametrize("freeze", [True, False])
def test_pretrained_encoders_train_to_the_end_and_answer_studies_without_their_modality(
    phantom, small, models, tmp_path, freeze
):
    train(
        asked(small, *models, f"inputs.image.freeze={freeze}", f"inputs.text.freeze={freeze}"), [phantom.path],
        tmp_path / "run",
    )  # fmt: skip
    study = next(s for s in map(phantom.study, range(60)) if s.images and s.report and any(s.record.values.values()))
    answers = probabilities(tmp_path / "run", subsets_of(study))
    assert np.isfinite(answers).all()
    assert len(np.unique(answers[:, 0])) == 4, "each part counts"


def test_no_network_is_called_without_an_image():
    encoder = ImageEncoder(ImageInput(encoder="small-cnn"), (32, 32), (2, 2), 16)
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    images, none = torch.zeros(2, 1, 1, 32, 32, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.bool)
    view = torch.zeros(2, 1, dtype=torch.long)
    encoder(images, none, view).values.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters()), "each process has a gradient"
    with torch.no_grad():
        for _ in range(3):
            assert not encoder.eval()(images, none, view).values.any()
    assert seen == [1, 1], "of nothing the maps are known after the first time"


def test_a_run_answers_alike_whatever_becomes_of_the_folders_it_was_trained_with(phantom, small, models, tmp_path):
    run = tmp_path / "run"
    train(asked(small, *models), [phantom.path], run)
    studies = [phantom.study(i) for i in range(4)]
    before = probabilities(run, studies)
    told = json.loads((tmp_path / "vit" / "preprocessor_config.json").read_text())
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps({**told, "image_mean": [0.9, 0.9, 0.9]}))
    (tmp_path / "bert" / "tokenizer.json").unlink()
    np.testing.assert_array_equal(probabilities(run, studies), before)
    for name in ("vit", "bert"):
        shutil.rmtree(tmp_path / name)
    np.testing.assert_array_equal(probabilities(run, studies), before)
    shutil.move(run, tmp_path / "moved")
    np.testing.assert_array_equal(probabilities(tmp_path / "moved", studies), before)


def test_weights_configuration_and_preprocessing_name_the_cache(phantom, small, models, tmp_path):
    cache = phantom.path / "cache"

    def caches():
        return {path.name for path in cache.iterdir() if path.name.startswith("features-")} if cache.is_dir() else set()

    changes = [("preprocessor_config.json", "image_mean", [0.9] * 3), ("config.json", "hidden_act", "relu")]
    train(asked(small, models[0], "bilstm"), [phantom.path], tmp_path / "run")
    for number, (name, key, value) in enumerate(changes):
        known, file = caches(), tmp_path / "vit" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
        train(asked(small, models[0], "bilstm"), [phantom.path], tmp_path / f"run{number}")
        assert len(caches() - known) == 1, "what is computed otherwise has another name"


def test_a_training_that_goes_on_needs_the_weights_it_was_begun_with(phantom, small, models, tmp_path, monkeypatch):
    from chiasm.training import train as module

    run = tmp_path / "run"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_optimize", killed)
        with pytest.raises(KeyboardInterrupt):
            train(asked(small, *models), [phantom.path], run)
    torch.manual_seed(1)
    shutil.rmtree(tmp_path / "vit")
    two = {**IMAGE["ViT"][1], "num_hidden_layers": 2}
    save_family(tmp_path / "vit", {"other": (IMAGE["ViT"][0], two)}, "other")
    with pytest.raises(RunError, match="not those that the run was begun with"):
        train(asked(small, *models), [phantom.path], run, resume=True)
    shutil.rmtree(tmp_path / "vit")
    with pytest.raises(RunError, match="begun with are gone"):
        train(asked(small, *models), [phantom.path], run, resume=True)
    save_family(tmp_path / "vit", IMAGE, "ViT")
    assert train(asked(small, *models), [phantom.path], run, resume=True).status == "finished"


def test_a_baseline_says_that_the_frozen_encoder_it_does_not_keep_has_changed(phantom, models, tmp_path):
    recipe = read_recipe(
        "baseline-frozen",
        [
            f"inputs.image.encoder={models[0]}",
            f"inputs.text.encoder={models[1]}",
            "inputs.image.size=64",
            "baseline.model=logistic",
        ],
    )
    train(recipe, [phantom.path], tmp_path / "run")
    studies = [phantom.study(0)]
    before = probabilities(tmp_path / "run", studies)
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    np.testing.assert_array_equal(probabilities(tmp_path / "run", studies), before)
    shutil.rmtree(tmp_path / "vit")
    with pytest.raises(RunError, match="begun with are gone"):
        load_predictor(tmp_path / "run")


# --- what does not fit is told before anything is trained --------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "settings", "override", "message"),
    [
        ("YOLOS", IMAGE, {}, "", "image encoder does not take images of 64x64"),
        ("LeViT", IMAGE, {}, "", "gives no maps"),
        ("BERT", TEXT, {"max_position_embeddings": 32}, "inputs.text.max_tokens=48", "text encoder does not take texts of 48"),
        ("RoBERTa", TEXT, {"max_position_embeddings": 48}, "inputs.text.max_tokens=48", "text encoder does not take texts of 48"),
    ],
)  # fmt: skip
def test_an_encoder_that_does_not_fit_leaves_no_run(
    phantom, small, tmp_path, family, kind, settings, override, message
):
    name = save_family(tmp_path / "model", kind, family, **settings)
    image, text = (name, "bilstm") if kind is IMAGE else ("small-cnn", name)
    with pytest.raises(RecipeError, match=message):
        train(asked(small, image, text, *filter(None, [override])), [phantom.path], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["monai:resnet101", "monai:efficientnet-b8", "monai:efficientnet", "monai:resnet"])
def test_a_monai_network_that_the_list_does_not_name_is_refused(name):
    with pytest.raises(RecipeError, match="monai:resnet50, monai:efficientnet-b0"):
        ImageEncoder(ImageInput(encoder=name), (64, 64), (4, 4), 16)


@pytest.mark.parametrize(("name", "side"), [("efficientnet-b0", 16), ("efficientnet-b0", 8), ("efficientnet-b1", 4)])
def test_volumes_too_small_for_a_network_are_refused(tmp_path, small, name, side):
    cohort = small_volumes(tmp_path / "c", side)
    own = [o for o in small if not o.startswith("heads.")]
    recipe = read_recipe(
        "fusion-early", [*own, f"inputs.image.encoder=monai:{name}", "inputs.text=null", "train.epochs=1"]
    )
    with pytest.raises(RecipeError, match=f"image encoder does not take images of {side}x{side}x{side}"):
        train(recipe, [cohort.path], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def small_volumes(out: Path, side: int) -> Cohort:
    shape = (side, side, side)

    def study(i: int) -> Study:
        image = Image(f"i{i}", np.full(shape, i * 10, np.uint8), Geometry.identity(shape))
        split = ("train", "validation", "test")[i % 3]
        return Study(f"s{i}", f"p{i}", images=(image,), outcomes=(Outcome("event", float(i // 3 % 2)),), split=split)

    return write_cohort([study(i) for i in range(12)], out, source="hand", options={}, volume_size=shape)


@pytest.mark.parametrize("side", [20, 28, 40, 50])
@pytest.mark.parametrize("name", ["monai:resnet10", "hf"])
def test_an_image_that_is_no_multiple_of_the_strides_has_every_map(tmp_path, name, side):
    """A map of ceil(side / 8) cells is one of stride 8, whatever side // cells gives."""
    name = save_family(tmp_path, IMAGE, "ResNet") if name == "hf" else name
    backbone = build_backbone(name, 2).eval()
    maps = backbone(torch.zeros(1, 1, side, side))
    assert [m.shape[1] for m in maps] == list(backbone.channels)
    assert [m.shape[2] for m in maps] == [math.ceil(side / stride) for stride in backbone.strides]


class Picky(BiLSTM):
    """Reads texts, but has a layer that half precision lacks."""

    def forward(self, token_ids, token_mask, states=None):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'BFloat16'")
        return super().forward(token_ids, token_mask, states)


def test_mixed_precision_falls_back_where_a_layer_lacks_it_and_says_so(phantom, small, tmp_path):
    TEXT_ENCODERS.add("picky", Picky)
    try:
        info = train(asked(small, "small-cnn", "picky", "train.precision=bf16-mixed"), [phantom.path], tmp_path / "run")
        other = train(
            asked(small, "small-cnn", "bilstm", "train.precision=32-true"), [phantom.path], tmp_path / "other"
        )
    finally:
        TEXT_ENCODERS.remove("picky")
    said = [note for note in info.notes if "32 bits" in note]
    assert said == [
        "The text encoder is trained in 32 bits, for this processor cannot compute one of its layers in bf16-mixed."
    ]
    assert not any("32 bits" in note for note in other.notes)
