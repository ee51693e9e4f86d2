"""What can be answered without understanding: the arms a model has to beat, fitted on the training patients of each fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.cohort.store import Cohort
from chiasm.encoding.images import Shown
from chiasm.encoding.levels import find_rates
from chiasm.evaluation.spec import Arm
from chiasm.heads.spec import Floats, Pool, Question
from chiasm.metrics.controls import metadata_features, pixel_statistics, probe, thumbnails
from chiasm.metrics.description import tokenize
from chiasm.registry import CONTROLS
from chiasm.run.fold_model import FoldModelOver
from chiasm.study import Kind

Asked = Sequence[tuple[FoldModelOver, NDArray[np.int64], NDArray[np.int64]]]
"""(fold model, the studies it answers as indices of its loader, their places in the pool)."""
BLOCK = 1024  # images in memory at once


class Control:
    """Something a model has to beat, fitted on the training patients of each fold; one object under its name in the registry.

    Attributes:
        title: two or three words, for the page and for warnings. protocol: how it is computed, one clause. marker: its shape
            in the tables of the page. head: the head whose evidence it makes; None for answers to the targets.
        shortcut: a sign that how the images were made may be what was learned.
    """

    title: str = ""
    protocol: str = ""
    marker: str = "ring"
    head: str | None = None
    shortcut: bool = False

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Any:
        """The control's answers to the n tested studies: an `Arm`, or evidence of its head; None where it has nothing to say."""
        raise TypeError("Control is abstract")


class Remade(Control):
    """A control made of the model, or of what it said, instead of the training patients."""

    head: str

    def compute(self, question: Question, taught: Taught, pool: Pool) -> None:
        return None

    def remake(self, evidence: Any, pool: Pool, asked: Asked) -> Any:
        """Evidence of its head, from the model's own; None where it has nothing to say."""
        raise TypeError("Remade is abstract")


@dataclass(frozen=True)
class Controlled:
    """What all controls found: arms by name, evidence by head and control, and how a nearest neighbour was found."""

    arms: Mapping[str, Arm]
    heads: Mapping[str, Mapping[str, Any]]
    neighbour: str


def remake_controls(heads: Mapping[str, Any], pool: Pool, asked: Asked) -> dict[str, dict[str, Any]]:
    """Head -> control -> evidence, of every control that is made of the model. `heads`: name -> its own evidence."""
    found: dict[str, dict[str, Any]] = {name: {} for name in heads}
    for name, control in CONTROLS.items():
        if isinstance(control, Remade) and control.head in heads:
            said = control.remake(heads[control.head], pool, asked)
            if said is not None:
                found[control.head][name] = said
    return found


def run_controls(question: Question, taught: Taught, pool: Pool, heads: Mapping[str, Any]) -> Controlled:
    """Every registered control that belongs to what the run answers."""
    arms: dict[str, Arm] = {}
    found: dict[str, dict[str, Any]] = {name: {} for name in heads}
    for name, control in CONTROLS.items():
        if control.head is None or control.head in heads:
            said = control.compute(question, taught, pool)
            if said is not None and control.head is None:
                arms[name] = said
            elif said is not None:
                found[control.head][name] = said
    return Controlled(arms, found, find_neighbour(taught) if "description" in heads else "")


