"""Records alone, on sets that come with scikit-learn and scikit-survival, beside what a statistician would fit.

    python benchmarks/known_ground.py [--work FOLDER] [--sets gbsg2,wine,...] [--models network,baseline]

Each set is written as a CSV and imported as a table. Network (`report-fusion`, which here has a record and nothing else) and
`baseline-record` are trained on the same five patient folds; the plain models are fitted on the same training patients, and
once more with the validation patients beside them, which they have no other use for. A figure is the mean over folds of the test
patients' figure; the interval of a difference resamples patients within folds. `HELD_OUT` took no part in any choice.
Writes benchmarks/results/known_ground.json.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn import datasets as plain
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv import datasets as timed
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.encoding.levels import answers, expectation
from chiasm.recipe import read_recipe
from chiasm.run.fold_model import load_fold_model
from chiasm.run.infer import Ask, infer
from chiasm.study import Kind
from chiasm.training.train import train

Floats = NDArray[np.float64]
SURVIVAL = {
    "gbsg2": timed.load_gbsg2,
    "whas500": timed.load_whas500,
    "veterans": timed.load_veterans_lung_cancer,
    "flchain": timed.load_flchain,
}
PLAIN = {
    "breast_cancer": (plain.load_breast_cancer, Kind.BINARY),
    "wine": (plain.load_wine, Kind.MULTICLASS),
    "diabetes": (plain.load_diabetes, Kind.REGRESSION),
}
HELD_OUT = ("veterans", "flchain")
TARGETS = {Kind.BINARY: "outcome", Kind.MULTICLASS: "category", Kind.REGRESSION: "severity", Kind.SURVIVAL: "survival"}
FIGURES = {Kind.BINARY: "AUROC", Kind.MULTICLASS: "macro AUROC", Kind.REGRESSION: "r", Kind.SURVIVAL: "C-index"}
MODELS = {"network": "report-fusion", "baseline": "baseline-record"}
FLCHAIN, FOLDS, RESAMPLES = 1500, 5, 200


def load(name: str) -> tuple[pd.DataFrame, Kind]:
    """Columns of a record beside `y`, and of times `event`."""
    if name in PLAIN:
        read, kind = PLAIN[name]
        frame, y = read(return_X_y=True, as_frame=True)
        return frame.rename(columns=str).assign(y=y), kind
    frame, found = SURVIVAL[name]()
    if name == "flchain":  # the chapter of the cause of death is known only of the dead
        frame = frame.drop(columns="chapter")
    event, time = found.dtype.names
    frame = frame.assign(y=np.maximum(found[time].astype(float), 0.5), event=found[event].astype(int))
    if len(frame) > FLCHAIN:
        frame = frame.sample(FLCHAIN, random_state=0).reset_index(drop=True)
    return frame, Kind.SURVIVAL


def import_set(name: str, home: Path) -> Cohort:
    """The set as a user would bring it: a CSV and a map."""
    frame, kind = load(name)
    home.mkdir(parents=True, exist_ok=True)
    frame.insert(0, "patient", [f"p{number:05d}" for number in range(len(frame))])
    frame.to_csv(home / f"{name}.csv", index=False)
    columns = [column for column in frame.columns if column not in ("patient", "y", "event")]
    outcome = {"column": "y", "kind": kind.value, **({"event": "event"} if kind is Kind.SURVIVAL else {})}
    map_ = {"patient": "patient", "record": columns, "outcomes": [outcome]}
    if not (home / "cohort").exists():
        import_cohort("table", home / f"{name}.csv", home / "cohort", options={"map": map_})
    return Cohort.open(home / "cohort")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/known_ground"))
    parser.add_argument("--sets", default=",".join((*SURVIVAL, *PLAIN)))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "known_ground.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = {name: measure(name, arguments.work, arguments.models.split(",")) for name in arguments.sets.split(",")}
    result = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/known_ground.py",
        "folds": FOLDS,
        "seed": 0,
    }
    arguments.out.write_text(json.dumps({**result, "held_out": HELD_OUT, "sets": rows}, indent=1), "utf-8")


def measure(name: str, work: Path, models: list[str]) -> dict[str, Any]:
    """Every model's figure on the test patients of the same folds, and how far the best of all is ahead."""
    cohort, (frame, kind) = import_set(name, work / name), load(name)
    said: dict[str, list[Floats]] = {}
    for model in models:
        run = work / name / model
        if not (run / "run.json").exists():
            recipe = read_recipe(MODELS[model], [f"targets={{{TARGETS[kind]}: {{}}}}"])
            train(recipe, [cohort.path], run, folds=FOLDS)
        fold_models = [load_fold_model(run / f"fold-0-{k}").over([cohort], own=True) for k in range(FOLDS)]
        said[model] = [_answers(one, TARGETS[kind], kind) for one in fold_models]
        splits = [one.split for one in fold_models]
    place = {study: row for row, study in enumerate(cohort.studies["patient_id"])}
    order = np.array([place[f"p{number:05d}"] for number in range(len(frame))])
    frame = frame.iloc[np.argsort(order)].reset_index(drop=True)  # as the cohort has them
    x, truth = _matrix(frame), frame["y"].to_numpy(float)
    truth = np.where(frame["event"] == 1, truth, -truth) if kind is Kind.SURVIVAL else truth
    for label, fit in _statistics(kind).items():
        said[label] = [_fit(fit, x, truth, s["train"], s["test"]) for s in splits]
        both = [np.concatenate([s["train"], s["validation"]]) for s in splits]
        said[f"{label}, with validation patients"] = [
            _fit(fit, x, truth, b, s["test"]) for b, s in zip(both, splits, strict=True)
        ]
    tests = [s["test"] for s in splits]
    figures = {label: _figure(kind, truth, tests, own) for label, own in said.items()}
    fair = {label: value for label, value in figures.items() if "validation" not in label}
    best = max(fair, key=lambda label: fair[label])
    row: dict[str, Any] = {"figure": FIGURES[kind], "n": len(frame), "cohort": cohort.hash, "best": best}
    for label, value in figures.items():
        row[label] = {"value": round(value, 4), "behind_best": round(fair[best] - value, 4)}
        if label in models:
            row[label]["behind_best_interval"] = _interval(kind, truth, tests, said[best], said[label])
    print(name, FIGURES[kind], len(frame), {label: round(value, 4) for label, value in figures.items()}, flush=True)
    return row


