"""What is fitted once a model is trained, for studies of another kind to be told: headers, cloud of images, ranges, disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.fit import columns_of, read_column
from chiasm.encoding.plan import Plan
from chiasm.metrics.conformal import conformal_quantile
from chiasm.metrics.novelty import Cloud, fit_cloud, held_out_distances
from chiasm.run.answers import Answers, Calibration, calibrated
from chiasm.run.calibrate import people_of
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.infer import Ask, infer
from chiasm.run.notes import describe
from chiasm.run.novelty import HEADER, Novelty, PixelFit, headers_of
from chiasm.run.ranges import Range, fit_range
from chiasm.study import Kind

COVERAGE = 0.98
"""Share of held-out patients whose images are to be called like those of training."""
FEWEST = 20
"""Patients with images below which pixels are not judged: false alarms would be more than one in twenty."""
MOST = 2000
"""Studies whose images are looked at; of more, as many by chance."""
DISAGREEMENT = 0.95
"""Share of validation patients whose image and text are to be called at one."""


def fit_novelty(fold_model: FoldModelOver) -> tuple[Novelty, Cloud | None]:
    """What the training of a fold model looked like: headers and chart of its training studies; pixels of validation too."""
    train = fold_model.split["train"]
    pixels, cloud = _fit_images(fold_model, np.concatenate([train, fold_model.split["validation"]]))
    return Novelty(
        headers=headers_of(_headers(fold_model, train)),
        pixels=pixels,
        ranges=_fit_ranges(fold_model, train),
    ), cloud


def _headers(fold_model: FoldModelOver, rows: NDArray[np.int64]) -> list[dict[str, str]]:
    """The different headers of these studies' images."""
    found: list[dict[str, str]] = []
    loader = fold_model.loader
    for number, cohort in enumerate(loader.cohorts):
        own = (
            [row for row in rows.tolist() if loader.cohort_of(row)[0] == number] if fold_model.plan.image_shape else []
        )
        images = [image for row in own for image in loader.image_rows(row)]
        found += (
            cohort.table("images", HEADER).take(images).group_by(list(HEADER)).aggregate([]).to_pylist()
            if images
            else []
        )
    return found


def _fit_images(fold_model: FoldModelOver, rows: NDArray[np.int64]) -> tuple[PixelFit | None, Cloud | None]:
    """The cloud of these studies' images, and the distance that 98 % of patients stay within when they are held out.

    Of fewer than 49 patients, which cannot say that much, the threshold is the largest of their distances.
    """
    if fold_model.plan.image_shape is None:
        return None, None
    rows = np.random.default_rng(0).permutation(rows)[:MOST]
    study, values, groups = describe(fold_model, rows)
    patients = fold_model.loader.patient_ids[rows[study]]
    count = len(np.unique(patients))
    if count < FEWEST:
        return None, None
    coverage = min(COVERAGE, count / (count + 1))
    threshold = conformal_quantile(held_out_distances(values, groups, patients), patients, coverage)
    assert threshold is not None
    return PixelFit(threshold, coverage, count, len(values)), fit_cloud(values, groups)


def _fit_ranges(fold_model: FoldModelOver, rows: NDArray[np.int64]) -> dict[str, Range]:
    loader, ranges = fold_model.loader, {}
    for name in fold_model.plan.numeric:
        values = [
            read_column(cohort, name, "numeric").to_numpy()[rows[(rows >= start) & (rows < end)] - start]
            for cohort, start, end in zip(loader.cohorts, loader.offsets[:-1], loader.offsets[1:], strict=True)
            if name in columns_of(cohort, "record")
        ]
        observed = np.concatenate(values)
        found = fit_range(observed[~np.isnan(observed)])
        if found is not None:
            ranges[name] = found
    return ranges


@dataclass(frozen=True)
class Apart:
    """What a fold model says by the image alone and by the report alone of its validation studies that have both.

    Attributes:
        image, text: of these studies. patients: [n] "SOURCE/PATIENT".
    """

    plan: Plan
    image: Answers
    text: Answers
    patients: NDArray[np.str_]


def ask_apart(fold_model: FoldModelOver) -> Apart | None:
    """Ask a fold model about its validation patients by one input at a time; None where it does not read both."""
    if not {"image", "text"} <= set(fold_model.model.modalities):
        return None
    rows = fold_model.split["validation"]
    image, text = infer(fold_model, rows, [Ask(("image",)), Ask(("text",))])
    both = (image.shown == "image") & (text.shown == "text")
    kept = [
        replace(each, indices=rows[both], shown=each.shown[both], logits={t: x[both] for t, x in each.logits.items()})
        for each in (image, text)
    ]
    return Apart(fold_model.plan, kept[0], kept[1], people_of(fold_model)[rows[both]])


def fit_disagreement(asked: Sequence[Apart | None], calibration: Calibration) -> dict[str, dict[str, float]]:
    """Binary target -> label -> how far image alone and report alone lie apart at most in 95 % of validation patients of all
    fold models; labels for which these are too few are left out."""
    distances: dict[tuple[str, str], list[tuple[NDArray[np.float64], NDArray[np.str_]]]] = {}
    for each in filter(None, asked):
        by_image, by_text = (calibrated(a.logits, a.shown, each.plan, calibration) for a in (each.image, each.text))
        for target, labels in each.plan.targets.items():
            if each.plan.kinds[target] is Kind.BINARY:
                apart = np.abs(by_image[target] - by_text[target])
                for k, label in enumerate(labels):
                    distances.setdefault((target, label), []).append((apart[:, k], each.patients))
    found: dict[str, dict[str, float]] = {}
    for (target, label), parts in distances.items():
        apart, patients = (np.concatenate(part) for part in zip(*parts, strict=True))
        limit = conformal_quantile(apart, patients, DISAGREEMENT)
        if limit is not None:
            found.setdefault(target, {})[label] = limit
    return found
