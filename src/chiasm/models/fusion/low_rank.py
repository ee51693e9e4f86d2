"""Low-rank multimodal fusion (Liu et al. 2018, arXiv 1806.00064, eq. 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.vectors import Vectors
from chiasm.tensors import Fused, Tokens


class LowRank(nn.Module):
    """{modality: Tokens} -> Fused: the outer product of all modalities, seen through a weight of low rank.

    vector = b + sum_r a_r prod_m W_m^r [x_m; 1]. The 1 keeps the terms of fewer modalities: an absent one is [0; 1].
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float, rank: int = 4) -> None:
        super().__init__()
        self.vectors = Vectors(modalities, dim)
        self.factors = nn.ParameterDict({m: torch.empty(rank, dim + 1, dim) for m in modalities})
        for factor in self.factors.values():
            nn.init.normal_(factor, std=dim**-0.5)
        self.mix = nn.Parameter(torch.full((rank,), rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        vectors = self.vectors(tokens)
        seen = [
            torch.einsum("bi,rio->rbo", torch.cat([x, torch.ones_like(x[:, :1])], dim=1), self.factors[m])
            for m, x in vectors.items()
        ]
        return Fused(torch.einsum("r,rbo->bo", self.mix, torch.stack(seen).prod(dim=0)) + self.bias, vectors, tokens)
