"""The causes of the phantom's outcome after stroke, what image and record reveal of it, and the best any reader can do.

    size v    of the infarct: logarithm of its volume, uniform between 1 ml and what its place can hold   the image shows it
    place w   one of five vascular groups on either side, each with its weight                            the image shows it
    age a, glucose g   standard normal, independent of all else                                           in the record
    NIHSS n   a whole number, normal around 8 + N_SIZE v + N_PLACE w                                      in the record

    eta = INTERCEPT + B_SIZE v + B_PLACE w + B_AGE a + B_GLUCOSE g + B_NIHSS (n - 8) / 6 + J_PLACE v w + J_AGE v a
    P(mRS > j) = sigmoid(eta - CUTS[j]), a proportional-odds model (McCullagh 1980); CUTS[2] = 0

So the record tells something of the image (by NIHSS), and the image something of the record. The posterior of mRS > 2 sums
over what stays hidden: exactly over places and NIHSS, by Gauss quadrature over size; age and glucose enter eta linearly, so
that what is hidden of them is one normal number. Age and glucose are recorded in rounded units and taken at these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from chiasm.domains.chest.outcome import BLOCK, Bools, Floats, Vital

MODALITIES = ("image", "record")
SUBSETS = ("image", "record", "image+record")

INTERCEPT, B_SIZE, B_PLACE, B_AGE, B_GLUCOSE, B_NIHSS = -0.5, 1.1, 0.7, 0.9, 0.5, 0.8
J_PLACE, J_AGE = 0.5, 0.4
CUTS = np.array([-2.4, -1.2, 0.0, 1.1, 2.2, 3.2])
N_SIZE, N_PLACE, N_SD = 3.2, 1.8, 3.5
LOW_ML, MEAN_LOG_ML, SD_LOG_ML = 1.0, 1.0, 0.6
AGE, GLUCOSE = Vital(1.0, 68.0, 12.0, 0, 20.0, 105.0), Vital(1.0, 7.0, 0.25, 1, 2.0, 30.0, log=True)
UNOBSERVED = (0.04, 0.10, 0.15)
"""Share of records without age, NIHSS, glucose."""
_NIHSS = np.arange(43)
_SIZES, _NODES = 12, 12  # the posteriors are then within 1e-3 of the integral


@dataclass(frozen=True)
class Place:
    """A vascular group of one side.

    Attributes:
        name: of the finding. territories: numbers of `chiasm.domains.stroke.territories.TERRITORIES`. weight: w. share: how often.
        most_ml: the largest infarct.
    """

    name: str
    territories: tuple[int, ...]
    weight: float
    share: float
    most_ml: float


_GROUPS = (
    Place("anterior_infarct", (1,), 0.0, 0.10, 50.0),
    Place("middle_infarct", (7, 9, 11, 13, 15), 0.6, 0.40, 180.0),
    Place("deep_infarct", (5, 21), 1.4, 0.20, 16.0),
    Place("posterior_infarct", (17, 19), -1.0, 0.15, 60.0),
    Place("fossa_infarct", (25, 27, 29), -0.6, 0.15, 40.0),
)
LEFT_WEIGHT = 0.3  # language
PLACES = tuple(
    Place(
        group.name,
        tuple(number + right for number in group.territories),
        group.weight + (-LEFT_WEIGHT if right else LEFT_WEIGHT),
        group.share / 2,
        group.most_ml,
    )
    for group in _GROUPS
    for right in (0, 1)
)
KINDS = tuple(group.name for group in _GROUPS)
_WEIGHT = np.array([place.weight for place in PLACES])
_SHARE = np.array([place.share for place in PLACES])


def size_of(volume_ml: Floats) -> Floats:
    """v of a volume."""
    return np.asarray((np.log10(volume_ml) - MEAN_LOG_ML) / SD_LOG_ML, np.float64)


_LOW = float(size_of(np.array(LOW_ML)))
_HIGH = size_of(np.array([place.most_ml for place in PLACES]))


@dataclass(frozen=True)
class Latents:
    """n studies without their pictures.

    Attributes:
        size: [n] v. place: [n] row of `PLACES`. nihss: [n] whole numbers. age_years, glucose_mmol_l: [n] as recorded.
        observed: [n, 3] whether age, NIHSS and glucose are in the record. pictured, recorded: [n] whether there is an image,
            a record. mrs: [n] 0 .. 6, the outcome that was drawn.
    """

    size: Floats
    place: NDArray[np.int64]
    nihss: NDArray[np.int64]
    age_years: Floats
    glucose_mmol_l: Floats
    observed: Bools
    pictured: Bools
    recorded: Bools
    mrs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Self:
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def volume_ml(self) -> Floats:
        return np.asarray(10 ** (MEAN_LOG_ML + SD_LOG_ML * self.size), np.float64)


def linear_predictor(size: Floats, weight: Floats, nihss: NDArray[np.int64], age: Floats, glucose: Floats) -> Floats:
    """eta; the arguments broadcast, age and glucose standardized."""
    fixed = INTERCEPT + B_SIZE * size + B_PLACE * weight + J_PLACE * size * weight + B_NIHSS * (nihss - 8) / 6
    return np.asarray(fixed + (B_AGE + J_AGE * size) * age + B_GLUCOSE * glucose, np.float64)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)


def nihss_probability(size: Floats, weight: Floats) -> Floats:
    """[..., 43] P(NIHSS = 0 .. 42) of infarcts [...]: a rounded normal, its tails at the ends of the scale."""
    mean = (8 + N_SIZE * size + N_PLACE * weight)[..., None]
    below = ndtr((_NIHSS[1:] - 0.5 - mean) / N_SD)
    ends = np.zeros((*mean.shape[:-1], 1))
    return np.asarray(np.diff(below, prepend=ends, append=ends + 1), np.float64)


def blocks(seed: int, missing: float = 0.0) -> Iterator[Latents]:
    """Endless blocks of `BLOCK` studies. Study i is the same however many are read; `missing` changes nothing else.

    Args:
        missing: share of studies without an image and, independently, of studies without a record.
    """
    for number in range(2**31):
        rng = np.random.default_rng([seed, number, 0])
        place = rng.choice(len(PLACES), BLOCK, p=_SHARE)
        size = rng.uniform(_LOW, _HIGH[place])
        mean = 8 + N_SIZE * size + N_PLACE * _WEIGHT[place]
        nihss = np.clip(np.rint(mean + N_SD * rng.standard_normal(BLOCK)), 0, 42).astype(np.int64)
        age, glucose = AGE.measure(rng.standard_normal(BLOCK)), GLUCOSE.measure(rng.standard_normal(BLOCK))
        eta = linear_predictor(size, _WEIGHT[place], nihss, AGE.standardize(age), GLUCOSE.standardize(glucose))
        mrs = (rng.random(BLOCK)[:, None] < sigmoid(eta[:, None] - CUTS)).sum(axis=1)
        observed = rng.random((BLOCK, 3)) >= UNOBSERVED
        pictured, recorded = rng.random((2, BLOCK)) >= missing
        bare = ~(pictured | recorded)  # a study holds something
        yield Latents(size, place, nihss, age, glucose, observed, pictured | bare, recorded, mrs)


def draw_latents(n: int, seed: int = 0, missing: float = 0.0) -> Latents:
    """The first n studies of `blocks`, in one piece."""
    drawn = [block for block, _ in zip(blocks(seed, missing), range(-(-n // BLOCK)), strict=False)]
    return Latents(*(np.concatenate([getattr(block, f.name) for block in drawn]) for f in fields(Latents)))[:n]


def posterior(latents: Latents, subset: Collection[str]) -> Floats:
    """[n] P(mRS > 2 | what the modalities in `subset` reveal), see the head of this file.

    Args:
        subset: of `MODALITIES`. A study that lacks one of them learns nothing from it.
    """
    pictured = latents.pictured & ("image" in subset)
    charted = latents.observed & (latents.recorded & ("record" in subset))[:, None]
    result = np.empty(len(latents))
    for start in range(0, len(latents), BLOCK):  # bounds the memory
        for image in (False, True):
            for nihss in (False, True):
                here = (pictured == image) & (charted[:, 1] == nihss)
                rows = np.flatnonzero(here[start : start + BLOCK]) + start
                if len(rows):
                    result[rows] = _expect(latents[rows], charted[rows], image, nihss)
    return result


def _expect(latents: Latents, charted: Bools, image: bool, nihss: bool) -> Floats:
    """[n] of studies that all show, or all hide, their image and their NIHSS; m infarcts times k scores are summed over."""
    if image:
        size, weight, prior = latents.size[:, None], _WEIGHT[latents.place][:, None], np.ones((1, 1))  # [n, m = 1]
    else:
        size, weight, prior = (part[None] for part in _infarcts())  # [1, m]
    share = prior[..., None] * nihss_probability(size, weight)  # [n or 1, m, k = 43]
    score = np.broadcast_to(_NIHSS, (len(latents), 1, len(_NIHSS)))
    if nihss:
        share = np.take_along_axis(
            np.broadcast_to(share, (len(latents), *share.shape[1:])), latents.nihss[:, None, None], 2
        )
        score = latents.nihss[:, None, None]
    age = np.where(charted[:, 0], AGE.standardize(latents.age_years), 0)[:, None, None]
    glucose = np.where(charted[:, 2], GLUCOSE.standardize(latents.glucose_mmol_l), 0)[:, None, None]
    mean = linear_predictor(size[..., None], weight[..., None], score, age, glucose)  # [n, m, k]
    hidden = (~charted[:, 0, None] * (B_AGE + J_AGE * size) ** 2 + ~charted[:, 2, None] * B_GLUCOSE**2)[..., None]
    points, density = np.polynomial.hermite_e.hermegauss(_NODES)
    p = sum(d * sigmoid(mean + np.sqrt(hidden) * x) for x, d in zip(points, density / density.sum(), strict=True))
    return np.asarray((p * share).sum(axis=(1, 2)) / np.broadcast_to(share, mean.shape).sum(axis=(1, 2)), np.float64)


def _infarcts() -> tuple[Floats, Floats, Floats]:
    """[m] size, weight and probability of the infarcts that stand for all: Gauss nodes of the size in each place."""
    points, share = np.polynomial.legendre.leggauss(_SIZES)
    size = _LOW + (_HIGH - _LOW)[:, None] * (points + 1) / 2
    weight, prior = np.broadcast_to(_WEIGHT[:, None], size.shape), _SHARE[:, None] * share / 2
    return size.ravel(), weight.ravel(), prior.ravel()


def bayes(latents: Latents) -> dict[str, Floats]:
    """The posterior of every non-empty subset -> [n]."""
    return {name: posterior(latents, name.split("+")) for name in SUBSETS}
