"""The plain classifiers of a baseline: rows of numbers in, one logit (or number) a row out.

Their strength (penalty, number of trees) is chosen by cross-validation over the training patients, so no other patient
takes part in the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import MissingExtraError
from chiasm.recipe import Baseline

Floats = NDArray[np.float64]
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
Signs = NDArray[np.int64] | None
GIVEN = Baseline()
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
TREES, PATIENCE = 400, 40
INNER = 5
"""Folds of the cross-validation that chooses the strength, or fewer where a class has fewer patients."""


class Chosen(NamedTuple):
    """The strength that was chosen (penalty or trees), and its cross-validated loss; None where rows were too few."""

    strength: float
    loss: float | None


class Classifier(Protocol):
    """[n, F] -> [n] logits, or numbers; kept as one array."""

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


def from_array(array: NDArray[Any]) -> Classifier:
    """The inverse of `to_array`."""
    return Trees(array.tobytes().decode()) if array.dtype == np.uint8 else Linear(array.astype(np.float64))


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


def fit_linear(
    x: Floats, y: Floats, folds: Folds, binary: bool, seed: int, options: Baseline = GIVEN, signs: Signs = None
) -> tuple[Linear, Chosen]:
    """Logistic regression, or ridge regression for numbers, on standardized columns, the penalty as |w|^2 / 2 per unit.

    The strongest penalty where there are no folds to choose by.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import cross_val_score

    def make(penalty: float) -> Any:
        return LogisticRegression(C=1 / penalty, max_iter=1000) if binary else Ridge(alpha=penalty)

    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std < 1e-9] = 1.0
    z, scoring = (x - mean) / std, "neg_log_loss" if binary else "neg_mean_squared_error"
    chosen = Chosen(PENALTIES[-1], None)
    if folds:
        losses = [-cross_val_score(make(p), z, y, scoring=scoring, cv=folds).mean() for p in PENALTIES]
        best = int(np.argmin(losses))
        chosen = Chosen(PENALTIES[best], float(losses[best]))
    model = make(chosen.strength).fit(z, y)
    weights = model.coef_.ravel() / std
    return Linear(np.append(weights, float(np.ravel(model.intercept_)[0]) - weights @ mean)), chosen


def fit_trees(
    x: Floats, y: Floats, folds: Folds, binary: bool, seed: int, options: Baseline = GIVEN, signs: Signs = None
) -> tuple[Trees, Chosen]:
    """Gradient boosting (Ke et al. 2017) with small trees and strong sampling, as small cohorts need it.

    As many trees as the mean loss over the folds is least at; PATIENCE of them where there are no folds. Same rows, same
    seed: the same trees.

    Args:
        signs: [F] 1 where the answer may only rise with a column, -1 where it may only fall, 0 where it is free; None: all free.
    """
    lightgbm = _lightgbm()
    params = {
        "objective": "binary" if binary else "regression", "learning_rate": options.learning_rate,
        "num_leaves": options.leaves, "min_data_in_leaf": min(options.min_leaf, max(1, len(y) // 10)),
        "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": options.l2, "seed": seed, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "verbosity": -1,
    }  # fmt: skip
    if signs is not None and signs.any():
        params["monotone_constraints"] = signs.tolist()
    data = lightgbm.Dataset(x, y, free_raw_data=False)
    chosen = Chosen(PATIENCE, None)
    if folds:
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        (losses,) = (
            curve
            for name, curve in lightgbm.cv(params, data, TREES, folds=folds, callbacks=[stop]).items()
            if name.endswith("-mean")
        )
        chosen = Chosen(len(losses), float(losses[-1]))
    return Trees(lightgbm.train(params, data, int(chosen.strength)).model_to_string()), chosen


FITS: dict[str, Callable[[Floats, Floats, Folds, bool, int, Baseline, Signs], tuple[Classifier, Chosen]]] = {
    "logistic": fit_linear,
    "lightgbm": fit_trees,
}


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("lightgbm", "baselines", "baseline.model lightgbm") from None
    return lightgbm
