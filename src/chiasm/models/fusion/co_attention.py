"""Co-attention in both directions and a gate.

Each modality looks at the tokens of all the others (Lu et al. 2016; Tan & Bansal 2019, cross-modality layers), is pooled
by additive attention, and the pooled vectors are joined by a gate: with two modalities f = z * v' + (1 - z) * s',
z = sigmoid(W [v; s]) (Arevalo et al. 2017), with more the gate is a softmax over the modalities that are present.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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

    def forward(self, queries: Tokens, keys: Tensor, key_mask: Tensor) -> Tokens:
        """[B, T, D] queries, [B, S, D] keys, [B, S] mask -> updated queries."""
        keys = torch.cat([self.null.expand(len(keys), 1, -1), self.norm_key(keys)], dim=1)
        hidden = torch.cat([key_mask.new_zeros(len(key_mask), 1), ~key_mask], dim=1)  # True = not looked at
        looked, _ = self.attention(
            self.norm_query(queries.values), keys, keys, key_padding_mask=hidden, need_weights=False
        )
        x = queries.values + looked
        x = x + self.feed_forward(self.forward_norm(x))
        return Tokens(x, queries.mask, queries.grid)


class CoAttention(nn.Module):
    """{modality: Tokens} -> Fused.

    Args:
        modalities: the names that may come, in order.
        dim: D; heads; dropout.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.look = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in modalities})
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
            keys = torch.cat([t.values for t in others], dim=1) if others else own.values[:, :0]
            key_mask = torch.cat([t.mask for t in others], dim=1) if others else own.mask[:, :0]
            keys = keys.masked_fill(~key_mask[..., None], 0.0)
            updated[name] = self.look[name](own, keys, key_mask)
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
