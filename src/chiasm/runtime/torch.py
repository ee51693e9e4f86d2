"""Features from the model itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiasm.models.image.encoder import Extractor
from chiasm.models.text.encoder import TextExtractor
from chiasm.runtime.features import Levels, Pixels

IMAGES, TOKENS = 32, 8192
"""Images, and tokens with their padding, that are computed at once."""

Memo = dict[Hashable, list[NDArray[np.float16]]]
"""What was computed of an encoder and an input: fold models that share an encoder share its features."""


class TorchFeatures:
    """What the encoders of a model compute, in memory. Each distinct text is read once, beside others of like length.

    Args:
        encoders: "image" and "text", those whose weights stand.
        memo: shared by those that may answer for each other; it lives as long as its owner.
    """

    def __init__(self, encoders: Mapping[str, Extractor | TextExtractor], memo: Memo | None = None) -> None:
        self.encoders, self.memo = encoders, memo

    def images(self, pixels: Pixels) -> Levels | None:
        encoder = self.encoders.get("image")
        if not isinstance(encoder, Extractor):
            return None
        parts = [pixels[start : start + IMAGES] for start in range(0, len(pixels), IMAGES)]
        levels = [self._once(partial(_maps, encoder), encoder.backbone, [part]) for part in parts]
        return [np.concatenate(level) for level in zip(*levels, strict=True)]

    def texts(self, ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float16] | None:
        encoder = self.encoders.get("text")
        if not isinstance(encoder, TextExtractor):
            return None
        order = sorted({text.astype(np.int64).tobytes() for text in ids if len(text)}, key=lambda key: (len(key), key))
        texts = [np.frombuffer(key, np.int64) for key in order]
        states: dict[bytes, NDArray[np.float16]] = {}
        for start, end in _batches([len(text) for text in texts]):
            read = self._once(partial(_states, encoder), encoder.backbone, texts[start:end])
            states |= dict(zip(order[start:end], read, strict=True))
        each = [states[text.astype(np.int64).tobytes()] for text in ids if len(text)]
        return np.concatenate([np.zeros((0, encoder.width), np.float16), *each])

    def key(self, modality: str) -> str:
        encoder = self.encoders[modality]
        what = f"{encoder.levels} {encoder.backbone.channels}" if isinstance(encoder, Extractor) else "text"
        own = encoder.backbone.settings if isinstance(encoder, Extractor) else encoder.settings
        digest = hashlib.sha256(f"{what} {own}".encode())
        for name, tensor in sorted(encoder.backbone.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _once(
        self, compute: Callable[..., list[NDArray[np.float16]]], module: nn.Module, read: Sequence[NDArray[np.generic]]
    ) -> list[NDArray[np.float16]]:
        if self.memo is None:
            return compute(*read)
        key = (module, *((array.shape, array.tobytes()) for array in read))
        if key not in self.memo:
            self.memo[key] = compute(*read)
        return self.memo[key]


def _batches(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bounds of batches of texts that are sorted by length, of at most TOKENS tokens with their padding, or of one text."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > TOKENS:
            yield start, end
            start = end


@torch.no_grad()
def _maps(encoder: Extractor, pixels: NDArray[np.generic]) -> Levels:
    """[b, C, *S] -> of each level [b, c, *s]."""
    device = next(encoder.parameters()).device
    return [level.half().cpu().numpy() for level in encoder.extract(torch.from_numpy(np.array(pixels)).to(device))]


@torch.no_grad()
def _states(encoder: TextExtractor, *ids: NDArray[np.int64]) -> list[NDArray[np.float16]]:
    """[T] of each text -> [T, width] of each."""
    device = next(encoder.backbone.parameters()).device
    rows = [torch.from_numpy(text.copy()) for text in ids]
    padded: Tensor = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    length = torch.tensor([len(row) for row in rows])
    mask = torch.arange(padded.shape[1]) < length[:, None]
    states = encoder.extract(padded.to(device), mask.to(device)).half().cpu().numpy()
    return [own[: len(row)] for own, row in zip(states, rows, strict=True)]
