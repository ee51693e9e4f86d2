"""The cache of frozen maps: found again, and never one of other weights, pixels or levels."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from chiasm.models.image.encoder import Backbone, Extractor
from chiasm.runtime.cache import frozen_features

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 6)).astype(np.uint8)


class Scales(Backbone):
    """Two levels: pixels times a weight, and the mean of each row; counts the images it is asked about."""

    channels, strides = (1, 1), (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.seen = 0

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        self.seen += len(pixels)
        assert not self.training
        return [self.weight * pixels, pixels.mean(dim=3, keepdim=True)]


@pytest.fixture
def encoder() -> Extractor:
    return Extractor(Scales(), levels=2, frozen=True)


def test_the_maps_are_the_backbones_whatever_the_batches(encoder, tmp_path):
    asked: list[int] = []
    encoder.train()
    fine, coarse = frozen_features(encoder, PIXELS, "hash", tmp_path, asked.append, batch_size=2)
    assert asked == [2, 2, 1]
    assert encoder.training
    np.testing.assert_array_equal(fine, 2.0 * PIXELS)
    np.testing.assert_allclose(coarse, PIXELS.mean(axis=3, keepdims=True), rtol=1e-3)  # half precision
    assert fine.dtype == coarse.dtype == np.float16


def test_the_same_question_is_answered_from_disk(encoder, tmp_path):
    first = frozen_features(encoder, PIXELS, "hash", tmp_path)
    again = frozen_features(encoder, PIXELS, "hash", tmp_path)
    assert encoder.backbone.seen == 5
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [path.name.startswith("features-") for path in tmp_path.iterdir()] == [True], "nothing half done is left"


def test_other_weights_pixels_or_levels_are_another_cache(encoder, tmp_path):
    frozen_features(encoder, PIXELS, "hash", tmp_path)
    other = PIXELS[:, :, ::-1]
    turned, _ = frozen_features(encoder, other, "other hash", tmp_path)
    np.testing.assert_array_equal(turned, 2.0 * other)
    with torch.no_grad():
        encoder.backbone.weight.fill_(3.0)
    tripled, _ = frozen_features(encoder, PIXELS, "hash", tmp_path)
    np.testing.assert_array_equal(tripled, 3.0 * PIXELS)
    encoder.levels = 1
    assert len(frozen_features(encoder, PIXELS, "hash", tmp_path)) == 1
    assert encoder.backbone.seen == 20
    assert len(list(tmp_path.iterdir())) == 4


def test_of_two_that_ask_at_once_one_computes_and_the_other_waits(tmp_path):
    encoders = [Extractor(Scales(), levels=2, frozen=True) for _ in range(2)]
    computing, asked = threading.Event(), threading.Event()

    def progress(_: int) -> None:
        computing.set()
        assert asked.wait(60)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(frozen_features, encoders[0], PIXELS, "hash", tmp_path, progress)
        assert computing.wait(60)
        second = pool.submit(frozen_features, encoders[1], PIXELS, "hash", tmp_path)
        asked.set()
        assert all(np.array_equal(a, b) for a, b in zip(first.result(), second.result(), strict=True))
    assert [encoder.backbone.seen for encoder in encoders] == [5, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_computation_that_was_cut_off_is_done_again(encoder, tmp_path):
    def kill(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frozen_features(encoder, PIXELS, "hash", tmp_path, kill, batch_size=2)
    fine, _ = frozen_features(encoder, PIXELS, "hash", tmp_path)
    np.testing.assert_array_equal(fine, 2.0 * PIXELS)
