"""The loss of a description."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def description_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each next word, label smoothing .1: [B, T - 1, V] logits, [B, T] ids and mask with <bos> first."""
    each = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none", label_smoothing=0.1)
    real = mask[:, 1:]
    return torch.where(real, each, 0.0).sum() / real.sum().clamp(min=1)
