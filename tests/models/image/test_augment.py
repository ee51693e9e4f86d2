import numpy as np
import torch

from chiasm.models.image.augment import augment, uniforms
from chiasm.tensors import Batch


def test_draws_depend_on_seed_epoch_and_index_alone():
    indices = np.arange(100)
    all_at_once = uniforms(3, 7, indices, 4)
    order = np.random.default_rng(0).permutation(100)
    assert np.array_equal(uniforms(3, 7, indices[order], 4), all_at_once[order])
    assert not np.array_equal(uniforms(3, 8, indices, 4), all_at_once)
    assert not np.array_equal(uniforms(4, 7, indices, 4), all_at_once)


def test_draws_are_uniform_and_uncorrelated():
    draws = uniforms(0, 0, np.arange(20_000), 5)
    assert draws.min() >= 0
    assert draws.max() < 1
    histogram = np.stack([np.histogram(column, 10, (0, 1))[0] for column in draws.T])
    assert (((histogram - 2000) ** 2 / 2000).sum(axis=1) < 33).all()  # chi-square, 9 degrees of freedom, p = 1e-4
    correlation = np.corrcoef(np.concatenate([draws.T, uniforms(0, 1, np.arange(20_000), 5).T]))
    assert np.abs(correlation - np.eye(10)).max() < 0.03


def test_a_lesion_mask_moves_with_its_image():
    images = torch.zeros(8, 1, 1, 64, 64, dtype=torch.uint8)
    images[..., 16:40, 24:48] = 200
    lesions = torch.nn.functional.avg_pool2d(images[:, :, 0].float() / 200, 8)[:, :, None]  # [B, N, C, 8, 8]
    moved = augment(Batch(torch.arange(8), images=images, lesion_mask=lesions), seed=0, epoch=1)
    shown = moved.images[:, :, 0]
    low = shown[:, :, 0, 0].view(8, 1, 1, 1)  # what black has become
    share = torch.nn.functional.avg_pool2d((shown - low) / (shown.amax((2, 3), keepdim=True) - low), 8)
    assert (share - moved.lesion_mask[:, :, 0]).abs().mean() < 0.05
    assert (share - lesions[:, :, 0]).abs().mean() > 0.02  # and they did move
