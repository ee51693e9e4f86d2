"""Backbones by name, from the package, from a folder on disk and from scratch; and the grid of tokens they give."""

import numpy as np
import pytest
import torch
import transformers

from chiasm.errors import RecipeError
from chiasm.models.image.efficientnet_lite import read_pretrained
from chiasm.models.image.encoder import EfficientNetBackbone, ImageEncoder, build_backbone
from chiasm.recipe import ImageInput
from chiasm.study import View


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of three families, saved as `transformers` saves them."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    made = {
        "vit": transformers.ViTModel(
            transformers.ViTConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=64,
                patch_size=16,
            ),
            add_pooling_layer=False,
        ),
        "dinov2": transformers.Dinov2Model(
            transformers.Dinov2Config(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=56, patch_size=14
            )
        ),
        "resnet": transformers.ResNetModel(
            transformers.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
            )
        ),
    }
    for name, model in made.items():
        model.save_pretrained(home / name)
    return home


def _encode(encoder, pixels):
    n = len(pixels)
    images = pixels[:, None, None]
    return encoder(images, torch.ones(n, 1, dtype=torch.bool), torch.zeros(n, 1, dtype=torch.long))


@pytest.mark.parametrize("name", ["vit", "dinov2", "resnet"])
def test_a_model_of_a_folder_gives_tokens_of_the_grid(folders, name):
    encoder = ImageEncoder(ImageInput(encoder=f"hf:{folders / name}", size=64), (64, 64), (8, 8), 16).eval()
    assert encoder.frozen
    tokens = _encode(encoder, torch.randint(0, 255, (2, 64, 64), dtype=torch.uint8))
    assert tokens.values.shape == (2, 64, 16)
    assert torch.isfinite(tokens.values).all()


def test_a_vit_map_has_each_patch_where_it_lies(folders):
    """Changing the pixels of one patch changes, before any attention, the embedding of that cell alone."""
    backbone = build_backbone(f"hf:{folders / 'vit'}", 2).eval()
    backbone.net.layers = torch.nn.ModuleList() if hasattr(backbone.net, "layers") else None
    if hasattr(backbone.net, "encoder"):
        backbone.net.encoder.layer = torch.nn.ModuleList()
    pixels = torch.full((1, 1, 64, 64), 90.0)
    changed = pixels.clone()
    changed[..., 16:32, 48:64] = 200  # row 1, column 3
    with torch.no_grad():
        difference = (backbone(changed)[0] - backbone(pixels)[0]).abs().sum(dim=1)[0]
    assert (difference > 1e-6).nonzero().tolist() == [[1, 3]]


def test_the_mean_and_deviation_of_a_model_are_its_own(folders):
    import json

    (folders / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.2, 0.3, 0.4], "image_std": [0.5, 0.6, 0.7]})
    )
    backbone = build_backbone(f"hf:{folders / 'vit'}", 2)
    assert torch.allclose(backbone.mean.flatten(), torch.tensor([0.2, 0.3, 0.4]))
    assert torch.allclose(backbone.std.flatten(), torch.tensor([0.5, 0.6, 0.7]))


@pytest.mark.parametrize(
    ("name", "shape"), [("monai:resnet10", (64, 64)), ("monai:resnet10", (32, 64, 64)), ("small-cnn", (32, 32, 32))]
)
def test_networks_from_scratch_take_images_and_volumes(name, shape):
    grid = tuple(n // 16 for n in shape)
    encoder = ImageEncoder(ImageInput(encoder=name), shape, grid, 16).eval()
    assert not encoder.frozen  # nothing was learned before: there is nothing to freeze
    tokens = _encode(encoder, torch.randint(0, 255, (2, *shape), dtype=torch.uint8))
    assert tokens.values.shape == (2, int(np.prod(grid)), 16)
    assert tokens.grid == grid


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("monai:unet", (64, 64), "no such MONAI backbone"),
        ("efficientnet-lite0", (32, 32, 32), "takes 2-D images"),
        ("hf:/no/such/folder", (64, 64), "cannot be loaded"),
    ],
)
def test_a_name_that_does_not_fit_is_one_message(name, shape, message):
    with pytest.raises(RecipeError, match=message):
        build_backbone(name, len(shape))


def test_folding_batch_norm_into_convolutions_changes_no_map():
    net = read_pretrained().eval()
    pixels = torch.randint(0, 255, (1, 1, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        maps = EfficientNetBackbone().eval()(pixels)
        x = torch.nn.functional.relu6(net._bn0(net._conv_stem(((pixels - 127) / 128).expand(-1, 3, -1, -1))))
        plain = [x := block(x) for block in net._blocks]
    for folded, number in zip(maps, (4, 10, 15), strict=True):  # the last blocks at strides 8, 16 and 32
        assert torch.allclose(folded, plain[number], atol=1e-4)


def test_the_view_is_told_apart():
    encoder = ImageEncoder(ImageInput(encoder="small-cnn"), (64, 64), (4, 4), 16).eval()
    pixels = torch.randint(0, 255, (1, 1, 1, 64, 64), dtype=torch.uint8)
    one = torch.ones(1, 1, dtype=torch.bool)
    pa, lateral = (encoder(pixels, one, torch.tensor([[list(View).index(v)]])) for v in (View.PA, View.LATERAL))
    assert not torch.allclose(pa.values, lateral.values)


def test_frozen_weights_and_batch_statistics_stay_as_they_are():
    encoder = ImageEncoder(ImageInput(size=64), (64, 64), (4, 4), 16).train()
    before = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    _encode(encoder, torch.randint(0, 255, (2, 64, 64), dtype=torch.uint8)).values.sum().backward()
    assert all(p.grad is None for p in encoder.backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in encoder.backbone.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ["efficientnet-lite0", "small-cnn", "monai:resnet10"])
def test_a_network_takes_images_of_any_number_of_channels(name, channels):
    encoder = ImageEncoder(ImageInput(encoder=name), (64, 64), (4, 4), 16, channels)
    pixels = torch.randint(0, 255, (2, 1, channels, 64, 64), dtype=torch.uint8)
    one, view = torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, dtype=torch.long)
    tokens = encoder(pixels, one, view)
    assert tokens.values.shape == (2, 16, 16)
    other = pixels.clone()
    other[:, :, -1] = 255 - other[:, :, -1]
    assert not torch.allclose(tokens.values, encoder(other, one, view).values)
    tokens.values.sum().backward()
    learned = {n for n, p in encoder.backbone.named_parameters() if p.grad is not None}
    pretrained = name == "efficientnet-lite0"
    assert learned == ({"mix.weight"} if channels == 2 else set()) if pretrained else learned
    assert encoder.frozen == (pretrained and channels != 2), "maps behind a layer that learns are not cached"


def test_one_channel_is_seen_three_times_and_the_learned_layer_begins_as_the_mean():
    plain, mixed = build_backbone("efficientnet-lite0", 2).eval(), build_backbone("efficientnet-lite0", 2, 2).eval()
    pixels = torch.randint(0, 255, (1, 2, 64, 64)).float()
    mean = pixels.mean(dim=1, keepdim=True)
    with torch.no_grad():
        for a, b, c in zip(mixed(pixels), plain(mean), plain(mean.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            assert torch.equal(b, c)
