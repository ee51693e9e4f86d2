"""Early fusion: one Transformer over the tokens of all modalities (single-stream; ViLT, Kim et al. 2021, eq. 1 to 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.vectors import Vectors
from chiasm.tensors import Fused, Tokens


class Early(nn.Module):
    """{modality: Tokens} -> Fused. Each token carries the embedding of its modality; the vector is the class token's.

    Args:
        modalities: the names that may come, in order.
        dim: D; heads; dropout; layers of the Transformer.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float, layers: int = 2) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.kind = nn.Parameter(torch.randn(len(modalities), dim) * 0.02)
        self.start = nn.Parameter(torch.randn(1, 1, dim) * 0.02)  # the class token: always there to be looked at
        self.norm = nn.LayerNorm(dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.vectors = Vectors(modalities, dim)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        parts = [tokens[m] for m in self.modalities]
        values = [self.norm(t.values.masked_fill(~t.mask[..., None], 0.0)) + k for t, k in zip(parts, self.kind)]
        x = torch.cat([self.start.expand(len(values[0]), 1, -1), *values], dim=1)  # [B, 1 + T + ..., D]
        hidden = torch.cat([torch.zeros_like(parts[0].mask[:, :1]), *(~t.mask for t in parts)], dim=1)
        start, *updated = self.transformer(x, src_key_padding_mask=hidden).split(
            [1, *(t.mask.shape[1] for t in parts)], dim=1
        )
        looked = {m: Tokens(u, t.mask, t.grid) for m, t, u in zip(self.modalities, parts, updated, strict=True)}
        return Fused(start[:, 0], self.vectors(looked), looked)
