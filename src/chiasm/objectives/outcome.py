"""Losses of targets: findings, outcomes, scores; what is masked teaches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def target_loss(
    logits: Float[Tensor, "B L *Q"], labels: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"], kind: Kind
) -> Float[Tensor, ""]:
    """Mean over the labels that are known, [B, L] each; logits of leveled kinds are [B, L, Q].

    Zero, with a gradient of zero, where no label of the batch is known.
    """
    each = label_losses(logits, labels, kind)
    return torch.where(mask, each, 0.0).sum() / mask.sum().clamp(min=1)


def label_losses(logits: Float[Tensor, "B L *Q"], labels: Float[Tensor, "B L"], kind: Kind) -> Float[Tensor, "B L"]:
    """The loss of each label, [B, L]: minus the log of how likely the truth was; Huber of standardized numbers.

    Survival: log(1 - h_j) over the intervals that were come through, and log h_k of the one with the event (Gensheimer &
    Narasimhan 2019, eq. 3); labels as `chiasm.encoding.levels.encode` gives them.
    """
    if kind is Kind.BINARY:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if kind is Kind.REGRESSION:
        return F.huber_loss(logits, labels, reduction="none")
    if kind is not Kind.SURVIVAL:
        return -logits.log_softmax(dim=2).gather(2, labels.long()[..., None])[..., 0]
    interval = torch.arange(logits.shape[2], device=logits.device)
    event = (labels[..., None] == interval) & ~torch.signbit(labels)[..., None]
    through = interval < labels.abs()[..., None]
    return F.softplus(-logits).where(event, F.softplus(logits) * through).sum(dim=2)


def known(outputs: Outputs, batch: Batch, modality: str, target: str) -> Bool[Tensor, "B L"]:
    """Labels that are known, of the studies that have the modality."""
    return batch.label_mask[target] & outputs.present[modality][:, None]
