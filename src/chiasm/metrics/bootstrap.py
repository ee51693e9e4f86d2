"""Intervals by resampling patients, for every metric by one road.

A metric is a function of sums over rows (true positives, squared errors, clipped n-grams, counts per threshold). A
resample of patients is one integer weight per patient, so all its sums are one product `statistics @ weights`, and a
metric of 1,000 resamples costs little more than one. Column 0 of the weights is all ones: the sample itself goes the
same road as its resamples.

>>> resamples = Resamples.draw(["ann", "ann", "bob"], resamples=200)
>>> resamples.mean(np.array([1.0, 1.0, 0.0]), "share").metric().value
0.6666666666666666
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from chiasm.metrics.metric import Metric

Floats = NDArray[np.float64]
Statistics = Floats | sparse.csr_array
Interval = Literal["percentile", "basic", "none"]
FEWEST = 5
"""Patients of a class below which a binary figure is not reported. Intervals within folds are reported from here on: they are
wide and hold the truth in at least nine samples of ten (benchmarks/fold_ranking.py)."""
ROUNDING = 1e-12
"""Numbers whose difference is a smaller share of them than this differ by rounding alone."""
_CACHED = 2**18  # numbers of a block of sums: small enough to stay in the cache of a core


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of patients, drawn once and shared by every metric of an evaluation, so that differences are paired.

    Attributes:
        patients: [n] number of the patient of each row. All rows of a patient are drawn together.
        weights: [patients, R + 1] how often each patient stands in each resample; column 0 is the sample itself.
        key: names patients, R and seed; two estimates can be compared where it is the same.
    """

    patients: NDArray[np.intp]
    weights: NDArray[np.uint8]
    key: str

    @classmethod
    def draw(cls, patient_ids: ArrayLike, resamples: int = 1000, seed: int = 0) -> Self:
        """Draw with replacement as many patients as there are; the draw does not depend on the order of the rows.

        Args:
            patient_ids: [n], one a row.

        Raises:
            ValueError: they are not a list.
        """
        ids = np.asarray(patient_ids, dtype=np.str_)
        if ids.ndim != 1:
            raise ValueError(f"a patient id for each row expected, got shape {ids.shape}")
        names, patients = np.unique(ids, return_inverse=True)
        n, rng = len(names), np.random.default_rng(seed)
        weights = np.ones((resamples + 1, n), np.uint8)  # P(a patient is drawn > 255 times) < 1e-500
        for row in weights[1:]:
            row[:] = np.bincount(rng.integers(n, size=n, dtype=np.uint32), minlength=n) if n else 0
        digest = hashlib.sha256("\0".join([str(resamples), str(seed), *names.tolist()]).encode())
        return cls(patients, np.ascontiguousarray(weights.T), digest.hexdigest())

    def __len__(self) -> int:
        return len(self.patients)

    def at(self, rows: ArrayLike) -> Self:
        """The same resamples over other rows: a subgroup (numbers or a bool mask of rows), or images of the studies."""
        return replace(self, patients=self.patients[np.asarray(rows, dtype=np.intp if np.size(rows) == 0 else None)])

    def draws(self, statistics: Statistics, function: Callable[[Floats], Floats]) -> Floats:
        """A function of weighted sums, on the sample and on every resample.

        Args:
            statistics: [k, n] or [n], a value per row; dense, or sparse where most are 0. The identity matrix hands the
                row weights themselves to `function`.
            function: [k, r] sums -> [..., r], each column by itself; 0 / 0 is welcome, NaN means undefined. Called from
                several threads.

        Returns:
            [..., R + 1].
        """
        present, patients = np.unique(self.patients, return_inverse=True)
        belongs = sparse.csr_array((np.ones(len(self)), (np.arange(len(self)), patients)), (len(self), len(present)))
        totals = (statistics if sparse.issparse(statistics) else np.atleast_2d(statistics)) @ belongs
        weights = self.weights if len(present) == len(self.weights) else self.weights[present]
        width = max(8, _CACHED // max(*totals.shape, 1))

        def block(start: int) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                return function(np.asarray(totals @ weights[:, start : start + width].astype(np.float64)))

        starts = range(0, weights.shape[1], width)
        if len(starts) == 1:
            return block(0)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(block, starts)), axis=-1)

    def estimate(
        self,
        draws: Floats,
        protocol: str,
        *,
        detail: str = "",
        undefined: str = "",
        interval: Interval = "percentile",
        classes: Sequence[NDArray[np.bool_]] = (),
    ) -> Estimate:
        """Give draws [R + 1] of these rows a protocol.

        Args:
            undefined: the reason should the sample's value be NaN.
            classes: [n] bool each, the rows of every class that the figure needs; first the positives, or the events.
        """
        reason = undefined if len(self) else "no patient here has this truth"
        counts = tuple(len(np.unique(self.patients[here])) for here in classes)
        return Estimate(draws, np.unique(self.patients), protocol, detail, reason, interval, self.key, counts)

    def mean(self, values: ArrayLike, protocol: str, classes: Sequence[NDArray[np.bool_]] = ()) -> Estimate:
        """The mean of a value per row [n], every row of equal weight. NaN is an undefined row: left out and counted."""
        values = np.asarray(values, np.float64)
        defined = ~np.isnan(values)
        rows, kept = self.at(defined), values[defined]
        draws = rows.draws(np.stack([kept, np.ones_like(kept)]), lambda sums: sums[0] / sums[1])
        lost = len(values) - len(kept)
        detail = f"{lost:,} of {len(values):,} undefined and left out" if lost else ""
        return rows.estimate(draws, protocol, detail=detail, classes=[here[defined] for here in classes])


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure on the sample and on each resample; `metric()` sums it up, `a - b` is the paired difference.

    Attributes:
        draws: [R + 1], the sample itself first; NaN where undefined.
        patients: numbers of the patients it rests on.
        protocol: what is computed; two estimates can be averaged or compared where it is the same.
        detail: what holds for this one alone: its threshold, the rows it left out.
        reason: why it is undefined, should it be so.
        interval: "percentile"; "basic" for figures that chance inflates in a sample, and resampling once more (a calibration
            error): value and interval are 2 value - the mean, or the percentiles, of the resamples, cut at 0; "none" for
            figures that resampling makes meaningless (a share of distinct texts).
        key: of the resamples.
        classes: patients of each class that the figure needs, first the positives or the events; () of any other figure.
        error: standard error of a share of pairs, where its interval is made of that (`chiasm.metrics.folds`); None where it
            is made of the draws.
    """

    draws: Floats
    patients: NDArray[np.intp]
    protocol: str
    detail: str
    reason: str
    interval: Interval
    key: str
    classes: tuple[int, ...] = ()
    error: float | None = None

    @property
    def undefined(self) -> str:
        """Why there is no value to report, or "": it is NaN, or a class has fewer than `FEWEST` patients."""
        if np.isnan(self.draws[0]):
            return self.reason or "undefined"
        if min(self.classes, default=FEWEST) < FEWEST:
            few = min(self.classes)
            return f"{few} patient{'s' if few != 1 else ''} of a class; at least {FEWEST} are needed"
        return ""

    def metric(self) -> Metric:
        """Value and 95% interval. Resamples in which the figure is undefined are left out; the protocol counts them.

        Beside the value of a "basic" estimate stands the bootstrap's bias-corrected one (Efron & Tibshirani 1993, section 10.2), to
        which its interval belongs.
        """
        value, draws, n = float(self.draws[0]), self.draws[1:], len(self.patients)
        protocol = "; ".join(filter(None, [self.protocol, self.detail]))
        events = self.classes[0] if self.classes else None
        if self.undefined:
            return Metric(None, None, None, n, protocol, self.undefined, events)
        defined = draws[~np.isnan(draws)]
        lost = len(draws) - len(defined)
        why_not = {
            "resampling patients makes it meaningless": self.interval == "none",
            "one patient": n < 2,
            f"undefined in {lost:,} of {len(draws):,} resamples": 2 * lost >= len(draws),
        }
        for why, applies in why_not.items():
            if applies:
                return Metric(value, None, None, n, f"{protocol}; no interval: {why}", events=events)
        if self.error is not None:
            few = min(self.classes)
            low, high = share_interval(value, self.error, few)
            made = f"95% interval: Wilson's at the standard error {self.error:.4f} of patients, t of {few - 1} degrees"
            return Metric(value, low, high, n, f"{protocol}; {made}", events=events)
        low, high = np.percentile(defined, [2.5, 97.5]).tolist()
        how = "percentiles"
        corrected = None
        if self.interval == "basic":
            low, mean, high = (max(0.0, 2 * value - x) for x in (high, float(defined.mean()), low))
            corrected, how = min(max(mean, low), high), "2 x value - percentiles, cut at 0,"
            protocol += f"; less what chance alone adds to it, 2 x value - mean of resamples, cut at 0: {corrected:.4f}"
        left_out = f", {lost:,} of them undefined and left out" if lost else ""
        resampled = f"95% interval: {how} of {len(draws):,} resamples of patients{left_out}"
        return Metric(value, low, high, n, f"{protocol}; {resampled}", events=events, corrected=corrected)

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference over the same resamples.

        Raises:
            ValueError: the two rest on different resamples or follow different protocols.
        """
        _check_alike([self, other])
        difference = self.draws - other.draws
        rounding = np.abs(difference) <= ROUNDING * np.maximum(np.abs(self.draws), np.abs(other.draws))
        return replace(
            self,
            draws=np.where(rounding, 0.0, difference),
            patients=np.union1d(self.patients, other.patients),
            protocol=f"paired difference of {self.protocol}" + ", uncorrected" * (self.interval == "basic"),
            detail=" minus ".join(e.detail for e in (self, other)) if self.detail or other.detail else "",
            reason=next((e.reason for e in (self, other) if np.isnan(e.draws[0])), ""),
            interval="percentile" if self.interval == "basic" else self.interval,
            classes=tuple(map(min, self.classes, other.classes)),
            error=None,
        )


