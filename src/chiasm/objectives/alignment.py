"""Contrast of two sets of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def contrast(
    anchors: Float[Tensor, "B D"],
    others: Float[Tensor, "B D"],
    same: Bool[Tensor, "B B"],
    anchor_mask: Bool[Tensor, "B"],
    other_mask: Bool[Tensor, "B"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Supervised contrast (Khosla et al. 2020, eq. 2); InfoNCE (van den Oord et al. 2018) where `same` is the identity.

    Of unit vectors, which other an anchor belongs to, and which take part: the mean over anchors with a positive of - 1 / |P| sum_p log (exp(a.p / t) / sum_o exp(a.o / t)). Zero where there is none.
    """
    logits = (anchors @ others.T / temperature).masked_fill(~other_mask, torch.finfo(anchors.dtype).min)
    positive = same & anchor_mask[:, None] & other_mask  # [B, B]
    log_share = torch.where(positive, logits.log_softmax(dim=1), 0.0)
    count = positive.sum(dim=1)
    each = -log_share.sum(dim=1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
