"""What reports teach maps: arms on the phantom chest, image alone, no box in training; one part a call, resumable.

    python benchmarks/report_grounding.py --part a [--seed 0] [--work FOLDER]      (parts: plain a b c d)
    python benchmarks/report_grounding.py --part summary

plain  labels alone, as before maps were asked to answer their label themselves, and within the image
a      labels alone
b      labels and what reports state: presence, attributes, places
c      as b, and cross-attention of words and regions, and the contrast of studies
d      as c, with the reports of other patients

Each part writes benchmarks/results/report_grounding/ARM-SEED.json; `summary` puts them in benchmarks/results/report_grounding.json. Test
patients are those of the cohort's split, the same in every arm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import chiasm
from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.evaluation.evaluate import evaluate
from chiasm.recipe import read_recipe
from chiasm.sources.phantom_chest import read
from chiasm.sources.registry import Source
from chiasm.study import Study
from chiasm.training.train import train

RESULTS = Path(__file__).parent / "results"
SHAPE = (
    "inputs.image.encoder=small-cnn",
    "inputs.image.augment=false",
    "fusion.dim=64",
    "heads.localization.stride=8",
    "targets=[findings]",
)
NO_WORDS = ("heads.grounding.word_weight=0", "heads.grounding.study_weight=0")
ARMS = {
    "plain": ("heads.grounding=null", "heads.localization.label_weight=0", "heads.localization.within=image"),
    "a": ("heads.grounding=null",),
    "b": NO_WORDS,
    "c": (),
    "d": (),
}
KEPT = (
    "localization/",
    "region_prior:localization/",
    "centre_prior:localization/",
    "grounding/",
    "findings/macro/auroc",
)


def shifted(path: Path | None = None, *, studies: int = 600, size: int = 64) -> Iterator[Study]:
    """Phantoms, each with the report of the study that stands seven places on: of another patient."""
    made = list(read(studies=studies, size=size))
    for i, study in enumerate(made):
        yield replace(study, report=made[(i + 7) % len(made)].report)


SOURCES = {"d": ("phantom-shifted", shifted)}


def run_arm(arm: str, given: argparse.Namespace) -> None:
    home = given.work / f"{given.studies}-{given.size}"
    source, make = SOURCES.get(arm, ("phantom-chest", None))
    if make is not None:
        chiasm.register("source", source, Source(source, "phantoms with reports of others", make))
    where = home / f"cohort-{source}"
    options = {"studies": given.studies}
    cohort = (
        Cohort.open(where) if where.exists() else import_cohort(source, None, where, size=given.size, options=options)
    )
    overrides = [
        *SHAPE, f"inputs.image.size={given.size}", f"train.epochs={given.epochs}", f"train.seed={given.seed}", *ARMS[arm]
    ]  # fmt: skip
    run, begun = home / f"run-{arm}-{given.seed}", time.time()
    train(read_recipe("report-grounding", overrides), [cohort.path], run, resume=(run / "run.json").exists())
    evaluation = evaluate(run)
    kept = {n: m.to_json() for n, m in evaluation.metrics.items() if n.startswith(KEPT) and "@" not in n}
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/report_grounding.py --part {arm} --seed {given.seed}",
        "cohort": cohort.hash,
        "studies": given.studies,
        "overrides": overrides,
        "minutes": round((time.time() - begun) / 60, 1),
        "metrics": kept,
        "warnings": list(evaluation.warnings),
    }
    out = RESULTS / "report_grounding"
    out.mkdir(exist_ok=True)
    (out / f"{arm}-{given.seed}.json").write_text(json.dumps(result, indent=1), "utf-8")


def summarize() -> None:
    """One table of what was measured."""
    parts = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted((RESULTS / "report_grounding").glob("*.json"))}
    (RESULTS / "report_grounding.json").write_text(json.dumps(parts, indent=1), "utf-8")
    for name, part in parts.items():
        for metric, m in part["metrics"].items():
            if "/macro/" in metric or metric.startswith("grounding"):
                value = "undefined" if m["value"] is None else f"{m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})"
                print(f"{name:10} {metric:50} {value} n {m['n']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*ARMS, "summary"], required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/report_grounding"))
    for name, default in (("seed", 0), ("studies", 600), ("size", 64), ("epochs", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    summarize() if given.part == "summary" else run_arm(given.part, given)


if __name__ == "__main__":
    main()
