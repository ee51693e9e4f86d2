"""Balance by on-the-fly gradient modulation with noise (OGM-GE; Peng et al. 2022, arXiv 2203.15332, eq. 8 to 12).

A joint loss is soon content with the modality that learns fastest, and the others stay behind. So the gradients of the
encoder that is ahead are made smaller, and noise gives back the randomness they lose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from chiasm.objectives.outcome import known, label_losses
from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs

if TYPE_CHECKING:
    from jaxtyping import Float


def truth_scores(outputs: Outputs, batch: Batch, kinds: dict[str, Kind]) -> Float[Tensor, "M targets 2"]:
    """For each modality and target the sum, over known labels of the studies that have the modality, of the
    likelihood it alone gives the truth; and how many labels these are. The likelihood is exp(-loss): of a class its
    probability."""
    rows = []
    for m, logits in outputs.unimodal_logits.items():
        for name, x in logits.items():
            mask = known(outputs, batch, m, name)
            likelihood = (-label_losses(x.detach(), batch.labels[name], kinds[name])).exp()
            rows.append(torch.stack([torch.where(mask, likelihood, 0.0).sum(), mask.sum()]))
    return torch.stack(rows).view(len(outputs.unimodal_logits), -1, 2)


def modulation(scores: Float[Tensor, "M targets 2"], alpha: float) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """The discrepancy ratios rho and the factors k of each modality, [M] each, of what `truth_scores` gives.

    rho_u = s_u / mean of the others' s, k_u = 1 - tanh(alpha rho_u) if rho_u > 1 else 1. (The paper has one target and two
    modalities, and sums over the batch; here s is the mean over targets of the mean over labels, as the loss is, for studies
    may lack a modality.) A modality that no study of the batch has, or that is alone in it, has rho = k = 1.
    """
    sums, counts = scores.unbind(dim=2)
    taught = counts > 0
    s = (sums / counts.clamp(min=1)).sum(dim=1) / taught.sum(dim=1).clamp(min=1)
    there = taught.any(dim=1)
    others = (s.sum() - s) / (there.sum() - there.long()).clamp(min=1)
    rho = torch.where(there & (there.sum() > 1), s / others.clamp(min=1e-6), 1.0)
    return rho, torch.where(rho > 1, 1 - torch.tanh(alpha * rho), 1.0)


def modulate(parameters: Iterable[nn.Parameter], k: Tensor, noise: torch.Generator | None) -> None:
    """In place, after the backward pass: g <- k g + N(0, std(g)^2) for each parameter of an encoder that has a gradient."""
    for parameter in parameters:
        g = parameter.grad
        if g is not None:
            spread = g.std(unbiased=False)
            g.mul_(k)
            if noise is not None:
                g.add_(torch.randn(g.shape, generator=noise, device=g.device, dtype=g.dtype) * spread)
