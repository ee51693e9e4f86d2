"""What flows through a model: `Batch -> {modality: Tokens} -> Fused -> Outputs`.

The one mask convention: `*_mask` is bool and True means real. What stands under a False is arbitrary and can change no
output. Nothing is ever NaN or -1.

The legend of shapes, used in every docstring:
    B studies in the batch · N images of a study (padded) · T tokens · D width of the model · R numeric and K categorical
    record columns · A regions of an atlas · L labels of a target · Q levels of a label · C labels that can be localized · V vocabulary
    H W (or D H W) stored pixels, *S for either · h w (or d h w) cells of the localization grid · P cells of all images of a study
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

MODALITIES = ("image", "text", "record")


@dataclass
class Batch:
    """Studies as tensors. A modality that the cohort or recipe lacks is None.

    Attributes:
        indices: [B] row of each study in the (concatenated) cohort: the key of every prediction.
        images: [B, N, C, H, W] or [B, N, C, D, H, W], C channels of 0 .. 255: uint8 as stored, or float32 of what is stored
            in 16 bits; or None where `features` stand in for them.
        image_mask: [B, N].
        view: [B, N] index into `tuple(View)`; of an image that is told by its name, the number of views plus its index in the
            plan's `sequences`.
        features: frozen backbone maps by level, each [B, N, c, h, w] float16: a cache of what the backbone would give.
        token_ids, token_mask: [B, T] report as input; row of all False = no report.
        token_states: [B, T, width] float16 of a frozen text encoder: a cache of what it would give, or None.
        facts: [B, F] what was measured on the images: standardized numbers, whether each was, words one-hot; zeros without.
        record_values, record_observed: [B, R] standardized numbers and whether each was observed.
        record_codes: [B, K] index into the column's categories; 0 = missing.
        labels, label_mask: target -> [B, L] float and bool.
        lesion_mask: [B, N, C, h, w] share of each grid cell that regions cover; lesion_label_mask: [B, N, C] True where a
            reader drew (or ruled out) regions for that label on that image.
        description_ids, description_mask: [B, T] the text to be generated, from <bos> to <eos>.
        teachers: name of a head -> name -> [B, ...] what its `teach` gives of each study: supervision, never an input.
    """

    indices: Tensor
    images: Tensor | None = None
    image_mask: Tensor | None = None
    view: Tensor | None = None
    features: list[Tensor] | None = None
    token_ids: Tensor | None = None
    token_mask: Tensor | None = None
    token_states: Tensor | None = None
    facts: Tensor | None = None
    record_values: Tensor | None = None
    record_observed: Tensor | None = None
    record_codes: Tensor | None = None
    labels: dict[str, Tensor] = field(default_factory=dict)
    label_mask: dict[str, Tensor] = field(default_factory=dict)
    lesion_mask: Tensor | None = None
    lesion_label_mask: Tensor | None = None
    description_ids: Tensor | None = None
    description_mask: Tensor | None = None
    teachers: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device | str) -> Self:
        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            if isinstance(value, list):
                return [move(item) for item in value]
            return value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})

    def present(self) -> dict[str, Tensor]:
        """Modality -> [B] bool: which studies have it."""
        found: dict[str, Tensor] = {}
        if self.image_mask is not None:
            found["image"] = self.image_mask.any(dim=1)
        if self.token_mask is not None:
            found["text"] = self.token_mask.any(dim=1)
        observed = [m for m in (self.record_observed, self.record_codes) if m is not None and m.shape[1]]
        if observed:
            found["record"] = torch.stack([m.bool().any(dim=1) for m in observed]).any(dim=0)
        return found

    def keep(self, kept: dict[str, Tensor]) -> Self:
        """A copy in which modality m is absent from studies where kept[m] ([B] bool) is False."""
        changed: dict[str, Any] = {}
        if "image" in kept and self.image_mask is not None:
            changed["image_mask"] = self.image_mask & kept["image"][:, None]
            if self.facts is not None:
                changed["facts"] = self.facts * kept["image"][:, None]
        if "text" in kept and self.token_mask is not None:
            changed["token_mask"] = self.token_mask & kept["text"][:, None]
        if "record" in kept:
            if self.record_observed is not None:
                changed["record_observed"] = self.record_observed & kept["record"][:, None]
            if self.record_codes is not None:
                changed["record_codes"] = self.record_codes * kept["record"][:, None]
        return replace(self, **changed)


@dataclass
class Tokens:
    """One modality, encoded.

    Attributes:
        values: [B, T, D]; mask: [B, T] bool.
        grid: spatial shape of an image's tokens, so that T = N * prod(grid); () for the others.
    """

    values: Tensor
    mask: Tensor
    grid: tuple[int, ...] = ()

    def hidden(self) -> Self:
        """The same tokens, none of them real: the modality as if no study had it."""
        return replace(self, mask=torch.zeros_like(self.mask))

    def units(self) -> Tensor:
        """[B, N] which images are real, or of the other modalities [B, T] which tokens are."""
        return self.mask.view(len(self.mask), -1, math.prod(self.grid))[:, :, 0]

    def take(self, rows: Tensor) -> Self:
        """These studies [b], in this order, no longer than the longest of them needs."""
        units, unit = self.units()[rows], math.prod(self.grid)
        places = torch.arange(1, units.shape[1] + 1, device=units.device)
        longest = max(1, int((units * places).max())) * unit if len(rows) else unit
        return replace(self, values=self.values[rows, :longest], mask=self.mask[rows, :longest])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Studies of several batches as one, padded to the longest."""
        longest = max(part.values.shape[1] for part in parts)

        def pad(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(len(x), longest - x.shape[1], *x.shape[2:])], dim=1)

        values, mask = ([pad(getattr(part, name)) for part in parts] for name in ("values", "mask"))
        return replace(parts[0], values=torch.cat(values), mask=torch.cat(mask))


@dataclass
class Fused:
    """What fusion makes of all modalities.

    Attributes:
        vector: [B, D] the study as one vector; zeros reach it from an absent modality, never its padding.
        vectors: modality -> [B, D] that modality (after it has looked at the others, in a family where it does); zeros
            where it is absent.
        tokens: modality -> tokens (after they have looked at the others).
    """

    vector: Tensor
    vectors: dict[str, Tensor]
    tokens: dict[str, Tokens]


@dataclass
class Outputs:
    """What the heads answer: logits only; probabilities exist in predictions.

    Attributes:
        logits: target -> [B, L], or [B, L, Q] of a leveled target: log-probabilities of levels, logits of hazards.
        heads: name of a head -> name -> [B, ...] what its layers answer.
        fused: of the full pass.
        unimodal_logits: modality -> target -> logits of the same shape, what that modality answers alone: in training, and
            where fusion is late. Arbitrary for a study without the modality.
        present: modality -> [B] bool, which studies have it.
    """

    logits: dict[str, Tensor]
    fused: Fused
    heads: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    unimodal_logits: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)
