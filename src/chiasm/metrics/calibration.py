"""Do probabilities mean what they say: calibration error, reliability, and the temperature that mends them.

Arguments as in `chiasm.metrics.classification`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax

from chiasm.encoding.levels import NEVER
from chiasm.metrics.bootstrap import Estimate, Floats, Resamples, indicator, varies
from chiasm.metrics.classification import known_rows

BINS = 15
TEMPERATURES = (0.25, 4.0)
"""The bounds within which a temperature is sought: in small samples wider ones lose (benchmarks/calibration_size.py)."""
FEWEST_TO_CALIBRATE = 10
"""Validation patients of the rarer class below which a temperature is left out: from here on it costs a model that is calibrated
already less than .01 of log loss and .034 of calibration error, and gives one that is twice too sure .071 and .056; with 5 it
costs .015 and .047, and gives .068 and .048 (benchmarks/calibration_size.py)."""
FEWEST_FOR_THRESHOLD = 5
"""The same for a threshold: its F1 lies on average .06 above that of .5 and .04 below the best with 5 patients of the rarer class
(prevalence .1 to .5), and with 2 or 3 it is worse than .5 where half are positive, by .02."""


def ece(
    labels: ArrayLike, probabilities: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None, bins: int = BINS
) -> Estimate:
    """Expected calibration error: sum over bins of |sum of (probability - label)| / n (Naeini et al. 2015).

    Bins hold equal shares of the sample (equal width would put a rare label into one bin); equal probabilities are
    never parted, and many of them pull no other into their bin; the bins of the sample serve its resamples. Chance alone makes
    the error positive, and resampling adds as much again: what it adds is taken off, from the value and from its interval.
    """
    y, p, rows = known_rows(labels, probabilities, resamples, mask)
    bin_of, n_bins = _equal_mass(p, bins)
    gaps = np.zeros((n_bins, len(y)))
    gaps[bin_of, np.arange(len(y))] = p - y
    draws = rows.draws(np.vstack([gaps, np.ones(len(y))]), lambda sums: np.abs(sums[:-1]).sum(axis=0) / sums[-1])
    protocol = f"expected calibration error, {bins} bins of equal mass"
    return rows.estimate(draws, protocol, interval="basic", classes=(y, ~y))


@dataclass(frozen=True)
class Reliability:
    """One row a bin, in order of probability; all [bins].

    Attributes:
        probability: mean answer; observed: share of positives, with its 95% interval low..high; n: rows.
    """

    probability: Floats
    observed: Floats
    low: Floats
    high: Floats
    n: Floats


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None, bins: int = BINS
) -> Reliability:
    """The table behind `ece`, of the same bins. Where no patient of a resample fell into a bin, it says nothing there."""
    y, p, rows = known_rows(labels, probabilities, resamples, mask)
    bin_of, n_bins = _equal_mass(p, bins)
    count, answered, positive = (
        rows.draws(indicator(bin_of, n_bins, values), lambda sums: sums)
        for values in (np.ones(len(p)), p, y.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):
        observed = positive / count
    low, high = np.nanpercentile(observed[:, 1:], [2.5, 97.5], axis=1) if n_bins else np.empty((2, 0))
    return Reliability(answered[:, 0] / count[:, 0], observed[:, 0], low, high, count[:, 0])


def fit_temperature(
    labels: ArrayLike,
    logits: ArrayLike,
    mask: ArrayLike | None = None,
    bounds: tuple[float, float] = TEMPERATURES,
) -> float | None:
    """The T that minimizes the log loss of sigmoid(logit / T) (Guo et al. 2017); None with one class only.

    The labels are smoothed as by Platt (1999), (n+ + 1) / (n+ + 2) and 1 / (n- + 2), so that a small sample the model
    tells apart perfectly does not call for certainty. T is sought within `bounds`.
    """
    y, z, _ = known_rows(labels, logits, Resamples.draw(range(np.size(labels)), resamples=0), mask)
    n_positive, n_negative = y.sum(), (~y).sum()
    if not (n_positive and n_negative):
        return None
    smoothed = np.where(y, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def log_loss(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        return -float(np.mean(smoothed * log_expit(scaled) + (1 - smoothed) * log_expit(-scaled)))

    found = minimize_scalar(log_loss, bounds=tuple(np.log(bounds)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_softmax_temperature(codes: ArrayLike, logits: ArrayLike) -> float | None:
    """The T that minimizes the log loss of softmax(logits / T); None where one level alone is known.

    As in `fit_temperature` the truth is smoothed: half a study of each level is added, shared out over the n studies, so
    that a small sample the model tells apart perfectly does not call for certainty.

    Args:
        codes: [n] numbers of the true levels; logits: [n, Q].
    """
    y, z = np.asarray(codes, np.int64), np.asarray(logits, np.float64)
    if len(np.unique(y)) < 2:
        return None
    real = z.max(axis=0) > NEVER / 2
    share = 0.5 * real.sum() / (len(y) + 0.5 * real.sum())
    truth = (1 - share) * (y[:, None] == np.arange(z.shape[1])) + share * real / real.sum()

    def log_loss(log_temperature: float) -> float:
        log_p = log_softmax(z / np.exp(log_temperature), axis=1)
        return -float(np.mean(np.sum(np.where(real, truth * log_p, 0), axis=1)))

    found = minimize_scalar(log_loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibration_line(
    labels: ArrayLike, logits: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None
) -> dict[str, Estimate]:
    """`slope` and `intercept` of the logistic regression of labels on logits (Cox 1958): 1 and 0 where calibrated.

    A slope below 1 is overconfidence. Each resample is one Newton step from the fit to the sample (the one-step
    bootstrap), which the sums of score and information give. Undefined where a class is missing or the logits part the
    classes (the fit would run to infinity).
    """
    y, z, rows = known_rows(labels, logits, resamples, mask)
    fit = _logistic_fit(y, z)
    names = {"intercept": "calibration intercept", "slope": "calibration slope"}
    if fit is None:
        why = "one class only, or logits that part the classes or never vary"
        nothing = np.full(resamples.weights.shape[1], np.nan)
        return {key: rows.estimate(nothing, name, undefined=why, classes=(y, ~y)) for key, name in names.items()}
    mu = expit(fit[0] + fit[1] * z)
    v = mu * (1 - mu)

    def newton_step(sums: Floats) -> Floats:
        u0, u1, i00, i01, i11 = sums
        determinant = i00 * i11 - i01**2
        determinant[determinant <= 1e-12 * i00 * i11] = np.nan  # a resample of one logit has no slope, but for rounding
        steps: Floats = np.stack([i11 * u0 - i01 * u1, i00 * u1 - i01 * u0]) / determinant
        return fit[:, None] + steps

    draws = rows.draws(np.stack([y - mu, (y - mu) * z, v, v * z, v * z * z]), newton_step)
    found = zip(names.items(), draws, strict=True)
    return {key: rows.estimate(draw, name, classes=(y, ~y)) for (key, name), draw in found}


def _logistic_fit(y: NDArray[np.bool_], z: Floats) -> Floats | None:
    """[intercept, slope] of maximum likelihood, or None where there is none: the classes must overlap."""
    if not (varies(z) and y.any() and not y.all() and z[y].max() > z[~y].min() and z[~y].max() > z[y].min()):
        return None
    x = np.stack([np.ones_like(z), z])

    def loss(beta: Floats) -> float:
        return -float(np.mean(log_expit(np.where(y, 1, -1) * (beta @ x))))

    def gradient(beta: Floats) -> Floats:
        return x @ (expit(beta @ x) - y) / len(z)

    def hessian(beta: Floats) -> Floats:
        mu = expit(beta @ x)
        return (x * mu * (1 - mu)) @ x.T / len(z)

    return np.asarray(minimize(loss, np.zeros(2), jac=gradient, hess=hessian, method="trust-exact", tol=1e-8).x)


def _equal_mass(p: Floats, bins: int) -> tuple[NDArray[np.intp], int]:
    """Bin of each row [n] and the number of bins: about n / bins rows each, equal probabilities in one bin.

    Where the middle of all rows of one probability lies among the n decides, so that a mass of equal ones takes no other in with
    it, at whichever end it stands, and 1 - p has the same bins. On an edge it goes outward, to keep that so.
    """
    _, value, count = np.unique(p, return_inverse=True, return_counts=True)
    middle = (2 * count.cumsum() - count) * bins  # of 2 n: in whole numbers, where an edge is met exactly
    place, on_edge = np.divmod(middle, max(2 * len(p), 1))
    place = place - ((on_edge == 0) & (2 * place <= bins))
    _, bin_of = np.unique(place[value], return_inverse=True)
    return bin_of, int(bin_of.max(initial=-1)) + 1
