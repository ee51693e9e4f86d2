"""Dual alignment with vision as the anchor (rebuilt from the abstract of Chen et al., arXiv 2605.14710).

The image picks its own text among those of the batch, so vision and text come to share a space; what was fused under
the image is drawn to the records of studies with the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from chiasm.encoding.fit import Learned, Off
from chiasm.errors import RecipeError
from chiasm.heads.head import Head, Loss, Said, Seen, Shape
from chiasm.models.fusion.vectors import Vectors
from chiasm.objectives.alignment import contrast
from chiasm.recipe import Options, Recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs


class AlignmentOptions(Options):
    """Contrast with vision as the anchor: image with text, and what is fused with the record, supervised by a target.

    `image_text` and `fused_record` weigh the two losses.
    """

    target: str
    image_text: Annotated[float, Field(ge=0)] = 0.1
    fused_record: Annotated[float, Field(ge=0)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.1


class AlignmentLayers(nn.Module):
    """Modalities before fusion, and the fused vector, as unit vectors of one space.

    Args:
        names: what is to be compared: modalities, "fused".
    """

    def __init__(self, dim: int, names: Sequence[str]) -> None:
        super().__init__()
        self.vectors = Vectors([name for name in names if name != "fused"], dim)
        self.project = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in names})

    def forward(self, seen: Seen) -> Said:
        """-> name -> [B, D]; zeros for an absent modality."""
        vectors = {**self.vectors(seen.tokens), "fused": seen.fused.vector}
        return {name: F.normalize(project(vectors[name]), dim=1) for name, project in self.project.items()}


class AlignmentHead(Head):
    """Two contrasts that teach and answer nothing: of image and text, and of what is fused and the record."""

    name = "alignment"
    options = AlignmentOptions
    inputs = ("image",)
    given: AlignmentOptions

    @classmethod
    def disagrees(cls, options: AlignmentOptions, recipe: Recipe) -> str | None:
        if options.target in recipe.targets:
            return None
        return (
            f"heads.alignment.target is {options.target}, which is no target of this recipe "
            f"({', '.join(recipe.targets)}): name one that is binary or ordinal, or set heads.alignment=null"
        )

    @classmethod
    def adapt(cls, options: AlignmentOptions, learned: Learned) -> AlignmentOptions:
        """Without a text or a record the contrast with it weighs nothing."""
        lacking = {"image_text": "text", "fused_record": "record"}
        off = {key: 0.0 for key, m in lacking.items() if getattr(learned.recipe.inputs, m) is None}
        return options.model_copy(update=off)

    @classmethod
    def fit(cls, options: AlignmentOptions, learned: Learned) -> Any:
        """No state.

        Raises:
            Off: without images, without both others, or without the target.
            RecipeError: the target has no classes.
        """
        kind = learned.plan.kinds.get(options.target)
        if kind in (Kind.REGRESSION, Kind.SURVIVAL):
            raise RecipeError(
                "alignment compares studies of one class, and the target has none",
                got=f"{options.target}, {kind}",
                where="heads.alignment.target",
                remedy="name a binary, ordinal or multiclass target",
            )
        if learned.recipe.inputs.image is None or kind is None or not options.image_text + options.fused_record:
            raise Off("Alignment is switched off: it needs images, a text or a record beside them, and its target.")

    def build(self, shape: Shape) -> nn.Module:
        pairs = {("image", "text"): self.given.image_text, ("fused", "record"): self.given.fused_record}
        return AlignmentLayers(shape.dim, [name for pair, weight in pairs.items() if weight for name in pair])

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """Neither judges an epoch: a contrast depends on who else is in the batch."""
        options, said, here, losses = self.given, outputs.heads[self.name], outputs.present, {}
        if "text" in said:
            own = torch.eye(len(batch), dtype=torch.bool, device=batch.indices.device)
            loss = contrast(said["image"], said["text"], own, here["image"], here["text"], options.temperature)
            losses["image_text_loss"] = Loss(options.image_text * loss, len(batch), judges=False)
        if "record" in said:
            labels, mask = batch.labels[options.target], batch.label_mask[options.target]
            each = [
                contrast(
                    said["fused"],
                    said["record"],
                    labels[:, None, i] == labels[None, :, i],
                    here["image"] & mask[:, i],
                    here["record"] & mask[:, i],
                    options.temperature,
                )
                for i in range(labels.shape[1])
            ]
            losses["fused_record_loss"] = Loss(
                options.fused_record * torch.stack(each).mean(), len(batch), judges=False
            )
        return losses

    def read(self, said: Said, reading: Any) -> dict[str, Any]:
        """Nothing is kept of it."""
        return {}
