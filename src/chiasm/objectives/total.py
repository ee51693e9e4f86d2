"""All losses of a batch by name, weighted as the recipe says."""

from __future__ import annotations

from torch import Tensor

from chiasm.objectives.alignment import alignment_losses
from chiasm.objectives.description import description_loss
from chiasm.objectives.grounding import map_loss
from chiasm.objectives.outcome import target_loss
from chiasm.recipe import Recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs


def compute_losses(outputs: Outputs, batch: Batch, recipe: Recipe, kinds: dict[str, Kind]) -> dict[str, Tensor]:
    """{name_loss: scalar}, weights applied; their sum is what training lowers."""
    losses = {
        f"{name}_loss": target.weight
        * target_loss(outputs.logits[name], batch.labels[name], batch.label_mask[name], kinds[name])
        for name, target in recipe.targets.items()
    }
    heads = recipe.heads
    if heads.localization is not None and outputs.map_logits is not None and batch.lesion_mask is not None:
        assert batch.lesion_label_mask is not None
        loss = map_loss(outputs.map_logits, batch.lesion_mask, batch.lesion_label_mask)
        losses["localization_loss"] = heads.localization.weight * loss
    if heads.description is not None and outputs.description_logits is not None:
        assert batch.description_ids is not None and batch.description_mask is not None
        loss = description_loss(outputs.description_logits, batch.description_ids, batch.description_mask)
        losses["description_loss"] = heads.description.weight * loss
    if heads.alignment is not None:
        losses |= alignment_losses(outputs, batch, heads.alignment)
    return losses
