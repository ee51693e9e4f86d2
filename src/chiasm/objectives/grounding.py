"""Losses of localization maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def map_loss(
    map_logits: Float[Tensor, "B N C *grid"],
    lesion_mask: Float[Tensor, "B N C *grid"],
    lesion_label_mask: Bool[Tensor, "B N C"],
) -> Float[Tensor, ""]:
    """Cross-entropy with the covered share of each cell, plus soft Dice where there is a lesion (Milletari et al. 2016).

    Each is a mean over its own maps: most maps are empty, and would drown the few that are not.

    Args:
        lesion_mask: share of each cell that is covered; lesion_label_mask: True where a reader drew or ruled out regions. Zero where none did.
    """
    logits, shares = map_logits.flatten(3), lesion_mask.flatten(3)
    cross = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").mean(dim=3)
    probability = logits.sigmoid()
    overlap = 2 * (probability * shares).sum(dim=3)
    dice = 1 - overlap / (probability.pow(2).sum(dim=3) + shares.pow(2).sum(dim=3)).clamp(min=1e-6)
    drawn = lesion_label_mask & (shares.amax(dim=3) > 0)
    return 4 * _mean(cross, lesion_label_mask) + _mean(dice, drawn)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def place_loss(mass: Float[Tensor, "B C K"], place: Bool[Tensor, "B C K"]) -> Float[Tensor, ""]:
    """Minus the log of the share of a map that lies in the parts that are named, a mean over the maps of which any is.

    Args:
        mass: of each part, of sum 1 at most over the parts.
    """
    named = place.any(dim=2)
    there = (mass * place).sum(dim=2).clamp(min=1e-6)
    return _mean(-there.log(), named)


def value_loss(
    logits: Float[Tensor, "B C Q"], values: Bool[Tensor, "B C Q"], present: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Cross-entropy of one kind of attribute, a mean over the present findings of which a value is stated.

    Several values share the truth evenly. What is not stated is masked, never negative.
    """
    count = values.sum(dim=2)
    share = values.to(logits.dtype) / count.clamp(min=1)[..., None]
    return _mean(-(share * logits.log_softmax(dim=2)).sum(dim=2), present & (count > 0))
