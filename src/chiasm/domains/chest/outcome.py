"""The causes of the phantom's outcome, what each modality reveals of it, and the best any reader of a subset can do.

Three latents, independent of each other and of every lesion, decide the event:

    burden z  uniform, mean 0, variance 1    seen in the image alone (lung volume and interstitial pattern)
    course t  one of five levels, equally likely   told by the report's indication alone, now and then left out
    illness r standard normal                measured by five vital signs of the record, each with noise, some missing

    logit P(event) = A_BURDEN z + A_COURSE (t - 2) / sqrt(2) + A_ILLNESS r + A_JOINT z r + INTERCEPT

An image shows z exactly. A report states t exactly or not at all. A record with observed vitals x_j = l_j r +
sqrt(1 - l_j^2) e_j (standardized, e_j standard normal) leaves r normal, with precision 1 + sum l_j^2 / (1 - l_j^2) and mean
sum x_j l_j / (1 - l_j^2) / precision. The posterior of the event sums over what stays hidden: exactly over the levels, by
Gauss quadrature over z and r. Vitals are recorded in rounded units and taken at their rounded value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MODALITIES = ("image", "text", "record")
SUBSETS = tuple("+".join(names) for k in (1, 2, 3) for names in combinations(MODALITIES, k))

A_BURDEN, A_COURSE, A_ILLNESS, A_JOINT, INTERCEPT = 1.5, 1.6, 1.8, 0.5, -0.2
MAX_BURDEN = 3**0.5
LEVELS = 5
UNSTATED_SHARE = 0.06
UNOBSERVED_SHARE = 0.12
BLOCK = 256
_NODES = 24  # the posteriors are then within 1e-5 of the integral


@dataclass(frozen=True)
class Vital:
    """One measured column: `value = mean + deviation * x`, or `mean * exp(deviation * x)` where `log`, then rounded."""

    loading: float
    mean: float
    deviation: float
    decimals: int
    low: float
    high: float
    log: bool = False

    def measure(self, x: Floats) -> Floats:
        """[n] standardized -> [n] in the column's unit, rounded and kept within what the instrument shows."""
        value = self.mean * np.exp(self.deviation * x) if self.log else self.mean + self.deviation * x
        return np.clip(np.round(value, self.decimals), self.low, self.high)

    def standardize(self, value: Floats) -> Floats:
        """The inverse of `measure`, up to rounding."""
        standard = np.log(value / self.mean) if self.log else value - self.mean
        return np.asarray(standard / self.deviation, np.float64)


VITALS: dict[str, Vital] = {
    "heart_rate_per_min": Vital(0.75, 88.0, 14.0, 0, 30.0, 220.0),
    "respiratory_rate_per_min": Vital(0.65, 19.0, 3.5, 0, 4.0, 60.0),
    "temperature_c": Vital(0.55, 37.4, 0.7, 1, 33.0, 43.0),
    "spo2_percent": Vital(-0.70, 93.0, 2.4, 0, 60.0, 100.0),
    "crp_mg_l": Vital(0.65, 40.0, 0.5, 1, 0.1, 500.0, log=True),
}
_LOADING = np.array([vital.loading for vital in VITALS.values()])


@dataclass(frozen=True)
class Latents:
    """n studies without their pictures and words.

    Attributes:
        burden, illness: [n] the latents z and r; course: [n] int level 0 (none) .. 4 (severe).
        stated: [n] whether a report tells the course.
        vitals: [n, 5] as recorded, in the order and units of `VITALS`; observed: [n, 5] whether each was measured.
        reported, recorded: [n] whether the study has a report and a record at all.
        event: [n] the outcome that was drawn.
    """

    burden: Floats
    illness: Floats
    course: NDArray[np.int64]
    stated: Bools
    vitals: Floats
    observed: Bools
    reported: Bools
    recorded: Bools
    event: Bools

    def __len__(self) -> int:
        return len(self.burden)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Self:
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))


