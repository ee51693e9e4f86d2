"""Ranking over folds on patients whose truth is known: which figure, and which interval, says what the fold models are worth?

Two classes of normal features whose true AUROC of any linear model has a closed form; in every replication new patients are
drawn and the models of K folds x R repeats fitted anew (linear discriminant with a ridge). Side by side:

- pooled: each fold's answers calibrated by a temperature from a tenth of its learning patients, averaged by patient over
  repeats, ranked together, percentile interval of resampled patients;
- within: pairs tested by one fold model (`chiasm.metrics.folds`), with several intervals.

Both are held against the mean true AUROC of the K x R models and against its expectation, the worth of the training procedure.

    OMP_NUM_THREADS=1 python benchmarks/fold_ranking.py --work FOLDER       a file a cell; what is there for the same code is not run again
    writes benchmarks/results/fold_ranking.json, which names the cells that are missing
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
from functools import cache
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, t

from chiasm.metrics import classification, folds
from chiasm.metrics.bootstrap import Resamples, indicator, share_interval

OUT = Path(__file__).parent / "results" / "fold_ranking.json"
REPLICATIONS, RESAMPLES = 2000, 200
RESAMPLED_POOLED, RESAMPLED = 300, 50  # replications of a cell that are bootstrapped, pooled and within folds
BEST = 0.8  # AUROC of the best linear model
RIDGE = 5.0
FEATURES = 8  # and 3 or 20 in a few cells: a model that hardly overfits, and one that does
N, PREVALENCE, FOLDS, REPEATS = (60, 100, 200, 400, 1000), (0.05, 0.1, 0.2, 0.5), (3, 5, 10), (1, 3, 10)
PATIENTS = np.char.zfill(np.arange(max(N)).astype(str), 4)
TEMPERATURES = np.geomspace(0.05, 20, 21)
FROM_PACKAGE = (Resamples, share_interval, classification.ranking, folds.Tested, folds.Steps, folds.standard_error)
RAW = (
    *("target", "within", "error", "error_of_repeat", "error_of_mean", "both_counted", "low", "high"),
    *("pooled", "pooled_low", "pooled_high", "true_auprc", "auprc", "pooled_auprc"),
    *("resampled_low", "resampled_high", "stratified_low", "stratified_high"),
)
Array = np.ndarray


class Cell(NamedTuple):
    n: int
    prevalence: float
    k: int
    repeats: int
    features: int = FEATURES

    @property
    def name(self) -> str:
        return "-".join(map(str, self))

    @property
    def few(self) -> int:
        """Patients of the rarer class."""
        return round(self.n * self.prevalence)


def cells() -> list[Cell]:
    """A fifth of the grid in which every two levels of two factors meet, and all of its corners; then other models."""
    chosen = []
    for place in product(*(range(len(levels)) for levels in (N, PREVALENCE, FOLDS, REPEATS))):
        cell = Cell(*(levels[i] for levels, i in zip((N, PREVALENCE, FOLDS, REPEATS), place, strict=True)))
        ends = all(i in (0, len(levels) - 1) for i, levels in zip(place, (N, PREVALENCE, FOLDS, REPEATS), strict=True))
        if sum(place) % 5 == 0 or ends:
            chosen.append(cell)
    others = [(100, 0.2, 5, 3), (200, 0.1, 5, 3), (200, 0.1, 10, 10), (400, 0.5, 5, 3)]
    by_cost = sorted(chosen, key=lambda c: c.n * c.repeats)
    return by_cost[::2] + [Cell(*c, d) for d in (3, 20) for c in others] + by_cost[1::2]


# --- patients and models ------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """Labels [n]; logits, calibrated probabilities and fold models of the tested [n, R]; true AUROC of the models [K R]."""

    labels: Array
    logits: Array
    probabilities: Array
    tested_by: Array
    true: Array


def train(cell: Cell, rng: np.random.Generator) -> Trained:
    """New patients, new folds (stratified, as a run deals them), new models."""
    n, k, repeats, d = cell.n, cell.k, cell.repeats, cell.features
    y = np.arange(n) < cell.few
    shift = np.full(d, norm.ppf(BEST) * np.sqrt(2 / d))
    x = rng.normal(size=(n, d)) + y[:, None] * shift
    fold = np.empty((repeats, n), int)
    for row in fold:
        row[np.lexsort((rng.random(n), y))] = np.arange(n) % k
    learns = (fold[:, None] != np.arange(k)[:, None]).reshape(-1, n)  # [R K, n]
    held = learns & (rng.random(learns.shape) < 0.1)
    w, b = discriminants(x, y, learns & ~held)
    z = x @ w.T + b  # [n, R K]
    scale = temperatures(z, y, held)
    tested_by = (fold + k * np.arange(repeats)[:, None]).T
    own = np.take_along_axis(z, tested_by, axis=1)
    true = norm.cdf(w @ shift / np.sqrt(2 * (w * w).sum(axis=1)))
    return Trained(y, own, expit(own / scale[tested_by]), tested_by, true)


def discriminants(x: Array, y: Array, learns: Array) -> tuple[Array, Array]:
    """Weights [M, d] and intercepts [M] of the models that learn from `learns` [M, n]."""
    d = x.shape[1]
    i, j = np.triu_indices(d)
    powers, members = np.concatenate([np.ones((len(x), 1)), x, x[:, i] * x[:, j]], axis=1), learns.astype(float)

    def moments(of_class: Array) -> tuple[Array, Array, Array]:
        sums = members[:, of_class] @ powers[of_class]
        count, square = np.maximum(sums[:, 0], 1), np.empty((len(sums), d, d))
        mean = sums[:, 1 : d + 1] / count[:, None]
        square[:, i, j] = square[:, j, i] = sums[:, d + 1 :]
        return count, mean, square - count[:, None, None] * mean[:, :, None] * mean[:, None]

    (n1, mean1, spread1), (n0, mean0, spread0) = moments(y), moments(~y)
    covariance = (spread1 + spread0 + RIDGE * np.eye(d)) / (n1 + n0 + RIDGE)[:, None, None]
    w = np.linalg.solve(covariance, (mean1 - mean0)[..., None])[..., 0]
    return w, np.log(n1 / n0) - ((mean1 + mean0) * w).sum(axis=1) / 2


def temperatures(z: Array, y: Array, held: Array) -> Array:
    """[M] of the smoothed log loss on each model's held patients, 1 where they have one class (as `fit_temperature`, on a grid)."""
    model, row = np.nonzero(held)
    count = held.sum(axis=1)
    positive = (held & y).sum(axis=1)
    truth = np.where(y[row], ((positive + 1) / (positive + 2))[model], (1 / (count - positive + 2))[model])
    scaled = np.clip(z[row, model][:, None] / TEMPERATURES, -500, 500)
    loss = indicator(model, len(held)) @ (np.log1p(np.exp(scaled)) - truth[:, None] * scaled)
    return np.where((positive > 0) & (positive < count), TEMPERATURES[loss.argmin(axis=1)], 1.0)


