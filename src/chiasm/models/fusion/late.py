"""Late fusion: each modality answers by itself, and the answers are combined.

The encoders of the modalities meet nowhere: each learns from the loss of its own answer (`train.unimodal_weight`), and the
combination learns on top of answers that stand (stacked generalization, Wolpert 1992). Rules (Kittler et al. 1998;
Breiman 1996), over the modalities that are present:

    mean      z = mean of z_m
    weighted  z = sum w_m z_m, w = softmax of one number a modality and target
    stacked   z = b + sum (a_m z_m + c_m), a_m, c_m and b of each label
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from chiasm.models.fusion.vectors import here, mean_token
from chiasm.tensors import Fused, Tokens

Rule = Literal["mean", "weighted", "stacked"]


class Late(nn.Module):
    """{modality: Tokens} -> Fused: leaves every modality as it is; a model with this fusion answers by `LateHeads`."""

    rule: Rule

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, dropout: float) -> None:
        super().__init__()

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        vectors = {m: mean_token(t) for m, t in tokens.items()}
        count = torch.stack([here(t) for t in tokens.values()]).sum(dim=0).clamp(min=1)
        return Fused(torch.stack(list(vectors.values())).sum(dim=0) / count, vectors, tokens)


class LateMean(Late):
    rule: Rule = "mean"


class LateWeighted(Late):
    rule: Rule = "weighted"


class LateStacked(Late):
    rule: Rule = "stacked"


class LateHeads(nn.Module):
    """The logits of a target from those that each modality gives alone.

    Args:
        targets: target -> number of labels L; modalities: the M names, in order; rule: see above.
    """

    def __init__(self, targets: dict[str, int], modalities: Sequence[str], rule: Rule) -> None:
        super().__init__()
        self.modalities, self.rule, count = tuple(modalities), rule, len(modalities)
        if rule == "weighted":
            self.weight = nn.ParameterDict({name: torch.zeros(count, 1) for name in targets})
        elif rule == "stacked":
            self.weight = nn.ParameterDict({name: torch.ones(count, n) / count for name, n in targets.items()})
            self.shift = nn.ParameterDict({name: torch.zeros(count, n) for name, n in targets.items()})
            self.bias = nn.ParameterDict({name: torch.zeros(n) for name, n in targets.items()})

    def forward(self, unimodal: dict[str, dict[str, Tensor]], present: Tensor) -> dict[str, Tensor]:
        """modality -> target -> [B, L] logits, and [B, M] bool -> target -> [B, L]; zero where nothing is present."""
        logits = {}
        for name in next(iter(unimodal.values())):
            each = torch.stack([unimodal[m][name] for m in self.modalities], dim=1)  # [B, M, L]
            each = each.detach() if self.training else each  # the combination learns on answers that stand
            there = present[..., None].to(each.dtype)
            if self.rule == "stacked":
                each = self.weight[name] * each + self.shift[name]
                logits[name] = (each * there).sum(dim=1) + self.bias[name]
            else:
                say = self.weight[name].exp() * there if self.rule == "weighted" else there
                logits[name] = (each * say).sum(dim=1) / say.sum(dim=1).clamp(min=1e-6)
        return logits
