"""Stroke prognosis on SOOP: mRS > 2 against record only and plain baselines on the same folds, and NIHSS.

    python benchmarks/stroke.py [--data ../shared/data/soop] [--work FOLDER] [--part mrs|nihss]

Writes benchmarks/results/stroke_mrs.json or stroke_nihss.json. Epochs, learning rate and width were chosen by the AUROC,
or r, on the validation patients of folds like these (patients who validate one fold model test another).
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path

from chiasm.cohort.compose import write_texts
from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.comparison.baselines import train_baselines
from chiasm.comparison.compare import compare
from chiasm.evaluation.evaluate import evaluate
from chiasm.recipe import read_recipe
from chiasm.report.writers import open_writer
from chiasm.run.folder import read_run
from chiasm.training.train import train

PARTS = {
    "mrs": {"sets": (), "folds": 5, "repeats": 4},
    "nihss": {
        "sets": (
            "targets={nihss: {}}",
            "heads.alignment=null",
            "train.learning_rate=0.0005",
            "train.epochs=32",
        ),
        "folds": 10,
        "repeats": 2,
    },
}
KEPT = ("/auroc", "/auprc", "/ece", "/brier", "/qwk", "/mae", "/r", "/auroc_gt_2", "/coverage")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/soop"))
    parser.add_argument("--work", type=Path, default=Path("runs/stroke"))
    parser.add_argument("--part", choices=PARTS, default="mrs")
    arguments = parser.parse_args()
    begun, home, part = time.time(), arguments.work, PARTS[arguments.part]
    if not (home / "cohort").exists():
        import_cohort("soop", arguments.data, home / "cohort", volume_size=(48, 64, 56))
    cohort = Cohort.open(home / "cohort")
    write_texts(cohort, open_writer("template"), "image-description")
    run = home / arguments.part
    begun_before = (run / "run.json").is_file()
    if not begun_before or read_run(run).status != "finished":
        recipe = read_recipe("stroke-prognosis", part["sets"])
        train(recipe, [cohort.path], run, folds=part["folds"], repeats=part["repeats"], resume=begun_before)
    evaluation = evaluate(run)
    comparison = compare([run, *train_baselines(run)])
    kept = {
        name: metric.to_json()
        for name, metric in evaluation.metrics.items()
        if name.partition("@")[0].endswith(KEPT) and ("@" not in name or name.endswith("@inputs=complete"))
    }
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/stroke.py --part {arguments.part}",
        "cohort": cohort.hash,
        "sets": part["sets"],
        "folds": part["folds"],
        "repeats": part["repeats"],
        "minutes": round((time.time() - begun) / 60, 1),
        "metrics": kept,
        "warnings": list(evaluation.warnings),
        "comparison": comparison.document(),
    }
    out = Path(__file__).parent / "results" / f"stroke_{arguments.part}.json"
    out.write_text(json.dumps(result, indent=1), "utf-8")
    for name, m in kept.items():
        if m["value"] is not None and name.partition("@")[0].endswith(("/auroc", "/r", "/auroc_gt_2")):
            print(f"{name:70} {m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f}) n {m['n']}")
    print("\n".join(comparison.lines()))


if __name__ == "__main__":
    main()
