"""Co-attention in both directions and a gate.

Each modality looks at the tokens of all the others (Lu et al. 2016; Tan & Bansal 2019, cross-modality layers), is pooled
by additive attention, and the pooled vectors are joined by a gate: with two modalities f = z * v' + (1 - z) * s',
z = sigmoid(W [v; s]) (Arevalo et al. 2017), with more the gate is a softmax over the modalities that are present.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.attention import Padding, attend, places_of, project, put, take
from chiasm.models.text.encoder import AttentionPool
from chiasm.tensors import Fused, Tokens


class CrossAttention(nn.Module):
    """Queries of one modality, keys of the others; a learned null key is always there, so looking at nothing is defined."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm_query, self.norm_key = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
        )

    def start_at_zero(self) -> None:
        """Let queries pass unchanged until training finds something to add."""
        for parameter in (*self.attention.out_proj.parameters(), *self.feed_forward[3].parameters()):
            nn.init.zeros_(parameter)

    def forward(self, queries: Tokens, others: Sequence[Tokens]) -> Tokens:
        """[B, T, D] queries look at the tokens of others -> updated queries, zeros where there is none.

        Only real tokens are computed, and only studies that have queries look.
        """
        if not queries.mask.shape[1]:
            return queries
        asking = queries.mask.any(dim=1)
        places = places_of(queries.mask)
        x = take(queries.values, places)  # [n, D]
        keys = self.norm_key(torch.cat([take(t.values, places_of(t.mask & asking[:, None])) for t in others]))
        masks = [queries.mask.new_ones(len(asking), 1), *(t.mask for t in others)]  # the null key comes first
        own, seen = Padding(queries.mask[asking]), Padding(*(mask[asking] for mask in masks))
        keys = torch.cat([self.null[0].expand(len(seen.mask), -1), keys])
        q, kv = project(self.attention, self.norm_query(x), keys)
        found = own.rows(attend(self.attention, own.pad(q), seen.pad(kv), seen.mask[:, None]))
        x = x + self.attention.out_proj(found)
        x = x + self.feed_forward(self.forward_norm(x))
        return Tokens(put(x, places, queries.mask.shape), queries.mask, queries.grid)


class CoAttention(nn.Module):
    """{modality: Tokens} -> Fused.

    Args:
        modalities: the names that may come, in order.
        dim: D; heads; dropout.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.cross_attention = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in modalities})
        self.pool = nn.ModuleDict({m: AttentionPool(dim) for m in modalities})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(dim) for m in modalities})
        # with one modality a softmax gate is always 1: nothing to learn
        self.gate = nn.ModuleDict(
            {m: nn.Linear(dim * len(modalities), dim) for m in modalities} if len(modalities) > 1 else {}
        )

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        updated, pooled, present = {}, [], []
        for name in self.modalities:
            own = tokens[name]
            others = [t for m, t in tokens.items() if m != name]
            updated[name] = self.cross_attention[name](own, others or [Tokens(own.values[:, :0], own.mask[:, :0])])
            vector, _ = self.pool[name](updated[name])
            here = own.mask.any(dim=1)
            pooled.append(self.norm[name](vector) * here[:, None])
            present.append(here)
        vectors = dict(zip(self.modalities, pooled, strict=True))
        stacked, here = torch.stack(pooled, dim=1), torch.stack(present, dim=1)  # [B, M, D], [B, M]
        if not self.gate:
            return Fused(stacked[:, 0], vectors, updated)
        everything = stacked.flatten(1)
        gate = torch.stack([self.gate[m](everything) for m in self.modalities], dim=1)
        gate = gate.masked_fill(~here[..., None], torch.finfo(gate.dtype).min).softmax(dim=1) * here[..., None]
        return Fused((gate * stacked).sum(dim=1), vectors, updated)