@cache
def auprc_table(prevalence: float) -> tuple[Array, Array]:
    """AUROC, and the average precision of endless patients whose scores are normal and have it."""
    auroc, cut = np.linspace(0.02, 0.98, 97), np.linspace(8, -8, 1601)
    recall, wrong = norm.sf(cut - np.sqrt(2) * norm.ppf(auroc)[:, None]), norm.sf(cut)
    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * wrong)
    return auroc, np.trapezoid(precision, recall, axis=1)


# --- one cell -----------------------------------------------------------------------------------------------------------


def run(cell: Cell, replications: int, file: Path) -> None:
    rng = np.random.default_rng([7, *(round(100 * number) for number in cell)])
    raw = np.full((replications, len(RAW)), np.nan)
    for number in range(replications):
        raw[number] = replicate(cell, rng, number)
    part = file.with_suffix(".part")
    with part.open("wb") as target:
        np.save(target, raw, allow_pickle=False)
    part.rename(file)


def replicate(cell: Cell, rng: np.random.Generator, number: int) -> list[float]:
    trained = train(cell, rng)
    y = trained.labels
    whole = Resamples.draw(PATIENTS[: cell.n], 0)
    tested = folds.Tested.of(trained.logits, trained.tested_by)
    rows, labels = whole.at(tested.rows), y[tested.rows]
    steps = folds.Steps.of(labels, tested.scores, tested)  # what `folds.ranking` does, with what it keeps to itself
    value, precision = rows.draws(steps.counts, steps.figures)[:, 0]
    influence = steps.influence(labels, rows)
    error = folds.standard_error(influence)
    in_fold = [np.bincount(tested.group[here], minlength=len(tested.repeat)) for here in (labels, ~labels)]
    pairs = tested.by_repeat(np.prod(in_fold, axis=0)[:, None])
    answers = trained.probabilities.mean(axis=1)
    draw = Resamples.draw(PATIENTS[: cell.n], RESAMPLES if number < RESAMPLED_POOLED else 0, number)
    pooled = classification.ranking(y, answers, draw)
    result = [
        *(trained.true.mean(), value, error, np.sqrt((influence**2).sum(axis=1).mean())),
        *(
            np.sqrt((influence.mean(axis=0) ** 2).sum()),
            np.mean(value * (1 - value) / pairs),
            *share_interval(value, error, cell.few),
        ),
        *(pooled["auroc"].draws[0], *ends(pooled["auroc"].draws)),
        *(np.interp(trained.true, *auprc_table(cell.few / cell.n)).mean(), precision, pooled["auprc"].draws[0]),
    ]
    if number >= RESAMPLED:
        return [*result, *[np.nan] * 4]
    for resamples in (draw, by_class(y, rng)):
        found = folds.ranking(y, trained.logits, trained.tested_by, resamples)["auroc"]
        assert np.allclose((found.draws[0], found.error), (value, error))
        result += ends(found.draws)
    return result


