"""A volume read by the regions of an atlas: they are its tokens, instead of the cells of a grid.

A lesion acts by where it lies. A small cohort cannot teach a network the map of an organ, and need not: the atlas is known.
All volumes must lie in its space; `chiasm.encoding.batches` refuses others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from chiasm.encoding.plan import Plan
from chiasm.errors import RecipeError
from chiasm.models.image.encoder import Backbone, Extractor, build_backbone
from chiasm.recipe import ImageInput
from chiasm.study import View
from chiasm.tensors import Batch, Tokens

RARE = 0.3
"""Added to the spread of log(1 + ml) in a region, lest one that is seldom hit be blown up."""


class Territories(Backbone):
    """[n, 1, D, H, W] in 0..255 -> [n, c, A] each: what every region holds of the voxels, and of another backbone's maps.

    Of the voxels: log(1 + ml) of what is bright; for a lesion mask, the millilitres of lesion.

    Args:
        shape: of the volumes. cell_ml: volume of a voxel as stored. inner: a 3-D backbone, or `Voxels` for these alone.
        count: A, the regions; what lies outside is one too, the first.
    """

    regions: Tensor  # [D, H, W] uint8, set by `place`, kept with the weights
    cell_ml: Tensor

    def __init__(self, shape: tuple[int, ...], cell_ml: float, inner: Backbone, count: int) -> None:
        super().__init__()
        self.inner, self.count = inner, count
        self.channels, self.settings = (1, *inner.channels), inner.settings
        self.register_buffer("regions", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("cell_ml", torch.tensor(cell_ml))  # both name a cache of features

    def fill(self, folder: Path, taken: str) -> None:
        self.inner.fill(folder, taken)

    def place(self, regions: NDArray[np.uint8]) -> None:
        """Take the atlas of a cohort."""
        self.regions.copy_(torch.from_numpy(np.array(regions)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = [self.hold(pixels)[:, None]]
        return maps + [self._pool(level) for level in self.inner(pixels)]

    def hold(self, pixels: Tensor) -> Tensor:
        """[n, 1, D, H, W] -> [n, A] log(1 + ml)."""
        where = self.regions.flatten().long()
        bright = pixels.new_zeros(len(pixels), self.count).index_add_(1, where, pixels.flatten(1) / 255.0)
        return torch.log1p(bright * self.cell_ml)

    def _pool(self, level: Tensor) -> Tensor:
        """[n, c, d, h, w] -> [n, c, A]: the mean over each region's cells; a cell belongs to regions by its share."""
        each = F.one_hot(self.regions.long(), self.count).movedim(-1, 0).to(level.dtype)  # [A, D, H, W]
        shares = F.interpolate(each[None], size=level.shape[2:], mode="area")[0].flatten(1)
        return level.flatten(2) @ (shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6)).T


class TerritoryEncoder(Extractor):
    """Volumes [B, N, 1, D, H, W] to tokens [B, N * A, D], one for each region of the atlas.

    Token r = A * (W + own part of r) (log(1 + ml) in r, standardized over the training images) + what r is + view. Every
    region starts alike, by what it holds, and learns how it differs; standardized, small ones learn nearly as fast as large
    ones. A modality's vector is a mean of its tokens; A makes it the sum of what the regions hold.
    """

    mean: Tensor  # [A] of the training images, kept with the weights
    spread: Tensor

    def __init__(self, options: ImageInput, plan: Plan, dim: int) -> None:
        assert plan.image_shape is not None
        if len(plan.channels) > 1:
            raise RecipeError(
                "regions are read from one channel",
                expected="volumes of one channel",
                got=", ".join(plan.channels),
                where="inputs.image.tokens",
                remedy="choose tokens=grid and an encoder, or import with one window",
            )
        place = json.loads(plan.atlas)
        cell_mm3 = np.prod(np.divide(place["spacing_mm"], np.abs(place["scale"])))
        inner = build_backbone(options.encoder, len(plan.image_shape))
        count = 1 + max(map(int, plan.regions))
        backbone = Territories(plan.image_shape, float(cell_mm3) / 1000, inner, count)
        super().__init__(backbone, len(backbone.channels), options.freeze and options.pretrained)
        self.grid = (count,)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.shared = nn.Parameter(torch.randn(dim) * (0.3 / count))
        self.own = nn.Parameter(torch.zeros(count, dim))
        self.region = nn.Parameter(torch.randn(count, dim) * 0.02)
        self.laterals = nn.ModuleList(nn.Linear(c, dim) for c in backbone.channels[1:])
        self.view = nn.Embedding(len(View) + len(plan.sequences), dim)

    def place(self, regions: NDArray[np.uint8]) -> None:
        assert isinstance(self.backbone, Territories)
        self.backbone.place(regions)

    @torch.no_grad()
    def standardize(self, batches: Iterable[Batch]) -> None:
        """Take mean and spread of what each region holds from training images, of all names alike, before the first step."""
        assert isinstance(self.backbone, Territories)
        parts = []
        for batch in batches:
            assert batch.image_mask is not None
            if batch.features is not None:
                parts.append(batch.features[0][batch.image_mask][:, 0].to(self.mean.dtype))
            else:
                assert batch.images is not None
                parts.append(self.backbone.hold(batch.images[batch.image_mask].float()))
        held = torch.cat(parts)  # [n, A]
        self.mean.copy_(held.mean(dim=0))
        self.spread.copy_(held.std(dim=0, correction=0) + RARE)

    def forward(
        self, images: Tensor | None, image_mask: Tensor, view: Tensor, features: list[Tensor] | None = None
    ) -> Tokens:
        """As `ImageEncoder`."""
        real = image_mask
        if features is not None:
            first, *others = [level[real].to(self.region.dtype) for level in features]
        else:
            assert images is not None
            first, *others = self.extract(images[real])
        held = (first[:, 0] - self.mean) / self.spread  # [n, A]
        x = self.grid[0] * held[..., None] * (self.shared + self.own) + self.region
        for level, lateral in zip(others, self.laterals, strict=True):
            x = x + lateral(level.transpose(1, 2))
        x = x + self.view(view[real])[:, None]
        values = x.new_zeros((*real.shape, *x.shape[1:]))
        values[real] = x
        mask = real[:, :, None].expand(*real.shape, self.grid[0])
        return Tokens(values.flatten(1, 2), mask.flatten(1, 2), self.grid)
