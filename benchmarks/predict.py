"""How long an answer takes once a run is loaded, beside the loading and beside `chiasm predict`'s own work.

    python benchmarks/predict.py [--studies 32]

Trains a small run on phantoms of 64 px, then times in one process, on one core: loading it, one study, a study of a batch, one study
from four threads, and `predict_inputs` of one study folder, which loads and writes as the command does. Prints one line and writes
results/predict.json. The ceiling of one study is 0.15 s; the exit status is 1 above it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
CEILING = 0.15
SMALL = [
    *("inputs.image.encoder=small-cnn", "inputs.image.size=64", "inputs.text.max_tokens=48", "fusion.dim=32", "fusion.heads=2"),
    *("heads.localization.stride=8", "heads.description.max_tokens=24", "heads.description.layers=1"),
    *("heads.description.beams=2", "train.batch_size=16", "train.epochs=1"),
]  # fmt: skip


def seconds(work: Callable[[], object], repeats: int = 9) -> float:
    """The fastest wall time, after one call that warms up: other work on the machine only adds to it."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> int:
    from chiasm import import_cohort, load_predictor, predict, read_recipe, train
    from chiasm.demo import write_study
    from chiasm.sources.phantom_chest import read as phantoms

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=32)
    count = parser.parse_args().studies
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        import_cohort("phantom-chest", None, home / "cohort", size=64, options={"studies": 60, "size": 64})
        train(read_recipe("report-fusion", SMALL), [home / "cohort"], home / "run")
        studies = list(islice(phantoms(studies=count, size=64, seed=1), count))
        folder, predictor = write_study(studies[0], home / "studies"), load_predictor(home / "run")
        found = {
            "load": seconds(lambda: load_predictor(home / "run")),
            "one study": seconds(lambda: predictor(studies[0])),
            "a study of a batch": seconds(lambda: predictor.batch(studies), 3) / count,
            "predict_inputs of one folder": seconds(lambda: predict(home / "run", [folder], home / "out")),
        }
        with ThreadPoolExecutor(4) as pool:
            found["a study from four threads"] = seconds(lambda: list(pool.map(predictor, studies)), 3) / count
    one = found["one study"]
    result = {
        "fastest_seconds": {name: round(value, 4) for name, value in found.items()},
        "ratio_to_one_study": {name: round(value / one, 2) for name, value in found.items()},
        "ceiling_seconds": CEILING,
    }
    (HERE / "results" / "predict.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"one study after loading: {one:.3f} s (ceiling {CEILING} s);", result["fastest_seconds"])
    return int(one > CEILING)


if __name__ == "__main__":
    raise SystemExit(main())
