"""The cache of frozen maps: found again, and never one of other weights, pixels or levels."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from chiasm.models.image.encoder import Backbone, Extractor
from chiasm.runtime import cache
from chiasm.runtime.cache import CachedFeatures
from chiasm.runtime.features import Levels
from chiasm.runtime.torch import TorchFeatures

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


def kept(encoder: Extractor, folder: Path, pixels: NDArray[np.uint8] = PIXELS, content: str = "hash") -> Levels:
    found = CachedFeatures(TorchFeatures({"image": encoder}), folder, content).images(pixels)
    assert found is not None
    return found


def test_the_maps_are_the_backbones_whatever_the_batches(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "IMAGES", 2)
    fine, coarse = kept(encoder, tmp_path)
    np.testing.assert_array_equal(fine, 2.0 * PIXELS)
    np.testing.assert_allclose(coarse, PIXELS.mean(axis=3, keepdims=True), rtol=1e-3)  # half precision
    assert fine.dtype == coarse.dtype == np.float16
    assert isinstance(fine, np.memmap)


def test_the_same_question_is_answered_from_disk(encoder, tmp_path):
    first, again = kept(encoder, tmp_path), kept(encoder, tmp_path)
    assert encoder.backbone.seen == 5
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [path.name.startswith("features-") for path in tmp_path.iterdir()] == [True], "nothing half done is left"


def test_other_weights_pixels_or_levels_are_another_cache(encoder, tmp_path):
    kept(encoder, tmp_path)
    other = PIXELS[:, :, ::-1]
    turned, _ = kept(encoder, tmp_path, other, "other hash")
    np.testing.assert_array_equal(turned, 2.0 * other)
    with torch.no_grad():
        encoder.backbone.weight.fill_(3.0)
    tripled, _ = kept(encoder, tmp_path)
    np.testing.assert_array_equal(tripled, 3.0 * PIXELS)
    encoder.levels = 1
    assert len(kept(encoder, tmp_path)) == 1
    assert encoder.backbone.seen == 20
    assert len(list(tmp_path.iterdir())) == 4


def test_of_two_that_ask_at_once_one_computes_and_the_other_waits(tmp_path):
    encoders = [Extractor(Scales(), levels=2, frozen=True) for _ in range(2)]
    computing, asked = threading.Event(), threading.Event()

    class Slow(TorchFeatures):
        def images(self, pixels):
            if len(pixels):
                computing.set()
                assert asked.wait(60)
            return super().images(pixels)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(CachedFeatures(Slow({"image": encoders[0]}), tmp_path, "hash").images, PIXELS)
        assert computing.wait(60)
        second = pool.submit(kept, encoders[1], tmp_path)
        asked.set()
        assert all(np.array_equal(a, b) for a, b in zip(first.result(), second.result(), strict=True))
    assert [encoder.backbone.seen for encoder in encoders] == [5, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_computation_that_was_cut_off_is_done_again(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "IMAGES", 2)

    class Killed(TorchFeatures):
        def images(self, pixels):
            if encoder.backbone.seen:
                raise KeyboardInterrupt
            return super().images(pixels)

    with pytest.raises(KeyboardInterrupt):
        CachedFeatures(Killed({"image": encoder}), tmp_path, "hash").images(PIXELS)
    fine, _ = kept(encoder, tmp_path)
    np.testing.assert_array_equal(fine, 2.0 * PIXELS)


def test_images_and_texts_without_a_frozen_encoder_have_no_features(encoder, tmp_path):
    assert CachedFeatures(TorchFeatures({"image": encoder}), tmp_path, "hash").texts([np.arange(3)]) is None
    assert CachedFeatures(TorchFeatures({}), tmp_path, "hash").images(PIXELS) is None
    assert list(tmp_path.iterdir()) == []
    assert kept(encoder, tmp_path, PIXELS[:0]) == []


def test_texts_are_kept_each_at_its_place(tmp_path, monkeypatch):
    """Texts are asked for in batches of like length, equal ones side by side; a state is here the id and the length of its text."""
    asked: list[list[int]] = []

    class Source(TorchFeatures):
        def texts(self, ids):
            asked.append([len(text) for text in ids])
            rows = [np.stack([text, np.full(len(text), len(text))], axis=1) for text in ids]
            return np.concatenate([np.zeros((0, 2)), *rows]).astype(np.float16)

        def key(self, modality):
            return modality

    monkeypatch.setattr(cache, "TEXTS", 2)
    ids = [np.array(row, np.uint16) for row in ([5, 6, 7], [], [8], [9, 4], [8], [5, 6, 7])]
    flat = [[token, len(row)] for row in ids for token in row]
    provider = CachedFeatures(Source({}), tmp_path, "hash")
    np.testing.assert_array_equal(provider.texts(ids), flat)
    assert [lengths for lengths in asked if lengths] == [[1, 1], [2, 3], [3]]
    np.testing.assert_array_equal(provider.texts([row.astype(np.int64) for row in ids]), flat)
    np.testing.assert_array_equal(provider.texts(ids[::-1]), [[t, len(row)] for row in ids[::-1] for t in row])
    assert len(list(tmp_path.iterdir())) == 2
    assert provider.texts([]).shape == (0, 2)


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:200] + bytes(len(raw) - 200), lambda raw: raw[:-2], lambda raw: b""]
)
def test_a_cache_that_has_changed_is_told_and_computed_again(encoder, tmp_path, spoil, caplog):
    before = [level.copy() for level in kept(encoder, tmp_path)]
    (home,) = tmp_path.glob("features-*")
    (home / "level0.npy").write_bytes(spoil((home / "level0.npy").read_bytes()))
    again = kept(encoder, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
    assert "has changed since it was written (level0.npy)" in caplog.text
