"""Nested cross-validation of several arms in parts: one outer fold of one arm a part, each gone on with by the same command."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from chiasm.cohort.store import Cohort
from chiasm.comparison.compare import compare
from chiasm.evaluation.evaluate import evaluate
from chiasm.recipe import Recipe
from chiasm.run.selection import read_selection
from chiasm.tuning.tune import tune

RELEVANT = (
    "cohort",
    "encoding",
    "heads",
    "models",
    "objectives",
    "recipe.py",
    "run",
    "splits.py",
    "training",
    "tuning",
)
"""Of src/chiasm: what a change of makes another measurement."""


@dataclass(frozen=True)
class Arm:
    """What is tuned: recipes, the first as asked, and the text of its space."""

    recipes: Sequence[Recipe]
    space: str


def parse_arguments(about: str, data: str, work: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--work", type=Path, default=Path(work))
    parser.add_argument("--part", help="ARM:FOLD; without it, all that is missing, in order")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--inner-folds", type=int, default=3)
    parser.add_argument("--budget-minutes", type=float, default=50.0)
    parser.add_argument("--code", default=read_commit(), help="go on with what this commit began")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/NAME.json")
    return parser.parse_args()


def read_commit() -> str:
    """The last commit that changed the relevant code, with a + where it is changed since."""
    root = Path(__file__).parents[1]
    paths = [f"src/chiasm/{name}" for name in RELEVANT]

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command, "--", *paths], cwd=root, check=True, capture_output=True, text=True
        ).stdout

    return git("log", "-1", "--format=%h").strip() + ("+" if git("status", "--porcelain").strip() else "")


def run_nested(name: str, cohort: Cohort, arms: Mapping[str, Arm], arguments: argparse.Namespace) -> None:
    """Do a part, or what is missing, and write the results once nothing is.

    Args:
        arms: the first is compared with the others, on the same patients.
    """
    begun = time.monotonic()
    home = (
        arguments.work
        / f"{cohort.hash[:8]}-{arguments.code}-{arguments.trials}x{arguments.folds}x{arguments.inner_folds}"
    )
    home.mkdir(parents=True, exist_ok=True)
    wanted = [(arm, fold) for arm in arms for fold in range(arguments.folds)]
    if arguments.part:
        arm, _, fold = arguments.part.partition(":")
        wanted = [(arm, int(fold))]
    missing: dict[str, tuple[str, ...]] = {}
    for arm, fold in wanted:
        done = home / f"{arm}-{fold}.json"
        if done.is_file():
            print(f"{arm}:{fold} is there")
            continue
        left = arguments.budget_minutes - (time.monotonic() - begun) / 60
        if left <= 0:
            break
        before = time.monotonic()
        space = home / f"{arm}.yaml"
        space.write_text(arms[arm].space, "utf-8")
        tuned = tune(
            arms[arm].recipes, cohort.path, home / arm, space=space, trials=arguments.trials, folds=arguments.folds,
            inner_folds=arguments.inner_folds, baselines=False, part=fold, budget_minutes=left,
        )  # fmt: skip
        missing[arm] = tuned.missing
        if (home / arm / f"fold-0-{fold}" / "weights.safetensors").is_file():
            minutes = round((time.monotonic() - before) / 60, 1)
            done.write_text(
                json.dumps({"part": f"{arm}:{fold}", "code": arguments.code, "cohort": cohort.hash, "minutes": minutes})
            )
            print(f"{arm}:{fold} done in {minutes} minutes (of its last call)")
    absent = [
        f"{arm}:{fold}"
        for arm in arms
        for fold in range(arguments.folds)
        if not (home / f"{arm}-{fold}.json").is_file()
    ]
    if absent:
        print("missing parts:", " ".join(absent))
        return
    _report(name, cohort, arms, home, arguments)


def _report(name: str, cohort: Cohort, arms: Mapping[str, Arm], home: Path, arguments: argparse.Namespace) -> None:
    first, *others = arms
    compared = compare([home / arm for arm in arms], home / "comparison")
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/{name}.py",
        "code": arguments.code,
        "cohort": cohort.hash,
        "trials": arguments.trials,
        "folds": arguments.folds,
        "inner_folds": arguments.inner_folds,
        "arms": {},
        "differences": {},
    }
    for arm in arms:
        selection, metrics = read_selection(home / arm), evaluate(home / arm).metrics
        assert selection is not None
        target, label, metric = selection.metric.split("/")
        names = [f"{target}/{label}/{metric}{end}" for end in ("", "_inner", "_optimism", "_pooled")]
        names += [
            n
            for n in metrics
            if n.endswith(f":{selection.metric}") and n.partition(":")[0] in ("image", "record", "text")
        ]
        found = {n: metrics[n].to_json() for n in names if n in metrics}
        chosen = {fold: {"recipe": c.recipe, **c.settings, "inner": c.inner} for fold, c in selection.folds.items()}
        result["arms"][arm] = {"metrics": found, "chosen": chosen, "warnings": list(evaluate(home / arm).warnings)}
        for n, m in found.items():
            interval = "" if m["low"] is None else f" ({m['low']:.3f} to {m['high']:.3f})"
            print(
                f"{arm:10} {n:44} {m['value']:.3f}{interval} n {m['n']}"
                if m["value"] is not None
                else f"{arm} {n} undefined"
            )
    leading = str(read_selection(home / first).metric)  # type: ignore[union-attr]
    document = compared.document()["comparisons"]
    for other in others:
        d = result["differences"][f"{first} minus {other}"] = document[other][leading]
        print(f"{first} minus {other}: {d['value']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})")
    out = arguments.out or Path(__file__).parent / "results" / f"{name}.json"
    out.write_text(json.dumps(result, indent=1), "utf-8")
