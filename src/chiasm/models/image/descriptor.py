"""Images as vectors by which one of another kind is told: a thumbnail, and what a frozen ImageNet network sees in each quarter."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chiasm.models.image.encoder import EfficientNetBackbone

THUMBNAIL, QUARTERS = 8, 2
"""Cells along each side of the thumbnail, and of the network's coarsest map."""
AT_ONCE = 32
"""Images that are put through the network at once."""


@cache
def reference_network() -> EfficientNetBackbone:
    """The network that describes images whose model has none that is frozen: one in a process, on the CPU."""
    return EfficientNetBackbone().eval().requires_grad_(False)


def describe_images(pixels: Tensor, features: Tensor | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[n, d] descriptions, and [d] the number of the group of each feature: of the thumbnail 0, of the network 1.

    The layout of the thumbnail and of the quarters tells a rotation, its gray values an inversion, the network what is shown.
    Volumes are described by the thumbnail alone, of 8 x 8 x 8 cells: there is no pretrained network of volumes.

    Args:
        pixels: [n, C, *S] in 0 .. 255; channels are averaged.
        features: [n, 320, h, w] the coarsest maps of the network where they are at hand; computed if None.
    """
    gray = pixels.float().mean(dim=1, keepdim=True)  # [n, 1, *S]
    flat = gray.ndim == 4
    pool = F.adaptive_avg_pool2d if flat else F.adaptive_avg_pool3d
    parts = [pool(gray, THUMBNAIL).flatten(1)]
    if flat:
        maps = features if features is not None else _coarsest(gray)
        parts.append(F.adaptive_avg_pool2d(maps.float(), QUARTERS).flatten(1))
    groups = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    return torch.cat(parts, dim=1).double().numpy(), groups


@torch.no_grad()
def _coarsest(gray: Tensor) -> Tensor:
    """[n, 1, H, W] -> [n, 320, h, w], in half precision as cached features are."""
    network = reference_network()
    return torch.cat([network(part)[-1].half() for part in torch.split(gray, AT_ONCE)])
