"""Dual alignment with vision as the anchor (rebuilt from the abstract of Chen et al., arXiv 2605.14710).

The image picks its own text among those of the batch, so vision and text come to share a space; what was fused under
the image is drawn to the records of studies with the same outcome.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chiasm.recipe import Alignment
from chiasm.tensors import Batch, Outputs


def alignment_losses(outputs: Outputs, batch: Batch, options: Alignment) -> dict[str, Tensor]:
    """{image_text_loss, fused_record_loss: scalar}, weights applied; those of the recipe."""
    aligned, here, losses = outputs.aligned, outputs.present, {}
    if "text" in aligned:
        own = torch.eye(len(batch), dtype=torch.bool, device=batch.indices.device)
        loss = contrast(aligned["image"], aligned["text"], own, here["image"], here["text"], options.temperature)
        losses["image_text_loss"] = options.image_text * loss
    if "record" in aligned:
        labels, mask = batch.labels[options.target], batch.label_mask[options.target]
        each = [
            contrast(
                aligned["fused"],
                aligned["record"],
                labels[:, None, i] == labels[None, :, i],
                here["image"] & mask[:, i],
                here["record"] & mask[:, i],
                options.temperature,
            )
            for i in range(labels.shape[1])
        ]
        losses["fused_record_loss"] = options.fused_record * torch.stack(each).mean()
    return losses


def contrast(
    anchors: Tensor, others: Tensor, same: Tensor, anchor_mask: Tensor, other_mask: Tensor, temperature: float
) -> Tensor:
    """Supervised contrast (Khosla et al. 2020, eq. 2); InfoNCE (van den Oord et al. 2018) where `same` is the identity.

    [B, D] unit vectors each, [B, B] bool which other an anchor belongs to, [B] bool which take part: the mean over anchors
    with a positive of - 1 / |P| sum_p log (exp(a.p / t) / sum_o exp(a.o / t)). Zero where there is none.
    """
    logits = (anchors @ others.T / temperature).masked_fill(~other_mask, torch.finfo(anchors.dtype).min)
    positive = same & anchor_mask[:, None] & other_mask  # [B, B]
    log_share = torch.where(positive, logits.log_softmax(dim=1), 0.0)
    count = positive.sum(dim=1)
    each = -log_share.sum(dim=1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
