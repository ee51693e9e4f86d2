"""From evidence to the page: curves, pictures chosen by rank, descriptions beside their references."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.levels import level_name
from chiasm.evaluation.labels import Column
from chiasm.evaluation.score import Located, channel_names
from chiasm.evaluation.spec import FULL, Evidence, Truth
from chiasm.geometry import Geometry
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.calibration import reliability
from chiasm.metrics.classification import pr_curve, roc_curve
from chiasm.metrics.decision import decision_curve
from chiasm.metrics.description import cider, tokenize
from chiasm.metrics.localization import map_to_boxes
from chiasm.metrics.ordinal import confusion
from chiasm.study import Kind
from chiasm.summary.cases import Glass
from chiasm.summary.figures import Confusion, Curves, Decision, overlay
from chiasm.summary.page import Picture, Words
from chiasm.summary.tables import pretty
from chiasm.summary.volumes import glass_brain

RANKS = ("best", "median", "worst")
SIDE = 480  # pixels of a picture's longer side
LOCATED_LABELS = 4
RANKED_BY = "box_iou"
SPREAD_BINS = 25
T = TypeVar("T")


def draw_curves(evidence: Evidence, truth: Truth, resamples: Resamples, prefix: str) -> list[Curves]:
    """ROC, PR and reliability of every binary label of an arm that has both classes."""
    question, arm, found = evidence.question, evidence.arms[prefix], []
    for target, labels in question.targets.items():
        if question.kinds[target] is not Kind.BINARY:
            continue
        raw = arm.uncalibrated(target)
        for k, label in enumerate(labels):
            values = arm.values[target][:, k]
            known = truth.mask[target][:, k] & np.isfinite(values)
            column = Column(truth.labels[target][:, k], values, known, resamples)
            if len(np.unique(column.truth[known])) < 2:
                continue
            roc, pr = roc_curve(*column), pr_curve(*column)
            others = _others(evidence, column, target, k, prefix)
            if roc is not None and pr is not None:
                found.append(
                    Curves(
                        f"{target}/{question.name_of(target, label)}",
                        roc,
                        pr,
                        prevalence=float(column.truth[known].mean()),
                        after=reliability(column.truth, values, resamples, known, bins=10),
                        before=None if raw is None else reliability(column.truth, raw[:, k], resamples, known, bins=10),
                        spread=np.histogram(values[known], SPREAD_BINS, (0, 1))[0],
                        decision=None if target in question.findings else _draw_decision(column, others),
                        others={name: drawn for name, own in others.items() if (drawn := roc_curve(*own)) is not None},
                    )
                )
    return found


def _others(evidence: Evidence, column: Column, target: str, k: int, prefix: str) -> dict[str, Column]:
    """What the record alone says of the same patients, where that is another arm."""
    if "record" not in evidence.arms or prefix == "record":
        return {}
    values = evidence.arms["record"].values[target][:, k]
    return {"record only": replace(column, values=values, known=column.known & np.isfinite(values))}


def _draw_decision(column: Column, others: Mapping[str, Column]) -> Decision:
    """Net benefit of an arm and of others."""
    everybody = decision_curve(*replace(column, values=np.ones_like(column.values))).y
    return Decision(decision_curve(*column), everybody, {name: decision_curve(*own) for name, own in others.items()})


def draw_confusions(evidence: Evidence, truth: Truth, prefix: str) -> list[Confusion]:
    """True levels against the most probable ones, of every ordinal and multiclass label."""
    question, arm, found = evidence.question, evidence.arms[prefix], []
    for target, labels in question.targets.items():
        if question.kinds[target] not in (Kind.ORDINAL, Kind.MULTICLASS):
            continue
        for k, label in enumerate(labels):
            levels = question.levels[target][k]
            values = arm.values[target][:, k, : len(levels)]
            known = truth.mask[target][:, k] & np.isfinite(values).all(axis=1)
            numbers = range(len(levels)) if question.kinds[target] is Kind.MULTICLASS else [float(x) for x in levels]
            counts = confusion(truth.labels[target][known, k], values[known], numbers)
            name = f"{target}/{question.name_of(target, label)}"
            found.append(Confusion(name, [level_name(level) for level in levels], counts))
    return found


def draw_pictures(evidence: Evidence, located: Sequence[Located]) -> list[Picture]:
    """For the labels with most truth regions the best, the median and the worst image by IoU of the best box."""
    names = channel_names(evidence.question)
    by_channel = [[pair for pair in located if pair.channel == channel] for channel in range(len(names))]
    chosen = sorted((pairs for pairs in by_channel if pairs), key=len, reverse=True)[:LOCATED_LABELS]
    pictures = []
    for pairs in chosen:
        ranked = sorted(pairs, key=lambda pair: -pair.scores[RANKED_BY])
        for which, pair in _at_ranks(ranked):
            study = evidence.pool.column("study_id")[pair.study]
            caption = f"IoU {pair.scores[RANKED_BY]:.2f} · study {study}"
            pictures.append(Picture(which, names[pair.channel], caption, _overlay(evidence, pair)))
    return pictures


def draw_glass(evidence: Evidence) -> Glass | None:
    """What the model looked at, on the outline of the brain; None where it was not asked."""
    seen, cohort = evidence.look, evidence.pool.cohorts[0]
    if seen is None or cohort.atlas is None:
        return None
    place = Geometry.from_json(cohort.meta["atlas"]["geometry"])
    z, y, x = np.divide(place.spacing_mm, np.abs(place.scale)).tolist()
    whose = "above the median" if evidence.question.kinds[seen.target] is not Kind.BINARY else "with the outcome"
    said = (
        f"Gradient times input of {pretty(seen.target, seen.label)}, of that only what raises the answer, averaged over the "
        f"{seen.studies:,} tested patients {whose} and with a volume; largest value along each line of sight. It says what the "
        "model rests on, not what causes the outcome: where lesions are frequent, the map is bright. "
        "The left of a picture is the patient's left, or the back."
    )
    return Glass(glass_brain(seen.values, np.asarray(cohort.atlas) > 0, (z, y, x)), said)


def draw_words(evidence: Evidence, truth: Truth) -> list[Words]:
    """The best, the median and the worst description by CIDEr, beside its reference and the neighbour's report."""
    said = evidence.descriptions.get(FULL)
    if said is None:
        return []
    told = [i for i, text in enumerate(truth.references) if tokenize(text)]
    scores = cider([tokenize(said[i]) for i in told], [tokenize(truth.references[i]) for i in told])
    ranked = [told[i] for i in np.argsort(-scores, kind="stable")]
    value = dict(zip(told, scores.tolist(), strict=True))
    words = []
    for which, i in _at_ranks(ranked):
        texts = {"the model": said[i], "reference": truth.references[i]}
        if "nearest" in evidence.descriptions:
            texts["nearest neighbour's report"] = evidence.descriptions["nearest"][i]
        caption = f"CIDEr {value[i]:.2f} · study {evidence.pool.column('study_id')[i]}"
        words.append(Words(which, caption, texts, _thumbnail(evidence, i)))
    return words


