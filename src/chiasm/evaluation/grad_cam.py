"""Grad-CAM of the answers to the labels, as a control of the maps that the model gives itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.evaluation.controls import Asked, Remade
from chiasm.heads.head import Asked as Kept
from chiasm.heads.localization import ImageMaps
from chiasm.heads.maps import Maps
from chiasm.heads.spec import Pool
from chiasm.run.fold_model import FoldModelOver, find_device
from chiasm.run.model import Model

AT_ONCE = 32
LEAST = 1e-6
"""Of a map within its range: where nothing speaks for a label its logarithm is finite."""


def grad_cam(fold_model: FoldModelOver, indices: NDArray[np.int64]) -> ImageMaps:
    """Maps [m, C, *grid] of the labels' logits on the image tokens (Selvaraju et al. 2017, eqs. 1 and 2), as logarithms.

    The gradient of a logit is averaged over the cells of an image; what the channels hold, weighted by it, counts where it is
    positive. A channel of the maps whose label the model does not answer has an even map.
    """
    model, loader = cast(Model, fold_model.model), fold_model.loader
    values, index = [], []
    for start in range(0, len(indices), AT_ONCE):
        rows = indices[start : start + AT_ONCE]
        batch = loader.batch(rows).to(find_device())
        with torch.no_grad():
            encoded = model.encode(batch)
        tokens = encoded["image"]
        seen = tokens.values.detach().requires_grad_()
        with torch.enable_grad():
            outputs = model.answer({**encoded, "image": replace(tokens, values=seen)}, replace(batch, teachers={}))
        cells, mask = math.prod(tokens.grid), tokens.units()
        parts = []
        for target, label in fold_model.plan.localized:
            labels = list(fold_model.plan.targets.get(target, ()))
            cam = torch.zeros(*mask.shape, cells, device=seen.device)
            if label in labels:
                logit = outputs.logits[target][:, labels.index(label)].sum()
                (slope,) = torch.autograd.grad(logit, seen, retain_graph=True)
                slope = slope.view(*mask.shape, cells, -1)
                held = seen.detach().view(slope.shape)
                cam = (slope.mean(dim=2, keepdim=True) * held).sum(dim=3).clamp(min=0)
            span = cam.amax(dim=2, keepdim=True)
            parts.append((cam / span.clamp(min=1e-12)).clamp(min=LEAST).log())
        maps = torch.stack(parts, dim=2).reshape(*mask.shape, len(parts), *tokens.grid)
        values.append(maps[mask].cpu().half().numpy())
        for study, slot in torch.nonzero(mask.cpu()).tolist():
            index.append((int(rows[study]), int(loader.image_rows(int(rows[study]))[slot])))
    return ImageMaps(np.concatenate(values), np.array(index, np.int64).reshape(-1, 2))


class GradCam(Remade):
    """Of maps that no box taught."""

    title, marker, head = "Grad-CAM of the answer", "bar", "localization"
    protocol = "Grad-CAM of the same models' answer to the label, on the image tokens"

    def remake(self, evidence: Maps, pool: Pool, asked: Asked) -> Maps | None:
        if evidence.fitted is None:
            return None
        each = [
            Kept(
                number,
                model.model.parts[self.head],
                indices,
                places,
                grad_cam(model, indices),
                model.calibration.map_threshold,
                model.image,
            )
            for number, (model, indices, places) in enumerate(asked)
            if isinstance(model.model, Model) and len(indices)
        ]
        found: Maps | None = each[0].head.pool(pool, each) if each else None
        return found


GRAD_CAM = GradCam()
