"""The loss of a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def description_loss(
    logits: Float[Tensor, "n V"], ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each next word, label smoothing .1, of [B, T] texts with <bos> first: [n, V] logits of the n words
    after it."""
    said = ids[:, 1:][mask[:, 1:]]
    return F.cross_entropy(logits, said, reduction="sum", label_smoothing=0.1) / max(1, len(said))
