"""Maps of findings as evidence: how they are read, and how well they find and detect what readers drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from chiasm.cohort.store import Cohort
from chiasm.geometry import Geometry
from chiasm.heads.spec import Case, Floats, Pool, Question
from chiasm.metrics.bootstrap import Estimate, macro
from chiasm.metrics.detection import AP_IOU, Boxes, average_precision, rodeo
from chiasm.metrics.localization import map_to_boxes, mask_overlap, score_map

SPREAD = 0.07
"""Standard deviation by which a map that only labels taught is smoothed, as a share of the side: they reward its peak, not its extent."""
SEEN = 0.5
"""Probability at the peak of a map from which its boxes count as predicted; average precision ranks all of them."""


@dataclass(frozen=True)
class Maps:
    """Localization maps of the pool's images, from the image alone.

    Attributes:
        values: [m, C, h, w] (or [m, C, d, h, w]) probabilities at grid resolution, mean over fold models.
        study: [m] place in the pool; image_row: [m] row in the `images` of that study's cohort.
        geometry: [m] from the original frame to the stored pixels the grid lies on.
        thresholds: [fold models, C] where a map becomes boxes: fitted on validation, or the recipe's.
        peaks: [m, C] probability that the highest value of each map stands for.
        fitted: as thresholds, fitted on boxes of validation where the recipe looks at none: of a second figure, not of the answers.
    """

    values: NDArray[np.float16]
    study: NDArray[np.int64]
    image_row: NDArray[np.int64]
    geometry: Sequence[Geometry]
    thresholds: Floats
    peaks: Floats
    fitted: Floats | None = None


@dataclass(frozen=True)
class Located:
    """One label with truth regions on one image, and how well its map finds them.

    Attributes:
        channel: of the maps; place: of the image in `Maps`; study: in the pool.
    """

    channel: int
    place: int
    study: int
    scores: Mapping[str, float]


def likely_places(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """[C, *grid] logits -> how likely the finding lies in each cell, against its likeliest, smoothed by `SPREAD`.

    Labels pool a map by the exponential of its logits, so that is what they teach it to mean.
    """
    axes = tuple(range(1, logits.ndim))
    shares = np.exp(logits.astype(np.float32) - logits.max(axis=axes, keepdims=True))
    return np.asarray(gaussian_filter(shares, (0.0, *(SPREAD * n for n in logits.shape[1:])), mode="nearest"))


def within_range(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """[m, C, *grid] maps, each from 0 at its least value to 1 at its highest; an even one is 0.

    The level of a map that only labels taught means nothing: it says where rather, not whether.
    """
    axes = tuple(range(2, values.ndim))
    least = values.min(axis=axes, keepdims=True)
    span = values.max(axis=axes, keepdims=True) - least
    return np.asarray(np.divide(values - least, span, out=np.zeros_like(values), where=span > 0))


def locate(maps: Maps, question: Question, pool: Pool, progress: Callable[[int], None] | None = None) -> list[Located]:
    """Every (image, label) pair in which a reader drew a region, scored on the original pixels."""
    drawn = [_drawn(cohort) for cohort in pool.cohorts]
    thresholds = maps.thresholds[pool.fold_model].mean(axis=1)  # [n, C]
    fitted = None if maps.fitted is None else maps.fitted[pool.fold_model].mean(axis=1)
    found = []
    for place, (study, image_row) in enumerate(zip(maps.study, maps.image_row, strict=True)):
        number = pool.cohort[study]
        for channel, (target, label) in enumerate(question.localized):
            if (int(image_row), target, label) in drawn[number]:
                cohort, geometry = pool.cohorts[number], maps.geometry[place]
                truth = cohort.mask(int(image_row), target, label)
                if truth is not None and truth.any():
                    values = maps.values[place, channel].astype(np.float32)
                    threshold = float(thresholds[study, channel])
                    boxes, scores = map_to_boxes(values, threshold, geometry)
                    drawn_boxes = cohort.boxes(int(image_row), target, label)
                    original = geometry.map_to_original(values)
                    pair = score_map(original, threshold, boxes, scores, truth, drawn_boxes)
                    if fitted is not None:
                        pair["miou_fitted"] = mask_overlap(original >= fitted[study, channel], truth)[0]
                    found.append(Located(channel, place, int(study), pair))
        if progress is not None:
            progress(1)
    return found


def _drawn(cohort: Cohort) -> set[tuple[int, str, str]]:
    """(row in images, target, label) of every region."""
    row = {image: i for i, image in enumerate(cohort.images["image_id"])}
    regions = cohort.regions
    return {
        (row[image], target, label)
        for image, target, label in zip(regions["image_id"], regions["target"], regions["label"], strict=True)
    }


def detect(maps: Maps, case: Case) -> dict[str, dict[str, Estimate]]:
    """Metric -> label -> estimate: average precision of each label and their mean, and RoDeO of all labels together.

    Of the labels of which any box is drawn; an image counts where one is, or where a reader ruled the label out.
    """
    question, pool = case.question, case.pool
    drawn = [_drawn(cohort) for cohort in pool.cohorts]
    there = {(target, label) for own in drawn for _, target, label in own}
    names, channels = channel_names(question), [c for c, own in enumerate(question.localized) if own in there]
    thresholds = maps.thresholds[pool.fold_model].mean(axis=1)  # [n, C]
    ruled_out = [_ruled_out(case, target, label) for target, label in question.localized]
    told: dict[tuple[bytes, float, Geometry], tuple[Floats, Floats]] = {}  # the same map for every image is read once
    images, known, seen = [], np.zeros((len(maps.study), len(channels)), bool), []
    for place, (study, image_row) in enumerate(zip(maps.study.tolist(), maps.image_row.tolist(), strict=True)):
        number = int(pool.cohort[study])
        found: list[tuple[Floats, Floats, int, bool]] = []
        true: list[tuple[Floats, int]] = []
        for k, channel in enumerate(channels):
            target, label = question.localized[channel]
            is_drawn = (image_row, target, label) in drawn[number]
            known[place, k] = is_drawn or ruled_out[channel][study]
            if not known[place, k]:
                continue
            if is_drawn:
                true.append((pool.cohorts[number].boxes(image_row, target, label), k))
            peak = float(maps.peaks[place, channel])
            values = maps.values[place, channel].astype(np.float32)
            threshold, geometry = float(thresholds[study, channel]), maps.geometry[place]
            key = values.tobytes(), threshold, geometry
            if key not in told:
                told[key] = map_to_boxes(values, threshold, geometry)
            boxes, scores = told[key]
            found.append((boxes, scores * peak, k, peak >= SEEN))
        images.append(_boxes([(b, s, k) for b, s, k, _ in found], true))
        seen.append(_boxes([(b, s, k) for b, s, k, enough in found if enough], true))
    result: dict[str, dict[str, Estimate]] = {}
    for k, channel in enumerate(channels):
        rows = np.flatnonzero(known[:, k])
        resamples = case.resamples.at(maps.study[rows])
        for iou in AP_IOU:
            estimate = average_precision(
                [images[i] for i in rows], k, iou, resamples, ", images with a box or without the label"
            )
            result.setdefault(f"ap_{iou}", {})[names[channel]] = estimate
    result = {metric: own | ({"macro": macro(own)} if len(own) > 1 else {}) for metric, own in result.items()}
    rows = np.flatnonzero(known.any(axis=1))
    if len(rows):
        every = rodeo([seen[i] for i in rows], len(channels), case.resamples.at(maps.study[rows]))
        result |= {metric: {"all": estimate} for metric, estimate in every.items()}
    return result


def _boxes(found: Sequence[tuple[Floats, Floats, int]], true: Sequence[tuple[Floats, int]]) -> Boxes:
    none = np.zeros((0, 4))
    return Boxes(
        np.concatenate([none, *(boxes for boxes, _, _ in found)]),
        np.repeat(np.array([k for *_, k in found], np.int64), [len(boxes) for boxes, _, _ in found]),
        np.concatenate([np.zeros(0), *(scores for _, scores, _ in found)]),
        np.concatenate([none, *(boxes for boxes, _ in true)]),
        np.repeat(np.array([k for _, k in true], np.int64), [len(boxes) for boxes, _ in true]),
    )


def _ruled_out(case: Case, target: str, label: str) -> NDArray[np.bool_]:
    """[n] who does not have the label."""
    if label not in case.question.targets.get(target, ()):
        return np.zeros(len(case.pool), bool)
    k = list(case.question.targets[target]).index(label)
    return np.asarray(case.truth.mask[target][:, k] & (case.truth.labels[target][:, k] == 0))


def channel_names(question: Question) -> list[str]:
    """The label's part of a metric's name for each channel: with its target where two targets share a label."""
    labels = [label for _, label in question.localized]
    return [label if labels.count(label) == 1 else f"{target}_{label}" for target, label in question.localized]