def event_probability(burden: Floats, course: Floats | NDArray[np.int64], illness: Floats) -> Floats:
    """P(event | all three latents); the arguments broadcast."""
    logit = INTERCEPT + A_BURDEN * burden + A_COURSE * (course - 2) / np.sqrt(2)
    return np.asarray(1 / (1 + np.exp(-(logit + (A_ILLNESS + A_JOINT * burden) * illness))), np.float64)


def blocks(seed: int, missing: float = 0.0) -> Iterator[Latents]:
    """Endless blocks of `BLOCK` studies. Study i is the same however many are read; `missing` changes nothing else.

    Args:
        missing: share of studies without a report, and, independently, of studies without a record.
    """
    for number in range(2**31):
        rng = np.random.default_rng([seed, number, 0])
        burden = rng.uniform(-MAX_BURDEN, MAX_BURDEN, BLOCK)
        course = rng.integers(0, LEVELS, BLOCK)
        illness = rng.standard_normal(BLOCK)
        signs = illness[:, None] * _LOADING + np.sqrt(1 - _LOADING**2) * rng.standard_normal((BLOCK, len(VITALS)))
        columns = [vital.measure(x) for vital, x in zip(VITALS.values(), signs.T, strict=True)]
        yield Latents(
            burden,
            illness,
            course,
            stated=rng.random(BLOCK) >= UNSTATED_SHARE,
            vitals=np.stack(columns, axis=1),
            observed=rng.random((BLOCK, len(VITALS))) >= UNOBSERVED_SHARE,
            event=rng.random(BLOCK) < event_probability(burden, course, illness),
            reported=rng.random(BLOCK) >= missing,
            recorded=rng.random(BLOCK) >= missing,
        )


def draw_latents(n: int, seed: int = 0, missing: float = 0.0) -> Latents:
    """The first n studies of `blocks`, in one piece."""
    drawn = [block for block, _ in zip(blocks(seed, missing), range(-(-n // BLOCK)), strict=False)]
    joined = Latents(*(np.concatenate([getattr(block, f.name) for block in drawn]) for f in fields(Latents)))
    return joined[:n]


def posterior(latents: Latents, subset: Collection[str]) -> Floats:
    """[n] P(event | what the modalities in `subset` reveal), see the head of this file.

    Args:
        subset: of `MODALITIES`. A study that lacks one of them learns nothing from it.
    """
    seen = latents.observed & latents.recorded[:, None] & ("record" in subset)
    columns = [vital.standardize(column) for vital, column in zip(VITALS.values(), latents.vitals.T, strict=True)]
    weight = seen * _LOADING / (1 - _LOADING**2)
    precision = 1 + weight @ _LOADING
    mean = (weight * np.stack(columns, axis=1)).sum(axis=1) / precision

    told = latents.stated & latents.reported & ("text" in subset)
    levels = np.where(told[:, None], np.eye(LEVELS)[latents.course], 1 / LEVELS)  # [n, t]

    points, share = np.polynomial.legendre.leggauss(_NODES)
    if "image" in subset:
        burden, share = latents.burden[:, None], np.ones(1)
    else:
        burden, share = np.broadcast_to(MAX_BURDEN * points, (len(latents), _NODES)), share / 2
    normal, density = np.polynomial.hermite_e.hermegauss(_NODES)
    illness = mean[:, None] + normal / np.sqrt(precision)[:, None]

    result = np.empty(len(latents))
    for start in range(0, len(latents), BLOCK):  # bounds the memory of [n, z, t, r]
        rows = slice(start, start + BLOCK)
        p = event_probability(burden[rows, :, None, None], np.arange(LEVELS)[:, None], illness[rows, None, None, :])
        result[rows] = np.einsum("nztr,z,nt,r->n", p, share, levels[rows], density / density.sum(), optimize=True)
    return result


def bayes(latents: Latents) -> dict[str, Floats]:
    """The posterior of every non-empty subset: "image", "text", ..., "image+text+record" -> [n]."""
    return {name: posterior(latents, name.split("+")) for name in SUBSETS}