def macro(estimates: Mapping[str, Estimate]) -> Estimate:
    """The mean over the labels on which the figure is defined; the protocol names them, and those left out.

    A resample in which one of them is undefined is undefined, so that all resamples average the same labels. Where no label has
    enough patients of a class, the mean of those with any is computed, and not reported.

    Raises:
        ValueError: there are no estimates, or they rest on different resamples or follow different protocols.
    """
    _check_alike(list(estimates.values()))
    kept = {label: e for label, e in estimates.items() if not e.undefined}
    undefined = [f"{label} ({e.undefined})" for label, e in estimates.items() if e.undefined]
    some = {label: e for label, e in estimates.items() if not np.isnan(e.draws[0])}
    used = list((kept or some or estimates).values())
    return replace(
        used[0],
        draws=np.mean([e.draws for e in used], axis=0),
        patients=np.unique(np.concatenate([e.patients for e in used])),
        protocol=f"mean over {', '.join(kept) or 'no label'} of {used[0].protocol}",
        detail=f"undefined and left out: {', '.join(undefined)}" if undefined else "",
        reason="undefined for every label",
        classes=() if kept else (max(min(e.classes, default=0) for e in used),),
        error=None,
    )


def share_interval(value: float, error: float, few: int) -> tuple[float, float]:
    """95% interval of a share of pairs from its standard error: Wilson's (1927) at the sample size that has this error.

    The size is value (1 - value) / error^2 (Korn & Graubard 1998), or the `few` patients of the rarer class where nothing
    varies; the quantile is t's with few - 1 degrees. Unlike value -+ t * error it stays within 0..1 and is no point where all
    pairs are in order.
    """
    spread, q = value * (1 - value), float(stats.t.ppf(0.975, few - 1))
    size = spread / error**2 if spread > 0 and error > 0 else float(few)
    middle = (value + q**2 / (2 * size)) / (1 + q**2 / size)
    reach = q * np.sqrt(spread / size + q**2 / (4 * size**2)) / (1 + q**2 / size)
    return float(max(0.0, middle - reach)), float(min(1.0, middle + reach))


def indicator(groups: NDArray[np.integer], n_groups: int, values: Floats | None = None) -> sparse.csr_array:
    """[n_groups, n] sparse statistics: row j of the data adds values[j] (default 1) to the sum of its group."""
    n = len(groups)
    return sparse.csr_array((np.ones(n) if values is None else values, (groups, np.arange(n))), (n_groups, n))


def varies(values: NDArray[np.floating]) -> bool:
    """Do they differ by more than rounding? The mean of .1, .1 and .1 is not .1, and a variance of 1e-34 is none."""
    if not len(values):
        return False
    rounding = max(ROUNDING, 16 * float(np.finfo(values.dtype).eps) if values.dtype != np.float64 else 0.0)
    return bool(np.ptp(values) > rounding * np.abs(values).max())


def _check_alike(estimates: Sequence[Estimate]) -> None:
    if len({e.key for e in estimates}) != 1:
        raise ValueError("estimates of one comparison must rest on the same patients, number of resamples and seed")
    if len({e.protocol for e in estimates}) != 1:
        raise ValueError(f"estimates of one protocol expected, got {sorted({e.protocol for e in estimates})}")
