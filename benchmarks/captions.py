"""Descriptions of CT and MR images (MedPix captions), image only, beside the constant and the nearest neighbour's caption.

    python benchmarks/captions.py [--data ../shared/data/medpix] [--work FOLDER]

The cohort's own hash split by case is used. Writes benchmarks/results/captions.json.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.evaluation.evaluate import evaluate
from chiasm.recipe import read_recipe
from chiasm.training.train import train

OVERRIDES = (
    "targets=[location]",
    "inputs.text=null",
    "inputs.record=null",
    "heads.localization=null",
    "heads.description.sections=[caption]",
    "heads.description.weight=1.0",
    "heads.description.max_tokens=60",
    "train.epochs=30",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/medpix"))
    parser.add_argument("--work", type=Path, default=Path("runs/captions"))
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--name", default="run")
    arguments = parser.parse_args()
    begun, home = time.time(), arguments.work
    if (home / "cohort").exists():
        cohort = Cohort.open(home / "cohort")
    else:
        cohort = import_cohort("medpix", arguments.data, home / "cohort")
    run = home / arguments.name
    recipe = read_recipe("report-fusion", [*OVERRIDES, *arguments.sets])
    train(recipe, [cohort.path], run, resume=(run / "run.json").exists())
    metrics = evaluate(run).metrics
    kept = {name: metric.to_json() for name, metric in metrics.items() if "description/" in name}
    result = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/captions.py",
        "cohort": cohort.hash,
        "overrides": [*OVERRIDES, *arguments.sets],
        "seed": 0,
        "minutes": round((time.time() - begun) / 60, 1),
        "metrics": kept,
    }
    out = Path(__file__).parent / "results" / "captions.json"
    out.write_text(json.dumps(result, indent=1), "utf-8")
    for name, m in kept.items():
        if name.endswith(("cider", "bleu4", "rouge_l", "distinct_ratio")) and m["value"] is not None:
            interval = f"({m['low']:.3f} to {m['high']:.3f})" if m["low"] is not None else ""
            print(f"{name:45} {m['value']:.3f} {interval} n {m['n']}")


if __name__ == "__main__":
    main()
