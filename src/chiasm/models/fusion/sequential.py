"""MedFuse: an LSTM that reads the modalities one after the other (Hayat et al. 2022, arXiv 2207.07027, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.vectors import Vectors, here
from chiasm.tensors import Fused, Tokens

ORDER = ("record", "image", "text")


class Sequential(nn.Module):
    """{modality: Tokens} -> Fused: LSTM over [x_record, W_image x_image, W_text x_text]; the vector is its last state.

    The sequence holds what a study has: an absent modality is no step of it.
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.order = [m for m in ORDER if m in modalities]
        self.vectors = Vectors(modalities, dim)
        self.project = nn.ModuleDict({m: nn.Linear(dim, dim) for m in self.order if m != "record"})
        self.cell = nn.LSTMCell(dim, dim)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        vectors = self.vectors(tokens)
        state = memory = torch.zeros_like(vectors[self.order[0]])
        for name in self.order:
            x = self.project[name](vectors[name]) if name in self.project else vectors[name]
            read, there = self.cell(x, (state, memory)), here(tokens[name]).bool()
            state, memory = torch.where(there, read[0], state), torch.where(there, read[1], memory)
        return Fused(state, vectors, tokens)