@dataclass(frozen=True)
class Taught:
    """What each fold model was trained on, in one index space with the tested pool.

    Attributes:
        cohorts: the run's own, then those of the pool where they are others.
        train: of each fold model, the training studies: offset of the cohort + row.
        tested: [n] the pool's studies in the same space.
        ndim: dimensions of the images the model sees, 2 or 3.
        features: [cohort][level] cached backbone maps [n_images, c, h, w] of the stored images, or None.
    """

    cohorts: Sequence[Cohort]
    train: Sequence[NDArray[np.int64]]
    tested: NDArray[np.int64]
    ndim: int
    features: Sequence[Sequence[NDArray[np.float16]]] | None = None

    def pool(self, studies: NDArray[np.int64]) -> Pool:
        """Any studies of the space as a pool."""
        offsets = np.cumsum([0, *map(len, self.cohorts)])
        cohort = np.searchsorted(offsets, studies, side="right") - 1
        return Pool(self.cohorts, cohort, studies - offsets[cohort], np.zeros((len(studies), 1), np.int64))

    def labels(self, question: Question, target: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """[N, L] values and mask of every study of the space."""
        how = question.uncertain.get(target, "ignore")
        labels, words = question.targets[target], question.levels.get(target)
        parts = [cohort.labels(target, labels, how, words) for cohort in self.cohorts]
        values, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
        return values, mask


def prior_arm(question: Question, taught: Taught, fold_model: NDArray[np.int64]) -> Arm:
    """Everybody gets the mean of the training studies, or how often they have each level. `fold_model`: [n, M] as in `Pool`."""
    values = {}
    for target, labels in question.targets.items():
        truth, mask = taught.labels(question, target)
        means = np.full((len(taught.train), *question.layout.shape(target)), np.nan)
        for number, train in enumerate(taught.train):
            for k in range(len(labels)):
                known = truth[train, k][mask[train, k]]
                if target in question.levels and len(known):
                    levels, kind = question.levels[target][k], question.kinds[target]
                    rates = np.array(find_rates(known, levels, kind))
                    means[number, k] = 0.0
                    means[number, k, : len(levels)] = np.cumprod(1 - rates) if kind is Kind.SURVIVAL else rates
                elif len(known):
                    means[number, k] = known.mean(dtype=np.float64)
        values[target] = means[fold_model]
    return Arm.of(values)


class Prior(Control):
    """Everybody gets the mean of the training studies."""

    title, protocol = "prior", "the mean of the training studies for everybody"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Arm:
        return prior_arm(question, taught, pool.fold_model)


class Shortcut(Control):
    """A logistic regression on what needs no seeing, for every binary label; a study of several images is seen by its first."""

    shortcut = True

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Arm | None:
        if "image" not in question.modalities:
            return None
        needed = np.unique(np.concatenate([*taught.train, taught.tested]))
        rows, detail = self.features(question, taught.pool(needed), taught.ndim)
        tested = np.searchsorted(needed, taught.tested)
        values = {t: np.full((*pool.fold_model.shape, *question.layout.shape(t)), np.nan) for t in question.targets}
        for target, labels in question.targets.items():
            truth, mask = (part[needed] for part in taught.labels(question, target))
            for k in range(len(labels)):
                if question.kinds[target] is Kind.BINARY:
                    own = truth[:, k], mask[:, k]
                    values[target][:, :, k] = _probed(rows, *own, taught, needed, tested, pool.fold_model)
        return Arm.of(values, details={"": detail} if detail else {})

    def features(self, question: Question, pool: Pool, ndim: int) -> tuple[Floats, str]:
        """[n, d] numbers of each study, NaN is missing; and what they are in this cohort, or "" where the protocol says it."""
        raise TypeError("Shortcut is abstract")


class Metadata(Shortcut):
    """View, modality, original size, pixel spacing and number of images, with age and sex of the record: those that differ
    between studies and that the model does not read itself (an input is no shortcut)."""

    title, marker = "metadata", "ring"
    protocol = "logistic regression on metadata that are no input of the model"

    def features(self, question: Question, pool: Pool, ndim: int) -> tuple[Floats, str]:
        return _metadata(question, pool)


class PixelStatistics(Shortcut):
    title, marker = "pixel statistics", "square"
    protocol = "logistic regression on statistics of all pixels of the first image"

    def features(self, question: Question, pool: Pool, ndim: int) -> tuple[Floats, str]:
        return _of_first_image(pool, ndim, pixel_statistics), ""


class Thumbnail(Shortcut):
    title, marker = "a 16 x 16 thumbnail", "triangle"
    protocol = "logistic regression on a 16 x 16 thumbnail of the first image"

    def features(self, question: Question, pool: Pool, ndim: int) -> tuple[Floats, str]:
        return _of_first_image(pool, ndim, thumbnails), ""


class ConstantText(Control):
    title, head = "one report for everybody", "description"
    protocol = "the training report nearest to all others (medoid by tf-idf), for everybody"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> list[str]:
        return constant_texts(question, taught, pool.fold_model)


class NearestText(Control):
    title, head = "the nearest neighbour's report", "description"
    protocol = "report of the training study whose first image is most alike"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> list[str]:
        return nearest_texts(question, taught, pool.fold_model)


PRIOR, METADATA, PIXELS, THUMBNAIL = Prior(), Metadata(), PixelStatistics(), Thumbnail()
CONSTANT, NEAREST = ConstantText(), NearestText()


def _probed(
    rows: Floats,
    truth: NDArray[np.float32],
    mask: NDArray[np.bool_],
    taught: Taught,
    needed: NDArray[np.int64],
    tested: NDArray[np.int64],
    fold_model: NDArray[np.int64],
) -> Floats:
    """[n, M] probability by the training of each fold model that answers; NaN where its labels have one class."""
    said = np.full(fold_model.shape, np.nan)
    for number, train in enumerate(taught.train):
        asked, slot = np.nonzero(fold_model == number)
        own = np.searchsorted(needed, train)
        scores = probe(rows[own], truth[own], rows[tested[asked]], mask[own]) if len(asked) else None
        if scores is not None:
            said[asked, slot] = expit(scores)
    return said


def _metadata(question: Question, pool: Pool) -> tuple[Floats, str]:
    """[n, d] of the first image and of the person, NaN is missing; and what stands in it."""
    first = _first_images(pool)
    images = [cohort.images for cohort in pool.cohorts]
    here = first >= 0

    def word(column: str) -> NDArray[Any]:
        places = zip(pool.cohort, first, strict=True)
        return np.array([str(images[c][column].iloc[i]) if i >= 0 else "" for c, i in places], object)

    shape = np.full((len(pool), 6), np.nan)  # size and spacing along the last three axes
    for n in np.flatnonzero(here):
        geometry = pool.cohorts[pool.cohort[n]].geometry(int(first[n]))
        for start, numbers in ((0, geometry.original_shape), (3, geometry.spacing_mm)):
            shape[n, start : start + len(numbers)] = numbers[::-1]
    read = {"age_years": "age", "sex": "sex"}
    inputs = {read[name] for name in question.columns if name in read} | ({"view"} if question.reads_view else set())
    every: dict[str, list[NDArray[Any]]] = {
        "view": [word("view")],
        "modality": [word("dicom_modality")],
        "size": list(shape.T[:3]),
        "spacing": list(shape.T[3:]),
        "number of images": [pool.gather(lambda c: np.bincount(c.image_study, minlength=len(c))).astype(np.float64)],
        "age": [pool.numbers("record.age_years")],
        "sex": [pool.column("record.sex")],
    }
    kept = {what: own for what, parts in every.items() if what not in inputs and (own := list(filter(_differs, parts)))}
    flat = {f"{what} {i}": part for what, own in kept.items() for i, part in enumerate(own)}
    words = {name: part for name, part in flat.items() if part.dtype == object}
    numbers = {name: part for name, part in flat.items() if part.dtype != object}
    left_out = f"; {' and '.join(sorted(inputs))} {'is an input' if len(inputs) == 1 else 'are inputs'} of the model"
    what = ", ".join(kept) or "nothing that differs between studies"
    rows = metadata_features(numbers, words) if flat else np.empty((len(pool), 0))
    return rows, what + left_out * bool(inputs)


def _differs(values: NDArray[Any]) -> bool:
    """Does it differ between studies, what is missing included?"""
    if values.dtype == object:
        return len({"" if value is None else str(value) for value in values}) > 1
    return len(np.unique(values)) > 1  # NaN is one value


def _first_images(pool: Pool) -> NDArray[np.int64]:
    """[n] row in `images` of each study's first image; -1 without one."""

    def first(cohort: Cohort) -> NDArray[np.int64]:
        found = np.searchsorted(cohort.image_study, np.arange(len(cohort)))
        has = np.bincount(cohort.image_study, minlength=len(cohort)) > 0
        return np.where(has, found, -1)

    return np.asarray(pool.gather(first), np.int64)


def _of_first_image(pool: Pool, ndim: int, compute: Callable[[NDArray[np.uint8]], Floats]) -> Floats:
    """[n, d] features of each study's first image of the model's dimension; NaN rows for studies without one."""
    shown = [Shown(cohort, ndim, cohort.preprocessing.intensity) for cohort in pool.cohorts]
    return _of_places(pool, ndim, lambda number, places: compute(np.rint(shown[number][places][:, 0]).astype(np.uint8)))


def _of_places(pool: Pool, ndim: int, compute: Callable[[int, NDArray[np.int64]], Floats]) -> Floats:
    """As above, of a function of (number of the cohort, places in its pixel array), a block at a time."""
    first, result = _first_images(pool), None
    for number, cohort in enumerate(pool.cohorts):
        images = cohort.images
        place = np.where(images["array"] == f"pixels_{ndim}d", images["index"], -1).astype(np.int64)
        mine = np.flatnonzero((pool.cohort == number) & (first >= 0))
        mine = mine[place[first[mine]] >= 0]
        for start in range(0, len(mine), BLOCK):
            rows = mine[start : start + BLOCK]
            found = compute(number, place[first[rows]])
            if result is None:
                result = np.full((len(pool), found.shape[1]), np.nan)
            result[rows] = found
    return np.full((len(pool), 1), np.nan) if result is None else result


def shared_with_training(taught: Taught, pool: Pool) -> list[str]:
    """Patients or pixels that stand in training and among the tested: there should be none."""
    patients: set[str] = set()  # several fold models may have been trained on the same one
    pixels: set[str] = set()
    for number, train in enumerate(taught.train):
        tested = np.flatnonzero((pool.fold_model == number).any(axis=1))
        seen, asked = taught.pool(train), taught.pool(taught.tested[tested])
        patients |= _people(seen) & _people(asked)
        pixels |= _pixel_hashes(seen) & _pixel_hashes(asked)
    found = []
    if patients:
        found.append(f"{len(patients)} patients stand both in training and among the tested.")
    if pixels:
        found.append(f"{len(pixels)} images stand, pixel by pixel, both in training and among the tested.")
    return found


def _people(pool: Pool) -> set[str]:
    return set(pool.gather(lambda cohort: cohort.people).tolist())


def _pixel_hashes(pool: Pool) -> set[str]:
    found: set[str] = set()
    for number, cohort in enumerate(pool.cohorts):
        chosen = np.isin(cohort.image_study, pool.row[pool.cohort == number])
        found |= set(cohort.images["pixel_hash"].to_numpy(object)[chosen])
    return found


# --- texts -------------------------------------------------------------------------------------------------------------


def constant_texts(question: Question, taught: Taught, fold_model: NDArray[np.int64]) -> list[str]:
    """The training report that is nearest to all others, for everybody: the medoid by cosine of tf-idf."""
    medoids = []
    for train in taught.train:
        texts = [text for text in _texts(question, taught.pool(train)) if text.strip()]
        medoids.append(_medoid(texts) if texts else "")
    return [medoids[number] for number in fold_model[:, 0]]


def _medoid(texts: Sequence[str]) -> str:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(tokenize(text) for text in texts):
        return texts[0]
    weights = TfidfVectorizer(tokenizer=tokenize, token_pattern=None, lowercase=False).fit_transform(texts)
    likeness = weights @ np.asarray(weights.mean(axis=0)).ravel()
    return texts[int(np.argmax(likeness))]


def find_neighbour(taught: Taught) -> str:
    """What likeness of images means for the nearest neighbour."""
    if taught.features is not None:
        return "correlation of the frozen backbone's pooled features, standardized over the training images"
    return "correlation of 16 x 16 thumbnails"


def nearest_texts(question: Question, taught: Taught, fold_model: NDArray[np.int64]) -> list[str]:
    """For each study the report of the training study whose first image is most alike."""
    answers = np.full(len(taught.tested), "", dtype=object)
    for number, train in enumerate(taught.train):
        asked = np.flatnonzero(fold_model[:, 0] == number)
        texts = _texts(question, taught.pool(train))
        told = np.array([bool(text.strip()) for text in texts], bool)
        known, wanted = (_vectors(taught, studies) for studies in (train[told], taught.tested[asked]))
        if not len(known) or not len(wanted):
            continue
        if taught.features is not None:
            mean, std = np.nanmean(known, axis=0), np.nanstd(known, axis=0) + 1e-6
            known, wanted = (known - mean) / std, (wanted - mean) / std
        known, wanted = (_normalized(vectors) for vectors in (known, wanted))
        candidates = [text for text in texts if text.strip()]
        for start in range(0, len(asked), BLOCK):
            rows = asked[start : start + BLOCK]
            best = (wanted[start : start + BLOCK] @ known.T).argmax(axis=1)
            answers[rows] = [candidates[i] for i in best]
    return list(answers)


def _vectors(taught: Taught, studies: NDArray[np.int64]) -> Floats:
    """[n, d] what likeness is measured on."""
    pool = taught.pool(studies)
    if taught.features is None:
        return _of_first_image(pool, taught.ndim, thumbnails)
    maps = [levels[-1] if levels else np.empty((0, 1, 1, 1), np.float16) for levels in taught.features]

    def pooled(number: int, places: NDArray[np.int64]) -> Floats:
        deepest = np.asarray(maps[number][places], np.float64)
        return np.asarray(deepest.reshape(*deepest.shape[:2], -1).mean(axis=2))

    return _of_places(pool, taught.ndim, pooled)


def _normalized(vectors: Floats) -> Floats:
    """Centred rows of length 1; a study without an image becomes 0, equally far from all."""
    centred = np.nan_to_num(vectors - vectors.mean(axis=1, keepdims=True))
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))


def _texts(question: Question, pool: Pool) -> list[str]:
    return [str(text) for text in pool.gather(lambda c: c.texts(question.description_sections))]
