"""What a study is unlike the training data in, said beside its answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import columns_of, read_column
from chiasm.models.image.descriptor import describe_images, reference_network
from chiasm.models.image.encoder import EfficientNetBackbone
from chiasm.run.fold_model import FoldModel, FoldModelOver, frozen_encoders
from chiasm.run.novelty import HEADER, check_header
from chiasm.run.ranges import check_number, check_word, join_ranges
from chiasm.study import About, Note

AT_ONCE = 64
"""Studies whose images are described at once."""
UNCHECKED = Note(
    About.UNCHECKED,
    "whether the study is like the training data was not checked: the run was trained before there was this check; train again",
)


def find_notes(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[list[Note]]:
    """Of each study in the loaders, a note for each thing in which it is unlike the training data of the fold models.

    A header and a chart are known where the training of any fold model has the like; pixels are unlike where any fold model finds
    them so. So a patient's own training image makes it known to no model that was not trained on it.
    """
    if not has_check(fold_models):
        return [[UNCHECKED] for _ in indices]
    notes: list[list[Note]] = [[] for _ in indices]
    for own, checked in zip(notes, _check_images(fold_models, indices), strict=True):
        own += checked
    for own, checked in zip(notes, _check_records(fold_models, indices), strict=True):
        own += checked
    return notes


def has_check(fold_models: Sequence[FoldModel]) -> bool:
    """Whether every fold model can tell a study that is unlike its training data."""
    return all(fold_model.novelty is not None for fold_model in fold_models)


def prepare_check(fold_models: Sequence[FoldModel]) -> None:
    """Load what the check needs beside the models, so that no file is opened when a study is answered."""
    if any(m.cloud is not None and len(m.plan.image_shape or ()) == 2 and not _described(m) for m in fold_models):
        reference_network()


# --- images ------------------------------------------------------------------------------------------------------------


def describe(
    fold_model: FoldModelOver, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """[m] place of the study of each image, [m, d] its description, [d] groups (`chiasm.models.image.descriptor`).

    Where the model's own encoder is the network of descriptions, and frozen, what it has seen is not looked at again.
    """
    own = _described(fold_model)
    study, values, groups = [], [], np.zeros(0, np.int64)
    for start in range(0, max(1, len(rows)), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        batch = fold_model.loader.batch(part)
        assert batch.image_mask is not None
        features = batch.features[-1][batch.image_mask] if own and batch.features is not None else None
        pixels = torch.from_numpy(fold_model.loader.pixels(part))
        described, groups = describe_images(pixels, features)
        study.append(start + batch.image_mask.nonzero()[:, 0].numpy())
        values.append(described)
    return np.concatenate(study), np.concatenate(values), groups


def _described(fold_model: FoldModel) -> bool:
    """Whether the model's own encoder of images is the network of descriptions, and frozen."""
    frozen = frozen_encoders(fold_model.model).get("image")
    return frozen is not None and isinstance(frozen.backbone, EfficientNetBackbone)


def _check_images(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[list[Note]]:
    """Notes on the headers and the pixels of each study's images."""
    notes: list[list[Note]] = [[] for _ in indices]
    first = next((m for m in fold_models if m.plan.image_shape is not None), None)
    if first is None:
        return notes
    told = [novelty.headers for m in fold_models if (novelty := m.novelty) is not None]
    images = headers(first.loader, indices)
    for own, each in zip(notes, images, strict=True):
        for image in each:
            named = "" if len(each) == 1 else f"image {image['image_id']}: "
            own += [Note(About.HEADER, named + said) for said in check_header(image, told)]
    clouds = [(m.novelty.pixels, m.cloud) for m in fold_models if m.novelty and m.novelty.pixels and m.cloud]
    if not clouds:
        few = Note(
            About.UNCHECKED, "whether the pixels are like those of training was not checked: it has too few patients"
        )
        return [[*own, *([few] if each else [])] for own, each in zip(notes, images, strict=True)]
    study, values, _ = describe(first, indices)
    unlike = np.any([cloud.distance(values) > fit.threshold for fit, cloud in clouds], axis=0)
    ids = [image["image_id"] for each in images for image in each]  # in the order of the descriptions
    coverage = min(fit.coverage for fit, _ in clouds)
    for place, image_id in zip(
        study[unlike].tolist(), [i for i, far in zip(ids, unlike, strict=True) if far], strict=True
    ):
        named = "the image" if len(images[place]) == 1 else f"image {image_id}"
        said = f"{named} is unlike those of training, by its pixels alone: {coverage:.0%} of new patients like those of training are nearer"
        notes[place].append(Note(About.PIXELS, said))
    return notes


def headers(loader: Loader, rows: NDArray[np.int64]) -> list[list[dict[str, str]]]:
    """Of each study, the id and `HEADER` of each of its images that the model reads."""
    tables = {}
    found = []
    for row in rows.tolist():
        number, _ = loader.cohort_of(row)
        if number not in tables:
            tables[number] = loader.cohorts[number].table("images", ["image_id", *HEADER])
        found.append(tables[number].take(loader.image_rows(row)).to_pylist() if loader.image_rows(row) else [])
    return found


# --- charts ------------------------------------------------------------------------------------------------------------


def _check_records(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[list[Note]]:
    """Notes on the values of each study's record."""
    loader = fold_models[0].loader
    ranges = join_ranges([m.novelty.ranges for m in fold_models if m.novelty is not None])
    words: dict[str, list[str]] = {}
    for name, known in (item for m in fold_models for item in m.plan.categories.items()):
        words[name] = list(dict.fromkeys([*words.get(name, []), *known]))
    notes: list[list[Note]] = [[] for _ in indices]
    of = [loader.cohort_of(int(index)) for index in indices]
    for number in dict.fromkeys(number for number, _ in of):
        cohort = loader.cohorts[number]
        places = [place for place, (which, _) in enumerate(of) if which == number]
        rows = pa.array([of[place][1] for place in places], pa.int64())
        for name in (name for name in (*ranges, *words) if name in columns_of(cohort, "record")):
            values = read_column(cohort, name, "numeric" if name in ranges else "categorical").take(rows).to_pylist()
            for place, value in zip(places, values, strict=True):
                if value is None:
                    continue
                if name in ranges:
                    said = check_number(name, value, ranges[name])
                else:
                    said = check_word(name, value, words[name])
                notes[place] += [Note(About.RECORD, said)] if said else []
    return notes