def _at_ranks(ranked: Sequence[T]) -> list[tuple[str, T]]:
    """The first, the middle and the last; fewer where there are fewer."""
    places = dict.fromkeys([0, len(ranked) // 2, len(ranked) - 1]) if ranked else {}
    return [(which, ranked[place]) for which, place in zip(RANKS, places, strict=False)]


def _overlay(evidence: Evidence, pair: Located) -> bytes:
    """Truth, map and predicted boxes on the original frame; of a volume, the slice with most truth."""
    maps, pool = evidence.maps, evidence.pool
    assert maps is not None
    cohort, image_row = pool.cohorts[pool.cohort[pair.study]], int(maps.image_row[pair.place])
    target, label = evidence.question.localized[pair.channel]
    geometry = maps.geometry[pair.place]
    values = maps.values[pair.place, pair.channel].astype(np.float32)
    cut = float(maps.thresholds[pool.fold_model[pair.study], pair.channel].mean())
    predicted, _ = map_to_boxes(values, cut, geometry)
    drawn = [r for r in cohort.regions_of(image_row) if (r.target, r.label) == (target, label)]
    boxes = np.array([r.box for r in drawn if r.mask is None and r.box is not None], np.float64).reshape(-1, 4)
    masks = [r.mask for r in drawn if r.mask is not None]
    mask = np.any(masks, axis=0) if masks else None
    pixels = geometry.map_to_original(cohort.pixels(image_row).astype(np.float32))
    plane = _plane(mask if mask is not None else geometry.map_to_original(values))
    return overlay(
        plane(pixels).round().astype(np.uint8),
        boxes,
        predicted,
        plane(geometry.map_to_original(values)),
        mask_truth=None if mask is None else plane(mask),
        max_side=SIDE,
        format="JPEG",
    )


def _plane(where: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Shows a volume by its slice with the largest sum of `where`, and a plane as it is."""
    if where.ndim == 2:
        return lambda values: values
    z = int(np.asarray(where, np.float64).sum(axis=(1, 2)).argmax())
    return lambda values: values[z]


def _thumbnail(evidence: Evidence, study: int) -> bytes | None:
    """The first image of a study, as stored; of a volume, its middle slice."""
    from PIL import Image

    pool = evidence.pool
    cohort = pool.cohorts[pool.cohort[study]]
    rows = cohort.image_rows(int(pool.row[study]))
    if not rows:
        return None
    pixels = cohort.pixels(rows[0])
    plane = pixels if pixels.ndim == 2 else pixels[len(pixels) // 2]
    out = io.BytesIO()
    Image.fromarray(np.asarray(plane)).save(out, format="JPEG", quality=88)
    return out.getvalue()