def _answers(fold_model: Any, target: str, kind: Kind) -> Floats:
    """[n] or [n, Q] of its test patients: the higher, the likelier, or the later."""
    (said,) = infer(fold_model, fold_model.split["test"], [Ask()])
    logits = np.asarray(said.logits[target], np.float64)[:, 0]
    if kind in (Kind.BINARY, Kind.REGRESSION):
        return logits
    own = fold_model.plan.levels[target][0]
    return expectation(answers(logits, kind), own, kind) if kind is Kind.SURVIVAL else answers(logits, kind)


def _matrix(frame: pd.DataFrame) -> Floats:
    """Numbers, the median where one is missing, and words one-hot but for one of each column."""
    columns = frame.drop(columns=["y", "event"], errors="ignore")
    wide = pd.get_dummies(columns, drop_first=True).astype(float)
    return wide.fillna(wide.median()).to_numpy()


def _statistics(kind: Kind) -> dict[str, Callable[[], Any]]:
    if kind is Kind.SURVIVAL:
        return {
            "Cox": lambda: make_pipeline(StandardScaler(), CoxPHSurvivalAnalysis(alpha=0.1)),
            "random survival forest": lambda: RandomSurvivalForest(300, min_samples_leaf=15, random_state=0),
        }
    if kind is Kind.REGRESSION:
        return {"linear regression": LinearRegression}
    return {"logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))}


def _fit(
    make: Callable[[], Any], x: Floats, truth: Floats, rows: NDArray[np.int64], asked: NDArray[np.int64]
) -> Floats:
    model, y = make(), truth[rows]
    if isinstance(model, RandomSurvivalForest) or "coxphsurvivalanalysis" in getattr(model, "named_steps", {}):
        return -np.asarray(model.fit(x[rows], Surv.from_arrays(y > 0, np.abs(y))).predict(x[asked]))
    model.fit(x[rows], y)
    if not hasattr(model, "predict_proba"):
        return np.asarray(model.predict(x[asked]))
    chances = np.asarray(model.predict_proba(x[asked]))
    return chances[:, 1] if chances.shape[1] == 2 else chances


def _score(kind: Kind, truth: Floats, said: Floats) -> float:
    if kind is Kind.SURVIVAL:
        return float(concordance_index_censored(truth > 0, np.abs(truth), -said)[0])
    if kind is Kind.REGRESSION:
        return float(np.corrcoef(truth, said)[0, 1])
    if kind is Kind.BINARY:
        return float(roc_auc_score(truth, said))
    return float(np.mean([roc_auc_score(truth == k, said[:, k]) for k in range(said.shape[1])]))


def _figure(kind: Kind, truth: Floats, tests: list[NDArray[np.int64]], said: list[Floats]) -> float:
    return float(np.mean([_score(kind, truth[rows], own) for rows, own in zip(tests, said, strict=True)]))


def _interval(
    kind: Kind, truth: Floats, tests: list[NDArray[np.int64]], one: list[Floats], other: list[Floats]
) -> list[float]:
    """95% interval of `one` minus `other`, patients resampled within folds."""
    rng, draws = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        gaps = []
        for rows, a, b in zip(tests, one, other, strict=True):
            some = rng.integers(0, len(rows), len(rows))
            y = truth[rows][some]
            if kind not in (Kind.BINARY, Kind.MULTICLASS) or len(np.unique(y)) == len(np.unique(truth)):
                gaps.append(_score(kind, y, a[some]) - _score(kind, y, b[some]))
        draws.append(np.mean(gaps))
    return [round(float(q), 4) for q in np.quantile(draws, (0.025, 0.975))]


if __name__ == "__main__":
    main()
