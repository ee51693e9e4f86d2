"""The model of a recipe, in the order it runs: encoders -> fusion -> heads, decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.models.decoder import Decoder
from chiasm.models.fusion.co_attention import CoAttention
from chiasm.models.heads import MapHead, TargetHeads, pool_maps
from chiasm.models.image_encoder import ImageEncoder
from chiasm.models.record_encoder import RecordEncoder
from chiasm.models.text_encoder import build_text_encoder
from chiasm.plan import Plan
from chiasm.recipe import Recipe
from chiasm.tensors import MODALITIES, Batch, Outputs, Tokens


class Model(nn.Module):
    """Batch -> Outputs. Built from a resolved recipe and the plan of its tensors by `build_model`.

    Attributes:
        modalities: those it takes, in the order of `MODALITIES`.
    """

    def __init__(self, recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> None:
        super().__init__()
        inputs, fusion, heads = recipe.inputs, recipe.fusion, recipe.heads
        dim = fusion.dim
        self.encoders = nn.ModuleDict()
        if inputs.image is not None:
            assert plan.image_shape is not None and plan.grid is not None
            self.encoders["image"] = ImageEncoder(inputs.image, plan.image_shape, plan.grid, dim)
        if inputs.text is not None:
            self.encoders["text"] = build_text_encoder(inputs.text, text_vocabulary, dim, fusion.dropout)
        if inputs.record is not None:
            words = [len(words) for words in plan.categories.values()]
            self.encoders["record"] = RecordEncoder(len(plan.numeric), words, dim)
        self.modalities = tuple(m for m in MODALITIES if m in self.encoders)
        self.fusion = CoAttention(self.modalities, dim, fusion.heads, fusion.dropout)
        labels = {name: len(names) for name, names in plan.targets.items()}
        self.heads = TargetHeads(dim, labels, self.modalities, fusion.dropout)
        self.map_head = MapHead(dim, len(plan.localized)) if heads.localization and plan.localized else None
        # channel of each localized label: (channel, target, position of the label in the target)
        self.channels = [(c, t, plan.targets[t].index(label)) for c, (t, label) in enumerate(plan.localized)]
        self.decoder = None
        if heads.description is not None:
            options = heads.description
            self.decoder = Decoder(
                description_vocabulary, dim, fusion.heads, options.layers, options.max_tokens, fusion.dropout
            )

    @property
    def image_encoder(self) -> ImageEncoder:
        """The encoder of images, of a model that takes them."""
        encoder = self.encoders["image"]
        assert isinstance(encoder, ImageEncoder)
        return encoder

    def encode(self, batch: Batch) -> dict[str, Tokens]:
        """Each modality of the model as tokens; one that the batch lacks is tokens that are all masked."""
        tokens = {}
        if "image" in self.encoders:
            assert batch.image_mask is not None and batch.view is not None
            tokens["image"] = self.encoders["image"](batch.images, batch.image_mask, batch.view, batch.features)
        if "text" in self.encoders:
            tokens["text"] = self.encoders["text"](batch.token_ids, batch.token_mask)
        if "record" in self.encoders:
            tokens["record"] = self.encoders["record"](batch.record_values, batch.record_observed, batch.record_codes)
        return tokens

    def forward(self, batch: Batch) -> Outputs:
        cells = self.encode(batch)
        tokens = _coarse(cells)
        fused = self.fusion(tokens)
        logits = self.heads(fused)
        map_logits = None
        if self.map_head is not None:
            assert batch.image_mask is not None
            map_logits = self.map_head(cells["image"])
            pooled = pool_maps(map_logits, batch.image_mask)
            for channel, target, position in self.channels:
                logits[target] = logits[target].index_add(
                    1, torch.tensor([position], device=pooled.device), pooled[:, channel : channel + 1]
                )
        words = None
        if self.decoder is not None and batch.description_ids is not None:
            words = self.decoder(batch.description_ids[:, :-1], *self._seen_without_report(tokens))
        return Outputs(logits, fused, map_logits, words)

    @torch.no_grad()
    def describe(self, batch: Batch, beams: int, max_tokens: int) -> Tensor:
        """[B, max_tokens] ids of a description of each study; the report of the batch takes no part in it."""
        assert self.decoder is not None
        return self.decoder.search(*self._seen_without_report(_coarse(self.encode(batch))), beams, max_tokens)

    def _seen_without_report(self, tokens: dict[str, Tokens]) -> tuple[Tensor, Tensor]:
        """The decoder's memory: what fusion makes of a study whose report is masked."""
        assert self.decoder is not None
        if "text" in tokens:
            text = tokens["text"]
            tokens = {**tokens, "text": Tokens(torch.zeros_like(text.values), torch.zeros_like(text.mask))}
        fused = self.fusion(tokens)
        return self.decoder.memory([t for name, t in fused.tokens.items() if name != "text"])


def _coarse(tokens: dict[str, Tokens], side: int = 8) -> dict[str, Tokens]:
    """Images with at most side x side tokens each: localization wants a fine grid, attention pays for its square."""
    if "image" not in tokens or max(tokens["image"].grid) <= side:
        return tokens
    fine = tokens["image"]
    grid = tuple(math.ceil(n / math.ceil(n / side)) for n in fine.grid)
    batch, count, dim = fine.values.shape
    images = count // math.prod(fine.grid)
    maps = fine.values.view(batch * images, *fine.grid, dim).movedim(-1, 1)
    values = F.interpolate(maps, size=grid, mode="area").flatten(2).transpose(1, 2).reshape(batch, -1, dim)
    real = fine.mask.view(batch, images, -1)[:, :, :1].expand(-1, -1, math.prod(grid))
    return {**tokens, "image": Tokens(values, real.flatten(1), grid)}


def build_model(recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> Model:
    """The model of a resolved recipe; its first weights follow torch's random state (seed it first)."""
    return Model(recipe, plan, text_vocabulary, description_vocabulary)
