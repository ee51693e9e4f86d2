"""Losses of targets: findings, outcomes, scores; what is masked teaches nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.study import Kind


def target_loss(logits: Tensor, labels: Tensor, mask: Tensor, kind: Kind) -> Tensor:
    """Mean over the labels that are known, [B, L] each: cross-entropy (binary) or Huber (regression, standardized).

    Zero, with a gradient of zero, where no label of the batch is known.
    """
    each = label_losses(logits, labels, kind)
    return torch.where(mask, each, 0.0).sum() / mask.sum().clamp(min=1)


def label_losses(logits: Tensor, labels: Tensor, kind: Kind) -> Tensor:
    """The loss of each label, [B, L]: minus the log of how likely the truth was."""
    if kind is Kind.BINARY:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return F.huber_loss(logits, labels, reduction="none")
