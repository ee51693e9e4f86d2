"""Features from the model itself: of texts read together those of each text alone, and nothing computed twice."""

import numpy as np
import pytest
import torch
from tiny_bert import WORDS, save_tiny_bert

from chiasm.models.image.encoder import Backbone, Extractor
from chiasm.models.text.encoder import HuggingFaceText
from chiasm.runtime import torch as module
from chiasm.runtime.torch import TorchFeatures


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> HuggingFaceText:
    """Of two layers, so that a state depends on the other tokens of its text."""
    folder = tmp_path_factory.mktemp("bert")
    return HuggingFaceText(save_tiny_bert(folder, layers=2).removeprefix("hf:"), frozen=True, dim=8)


@pytest.fixture
def texts() -> list[np.ndarray]:
    """Of 1 to 40 tokens, some twice, one empty."""
    random = np.random.default_rng(0)
    made = [random.integers(4, len(WORDS), length).astype(np.uint16) for length in (9, 1, 40, 17, 2, 40, 23)]
    return [*made, made[0], np.zeros(0, np.uint16), made[2]]


def one_by_one(encoder: HuggingFaceText, texts: list[np.ndarray]) -> np.ndarray:
    """[sum of T, width] each text read by itself, without padding or mask, in float32."""
    with torch.no_grad():
        rows = [
            encoder.backbone(input_ids=torch.from_numpy(text.astype(np.int64))[None]).last_hidden_state[0].numpy()
            for text in texts
            if len(text)
        ]
    return np.concatenate(rows)


@pytest.mark.parametrize("tokens", [1, 50, 8192])
def test_texts_read_together_have_the_states_of_each_read_alone(encoder, texts, monkeypatch, tokens):
    monkeypatch.setattr(module, "TOKENS", tokens)
    states = TorchFeatures({"text": encoder}).texts(texts)
    alone = one_by_one(encoder, texts)
    assert states.dtype == np.float16
    np.testing.assert_allclose(states, alone, atol=1e-5 + np.spacing(np.abs(alone).astype(np.float16)).max())
    longest = max(map(len, texts))
    ids, mask = np.zeros((len(texts), longest), np.int64), np.zeros((len(texts), longest), bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, True
    with torch.no_grad():
        together = encoder.extract(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(together[mask], alone, atol=1e-5)
    assert not together[~mask].any()


def test_batches_hold_no_more_tokens_than_allowed_unless_of_one_text(encoder, texts, monkeypatch):
    asked: list[tuple[int, ...]] = []
    forward = encoder.backbone.forward

    def watched(input_ids, **options):
        asked.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(encoder.backbone, "forward", watched)
    monkeypatch.setattr(module, "TOKENS", 36)
    TorchFeatures({"text": encoder}).texts(texts)
    assert asked == [(3, 9), (1, 17), (1, 23), (1, 40), (1, 40)]  # 1, 2 and 9 tokens; what occurs twice is read once


def test_no_text_has_no_state(encoder):
    assert TorchFeatures({"text": encoder}).texts([]).shape == (0, 16)
    assert TorchFeatures({"text": encoder}).texts([np.zeros(0, np.int64)]).shape == (0, 16)
    assert TorchFeatures({}).texts([]) is None
    assert TorchFeatures({}).images(np.zeros((0, 1, 4, 4), np.uint8)) is None


class Counting(Backbone):
    channels, strides = (1,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.seen = 0

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        self.seen += len(pixels)
        return [self.weight * pixels]


def test_encoders_with_one_backbone_answer_for_each_other_where_they_share_a_memo():
    first, second, other = (Extractor(Counting(), levels=1, frozen=True) for _ in range(3))
    second.backbone = first.backbone
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    memo: dict = {}
    found = [TorchFeatures({"image": each}, memo).images(pixels)[0] for each in (first, second, other)]
    for levels in found:
        np.testing.assert_array_equal(levels, 2.0 * pixels)
    assert (first.backbone.seen, other.backbone.seen) == (3, 3)
    TorchFeatures({"image": first}, memo).images(pixels[::-1])
    TorchFeatures({"image": first}).images(pixels)
    assert first.backbone.seen == 9
