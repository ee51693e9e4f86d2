"""Images to tokens: the grid, what is real, and that nothing in the neck is dead at any stride."""

import pytest
import torch

from chiasm.models.image.encoder import ImageEncoder
from chiasm.recipe import ImageInput
from chiasm.runtime.cache import CachedFeatures
from chiasm.runtime.torch import TorchFeatures
from chiasm.study import View


def build(grid: tuple[int, ...], shape: tuple[int, ...] = (64, 64), encoder: str = "small-cnn") -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(ImageInput(encoder=encoder, size=64), shape, grid, 16)


def inputs(shape: tuple[int, ...], mask: list[list[bool]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    real = torch.tensor(mask)
    pixels = torch.randint(
        0, 256, (*real.shape, 1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return pixels, real, torch.zeros(real.shape, dtype=torch.long)


@pytest.mark.parametrize(
    ("shape", "grid"), [((64, 64), (8, 8)), ((64, 64), (4, 4)), ((32, 64, 64), (4, 8, 8)), ((16, 32, 32), (1, 2, 2))]
)
def test_every_weight_of_the_neck_has_a_gradient_at_any_stride(shape, grid):
    """Else two processes stop at the second step: a weight without a gradient is waited for."""
    encoder = build(grid, shape)
    tokens = encoder(*inputs(shape, [[True], [True]]))
    assert tokens.grid == grid
    tokens.values.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_padding_costs_nothing_and_changes_nothing():
    encoder = build((8, 8)).eval()
    images, mask, view = inputs((64, 64), [[True, False], [True, True]])
    tokens = encoder(images, mask, view)
    assert tokens.values.shape == (2, 2 * 64, 16)
    assert tokens.mask.view(2, 2, 64).all(dim=2).tolist() == mask.tolist()
    assert not tokens.values.view(2, 2, 64, 16)[0, 1].any()
    images[0, 1] = 255
    assert torch.equal(tokens.values, encoder(images, mask, view).values)


def test_a_batch_without_any_image_has_gradients_of_zero():
    encoder = build((8, 8))
    tokens = encoder(*inputs((64, 64), [[False], [False]]))
    assert not tokens.mask.any()
    tokens.values.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


def test_cached_maps_give_the_same_tokens_and_hold_only_what_is_read(tmp_path):
    images, mask, view = inputs((64, 64), [[True], [True], [True]])
    seen = {}
    for grid, levels in (((8, 8), 3), ((4, 4), 2)):
        encoder = build(grid, encoder="efficientnet-lite0").eval()
        cached = CachedFeatures(TorchFeatures({"image": encoder}), tmp_path, "hash").images(images[:, 0].numpy())
        assert len(cached) == levels
        maps = [torch.tensor(level[:])[:, None] for level in cached]
        plain = encoder(images, mask, view).values
        assert torch.allclose(plain, encoder(None, mask, view, maps).values, atol=0.02)
        seen[grid] = sorted(tmp_path.iterdir())
    assert len(seen[4, 4]) == 2  # another grid needs other levels: another cache


def test_one_image_under_two_names_has_other_tokens():
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageInput(encoder="small-cnn", size=64), (64, 64), (4, 4), 16, sequences=2).eval()
    images, mask, _ = inputs((64, 64), [[True, True, True]])
    images[:] = images[:, :1].clone()
    views = len(View)
    values = encoder(images, mask, torch.tensor([[views, views + 1, views]])).values.view(3, 16, 16)
    assert torch.allclose(values[0], values[2]) and not torch.allclose(values[0], values[1])
