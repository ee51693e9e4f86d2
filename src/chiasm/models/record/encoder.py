"""Record columns to tokens: one token a column, absent where the column was not observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.special import ndtri

from chiasm.tensors import Tokens

KNOTS = 32
"""Quantiles of a column's training values, by which a number is told its rank."""


class RecordEncoder(nn.Module):
    """Numbers and categories as tokens (the feature tokenizer of Gorishniy et al. 2021, with one hidden layer a number).

    A number comes in twice: standardized, and as the normal score of its rank among training values (van der Waerden 1952), for
    a laboratory value that spans orders of magnitude has nearly all patients in one spot of the former.

    Args:
        numeric: how many numeric columns R.
        categories: number of known words of each categorical column.
        dim: width D.
    """

    pretrained: ClassVar[bool] = False
    takes: ClassVar[str] = ""
    knots: Tensor  # [R, KNOTS] quantiles of training values, and what they score
    scores: Tensor

    def __init__(self, numeric: int, categories: Sequence[int], dim: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(numeric, dim) * 0.5)
        self.rank_slope = nn.Parameter(torch.randn(numeric, dim) * 0.5)
        self.bias = nn.Parameter(torch.randn(numeric, dim) * 0.5)
        self.mix = nn.Parameter(torch.randn(numeric, dim, dim) * dim**-0.5)
        self.column = nn.Parameter(torch.randn(numeric, dim) * 0.02)
        self.words = nn.ModuleList(nn.Embedding(n + 1, dim, padding_idx=0) for n in categories)
        normal = ndtri((torch.arange(KNOTS) + 0.5) / KNOTS).expand(numeric, -1).contiguous()
        self.register_buffer("knots", normal.clone())
        self.register_buffer("scores", normal)

    def standardize(self, values: Tensor, observed: Tensor) -> None:
        """Take the ranks from training values [n, R], before the first step; a tie scores the mean of its ranks."""
        for column, (x, here) in enumerate(zip(values.T, observed.T, strict=True)):
            if here.any():
                knots = torch.quantile(x[here], (torch.arange(KNOTS) + 0.5) / KNOTS)
                normal = ndtri((torch.arange(KNOTS) + 0.5) / KNOTS)
                same = (knots[:, None] == knots).float()
                self.knots[column], self.scores[column] = knots, same @ normal / same.sum(dim=1)

    def rank(self, values: Tensor) -> Tensor:
        """[B, R] -> [B, R] normal scores, straight between quantiles and level beyond the outermost."""
        x = values.T.contiguous()
        right = torch.searchsorted(self.knots, x).clamp(1, KNOTS - 1)
        (a, b), (low, high) = ((t.gather(1, right - 1), t.gather(1, right)) for t in (self.knots, self.scores))
        return torch.lerp(low, high, ((x - a) / (b - a).clamp(min=1e-9)).clamp(0, 1)).T

    def forward(self, values: Tensor, observed: Tensor, codes: Tensor) -> Tokens:
        """[B, R] numbers, [B, R] bool, [B, K] codes (0 = missing) -> tokens [B, R + K, D]."""
        values = values.masked_fill(~observed, 0.0)
        steep = values[..., None] * self.slope + self.rank(values)[..., None] * self.rank_slope
        hidden = torch.nn.functional.gelu(steep + self.bias)  # [B, R, D]
        numbers = torch.einsum("brd,rde->bre", hidden, self.mix) + self.column
        words = [embedding(codes[:, k]) for k, embedding in enumerate(self.words)]
        tokens = torch.cat([numbers, *(w[:, None] for w in words)], dim=1)
        return Tokens(tokens, torch.cat([observed, codes > 0], dim=1))
