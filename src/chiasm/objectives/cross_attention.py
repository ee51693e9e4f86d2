"""Relevance of images and texts by stacked cross-attention, and contrasts of the two in which equal studies are no negatives.

Every pair of the batch is compared at once. B images of P regions, C texts of T words; what stands under a mask changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SLOPE = 0.1
"""Of the LeakyReLU on similarities."""


def stacked_relevance(
    queries: Float[Tensor, "C T D"],
    query_mask: Bool[Tensor, "C T"],
    keys: Float[Tensor, "B P D"],
    key_mask: Bool[Tensor, "B P"],
    sharpness: float = 9.0,
    pooling: float = 6.0,
) -> Float[Tensor, "B C"]:
    """How well each query set is found in each key set (Lee et al. 2018, stacked cross-attention, eqs. 1 to 6).

    Cosine similarity through LeakyReLU, of unit length over the queries; softmax over the keys at `sharpness` gives each query what it
    attends to; its relevance is the cosine of the two, and the pair's is (1 / l) log sum exp(l R) over the queries, l = `pooling`.
    Words as queries and regions as keys are one direction, the reverse the other. Zero for a pair in which one set is empty.
    """
    batch, count = len(keys), len(queries)
    queries = F.normalize(queries, dim=2) * query_mask[..., None]
    keys = F.normalize(keys, dim=2) * key_mask[..., None]
    similar = (keys @ queries.flatten(0, 1).T).view(*keys.shape[:2], count, -1)  # [B, P, C, T]
    scores = F.normalize(F.leaky_relu(similar, SLOPE), dim=3)
    least = torch.finfo(scores.dtype).min
    attention = (sharpness * scores).masked_fill(~key_mask[:, :, None, None], least).softmax(dim=1)
    attended = torch.bmm(attention.flatten(2).transpose(1, 2), keys).view(batch, count, -1, keys.shape[2])
    relevance = F.cosine_similarity(attended, queries[None], dim=3, eps=1e-8)  # [B, C, T]
    pooled = torch.logsumexp((pooling * relevance).masked_fill(~query_mask, least), dim=2) / pooling
    there = key_mask.any(dim=1)[:, None] & query_mask.any(dim=1)
    return torch.where(there, pooled, 0.0)


def same_findings(states: Bool[Tensor, "B F"], stated: Bool[Tensor, "B F"]) -> Float[Tensor, "B B"]:
    """How far two studies say the same: 1 of a study and itself; of two, findings present in both over those present in either.

    Two that state something and have nothing present say the same, 1. One that states nothing is like itself alone.
    """
    present = (states & stated).to(torch.get_default_dtype())
    both = present @ present.T
    either = present.sum(dim=1)[:, None] + present.sum(dim=1) - both
    told = stated.any(dim=1)
    alike = torch.where(either > 0, both / either.clamp(min=1), 1.0) * (told[:, None] & told)
    own = torch.eye(len(states), dtype=torch.bool, device=states.device)
    return alike.masked_fill(own, 1.0)


def soft_contrast(
    scores: Float[Tensor, "B B"], alike: Float[Tensor, "B B"], mask: Bool[Tensor, "B"], temperature: float
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (van den Oord et al. 2018) with soft targets: each row's `alike`, of sum 1.

    Args:
        scores: of image i and text j. mask: studies that have both; the others take no part. Zero with fewer than two.
    """
    least = torch.finfo(scores.dtype).min
    total = scores.new_zeros(())
    for logits, near in ((scores, alike), (scores.T, alike.T)):
        near = near * mask
        share = near / near.sum(dim=1, keepdim=True).clamp(min=1e-6)
        log = (logits / temperature).masked_fill(~mask, least).log_softmax(dim=1)
        each = -(share * torch.where(mask, log, 0.0)).sum(dim=1)
        total = total + torch.where(mask, each, 0.0).sum() / mask.sum().clamp(min=1)
    return total / 2 * (mask.sum() > 1)


def hardest_negatives(
    scores: Float[Tensor, "B B"], alike: Float[Tensor, "B B"], mask: Bool[Tensor, "B"], margin: float = 0.2
) -> Float[Tensor, ""]:
    """max(0, margin + s(i, j) - s(i, i)), j the hardest negative, in both directions (Faghri et al. 2018, eq. 6).

    A study is a negative in so far as it is unlike: its score counts less `alike`, and one that is wholly alike is none.
    """
    mask_pair = mask[:, None] & mask & (alike < 1)
    own = scores.diagonal()
    total = scores.new_zeros(())
    for logits in (scores, scores.T):
        lacking = (margin * (1 - alike) + logits - own[:, None]).clamp(min=0)
        total = total + torch.where(mask_pair, lacking, 0.0).amax(dim=1).sum() / mask.sum().clamp(min=1)
    return total / 2
