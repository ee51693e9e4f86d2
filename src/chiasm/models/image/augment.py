"""Random numbers that belong to a study in an epoch, and the image changes they drive.

A draw depends on (seed, epoch, index) alone: not on the order of batches, the number of workers or processes, or where a
training was resumed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chiasm.tensors import Batch


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """[n, count] numbers in [0, 1): SplitMix64 (Steele et al. 2014) of seed, epoch, index and column."""
    with np.errstate(over="ignore"):
        state = _mix(np.full(1, seed, np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        state = _mix(state ^ np.uint64(epoch))
        rows = _mix(state ^ indices.astype(np.uint64))[:, None]
        bits = _mix(rows + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return ((bits >> np.uint64(40)).astype(np.float32)) / np.float32(2**24)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def augment(batch: Batch, seed: int, epoch: int, degrees: float = 8.0, zoom: float = 0.1, shift: float = 0.06) -> Batch:
    """Rotate, zoom and shift each study's images in plane, its lesion masks with them, and vary brightness and contrast.

    Never a flip: left and right mean something. All images of a study move alike; volumes change in intensity only.
    """
    assert batch.images is not None
    device = batch.images.device
    draws = torch.from_numpy(uniforms(seed + 2, epoch, batch.indices.cpu().numpy(), 6)).to(device) * 2 - 1  # [B, 6]
    pixels = batch.images.float()
    scale = (1 + 0.2 * draws[:, 4]).view(-1, *(1,) * (pixels.ndim - 1))
    light = (20 * draws[:, 5]).view(-1, *(1,) * (pixels.ndim - 1))
    lesions = batch.lesion_mask
    if pixels.ndim == 5:  # [B, N, C, H, W]
        angle, size = draws[:, 0] * degrees * torch.pi / 180, 1 + zoom * draws[:, 1]
        cos, sin = size * angle.cos(), size * angle.sin()
        rows = [torch.stack([cos, -sin, shift * draws[:, 2]], 1), torch.stack([sin, cos, shift * draws[:, 3]], 1)]
        matrix = torch.stack(rows, dim=1)  # [B, 2, 3]
        pixels = _warp(pixels.flatten(1, 2), matrix).view_as(pixels)
        if lesions is not None:
            lesions = _warp(lesions.flatten(1, 2), matrix).view_as(lesions)
    pixels = ((pixels - 127) * scale + 127 + light).clamp(0, 255)
    return replace(batch, images=pixels, lesion_mask=lesions)


def _warp(maps: Tensor, matrix: Tensor) -> Tensor:
    """[B, c, h, w] seen through [B, 2, 3] affine maps of normalized coordinates; outside is black."""
    grid = F.affine_grid(matrix, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