def by_class(y: Array, rng: np.random.Generator) -> Resamples:
    """Resamples of as many patients of each class as there are."""
    weights = np.ones((len(y), RESAMPLES + 1), np.uint8)
    for of_class in (y, ~y):
        n = int(of_class.sum())
        weights[of_class, 1:] = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).T
    return Resamples(np.arange(len(y)), weights, "by class")


def ends(draws: Array) -> list[float]:
    return np.nanpercentile(draws[1:], [2.5, 97.5]).tolist() if len(draws) > 1 else [np.nan] * 2


# --- what came out ------------------------------------------------------------------------------------------------------


def summarize(cell: Cell, raw: Array) -> dict[str, object]:
    r = dict(zip(RAW, raw.T, strict=True))
    target, value = r["target"], r["within"]
    expected = target.mean()
    intervals = {
        "within, chosen": (r["low"], r["high"]),
        "pooled, percentiles": (r["pooled_low"], r["pooled_high"]),
        "within, percentiles": (r["resampled_low"], r["resampled_high"]),
        "within, percentiles by class": (r["stratified_low"], r["stratified_high"]),
    }
    once = np.sqrt(np.maximum(r["error_of_repeat"] ** 2 - r["both_counted"], r["error_of_repeat"] ** 2 / 2))
    errors = {"one repeat": r["error_of_repeat"], "mean of repeats": r["error_of_mean"], "one repeat, pairs once": once}
    errors["their middle"] = r["error"]
    quantiles = {"z": norm.ppf(0.975), "t": t.ppf(0.975, cell.few - 1)}
    for (of, error), (name, q) in product(errors.items(), quantiles.items()):
        intervals[f"within, logit, {of}, {name}"] = logit_ends(value, error, q)
    at_target, at_expected = {}, {}
    for name, (low, high) in intervals.items():
        known = ~np.isnan(low)
        if known.any():
            at_target[name] = share((low <= target) & (target <= high), known)
            at_expected[name] = share((low <= expected) & (expected <= high), known)
    return {
        "cell": cell._asdict() | {"rarer_class": cell.few, "rarer_class_in_a_fold": cell.few // cell.k},
        "replications": len(raw),
        "true_auroc": round(float(expected), 4),
        "bias": {"within": bias(value, target), "pooled": bias(r["pooled"], target)},
        "bias_auprc": {"within": bias(r["auprc"], r["true_auprc"]), "pooled": bias(r["pooled_auprc"], r["true_auprc"])},
        "error_over_standard_error": round(float(np.std(value - target) / np.sqrt(np.mean(r["error"] ** 2))), 3),
        "coverage": at_target,
        "coverage_of_expected": at_expected,
        "mean_width": round(float(np.mean(r["high"] - r["low"])), 3),
    }


def logit_ends(value: Array, error: Array, q: float) -> tuple[Array, Array]:
    inside = np.clip(value, 1e-6, 1 - 1e-6)
    reach = q * error / (inside * (1 - inside))
    return expit(logit(inside) - reach), expit(logit(inside) + reach)


def share(hit: Array, known: Array) -> float:
    return round(float(hit[known].mean()), 4)


def bias(value: Array, target: Array) -> float:
    return round(float(np.mean(value - target)), 4)


def judge(found: list[dict]) -> dict[str, object]:
    """Lowest, mean and highest of the cells of a size, beside the aims: with 20 of a class and two in every fold a bias up to .01
    and coverage .93 to .97; from 10 to 19 of a class .91 to .98."""
    sizes = {"20 and more, two in every fold": 20, "10 to 19": 10, "5 to 9": 5, "below 5": 0}
    groups: dict[str, list[dict]] = {name: [] for name in sizes}
    for each in found:
        few, in_fold = each["cell"]["rarer_class"], each["cell"]["rarer_class_in_a_fold"]
        if each["cell"]["features"] == FEATURES and (few < 20 or in_fold >= 2):
            groups[next(name for name, least in sizes.items() if few >= least)].append(each)
    kinds = ("bias", "bias_auprc", "coverage", "coverage_of_expected")
    return {
        name: {
            "cells": len(group),
            **{
                f"{kind}: {of}": spread([each[kind][of] for each in group])
                for kind in kinds
                for of in (group[0][kind] if group else ())
            },
        }
        for name, group in groups.items()
    }


def spread(values: list[float]) -> list[float]:
    return [min(values), round(float(np.mean(values)), 4), max(values)]


def read_known(code: str, replications: int) -> dict[Cell, dict]:
    """What was written of the same code: cells whose parts are no longer there."""
    written = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {"code": "", "cells": []}
    return {
        Cell(*(each["cell"][name] for name in Cell._fields)): each
        for each in written["cells"]
        if written["code"] == code and each["replications"] == replications
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--only-write", action="store_true", help="measure nothing, write what there is")
    given = parser.parse_args()
    makes = (train, discriminants, temperatures, auprc_table, replicate, by_class, ends, *FROM_PACKAGE)
    code = hashlib.sha256("".join(map(inspect.getsource, makes)).encode()).hexdigest()[:12]
    given.work.mkdir(parents=True, exist_ok=True)
    files = {cell: given.work / f"{code}-{given.replications}-{cell.name}.npy" for cell in cells()}
    known = read_known(code, given.replications)
    missing = [cell for cell, file in files.items() if not file.is_file() and cell not in known]
    print(f"{len(missing)} of {len(files)} cells missing: {' '.join(cell.name for cell in missing)}", flush=True)
    if not given.only_write:
        with Pool(given.processes) as pool:
            work = [pool.apply_async(run, (cell, given.replications, files[cell])) for cell in missing]
            for cell, done in zip(missing, work, strict=True):
                done.get()
                print(cell.name, flush=True)
    known |= {c: summarize(c, np.load(file, allow_pickle=False)) for c, file in files.items() if file.is_file()}
    found = [known[cell] for cell in files if cell in known]
    result = {
        "what": " ".join(str(__doc__).split("\n\n    OMP")[0].split()),
        "grid": f"{len(files)} cells: a fifth of {len(N) * len(PREVALENCE) * len(FOLDS) * len(REPEATS)}, its corners, other models",
        "best_auroc": BEST, "resamples": RESAMPLES, "code": code, "missing": [c.name for c in files if c not in known],
        "replications_resampled": {"pooled": RESAMPLED_POOLED, "within": RESAMPLED},
        "aims": judge(found), "cells": found,
    }  # fmt: skip
    OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result["aims"], indent=1))


if __name__ == "__main__":
    main()
