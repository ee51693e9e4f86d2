"""Pretrained models of transformers: read whole, or refused with what does not fit."""

import json
import re
import shutil

import pytest
import torch
import transformers
from families import IMAGE, TEXT, save_family
from safetensors.torch import load_file, save_file
from tiny_bert import save_tokenizer

from chiasm.errors import RecipeError
from chiasm.models.image.encoder import HuggingFaceBackbone, build_backbone
from chiasm.models.pretrained import digest, read_network
from chiasm.recipe import TextInput
from chiasm.report.tokenizer import Tokenizer, build_tokenizer


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_family(tmp_path_factory.mktemp("models") / "vit", IMAGE, "ViT").removeprefix("hf:")


@pytest.fixture
def copy(vit, tmp_path):
    shutil.copytree(vit, tmp_path / "vit")
    return tmp_path / "vit"


def change(file, **keys):
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, **keys}))


@pytest.mark.parametrize(
    ("layers", "got"),
    [
        (3, r"16 parameters of the model are not in its file: .*layer\S*\.2\."),
        (1, r"16 parameters of the file have no place in the model: .*layer\S*\.1\."),
    ],
)
def test_a_configuration_of_more_or_fewer_layers_than_the_weights_is_refused(tmp_path, layers, got):
    two = {**IMAGE["ViT"][1], "num_hidden_layers": 2}
    name = save_family(tmp_path, {"two": (IMAGE["ViT"][0], two)}, "two")
    build_backbone(name, 2)
    change(tmp_path / "config.json", num_hidden_layers=layers)
    with pytest.raises(RecipeError, match="loads by half") as caught:
        build_backbone(name, 2)
    assert re.match(got, caught.value.got), caught.value.got


