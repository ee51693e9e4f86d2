"""Maps without boxes on real radiographs: patient folds, boxes hidden from training and validation, read to test.

    python benchmarks/grounding_folds.py --part labels|reports [--folds 5] [--repeats 2] [--data FOLDER] [--work FOLDER]

labels   RSNA's target on ChestX-ray14 images: its readers' labels teach, and no report
reports  the same, and covid-chestxray: its notes teach opacity and its place, its readers severity

Each boxed patient is tested by models that never saw this patient; folds are stratified by RSNA's target, and there every positive has a
box. The class label of ChestX-ray14 is given away by how its images were prepared, and teaches nothing here. Writes
benchmarks/results/grounding_folds/PART.json.
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

OUT = Path(__file__).parent / "results" / "grounding_folds"
PARTS = {
    "labels": (["nih-chestxray14"], ["targets=[lung_opacity]", "heads.grounding=null"]),
    "reports": (
        ["nih-chestxray14", "covid-chestxray"],
        ["targets=[lung_opacity, severity]", "heads.grounding.sections=[history]"],
    ),
}
KEPT = ("localization/lung_opacity/", "localization/all/", "grounding/", "lung_opacity/", "severity/", "phrase/")
CONTROLS = (
    "",
    *(
        f"{name}:"
        for name in (
            "region_prior",
            "centre_prior",
            "organ_prior",
            "other_patient",
            "random_weights",
            "grad_cam",
            "prior",
        )
    ),
)


def cohort_of(folder: str, given: argparse.Namespace) -> Path:
    where = Path(given.work) / f"cohort-{folder}"
    source = "chestxray14" if folder.startswith("nih") else folder
    cohort = Cohort.open(where) if where.exists() else import_cohort(source, given.data / folder, where, size=224)
    return cohort.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/grounding_folds"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    folders, overrides = PARTS[given.part]
    cohorts, run = [cohort_of(folder, given) for folder in folders], given.work / f"run-{given.part}"
    begun, resume = time.time(), (run / "run.json").exists()
    train(
        read_recipe("report-grounding", overrides),
        cohorts,
        run,
        folds=given.folds,
        repeats=given.repeats,
        resume=resume,
    )
    trained = time.time()
    evaluation = evaluate(run)
    names = tuple(control + kept for control in CONTROLS for kept in KEPT)
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/grounding_folds.py --part {given.part} --folds {given.folds} --repeats {given.repeats}",
        "cohorts": [Cohort.open(path).hash for path in cohorts],
        "overrides": overrides,
        "minutes": {"training": round((trained - begun) / 60, 1), "evaluation": round((time.time() - trained) / 60, 1)},
        "metrics": {n: m.to_json() for n, m in evaluation.metrics.items() if n.startswith(names) and "@" not in n},
        "warnings": list(evaluation.warnings),
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{given.part}.json").write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()
