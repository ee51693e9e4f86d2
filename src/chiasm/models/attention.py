"""Attention in steps: what is asked, what is looked at, the look. Only real tokens are computed.

The weights are those of `nn.MultiheadAttention`, under its names; apart, its steps let keys be computed once and asked many
times, and let padding cost nothing but its share of the product of queries and keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layout:
    """Real tokens of studies, row after row as [n, D], and padded as [B, S, D] with each study's tokens at the front.

    Args:
        mask: [B, T] which tokens are real; `values[mask]` are the rows.

    Attributes:
        study, slot: [n] where each row stands; real: [B, S] the mask of the padded form, S the most tokens of a study.
    """

    def __init__(self, mask: Tensor) -> None:
        self.study = mask.nonzero(as_tuple=True)[0]
        self.slot = (mask.cumsum(dim=1) - 1)[mask]
        count = mask.sum(dim=1, keepdim=True)
        self.real = torch.arange(int(count.max()) if len(mask) else 0, device=mask.device) < count

    def pad(self, rows: Tensor) -> Tensor:
        """[n, D] -> [B, S, D], zeros where nothing is real."""
        padded = rows.new_zeros(*self.real.shape, rows.shape[1])
        padded[self.study, self.slot] = rows
        return padded

    def rows(self, padded: Tensor) -> Tensor:
        """[B, S, D] -> [n, D]."""
        return padded[self.study, self.slot]


def project_queries(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """[..., D] -> [..., D]."""
    dim = attention.embed_dim
    return F.linear(x, attention.in_proj_weight[:dim], attention.in_proj_bias[:dim])


def project_keys(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """[..., D] -> [..., 2 D], keys and values side by side."""
    dim = attention.embed_dim
    return F.linear(x, attention.in_proj_weight[dim:], attention.in_proj_bias[dim:])


def look(
    attention: nn.MultiheadAttention, queries: Tensor, keys: Tensor, mask: Tensor | None, causal: bool = False
) -> Tensor:
    """[B, T, D] projected queries, [B, S, 2 D] keys and values -> [B, T, D] what they find, before `out_proj`.

    Args:
        mask: [B, T or 1, S], True where a query may look; None: everywhere. causal: a query looks at keys up to its own place.
    """
    heads = (attention.num_heads, attention.head_dim)
    q, k, v = (
        x.view(*x.shape[:2], *heads).transpose(1, 2) for x in (queries, *keys.chunk(2, dim=2))
    )  # [B, heads, T or S, D / heads]
    found = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask[:, None] if mask is not None else None,
        dropout_p=attention.dropout if attention.training else 0.0,
        is_causal=causal,
    )
    return found.transpose(1, 2).flatten(2)
