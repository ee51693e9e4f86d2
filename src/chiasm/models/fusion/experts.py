"""A product of Gaussian experts (Hinton 2002; Wu & Goodman 2018, arXiv 1802.05335, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.vectors import Vectors, here
from chiasm.tensors import Fused, Tokens


class Experts(nn.Module):
    """{modality: Tokens} -> Fused: the mean of the product of N(mu_m, 1 / T_m) and the prior expert N(0, 1).

    vector = sum T_m mu_m / (1 + sum T_m), with mu_m and log T_m linear in x_m. An absent modality is no factor of the product;
    the less is known, the nearer the vector is to the prior's zero.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.vectors = Vectors(modalities, dim)
        self.mean = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities})
        self.log_precision = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities})

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        vectors = self.vectors(tokens)
        means = torch.stack([self.mean[m](x) for m, x in vectors.items()])  # [M, B, D]
        precisions = torch.stack([self.log_precision[m](x).exp() * here(tokens[m]) for m, x in vectors.items()])
        return Fused((precisions * means).sum(dim=0) / (1 + precisions.sum(dim=0)), vectors, tokens)
