"""The loss of a description."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def description_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each next word, label smoothing .1, of [B, T] texts with <bos> first: [n, V] logits of the n words
    after it."""
    said = ids[:, 1:][mask[:, 1:]]
    return F.cross_entropy(logits, said, reduction="sum", label_smoothing=0.1) / max(1, len(said))
