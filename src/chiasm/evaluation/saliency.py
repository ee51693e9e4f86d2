"""What in their volumes spoke for the outcome of those who had it: gradient x input, averaged in the space of an atlas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiasm.encoding.plan import Plan
from chiasm.evaluation.spec import Saliency
from chiasm.heads.spec import Pool, Question
from chiasm.progress import Progress
from chiasm.run.fold_model import FoldModelOver, find_device
from chiasm.run.model import Model
from chiasm.study import Kind
from chiasm.tensors import Batch, Outputs

AT_ONCE = 16


def saliency(
    question: Question, pool: Pool, asked: Sequence[tuple[FoldModelOver, NDArray[np.int64], NDArray[np.int64]]]
) -> Saliency | None:
    """The mean, over fold models and tested studies with the bad outcome, of what is positive in gradient x input.

    The outcome is the first binary label, and bad where it is 1; without one, the first ordinal or regression label where
    it is above the median. None where there is no such label, no network that sees volumes, or no atlas in whose space
    they lie.

    Args:
        asked: each fold model, the studies it answers as indices of its loader, their places in the pool.
    """
    chosen = choose_label(question)
    networks = [each for each in asked if isinstance(each[0].model, Model) and _sees_volumes(each[0].plan)]
    if chosen is None or len(networks) < len(asked) or not _one_space(pool):
        return None
    target, k = chosen
    label = question.targets[target][k]
    bad = _is_bad(question, pool, target, k)
    total, counted = np.zeros(pool.cohorts[0].volume_size), set[int]()
    with Progress("what it looked at", sum(int(bad[places].sum()) for _, _, places in asked)) as bar:
        for fold_model, indices, places in asked:
            if label in fold_model.plan.targets.get(target, ()):
                mine = bad[places]
                total += _sum_positive(fold_model, indices[mine], target, label, bar.advance)
                counted |= {
                    p for i, p in zip(indices[mine], places[mine], strict=True) if fold_model.loader.image_rows(int(i))
                }
    if not counted:
        return None
    return Saliency((total / (len(counted) * pool.fold_model.shape[1])).astype(np.float32), target, label, len(counted))


def choose_label(question: Question) -> tuple[str, int] | None:
    """(target, number of the label) that stands for the outcome: the first binary one, else the first with an order.

    Findings come after outcomes.
    """
    for kinds in ((Kind.BINARY,), (Kind.ORDINAL, Kind.REGRESSION)):
        for target in sorted(question.targets, key=lambda target: target in question.findings):
            if question.kinds[target] in kinds:
                return target, 0
    return None


def gradient_times_input(model: Model, batch: Batch, score: Callable[[Outputs], Tensor]) -> Tensor:
    """[B, N, C, *S]: each voxel of a study times the gradient of its score with respect to it (Shrikumar et al. 2016, section 3.4).

    For a score that is linear in the voxels, exactly what each adds to it beyond a black image.

    Args:
        batch: with images, not with cached features. score: Outputs -> [B].
    """
    assert batch.images is not None
    images = batch.images.float().requires_grad_()
    with (
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=False),
    ):  # its recurrent layers have no gradient in evaluation
        scores = score(model(replace(batch, images=images, features=None)))
        (gradient,) = torch.autograd.grad(scores.sum(), images)
    return gradient * images.detach()


def _sum_positive(
    fold_model: FoldModelOver, indices: NDArray[np.int64], target: str, label: str, progress: Callable[[int], None]
) -> NDArray[np.float64]:
    """[D, H, W] of one fold model, over studies and their volumes."""
    model, plan, loader = fold_model.model, fold_model.plan, copy(fold_model.loader)
    assert isinstance(model, Model) and plan.image_shape is not None
    loader.features = None  # the voxels are asked, not what a frozen backbone made of them
    device = find_device()
    total = torch.zeros(plan.image_shape, dtype=torch.float64)
    for start in range(0, len(indices), AT_ONCE):
        here = indices[start : start + AT_ONCE]
        batch = loader.batch(here)
        batch.description_ids = batch.description_mask = None
        assert batch.image_mask is not None
        if batch.image_mask.any():
            found = gradient_times_input(
                model, batch.to(device), lambda outputs: score_of(outputs, plan, target, label)
            )
            total += found.cpu()[batch.image_mask].sum(dim=1).clamp(min=0).sum(dim=0, dtype=torch.float64)
        progress(len(here))
    return total.numpy()


def score_of(outputs: Outputs, plan: Plan, target: str, label: str) -> Tensor:
    """[B] the logit or value of a label; of an ordinal one its expected level."""
    k = plan.targets[target].index(label)
    logits = outputs.logits[target][:, k]
    if target not in plan.levels:
        return logits
    levels = torch.tensor([float(level) for level in plan.levels[target][k]], device=logits.device)
    return logits[:, : len(levels)].softmax(dim=1) @ levels


def _sees_volumes(plan: Plan) -> bool:
    return plan.image_shape is not None and len(plan.image_shape) == 3


def _one_space(pool: Pool) -> bool:
    """Do all volumes lie where one atlas does?"""
    atlases = {cohort.meta["atlas"]["pixel_hash"] if cohort.atlas is not None else None for cohort in pool.cohorts}
    return len(atlases) == 1 and None not in atlases


def _is_bad(question: Question, pool: Pool, target: str, k: int) -> NDArray[np.bool_]:
    """[n] who is known to have the bad outcome."""
    how, levels = question.uncertain.get(target, "ignore"), question.levels.get(target)
    read = [cohort.labels(target, question.targets[target], how, levels) for cohort in pool.cohorts]
    values, mask = (pool.take(list(part))[:, k] for part in zip(*read, strict=True))
    if question.kinds[target] is Kind.BINARY or not mask.any():
        return np.asarray(mask & (values == 1))
    return np.asarray(mask & (values > np.median(values[mask])))
