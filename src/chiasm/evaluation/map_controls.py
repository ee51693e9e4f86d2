"""Maps that look at no image, at another one or through a model that learned nothing: what a localization has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chiasm.domains.chest.frame import organ_field
from chiasm.encoding.raster import cover
from chiasm.evaluation.case_maps import randomized
from chiasm.evaluation.controls import Asked, Control, Remade, Taught
from chiasm.heads.maps import Maps
from chiasm.heads.spec import Floats, Pool, Question
from chiasm.metrics.localization import best_map_threshold
from chiasm.run.ensemble import gather_heads
from chiasm.run.infer import Ask, infer

CELLS = {2: 32, 3: 16}
"""Dimensions of an image -> cells of a control's map along each axis."""
SPREAD = 0.5
"""Standard deviation of the centre prior, as a share of half the image."""


class MapControl(Control):
    """The same map for every image, of each label; its threshold is the best on the training regions, .5 without those.

    Attributes:
        needs_regions: it has nothing to say of a label in which no training patient has a region.
    """

    head = "localization"
    needs_regions = True

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Maps | None:
        """Maps of every image of the tested studies; None where the control has nothing to say of any label."""
        grid = (CELLS[taught.ndim],) * taught.ndim
        maps = np.zeros((len(taught.train), len(question.localized), *grid))
        thresholds = np.full(maps.shape[:2], 0.5)
        drawn = False
        for number, train in enumerate(taught.train):
            for channel, shares in enumerate(_training_regions(question, taught.pool(train), taught.ndim, grid)):
                if shares or not self.needs_regions:
                    drawn = True
                    label = question.localized[channel][1]
                    own = maps[number, channel] = self.draw(np.array(shares).reshape(-1, *grid), label)
                    threshold = best_map_threshold((own, share >= share.max() / 2) for share in shares)
                    thresholds[number, channel] = 0.5 if threshold is None else threshold
        study, image_row = _images(pool, taught.ndim)
        if not drawn or not len(study):
            return None
        values = maps[pool.fold_model].mean(axis=1)[study].astype(np.float16)  # fold models that answer a study agree
        geometry = [pool.cohorts[pool.cohort[s]].geometry(int(i)) for s, i in zip(study, image_row, strict=True)]
        return Maps(values, study, image_row, geometry, thresholds, np.ones(values.shape[:2]))

    def draw(self, shares: Floats, label: str) -> Floats:
        """[n, *grid] share of each cell that the region of a training image covers -> the map of the label, in [0, 1]."""
        raise TypeError("MapControl is abstract")


class RegionPrior(MapControl):
    title, marker = "where training regions lie", "ring"
    protocol = "the mean of the regions drawn in the training images, for every image"

    def draw(self, shares: Floats, label: str) -> Floats:
        return np.asarray(shares.mean(axis=0))


class CentrePrior(MapControl):
    title, marker, needs_regions = "the centre of the image", "square", False
    protocol = "a Gaussian about the centre, for every image"

    def draw(self, shares: Floats, label: str) -> Floats:
        axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shares.shape[1:]]
        squares = sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij"))
        return np.asarray(np.exp(-squares / (2 * SPREAD**2)))


class OrganPrior(MapControl):
    title, marker, needs_regions = "the organ of the finding", "triangle", False
    protocol = "where lungs or heart lie in a frontal radiograph, to which the maps are bound, for every image"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Maps | None:
        bound = question.heads.get(self.head, {}).get("options", {}).get("within") == "organ"
        return super().compute(question, taught, pool) if bound else None

    def draw(self, shares: Floats, label: str) -> Floats:
        return organ_field(label, (shares.shape[1], shares.shape[2]))


class OtherPatient(Remade):
    title, marker, head = "the map of another patient", "diamond", "localization"
    protocol = "the model's map of the next tested patient's image, of the same view where there is one"

    def remake(self, evidence: Maps, pool: Pool, asked: Asked) -> Maps | None:
        rows = zip(evidence.study.tolist(), evidence.image_row.tolist(), strict=True)
        views = np.array([str(pool.cohorts[pool.cohort[s]].images["view"].iloc[i]) for s, i in rows])
        patients, n = pool.patients[evidence.study], len(evidence.study)
        others = np.arange(n)
        for i in range(n):
            order = (i + 1 + np.arange(n)) % n
            fit = order[patients[order] != patients[i]]
            if not len(fit):
                return None
            alike = fit[views[fit] == views[i]]
            others[i] = alike[0] if len(alike) else fit[0]
        return replace(evidence, values=evidence.values[others], peaks=evidence.peaks[others])


class RandomWeights(Remade):
    """Of maps that no box taught: they may follow the image without having learned anything. It costs a second pass."""

    title, marker, head = "a model of random weights", "bar", "localization"
    protocol = (
        "the maps of the same models with random weights, behind the features of a frozen encoder where there is one"
    )

    def remake(self, evidence: Maps, pool: Pool, asked: Asked) -> Maps | None:
        if evidence.fitted is None:
            return None
        models = [replace(model, model=randomized(model.model)) for model, _, _ in asked]
        _, indices, places = zip(*asked, strict=True)
        answers = [infer(m, own, [Ask(heads=(self.head,))])[0] for m, own in zip(models, indices, strict=True)]
        each = gather_heads(models, answers, indices, places)[self.head]
        found: Maps | None = each[0].head.pool(pool, each)
        return found


REGIONS, CENTRE, ORGANS = RegionPrior(), CentrePrior(), OrganPrior()
OTHER, RANDOM = OtherPatient(), RandomWeights()


def _images(pool: Pool, ndim: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[m] place in the pool and [m] row in `images` of the pool's images of these dimensions."""
    found = []
    for number, cohort in enumerate(pool.cohorts):
        places = {int(row): int(at) for at, row in enumerate(pool.row) if pool.cohort[at] == number}
        mine = (cohort.images["array"] == f"pixels_{ndim}d").to_numpy()
        rows = [i for i in np.flatnonzero(mine).tolist() if int(cohort.image_study[i]) in places]
        found += [(places[int(cohort.image_study[i])], i) for i in rows]
    study, image_row = np.array(sorted(found), np.int64).reshape(-1, 2).T
    return study, image_row


def _training_regions(question: Question, pool: Pool, ndim: int, grid: tuple[int, ...]) -> Iterator[list[Floats]]:
    """Of each channel the shares of cells that a region covers, of every image in which one is drawn."""
    found: list[list[Floats]] = [[] for _ in question.localized]
    study, image_row = _images(pool, ndim)
    drawn = [set(cohort.regions["image_id"]) for cohort in pool.cohorts]
    for s, i in zip(study.tolist(), image_row.tolist(), strict=True):
        number = int(pool.cohort[s])
        cohort = pool.cohorts[number]
        if cohort.images["image_id"].iloc[i] not in drawn[number]:
            continue
        regions, geometry = cohort.regions_of(i), cohort.geometry(i)
        for channel, (target, label) in enumerate(question.localized):
            own = [region for region in regions if (region.target, region.label) == (target, label)]
            if own and (share := cover(own, geometry, grid)).any():
                found[channel].append(share.astype(np.float64))
    yield from found
