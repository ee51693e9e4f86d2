"""What each modality answers alone, scored over the studies that have it."""

from __future__ import annotations

from torch import Tensor

from chiasm.objectives.outcome import target_loss
from chiasm.recipe import Recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs


def unimodal_losses(outputs: Outputs, batch: Batch, recipe: Recipe, kinds: dict[str, Kind]) -> dict[str, Tensor]:
    """{target_from_modality_loss: scalar} of a watched model or a late one, weighted like the targets; else nothing."""
    return {
        f"{name}_from_{m}_loss": recipe.targets[name].weight
        * target_loss(values, batch.labels[name], known(outputs, batch, m, name), kinds[name])
        for m, logits in outputs.unimodal_logits.items()
        for name, values in logits.items()
    }


def known(outputs: Outputs, batch: Batch, modality: str, target: str) -> Tensor:
    """[B, L] labels that are known, of the studies that have the modality."""
    return batch.label_mask[target] & outputs.present[modality][:, None]