def test_weights_of_another_architecture_are_refused_with_names_of_parameters(copy, tmp_path):
    save_family(tmp_path / "bert", TEXT, "BERT")
    shutil.copy(tmp_path / "bert" / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(RecipeError, match=r"parameters of the model are not in its file: .*embeddings\."):
        build_backbone(f"hf:{copy}", 2)


def test_weights_of_another_width_are_refused(copy):
    change(copy / "config.json", intermediate_size=32)
    with pytest.raises(RecipeError, match="cannot be loaded"):
        build_backbone(f"hf:{copy}", 2)


@pytest.mark.parametrize("fault", ["config gone", "weights gone", "weights cut off", "config no JSON", "model unknown"])
def test_a_damaged_folder_is_one_message(copy, fault):
    config, weights = copy / "config.json", copy / "model.safetensors"
    {
        "config gone": config.unlink,
        "weights gone": weights.unlink,
        "weights cut off": lambda: weights.write_bytes(weights.read_bytes()[:2000]),
        "config no JSON": lambda: config.write_text("{"),
        "model unknown": lambda: config.write_text('{"model_type": "nothing"}'),
    }[fault]()
    with pytest.raises(RecipeError, match=r"the Hugging Face model cannot be loaded") as caught:
        build_backbone(f"hf:{copy}", 2)
    assert str(copy) in caught.value.got


def test_a_head_that_is_not_read_may_be_in_the_file_and_a_pooler_may_be_missing(tmp_path):
    config = transformers.ViTConfig(**IMAGE["ViT"][1], num_labels=3)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    network = read_network(str(tmp_path), "image")
    assert network.pooler is None
    assert digest(network) == digest(read_network(str(tmp_path), "image")), "nothing of it is by chance"


def test_weights_in_half_precision_are_read_in_32_bits(vit, tmp_path):
    shutil.copytree(vit, tmp_path / "half")
    half = {name: x.bfloat16() for name, x in load_file(f"{vit}/model.safetensors").items()}
    save_file(half, tmp_path / "half" / "model.safetensors", {"format": "pt"})
    change(tmp_path / "half" / "config.json", dtype="bfloat16")
    assert {p.dtype for p in read_network(str(tmp_path / "half"), "image").parameters()} == {torch.float32}


# --- how images are normalized -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "mean", "std"),
    [
        ({"image_mean": [0.2, 0.3, 0.4], "image_std": [0.5, 0.6, 0.7]}, [0.2, 0.3, 0.4], [0.5, 0.6, 0.7]),
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, [0.5] * 3, [0.5] * 3),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [255.0] * 3}, [0.5] * 3, [1.0] * 3),
    ],
)
def test_pixels_are_shifted_and_scaled_as_the_models_own_preprocessing_says(copy, told, mean, std):
    change(copy / "preprocessor_config.json", **told)
    backbone = build_backbone(f"hf:{copy}", 2)
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(backbone.std.flatten(), torch.tensor(std))
    processor = transformers.AutoImageProcessor.from_pretrained(copy)
    pixels = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    theirs = processor(pixels.numpy().astype("uint8"), do_resize=False, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close((pixels / 255.0 - backbone.mean) / backbone.std, theirs, atol=1e-5, rtol=1e-5)


def test_the_file_of_current_transformers_is_read(copy):
    told = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(
        json.dumps({"image_processor": {**told, "image_mean": [0.1, 0.2, 0.3]}})
    )
    torch.testing.assert_close(build_backbone(f"hf:{copy}", 2).mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("means", [None, [0.5], [0.5, 0.5], ["a", "b", "c"], [None] * 3])
def test_means_that_are_no_number_for_each_channel_are_refused(copy, means):
    change(copy / "preprocessor_config.json", image_mean=means)
    if means == [0.5]:  # one for all
        assert build_backbone(f"hf:{copy}", 2).mean.flatten().tolist() == [0.5] * 3
        return
    with pytest.raises(RecipeError, match="how its images are normalized"):
        build_backbone(f"hf:{copy}", 2)


def test_a_damaged_file_of_preprocessing_is_refused_and_a_missing_one_is_told(copy, tmp_path):
    assert HuggingFaceBackbone.keep(str(copy), tmp_path / "kept") == []
    (copy / "preprocessor_config.json").write_text("{")
    with pytest.raises(RecipeError, match="how its images are normalized"):
        build_backbone(f"hf:{copy}", 2)
    (copy / "preprocessor_config.json").unlink()
    (note,) = HuggingFaceBackbone.keep(str(copy), tmp_path / "other")
    assert "ImageNet's mean" in note


# --- texts -------------------------------------------------------------------------------------------------------------


def test_a_text_model_without_its_tokenizer_or_with_anothers_is_refused(tmp_path):
    encoder = save_family(tmp_path / "bert", TEXT, "BERT")
    options = TextInput(encoder=encoder)
    assert len(build_tokenizer(options, Tokenizer.train([]))) == 12
    (tmp_path / "bert" / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match="tokenizer of the Hugging Face model"):
        build_tokenizer(options, Tokenizer.train([]))
    for file in (tmp_path / "bert").glob("*token*"):
        file.unlink()
    with pytest.raises(RecipeError, match="tokenizer of the Hugging Face model"):
        build_tokenizer(options, Tokenizer.train([]))
    fewer = {**TEXT["BERT"][1], "vocab_size": 6}
    encoder = save_family(tmp_path / "fewer", {**TEXT, "BERT": (TEXT["BERT"][0], fewer)}, "BERT")
    save_tokenizer(tmp_path / "fewer")
    with pytest.raises(RecipeError, match="is another model's"):
        TextInput(encoder=encoder).part.keep(str(tmp_path / "fewer"), tmp_path / "kept")


def test_a_model_of_images_is_no_model_of_texts_nor_the_reverse(vit, tmp_path):
    with pytest.raises(RecipeError, match="no model of texts"):
        TextInput(encoder=f"hf:{vit}").part(vit, True, 8)
    with pytest.raises(RecipeError, match="gives no maps"):
        build_backbone(save_family(tmp_path / "bert", TEXT, "BERT"), 2)
