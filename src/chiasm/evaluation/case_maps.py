"""What in the images of example cases spoke for the answer, and whether a model that learned nothing would show the same."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from chiasm.evaluation.saliency import gradient_times_input, score_of
from chiasm.evaluation.spec import CaseMaps, Evidence
from chiasm.run.fold_model import FoldModelOver, find_device
from chiasm.run.model import Model

SMOOTH = 1 / 32
"""Standard deviation of the smoothing, as a share of the image's side: single pixels say nothing to a reader."""


def map_cases(fold_models: Sequence[FoldModelOver], evidence: Evidence, number: str, places: Sequence[int]) -> CaseMaps:
    """Gradient x input of the first image of each case, the mean of its fold models; of 2-D images alone.

    The check is that of Adebayo et al. 2018 (section 3): the same map of the same model with random weights must be another.

    Args:
        number: "target/label" of the answer. places: of the cases in the pool.
    """
    pool, offsets = evidence.pool, fold_models[0].loader.offsets
    target, _, label = number.partition("/")
    maps: dict[int, NDArray[np.float32]] = {}
    alike: list[float] = []
    random: dict[int, Model] = {}  # of each fold model once, for all of its cases
    for place in places:
        index, numbers = int(offsets[pool.cohort[place]] + pool.row[place]), pool.fold_model[place].tolist()
        if not all(_looks(fold_models[m], index, target, label) for m in numbers):
            continue
        for m in set(numbers) - random.keys():
            random[m] = randomized(fold_models[m].model)
        learned = [_map(fold_models[m], fold_models[m].model, index, target, label) for m in numbers]
        chance = [_map(fold_models[m], random[m], index, target, label) for m in numbers]
        maps[place] = np.mean(learned, axis=0).clip(min=0).astype(np.float32)
        alike += [_rank_correlation(a, b) for a, b in zip(learned, chance, strict=True)]
    known = [value for value in alike if np.isfinite(value)]
    return CaseMaps(maps, float(np.mean(known)) if known else None)


def randomized(model: torch.nn.Module, seed: int = 0) -> Model:
    """A copy whose parameters are drawn anew, each from a normal distribution of its own mean and standard deviation."""
    other, random = deepcopy(model), torch.Generator().manual_seed(seed)
    assert isinstance(other, Model)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=random).to(parameter)
            parameter.copy_(parameter.mean() + parameter.std(unbiased=False) * noise)
    return other


def _looks(fold_model: FoldModelOver, index: int, target: str, label: str) -> bool:
    plan = fold_model.plan
    flat = plan.image_shape is not None and len(plan.image_shape) == 2
    known = label in plan.targets.get(target, ())
    return isinstance(fold_model.model, Model) and flat and known and bool(fold_model.loader.image_rows(index))


def _map(fold_model: FoldModelOver, model: object, index: int, target: str, label: str) -> NDArray[np.float64]:
    """[H, W] smoothed gradient x input of a study's first image."""
    assert isinstance(model, Model)
    loader = copy(fold_model.loader)
    loader.features = None  # the pixels are asked, not what a frozen backbone made of them
    batch = loader.batch([index])
    batch.description_ids = batch.description_mask = None
    found = gradient_times_input(
        model, batch.to(find_device()), lambda outputs: score_of(outputs, fold_model.plan, target, label)
    )
    summed = found[0, 0].sum(dim=0).cpu().double().numpy()
    return np.asarray(gaussian_filter(summed, SMOOTH * max(summed.shape)))


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic)
