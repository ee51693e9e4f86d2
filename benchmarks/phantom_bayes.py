"""How close each modality subset comes to the best reachable AUROC on phantoms, and the boxes, image only.

    python benchmarks/phantom_bayes.py [--phantom chest|stroke] [--studies 8000] [--work FOLDER]

The cohort's own hash split is used: 70% train, 10% validation (chooses the epoch), 20% test, by patient. Writes
benchmarks/results/phantom_bayes.json or phantom_stroke.json. The stroke's text is written from facts of its image, so the best
that image and text can reach is what the image can.
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
from chiasm.evaluation.evaluate import evaluate
from chiasm.recipe import read_recipe
from chiasm.report.writers import open_writer
from chiasm.run.folder import read_run
from chiasm.training.train import train

SIZE, VOLUME_SIZE, SEED = 128, (32, 32, 32), 11
PHANTOMS = {
    "chest": {
        "recipe": "report-fusion",
        "sets": (
            f"inputs.image.size={SIZE}",
            "inputs.text.max_tokens=160",
            "fusion.dim=64",
            "heads.localization.stride=8",
            "heads.description=null",
            "train.epochs=20",
            "train.learning_rate=0.002",
        ),
        "outcome": "outcome/event",
        "options": {},
        "file": "phantom_bayes.json",
    },
    "stroke": {
        "recipe": "stroke-prognosis",
        "sets": ("inputs.text.encoder=bilstm", "inputs.text.max_tokens=160", "train.keep=best"),
        "outcome": "outcome/mrs_gt_2",
        "options": {"sequences": "lesion-mask"},
        "file": "phantom_stroke.json",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantom", choices=PHANTOMS, default="chest")
    parser.add_argument("--studies", type=int, default=8000)
    parser.add_argument("--work", type=Path, default=Path("runs/phantom_bayes"))
    arguments = parser.parse_args()
    chosen = PHANTOMS[arguments.phantom]
    begun, home = time.time(), arguments.work / arguments.phantom
    if (home / "cohort").exists():
        cohort = Cohort.open(home / "cohort")
    else:
        cohort = import_cohort(
            f"phantom-{arguments.phantom}",
            None,
            home / "cohort",
            size=SIZE,
            volume_size=VOLUME_SIZE,
            seed=SEED,
            options={"studies": arguments.studies, **chosen["options"]},
        )
    if arguments.phantom == "stroke":
        write_texts(cohort, open_writer("template"), "image-description")
    run = home / "run"
    begun_before = (run / "run.json").is_file()
    if not begun_before or read_run(run).status != "finished":
        train(read_recipe(chosen["recipe"], chosen["sets"]), [cohort.path], run, resume=begun_before)
    metrics = evaluate(run).metrics
    rows = {}
    for name, best in metrics.items():
        if name.startswith("bayes:") and name.endswith(f":{chosen['outcome']}/auroc"):
            subset = name.split(":")[1]
            own = metrics.get(f"{subset}:{chosen['outcome']}/auroc") or metrics[f"{chosen['outcome']}/auroc"]
            rows[subset] = {
                "auroc": own.to_json(),
                "bayes": best.to_json(),
                "gap": (best.value or 0) - (own.value or 0),
            }
    kept = [n for n in metrics if n.startswith("localization/") and n.endswith(("/miou", "/box_iou"))]
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/phantom_bayes.py --phantom {arguments.phantom} --studies {arguments.studies}",
        "cohort": cohort.hash,
        "counts": cohort.meta["counts"],
        "overrides": chosen["sets"],
        "seed": 0,
        "minutes": round((time.time() - begun) / 60, 1),
        "outcome": rows,
        "all inputs": metrics[f"{chosen['outcome']}/auroc"].to_json(),
        "findings": {
            n: metrics[n].to_json() for n in ("findings/macro/auroc", "image:findings/macro/auroc") if n in metrics
        },
        "localization": {n: metrics[n].to_json() for n in kept},
    }
    out = Path(__file__).parent / "results" / chosen["file"]
    out.write_text(json.dumps(result, indent=1), "utf-8")
    for subset, row in sorted(rows.items(), key=lambda item: (item[0].count("+"), item[0])):
        a, b = row["auroc"], row["bayes"]
        print(
            f"{subset:20} {a['value']:.3f} ({a['low']:.3f} to {a['high']:.3f})  Bayes {b['value']:.3f}  gap {row['gap']:.3f}  n {a['n']}"
        )
    for name in kept:
        m = metrics[name].to_json()
        print(f"{name:45} {m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})")


if __name__ == "__main__":
    main()
