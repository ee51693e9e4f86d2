"""The model of a recipe, in the order it runs: encoders -> fusion -> heads, decoder."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.encoding.plan import Plan
from chiasm.heads.head import Head, Loss, Seen, Shape
from chiasm.heads.targets import TargetsHead
from chiasm.models.baseline import Baseline
from chiasm.models.image.build import build_image_encoder
from chiasm.models.image.encoder import Extractor
from chiasm.recipe import Recipe
from chiasm.registry import FUSIONS, HEADS
from chiasm.tensors import MODALITIES, Batch, Outputs, Tokens


class Model(nn.Module):
    """Batch -> Outputs, a torch module. Built from a resolved recipe and the plan of its tensors by `build_model`.

    Attributes:
        modalities: those it takes, in the order of `MODALITIES`.
        parts: name -> head, with its options and state; `heads`: name -> its layers, where it has any.
        targets: layers of findings, outcomes and scores.
    """

    def __init__(self, recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> None:
        super().__init__()
        inputs, fusion = recipe.inputs, recipe.fusion
        dim = fusion.dim
        self.encoders = nn.ModuleDict()
        if inputs.image is not None:
            self.encoders["image"] = build_image_encoder(inputs.image, plan, dim)
        if inputs.text is not None:
            self.encoders["text"] = inputs.text.part.build(inputs.text, text_vocabulary, dim, fusion.dropout)
        if inputs.record is not None:
            words = [len(words) for words in plan.categories.values()]
            self.encoders["record"] = inputs.record.part(len(plan.numeric), words, dim)
        self.modalities = tuple(m for m in MODALITIES if m in self.encoders)
        self.fusion = FUSIONS[fusion.name](self.modalities, dim, fusion.heads, fusion.dropout)
        shape = Shape(dim, fusion.heads, fusion.dropout, self.modalities, description_vocabulary)
        self.answers = TargetsHead(recipe, plan)
        self.targets = self.answers.build(shape, getattr(self.fusion, "rule", None))
        self.parts = build_heads(recipe, plan)
        layers = {name: head.build(shape) for name, head in self.parts.items()}
        self.heads = nn.ModuleDict({name: own for name, own in layers.items() if own is not None})

    @property
    def image_encoder(self) -> Extractor:
        """The encoder of images, of a model that takes them."""
        encoder = self.encoders["image"]
        assert isinstance(encoder, Extractor)
        return encoder

    def forward(self, batch: Batch) -> Outputs:
        """What the model says of studies.

        Args:
            batch: as `Loader.batch` makes it of a cohort's rows: images [B, N, C, *S] in 0 .. 255 (or `features` in their place),
                token ids [B, T], numbers [B, R] and words [B, K] of the record, each with its mask. Labels are not read.

        Returns:
            logits of each target, [B, L] or [B, L, Q] (probabilities need the run's calibration); `fused.vector` [B, D]; and
            what each head says.
        """
        return self.answer(self.encode(batch), batch)

    def encode(self, batch: Batch, modalities: Collection[str] = MODALITIES) -> dict[str, Tokens]:
        """Each modality of the model as tokens, or those of `modalities`; what a study lacks is masked."""
        tokens = {}
        if "image" in self.encoders and "image" in modalities:
            assert batch.image_mask is not None and batch.view is not None
            tokens["image"] = self.encoders["image"](batch.images, batch.image_mask, batch.view, batch.features)
        if "text" in self.encoders and "text" in modalities:
            tokens["text"] = self.encoders["text"](batch.token_ids, batch.token_mask, batch.token_states)
        if "record" in self.encoders and "record" in modalities:
            tokens["record"] = self.encoders["record"](batch.record_values, batch.record_observed, batch.record_codes)
        return tokens

    def answer(self, encoded: dict[str, Tokens], batch: Batch, tell: Collection[str] = ()) -> Outputs:
        """What the heads say of encoded studies; a modality whose tokens are hidden takes no part.

        Args:
            batch: of the same studies: what heads are taught by; its inputs are not read again.
            tell: heads that also write (`tell` of their layers), a pass of its own.
        """
        tokens = _coarse(encoded)
        seen = Seen(encoded, tokens, self.fusion(tokens), batch, self.fusion)
        said: dict[str, dict[str, Tensor]] = {}
        for name, layers in self.heads.items():
            said[name] = layers(replace(seen, said=said))
        evidence: dict[str, Tensor] = {}
        for name, layers in self.heads.items():
            own = cast(Any, layers).evidence(said[name], seen) if hasattr(layers, "evidence") else {}
            for target, x in own.items():
                evidence[target] = evidence[target] + x if target in evidence else x
        logits, unimodal = self.targets(tokens, seen.fused, evidence)
        for name in tell:
            said[name] = {**said[name], **cast(Any, self.heads[name]).tell(seen)}
        return Outputs(logits, seen.fused, said, unimodal, {m: t.mask.any(dim=1) for m, t in tokens.items()})

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """{name_loss: Loss} of the targets and of every head."""
        losses = self.answers.losses(outputs, batch)
        for head in self.parts.values():
            losses |= head.losses(outputs, batch)
        return losses


def _coarse(tokens: dict[str, Tokens], side: int = 8) -> dict[str, Tokens]:
    """Images with at most side x side tokens each: localization wants a fine grid, attention pays for its square."""
    if "image" not in tokens or len(tokens["image"].grid) == 1 or max(tokens["image"].grid) <= side:
        return tokens
    fine = tokens["image"]
    grid = tuple(math.ceil(n / math.ceil(n / side)) for n in fine.grid)
    batch, count, dim = fine.values.shape
    images = count // math.prod(fine.grid)
    maps = fine.values.view(batch * images, *fine.grid, dim).movedim(-1, 1)
    values = F.interpolate(maps, size=grid, mode="area").flatten(2).transpose(1, 2).reshape(batch, -1, dim)
    real = fine.mask.view(batch, images, -1)[:, :, :1].expand(-1, -1, math.prod(grid))
    return {**tokens, "image": Tokens(values, real.flatten(1), grid)}


def build_heads(recipe: Recipe, plan: Plan) -> dict[str, Head]:
    """The heads of a resolved recipe, with their options and states."""
    return {name: HEADS[name](options, plan.heads.get(name), plan) for name, options in recipe.active_heads.items()}


def build_model(recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> Model | Baseline:
    """The model of a resolved recipe; its first weights follow torch's random state (seed it first)."""
    if recipe.baseline is not None:
        return Baseline(recipe, plan)
    return Model(recipe, plan, text_vocabulary, description_vocabulary)
