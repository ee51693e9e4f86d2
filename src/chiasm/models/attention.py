"""Attention in steps: projection of queries, keys and values, then the attended values. Only real tokens are computed.

The weights are those of `nn.MultiheadAttention`, under its names; apart, its steps let keys be computed once and asked many
times, and let padding cost nothing but its share of the product of queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def places_of(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "n"]:
    """The places of its real tokens among all B * T."""
    return mask.flatten().nonzero()[:, 0]


def take(padded: Float[Tensor, "B T D"], places: Int[Tensor, "n"]) -> Float[Tensor, "n D"]:
    """The rows at these places."""
    return padded.flatten(0, 1).index_select(0, places)


def put(rows: Float[Tensor, "n D"], places: Int[Tensor, "n"], shape: Sequence[int]) -> Float[Tensor, "*shape D"]:
    """Rows at their places, zeros at all other places."""
    padded = rows.new_zeros(math.prod(shape), rows.shape[1]).index_copy_(0, places, rows)
    return padded.view(*shape, rows.shape[1])


class Padding:
    """Real tokens of studies padded anew, as few as the longest study has: each study's stand at the front.

    Args:
        masks: [B, T] which tokens are real, of one set of tokens or of several that a study has side by side; their rows come
            set after set.

    Attributes:
        mask: [B, S] which places of the new form are real, S the most tokens of a study.
    """

    def __init__(self, *masks: Tensor) -> None:
        mask = torch.cat(masks, dim=1)
        count = mask.sum(dim=1, keepdim=True)
        self.mask = torch.arange(int(count.max()) if len(mask) else 0, device=mask.device) < count
        start = self.mask.shape[1] * torch.arange(len(mask), device=mask.device)[:, None]
        places = torch.split(start + mask.cumsum(dim=1) - 1, [m.shape[1] for m in masks], dim=1)
        self.places = torch.cat([p[m] for p, m in zip(places, masks, strict=True)])  # [n] of B * S

    def pad(self, rows: Tensor) -> Tensor:
        """[n, D] -> [B, S, D], zeros where nothing is real."""
        return put(rows, self.places, self.mask.shape)

    def rows(self, padded: Tensor) -> Tensor:
        """[B, S, D] -> [n, D]."""
        return take(padded, self.places)


def project(
    attention: nn.MultiheadAttention, queries: Float[Tensor, "n D"], keys: Float[Tensor, "m D"]
) -> tuple[Float[Tensor, "n D"], Float[Tensor, "m 2*D"]]:
    """Queries, and keys and values side by side."""
    weight, bias = (
        torch.split(x, [attention.embed_dim, 2 * attention.embed_dim])
        for x in (attention.in_proj_weight, attention.in_proj_bias)
    )
    return F.linear(queries, weight[0], bias[0]), F.linear(keys, weight[1], bias[1])


def attend(
    attention: nn.MultiheadAttention,
    queries: Float[Tensor, "B T D"],
    keys: Float[Tensor, "B S 2*D"],
    mask: Bool[Tensor, "B #T S"] | None,
    causal: bool = False,
) -> Float[Tensor, "B T D"]:
    """What projected queries find among keys and values, before `out_proj`.

    Args:
        mask: True where a query may look; None: everywhere. causal: a query looks at keys up to its own place.
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
