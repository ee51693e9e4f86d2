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
