"""What evaluation and prediction spend on answers, here and in another checkout, in turn, in one run.

    python benchmarks/answers.py --against CHECKOUT [--studies 240]

Each checkout trains its own run of report-fusion (small-cnn, 64 px) on the same phantoms, in a process of its own, and is then
asked in turn for the answers of all arms of the test studies (`collect`, without fitted controls) and for the predictions of 64
studies. Page, figures and bootstrap are not timed. Writes results/answers.json: seconds, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve()
ROUNDS = 7
SMALL = [
    *("inputs.image.encoder=small-cnn", "inputs.image.size=64", "heads.localization.stride=8", "train.epochs=1"),
    *("heads.description.max_tokens=40", "train.batch_size=16"),
]  # fmt: skip


def work(home: Path, studies: int) -> None:
    """Answer the lines "evaluate" and "predict" of the standard input with seconds, until it ends."""
    import numpy as np
    import torch

    from chiasm.recipe import read_recipe

    torch.set_num_threads(1)
    try:
        from chiasm.cohort.imports import import_cohort
        from chiasm.evaluation.arms import collect
        from chiasm.run.ensemble import predict_together
        from chiasm.run.fold_model import load_fold_models, over_own_cohorts
        from chiasm.training.train import train

        def load():
            return over_own_cohorts(home / "run", load_fold_models(home / "run"))
    except ModuleNotFoundError:  # before packages had layers
        from chiasm.cohort.sources import import_cohort
        from chiasm.evaluate.collect import collect
        from chiasm.members import load_members
        from chiasm.predict.combine import predict_members as predict_together
        from chiasm.train import train

        def load():
            return load_members(home / "run")

    options = {"studies": studies, "size": 64, "missing": 0.1}
    cohort = import_cohort("phantom-chest", None, home / "cohort", size=64, options=options)
    train(read_recipe("report-fusion", SMALL), [cohort.path], home / "run")
    models = load()
    rows = np.arange(min(64, len(cohort)))
    tasks = {"evaluate": lambda: collect(models, None), "predict": lambda: predict_together(models, rows)}
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        tasks[line.strip()]()
        print(json.dumps(time.perf_counter() - begin), flush=True)


class Worker:
    """A checkout at work in a process of its own."""

    def __init__(self, checkout: Path, home: Path, studies: int) -> None:
        home.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--work", str(home), "--studies", str(studies)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        git = ["git", "-C", str(checkout), "describe", "--always"]
        self.commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        self.read()

    def read(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker of {self.commit} ended")
        return json.loads(line)

    def time(self, what: str) -> float:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        return self.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--studies", type=int, default=240)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.studies)
        return
    if arguments.against is None:
        parser.error("--against names the checkout to compare with")
    with tempfile.TemporaryDirectory() as scratch:
        checkouts = {"now": HERE.parents[1], "against": arguments.against.resolve()}
        workers = {name: Worker(path, Path(scratch) / name, arguments.studies) for name, path in checkouts.items()}
        document = {
            "studies": arguments.studies,
            "rounds": ROUNDS,
            "date": date.today().isoformat(),
            "commits": {name: worker.commit for name, worker in workers.items()},
        }
        for what in ("evaluate", "predict"):
            rounds = [{name: worker.time(what) for name, worker in workers.items()} for _ in range(ROUNDS + 1)][1:]
            ratios = sorted(r["against"] / r["now"] for r in rounds)
            document[what] = {
                **{name: round(statistics.median(r[name] for r in rounds), 3) for name in workers},
                "times_faster": {"median": round(statistics.median(ratios), 2), "lowest": round(ratios[0], 2)},
            }
        for worker in workers.values():
            worker.process.kill()
    (HERE.parent / "results" / "answers.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
