"""Feature-wise linear modulation: the record conditions the image (Perez et al. 2018, eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.models.fusion.vectors import Vectors, here, mean_token, side_by_side
from chiasm.tensors import Fused, Tokens


class FiLM(nn.Module):
    """{modality: Tokens} -> Fused: F' = alpha * F + beta for each channel of the image's features.

    [alpha - 1, beta] = W2 ReLU(W1 x_record) through a bottleneck of 7 (as in Wolf et al. 2022); the identity where there is
    no record. The modulated image, and what else there is, stand side by side under one linear layer.
    """

    needs = ("image", "record")
    sees_image = False

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float, bottleneck: int = 7) -> None:
        super().__init__()
        self.condition = nn.Sequential(
            nn.Linear(2 * dim if self.sees_image else dim, bottleneck, bias=False),
            nn.ReLU(),
            nn.Linear(bottleneck, 2 * dim, bias=False),
        )
        self.norm = nn.LayerNorm(dim)
        self.vectors = Vectors(modalities, dim)
        self.join = nn.Linear(len(modalities) * dim, dim)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        image, record = tokens["image"], tokens["record"]
        known = [self.norm(mean_token(record))]
        if self.sees_image:
            known.insert(0, mean_token(image))
        delta, beta = (self.condition(torch.cat(known, dim=1)) * here(record))[:, None].chunk(2, dim=2)  # [B, 1, D]
        tokens = {**tokens, "image": Tokens(_modulate(image.values, delta, beta), image.mask, image.grid)}
        vectors = self.vectors(tokens)
        return Fused(self.join(side_by_side(vectors)), vectors, tokens)


def _modulate(features: Tensor, delta: Tensor, beta: Tensor) -> Tensor:
    return (1 + delta) * features + beta
