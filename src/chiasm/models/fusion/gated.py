"""Gated multimodal units (Arevalo et al. 2017, arXiv 1702.01992, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.vectors import Vectors, here, side_by_side
from chiasm.tensors import Fused, Tokens


class Gated(nn.Module):
    """{modality: Tokens} -> Fused: h_m = tanh(W_m x_m), z_m = sigmoid(Z_m [x_1; ...; x_M]), vector = sum z_m * h_m.

    The form of the paper for any number of modalities; an absent one is x_m = 0, and adds nothing.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.vectors = Vectors(modalities, dim)
        self.content = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities})
        self.gate = nn.ModuleDict({m: nn.Linear(len(modalities) * dim, dim) for m in modalities})

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        vectors = self.vectors(tokens)
        everything = side_by_side(vectors)
        units = [
            torch.sigmoid(self.gate[m](everything)) * torch.tanh(self.content[m](x)) * here(tokens[m])
            for m, x in vectors.items()
        ]
        return Fused(torch.stack(units).sum(dim=0), vectors, tokens)
