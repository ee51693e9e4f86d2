"""Vision-conditioned fusion: what the image shows is the prior under which the text is read.

Rebuilt from the abstract of Chen et al. (arXiv 2605.14710), whose equations are not public; the parts are published:
modulation (Perez et al. 2018), cross-attention in both directions (Tan & Bansal 2019), a gate (Arevalo et al. 2017). Its
alignment losses are `objectives/alignment.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chiasm.models.fusion.co_attention import CrossAttention
from chiasm.models.fusion.vectors import here, mean_token, side_by_side
from chiasm.tensors import Fused, Tokens


class VisionConditioned(nn.Module):
    """{modality: Tokens} -> Fused, with image and text, and the record where the recipe has it.

    gamma, beta = 1 + MLP(v), MLP(v) of the visual feature v; T' = gamma * LN(T) + beta (LN(T) without an image). Then T' looks
    at the image's tokens and these at T'. The joined pair asks the record's tokens, and a gate lets their answer in.

    A modality's vector is the mean of its tokens times a gain, neither attended nor normalized: what is additive and keeps
    its size (millilitres of lesion) is learned best from a few hundred patients. What one modality does to another comes
    second: prior and cross-attention start at zero (as residual branches do in Bachlechner et al. 2021, arXiv 2003.04887), the
    joined vector small, so that training starts from little more than a sum of what each modality says alone.
    """

    needs = ("image", "text")

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        pair = ("image", "text")
        self.feature_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.prior = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 2 * dim))
        self.cross_attention = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in pair})
        self.gain = nn.ParameterDict({m: nn.Parameter(torch.tensor(3.0)) for m in modalities})  # a mean is small
        self.join = nn.Linear(2 * dim, dim)
        self.ask = self.gate = None
        if "record" in modalities:
            self.ask, self.gate = CrossAttention(dim, heads, dropout), nn.Linear(2 * dim, dim)
        for part in self.modules():
            if isinstance(part, CrossAttention):
                part.start_at_zero()
        for parameter in self.prior[2].parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.join.weight.mul_(0.1)  # not zero: a contrast has no gradient there

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        image, text = tokens["image"], tokens["text"]
        image = Tokens(image.values.masked_fill(~image.mask[..., None], 0.0), image.mask, image.grid)
        prior = self.prior(self.feature_norm(mean_token(image))) * here(image)
        delta, beta = prior[:, None].chunk(2, dim=2)  # [B, 1, D]
        read = self.text_norm(text.values.masked_fill(~text.mask[..., None], 0.0))
        text = Tokens((1 + delta) * read + beta, text.mask)
        updated = {
            **tokens,
            "image": self.cross_attention["image"](image, [text]),
            "text": self.cross_attention["text"](text, [image]),
        }
        vectors = {m: self.gain[m] * mean_token(t) for m, t in updated.items()}
        vector = self.join(side_by_side({m: vectors[m] for m in ("image", "text")}))
        if self.ask is not None and self.gate is not None:
            record = tokens["record"]
            query = Tokens(vector[:, None], torch.ones_like(record.mask[:, :1]))
            answer = self.ask(query, [record]).values[:, 0]
            vector = vector + torch.sigmoid(self.gate(torch.cat([vector, answer], dim=1))) * answer * here(record)
        return Fused(vector, vectors, updated)
