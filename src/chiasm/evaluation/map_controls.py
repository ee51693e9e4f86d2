"""Maps that look at no image: what a localization has to beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chiasm.domains.chest.frame import lung_field
from chiasm.encoding.raster import cover
from chiasm.evaluation.controls import Control, Taught
from chiasm.heads.localization import Maps
from chiasm.heads.spec import Floats, Pool, Question
from chiasm.metrics.localization import best_map_threshold

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
                    own = maps[number, channel] = self.draw(np.array(shares).reshape(-1, *grid))
                    threshold = best_map_threshold((own, share >= share.max() / 2) for share in shares)
                    thresholds[number, channel] = 0.5 if threshold is None else threshold
        study, image_row = _images(pool, taught.ndim)
        if not drawn or not len(study):
            return None
        values = maps[pool.fold_model].mean(axis=1)[study].astype(np.float16)  # fold models that answer a study agree
        geometry = [pool.cohorts[pool.cohort[s]].geometry(int(i)) for s, i in zip(study, image_row, strict=True)]
        return Maps(values, study, image_row, geometry, thresholds)

    def draw(self, shares: Floats) -> Floats:
        """[n, *grid] share of each cell that the region of a training image covers -> the map, in [0, 1]."""
        raise TypeError("MapControl is abstract")


class RegionPrior(MapControl):
    title, marker = "where training regions lie", "ring"
    protocol = "the mean of the regions drawn in the training images, for every image"

    def draw(self, shares: Floats) -> Floats:
        return np.asarray(shares.mean(axis=0))


class CentrePrior(MapControl):
    title, marker, needs_regions = "the centre of the image", "square", False
    protocol = "a Gaussian about the centre, for every image"

    def draw(self, shares: Floats) -> Floats:
        axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shares.shape[1:]]
        squares = sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij"))
        return np.asarray(np.exp(-squares / (2 * SPREAD**2)))


class LungPrior(MapControl):
    title, marker, needs_regions = "the lungs of a frontal radiograph", "triangle", False
    protocol = "the fixed frame of the lungs to which the maps are bound, for every image"

    def compute(self, question: Question, taught: Taught, pool: Pool) -> Maps | None:
        bound = question.heads.get(self.head, {}).get("options", {}).get("within") == "lungs"
        return super().compute(question, taught, pool) if bound else None

    def draw(self, shares: Floats) -> Floats:
        return lung_field((shares.shape[1], shares.shape[2]))


REGIONS, CENTRE, LUNGS = RegionPrior(), CentrePrior(), LungPrior()


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
