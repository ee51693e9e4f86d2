"""The plain classifiers of a baseline: rows of numbers in, one logit (or number) a row out.

Their strength (penalty, number of trees) is chosen by cross-validation over the training patients, so no other patient
takes part in the choice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from chiasm.errors import MissingExtraError
from chiasm.recipe import Baseline

Floats = NDArray[np.float64]
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
TREES, PATIENCE = 400, 40
INNER = 5
"""Folds of the cross-validation that chooses the strength, or fewer where a class has fewer patients."""


KNOTS = 64
"""Quantiles of a column by which a number is told its rank."""
FEW = 4
"""Values of a column up to which it has no rank worth a term of its own."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the trees in a blend."""


class Chosen(NamedTuple):
    """The strength that was chosen (penalty, trees or the share of the trees), and its cross-validated loss.

    The loss is None where rows were too few. `held_out`: [n] the answers of models that were not fitted on a row.
    """

    strength: float
    loss: float | None
    held_out: Floats | None = None


class Classifier(Protocol):
    """[n, F] -> [n] logits, or numbers, or [Q, n] of `Hazards`; kept as one array."""

    def answer(self, x: Floats) -> Floats: ...
    def to_array(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Linear:
    """x . w + b, `weights` [F + 1] with b last."""

    weights: Floats

    @classmethod
    def constant(cls, value: float, width: int) -> Self:
        return cls(np.append(np.zeros(width), value))

    def answer(self, x: Floats) -> Floats:
        return np.asarray(x @ self.weights[:-1] + self.weights[-1])

    def to_array(self) -> Floats:
        return self.weights


class Trees:
    """Gradient-boosted trees, kept as LightGBM's own text: nothing is pickled."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.booster = _lightgbm().Booster(model_str=text)

    def answer(self, x: Floats) -> Floats:
        return np.asarray(self.booster.predict(x, raw_score=True, num_threads=1), np.float64)

    def to_array(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.text.encode(), np.uint8)


@dataclass(frozen=True)
class Additive:
    """A linear function of columns and of the normal scores of their ranks: a curve for each column.

    Attributes:
        columns: of which ranks are taken; knots: [columns, KNOTS] quantiles of training, scores: [columns, KNOTS] their scores.
        linear: over x beside the scores.
    """

    columns: NDArray[np.int64]
    knots: Floats
    scores: Floats
    linear: Linear

    def answer(self, x: Floats) -> Floats:
        return self.linear.answer(widen(x, self.columns, self.knots, self.scores))

    def to_array(self) -> NDArray[np.uint8]:
        parts = {"columns": self.columns, "knots": self.knots, "scores": self.scores, "weights": self.linear.weights}
        return _text("additive", **{name: part.tolist() for name, part in parts.items()})


@dataclass(frozen=True)
class Blend:
    """(1 - share) of one classifier and `share` of another."""

    share: float
    one: Classifier
    other: Classifier

    def answer(self, x: Floats) -> Floats:
        return (1 - self.share) * self.one.answer(x) + self.share * self.other.answer(x)

    def to_array(self) -> NDArray[np.uint8]:
        return _text("blend", share=self.share, one=_part(self.one), other=_part(self.other))


@dataclass(frozen=True)
class Hazards:
    """One classifier of all intervals of a time: it reads the number of the interval behind the columns of x.

    After Cox (1972, section 6) and Brown (1975): what a column says of the hazard is learned from all intervals at once.
    """

    intervals: int
    each: Classifier

    def answer(self, x: Floats) -> Floats:
        """[n, F] -> [Q, n]."""
        return np.stack([self.each.answer(at_interval(x, q, self.intervals)) for q in range(self.intervals)])

    def to_array(self) -> NDArray[np.uint8]:
        return _text("hazards", intervals=self.intervals, each=_part(self.each))


def at_interval(x: Floats, number: int | NDArray[np.integer], intervals: int) -> Floats:
    """[n, F] -> [n, F + Q]: whether a row is asked of each interval but the first, and its number."""
    numbers = np.broadcast_to(number, len(x))[:, None]
    return np.concatenate([x, numbers == np.arange(1, intervals), numbers], axis=1, dtype=np.float64)


def find_ranks(x: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Columns of [n, F] with more than a few values, their quantiles and what these score: a tie scores the mean of its ranks.

    The score of rank u is the normal quantile of u (van der Waerden 1952).
    """
    columns = np.array([j for j in range(x.shape[1]) if len(np.unique(x[:, j])) > FEW], np.int64)
    shares = (np.arange(KNOTS) + 0.5) / KNOTS
    knots = np.quantile(x[:, columns], shares, axis=0).T
    normal = ndtri(shares)
    scores = [[normal[own == knot].mean() for knot in own] for own in knots]
    return columns, knots, np.array(scores).reshape(knots.shape)


def widen(x: Floats, columns: NDArray[np.int64], knots: Floats, scores: Floats) -> Floats:
    """[n, F] -> [n, F + columns]: beside every column the scores of some."""
    ranked = [np.interp(x[:, j], k, s) for j, k, s in zip(columns, knots, scores, strict=True)]
    return np.column_stack([x, *ranked])


def from_array(array: NDArray[Any]) -> Classifier:
    """The inverse of `to_array`."""
    if array.dtype != np.uint8:
        return Linear(array.astype(np.float64))
    text = array.tobytes().decode()
    return _from_parts(json.loads(text)) if text.startswith("{") else Trees(text)


def _from_parts(raw: dict[str, Any]) -> Classifier:
    if raw["is"] == "linear":
        return Linear(np.array(raw["weights"], np.float64))
    if raw["is"] == "trees":
        return Trees(raw["text"])
    if raw["is"] == "hazards":
        return Hazards(raw["intervals"], _from_parts(raw["each"]))
    if raw["is"] == "blend":
        return Blend(raw["share"], _from_parts(raw["one"]), _from_parts(raw["other"]))
    knots, scores, weights = (np.array(raw[name], np.float64) for name in ("knots", "scores", "weights"))
    columns = np.array(raw["columns"], np.int64)
    return Additive(columns, knots.reshape(len(columns), -1), scores.reshape(len(columns), -1), Linear(weights))


def _part(classifier: Classifier) -> dict[str, Any]:
    """A classifier within another's text."""
    if isinstance(classifier, Linear):
        return {"is": "linear", "weights": classifier.weights.tolist()}
    if isinstance(classifier, Trees):
        return {"is": "trees", "text": classifier.text}
    part: dict[str, Any] = json.loads(classifier.to_array().tobytes())
    return part


def _text(kind: str, **parts: Any) -> NDArray[np.uint8]:
    """JSON, in which floats keep all their digits."""
    return np.frombuffer(json.dumps({"is": kind, **parts}).encode(), np.uint8)


def inner_folds(y: Floats, patients: NDArray[Any], binary: bool, seed: int) -> Folds:
    """Patient folds in which each class stands on both sides; none where there are too few patients for two."""
    from sklearn.model_selection import StratifiedGroupKFold

    classes = y.astype(int) if binary else np.zeros(len(y), int)
    k = min(INNER, *(len(np.unique(patients[classes == c])) for c in np.unique(classes)))
    if k < 2:
        return []
    split = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(np.zeros((len(y), 1)), classes, patients)
    whole = len(np.unique(classes))
    return [(a, b) for a, b in split if len(b) and len(np.unique(classes[a])) == whole]


@dataclass(frozen=True)
class Problem:
    """What a classifier is fitted to: n rows, each of a study, or of a study in one of several intervals.

    Attributes:
        x, y: [n, F] and [n]: numbers in, and 0 or 1, or a number, out. folds: of `inner_folds`. binary: it is 0 or 1.
        signs: [F] 1 where the answer may only rise with a column, -1 where it may only fall, 0 where it is free; None: all free.
        copies: rows of a study.
    """

    x: Floats
    y: Floats
    folds: Folds
    binary: bool
    seed: int
    options: Baseline
    signs: NDArray[np.int64] | None = None
    copies: float = 1

    @property
    def constraints(self) -> NDArray[np.int64] | None:
        """The signs, where any column is not free."""
        return self.signs if self.signs is not None and self.signs.any() else None


def fit_linear(problem: Problem) -> tuple[Linear, Chosen]:
    """Logistic regression, or ridge regression for numbers, on standardized columns, the penalty as |w|^2 / 2 per unit.

    The strongest penalty where there are no folds to choose by.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import cross_val_predict

    x, y, binary = problem.x, problem.y, problem.binary

    def make(penalty: float) -> Any:
        return LogisticRegression(C=1 / penalty, max_iter=1000) if binary else Ridge(alpha=penalty)

    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std < 1e-9] = 1.0
    z, method = (x - mean) / std, "decision_function" if binary else "predict"
    chosen = Chosen(PENALTIES[-1], None)
    if problem.folds:
        found = {p: cross_val_predict(make(p), z, y, cv=problem.folds, method=method) for p in PENALTIES}
        chosen = _least(found, y, binary)
    model = make(chosen.strength).fit(z, y)
    weights = model.coef_.ravel() / std
    return Linear(np.append(weights, float(np.ravel(model.intercept_)[0]) - weights @ mean)), chosen


def fit_additive(problem: Problem) -> tuple[Additive, Chosen]:
    """`fit_linear` on columns and the normal scores of their ranks."""
    ranks = find_ranks(problem.x)
    linear, chosen = fit_linear(replace(problem, x=widen(problem.x, *ranks)))
    return Additive(*ranks, linear), chosen


def fit_trees(problem: Problem) -> tuple[Trees, Chosen]:
    """Gradient boosting (Ke et al. 2017) with small trees and strong sampling, as small cohorts need it.

    As many trees as the mean loss over the folds is least at; PATIENCE of them where there are no folds. Same rows, same
    seed: the same trees.
    """
    lightgbm = _lightgbm()
    x, y, folds, options, copies = problem.x, problem.y, problem.folds, problem.options, problem.copies
    studies = len(y) / copies
    params = {
        "objective": "binary" if problem.binary else "regression", "learning_rate": options.learning_rate,
        "num_leaves": options.leaves, "min_data_in_leaf": round(copies * min(options.min_leaf, max(1, studies // 10))),
        "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": options.l2, "seed": problem.seed, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "verbosity": -1,
    }  # fmt: skip
    if (signs := problem.constraints) is not None:
        params["monotone_constraints"] = signs.tolist()
    data = lightgbm.Dataset(x, y, free_raw_data=False)
    chosen = Chosen(PATIENCE, None)
    if folds:
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        found = lightgbm.cv(params, data, TREES, folds=folds, callbacks=[stop], return_cvbooster=True)
        (losses,) = (curve for name, curve in found.items() if name.endswith("-mean"))
        held_out = np.empty(len(y))
        for booster, (_, own) in zip(found["cvbooster"].boosters, folds, strict=True):
            held_out[own] = booster.predict(x[own], raw_score=True, num_iteration=len(losses), num_threads=1)
        chosen = Chosen(len(losses), float(losses[-1]), held_out)
    return Trees(lightgbm.train(params, data, int(chosen.strength)).model_to_string()), chosen


def fit_blend(problem: Problem) -> tuple[Blend | Additive | Trees, Chosen]:
    """A curve for each column and trees, in the shares whose held-out answers have the least loss (stacking, Wolpert 1992).

    Curves alone where there are no folds to choose by: few rows bear no trees. Trees alone where an answer may only rise or
    fall with a column, for curves do not keep to it.
    """
    if problem.constraints is not None:
        return fit_trees(problem)
    curves, smooth = fit_additive(problem)
    if smooth.held_out is None:
        return curves, Chosen(0.0, None)
    trees, rough = fit_trees(problem)
    assert rough.held_out is not None
    chosen = _least({s: (1 - s) * smooth.held_out + s * rough.held_out for s in SHARES}, problem.y, problem.binary)
    return Blend(chosen.strength, curves, trees), chosen


def _least(held_out: dict[float, Floats], y: Floats, binary: bool) -> Chosen:
    """Of strength -> held-out answers [n], the one with the least loss."""
    losses = {strength: _loss(y, answers, binary) for strength, answers in held_out.items()}
    best = min(losses, key=lambda strength: losses[strength])
    return Chosen(best, losses[best], held_out[best])


def _loss(y: Floats, answers: Floats, binary: bool) -> float:
    """Mean log loss of logits, or mean squared error."""
    return float(np.mean(np.logaddexp(0, answers) - y * answers if binary else (answers - y) ** 2))


FITS: dict[str, Callable[[Problem], tuple[Classifier, Chosen]]] = {
    "logistic": fit_linear,
    "lightgbm": fit_trees,
    "blend": fit_blend,
}
"""`baseline.model` -> problem -> what is fitted."""


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("lightgbm", "baselines", "baseline.model lightgbm") from None
    return lightgbm
