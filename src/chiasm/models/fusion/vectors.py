"""What the families share: each modality as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.models.text.encoder import AttentionPool
from chiasm.tensors import Tokens


class Vectors(nn.Module):
    """Each modality as one vector: additive attention over its tokens, then layer norm; zeros where it is absent."""

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.pool = nn.ModuleDict({m: AttentionPool(dim) for m in modalities})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(dim) for m in modalities})

    def forward(self, tokens: dict[str, Tokens]) -> dict[str, Tensor]:
        """{modality: tokens} -> {modality: [B, D]}, in the order of `modalities`."""
        return {m: self.norm[m](pool(tokens[m])[0]) * here(tokens[m]) for m, pool in self.pool.items()}


def here(tokens: Tokens) -> Tensor:
    """[B, 1] 1 where a study has the modality, else 0."""
    return tokens.mask.any(dim=1, keepdim=True).to(tokens.values.dtype)


def mean_token(tokens: Tokens) -> Tensor:
    """[B, D] the mean over real tokens (of an image: its global average pool); zeros where there are none."""
    total = tokens.values.masked_fill(~tokens.mask[..., None], 0.0).sum(dim=1)
    return total / tokens.mask.sum(dim=1, keepdim=True).clamp(min=1)


def side_by_side(vectors: dict[str, Tensor]) -> Tensor:
    """{modality: [B, D]} -> [B, M * D]."""
    return torch.cat(list(vectors.values()), dim=1)
