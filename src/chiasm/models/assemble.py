"""The model of a recipe, in the order it runs: encoders -> fusion -> heads, decoder."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.encoding.plan import Plan
from chiasm.heads.decoder import Decoder
from chiasm.heads.heads import AlignmentHead, Levels, MapHead, TargetHeads, UnimodalHeads, pool_maps
from chiasm.models.baseline import Baseline
from chiasm.models.fusion import FAMILIES
from chiasm.models.fusion.late import Late, LateHeads
from chiasm.models.image.encoder import Extractor, ImageEncoder
from chiasm.models.image.territories import TerritoryEncoder
from chiasm.models.record.encoder import RecordEncoder
from chiasm.models.text.encoder import build_text_encoder
from chiasm.recipe import Recipe
from chiasm.tensors import MODALITIES, Batch, Outputs, Tokens


class Model(nn.Module):
    """Batch -> Outputs. Built from a resolved recipe and the plan of its tensors by `build_model`.

    Attributes:
        modalities: those it takes, in the order of `MODALITIES`.
        unimodal: heads of each modality alone, where fusion is late or the model is watched.
    """

    def __init__(self, recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> None:
        super().__init__()
        inputs, fusion, heads = recipe.inputs, recipe.fusion, recipe.heads
        dim = fusion.dim
        self.encoders = nn.ModuleDict()
        if inputs.image is not None:
            if inputs.image.tokens == "territories":
                self.encoders["image"] = TerritoryEncoder(inputs.image, plan, dim)
            else:
                assert plan.image_shape is not None and plan.grid is not None
                self.encoders["image"] = ImageEncoder(inputs.image, plan.image_shape, plan.grid, dim)
        if inputs.text is not None:
            self.encoders["text"] = build_text_encoder(inputs.text, text_vocabulary, dim, fusion.dropout)
        if inputs.record is not None:
            words = [len(words) for words in plan.categories.values()]
            self.encoders["record"] = RecordEncoder(len(plan.numeric), words, dim)
        self.modalities = tuple(m for m in MODALITIES if m in self.encoders)
        self.fusion = FAMILIES[fusion.name](self.modalities, dim, fusion.heads, fusion.dropout)
        self.levels = Levels(plan)
        self.sizes = {name: self.levels.size(name) for name in plan.targets}  # numbers of evidence on each target
        self.dim, self.teach = dim, recipe.train.unimodal_weight
        self.unimodal: UnimodalHeads | None = None
        self.heads: TargetHeads | LateHeads
        if isinstance(self.fusion, Late):
            self.watch()
            self.heads = LateHeads(self.sizes, self.modalities, self.fusion.rule)
        else:
            self.heads = TargetHeads(dim, self.sizes, self.modalities, fusion.dropout)
        self.map_head = MapHead(dim, len(plan.localized)) if heads.localization and plan.localized else None
        # channel of each localized label: (channel, target, position of the label in the target)
        self.channels = [(c, t, plan.targets[t].index(label)) for c, (t, label) in enumerate(plan.localized)]
        self.decoder = None
        if heads.description is not None:
            options = heads.description
            self.decoder = Decoder(
                description_vocabulary, dim, fusion.heads, options.layers, options.max_tokens, fusion.dropout
            )
        self.alignment = None
        if heads.alignment is not None:
            pairs = {("image", "text"): heads.alignment.image_text, ("fused", "record"): heads.alignment.fused_record}
            self.alignment = AlignmentHead(dim, [name for pair, weight in pairs.items() if weight for name in pair])

    def watch(self) -> None:
        """Let each modality answer alone as well: for monitoring and balance, for as long as training lasts."""
        if self.unimodal is None:
            self.unimodal = UnimodalHeads(self.dim, self.sizes, self.modalities, self.teach)

    @property
    def image_encoder(self) -> Extractor:
        """The encoder of images, of a model that takes them."""
        encoder = self.encoders["image"]
        assert isinstance(encoder, Extractor)
        return encoder

    def forward(self, batch: Batch) -> Outputs:
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

    def answer(self, encoded: dict[str, Tokens], batch: Batch) -> Outputs:
        """What the heads say of encoded studies; a modality whose tokens are hidden takes no part.

        Args:
            batch: of the same studies; its inputs are not read again, but for the description that is taught.
        """
        tokens = _coarse(encoded)
        fused = self.fusion(tokens)
        map_logits, evidence = self._maps(encoded)
        unimodal = self.unimodal(tokens, evidence) if self.unimodal is not None else {}
        present = {m: t.mask.any(dim=1) for m, t in tokens.items()}
        if isinstance(self.heads, LateHeads):
            logits = self.heads(unimodal, torch.stack(list(present.values()), dim=1))
        else:
            logits = self.heads(fused)
            logits = {name: x + evidence[name] if name in evidence else x for name, x in logits.items()}
        logits = self.levels(logits)
        unimodal = {m: self.levels(each, watched=True) for m, each in unimodal.items()}
        words = None
        if self.decoder is not None and batch.description_ids is not None:
            words = self.decoder(batch.description_ids[:, :-1], *self._seen_without_report(tokens))
        aligned = self.alignment(tokens, fused) if self.alignment is not None else {}
        return Outputs(logits, fused, map_logits, words, unimodal, present, aligned)

    def _maps(self, encoded: dict[str, Tokens]) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Localization maps, and what they say of each target: [B, L], zero for a label without a map."""
        if self.map_head is None:
            return None, {}
        map_logits = self.map_head(encoded["image"])
        pooled = pool_maps(map_logits, encoded["image"].units())  # [B, C]
        evidence: dict[str, Tensor] = {}
        for channel, target, position in self.channels:
            if target not in evidence:
                evidence[target] = pooled.new_zeros(len(pooled), self.sizes[target])
            evidence[target] = evidence[target].index_add(
                1, torch.tensor([position], device=pooled.device), pooled[:, channel : channel + 1]
            )
        return map_logits, evidence

    @torch.no_grad()
    def describe(self, encoded: dict[str, Tokens], beams: int, max_tokens: int) -> Tensor:
        """[B, max_tokens] ids of a description of each encoded study; its report takes no part in it."""
        assert self.decoder is not None
        return self.decoder.search(*self._seen_without_report(_coarse(encoded)), beams, max_tokens)

    def _seen_without_report(self, tokens: dict[str, Tokens]) -> tuple[Tensor, Tensor]:
        """The decoder's memory: what fusion makes of a study whose report is masked."""
        assert self.decoder is not None
        fused = self.fusion({m: t.hidden() if m == "text" else t for m, t in tokens.items()})
        return self.decoder.memory([t for name, t in fused.tokens.items() if name != "text"])


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


def build_model(recipe: Recipe, plan: Plan, text_vocabulary: int, description_vocabulary: int) -> Model | Baseline:
    """The model of a resolved recipe; its first weights follow torch's random state (seed it first)."""
    if recipe.baseline is not None:
        return Baseline(recipe, plan)
    return Model(recipe, plan, text_vocabulary, description_vocabulary)
