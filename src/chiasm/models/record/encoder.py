"""Record columns to tokens: one token a column, absent where the column was not observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from chiasm.tensors import Tokens


class RecordEncoder(nn.Module):
    """Numbers and categories as tokens (the feature tokenizer of Gorishniy et al. 2021, with one hidden layer a number).

    Args:
        numeric: how many numeric columns R.
        categories: number of known words of each categorical column.
        dim: width D.
    """

    pretrained: ClassVar[bool] = False
    takes: ClassVar[str] = ""

    def __init__(self, numeric: int, categories: Sequence[int], dim: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(numeric, dim) * 0.5)
        self.bias = nn.Parameter(torch.randn(numeric, dim) * 0.5)
        self.mix = nn.Parameter(torch.randn(numeric, dim, dim) * dim**-0.5)
        self.column = nn.Parameter(torch.randn(numeric, dim) * 0.02)
        self.words = nn.ModuleList(nn.Embedding(n + 1, dim, padding_idx=0) for n in categories)

    def forward(self, values: Tensor, observed: Tensor, codes: Tensor) -> Tokens:
        """[B, R] numbers, [B, R] bool, [B, K] codes (0 = missing) -> tokens [B, R + K, D]."""
        values = values.masked_fill(~observed, 0.0)
        hidden = torch.nn.functional.gelu(values[..., None] * self.slope + self.bias)  # [B, R, D]
        numbers = torch.einsum("brd,rde->bre", hidden, self.mix) + self.column
        words = [embedding(codes[:, k]) for k, embedding in enumerate(self.words)]
        tokens = torch.cat([numbers, *(w[:, None] for w in words)], dim=1)
        return Tokens(tokens, torch.cat([observed, codes > 0], dim=1))
