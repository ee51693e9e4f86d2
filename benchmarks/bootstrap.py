"""AUROC and AUPRC with patient-bootstrap intervals: 1,000 resamples of 14 labels x 25,000 studies.

Target: 10 s on two cores. Beside it, on a few of the same resamples, a loop over scikit-learn's two functions with
sample weights, which must give the same numbers.

    python benchmarks/bootstrap.py        writes benchmarks/results/bootstrap.json
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, roc_auc_score

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.classification import ranking

RESAMPLES, LABELS, STUDIES, PATIENTS = 1000, 14, 25_000, 8_000
LOOPED = 5  # resamples of the naive loop
RARE = np.geomspace(0.002, 0.18, LABELS)  # shares of positives like ChestX-ray14's
CASES = {"prevalence .002 to .18": RARE, "prevalence .5 (most steps)": np.full(LABELS, 0.5)}


def sample(prevalence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    patients = np.array([f"patient-{i}" for i in rng.integers(PATIENTS, size=STUDIES)])
    labels = rng.random((STUDIES, LABELS)) < prevalence
    scores = (1.5 * labels + rng.normal(size=(STUDIES, LABELS))).astype(np.float32)
    return patients, labels, scores


def measure(prevalence: np.ndarray) -> dict[str, float]:
    patients, labels, scores = sample(prevalence)
    begin, cpu = time.perf_counter(), time.process_time()
    resamples = Resamples.draw(patients, RESAMPLES)
    found = [ranking(labels[:, k], scores[:, k], resamples) for k in range(LABELS)]
    _ = [estimate.metric() for pair in found for estimate in pair.values()]
    ours, cpu = time.perf_counter() - begin, time.process_time() - cpu

    begin, difference = time.perf_counter(), 0.0
    for r in range(1, LOOPED + 1):
        weights = resamples.weights[resamples.patients, r]
        for k, pair in enumerate(found):
            auroc = roc_auc_score(labels[:, k], scores[:, k], sample_weight=weights)
            auprc = average_precision_score(labels[:, k], scores[:, k], sample_weight=weights)
            difference = max(difference, abs(pair["auroc"].draws[r] - auroc), abs(pair["auprc"].draws[r] - auprc))
    loop = (time.perf_counter() - begin) / LOOPED * RESAMPLES
    return {
        "seconds": round(ours, 2),
        "cpu_seconds": round(cpu, 2),
        "scikit_learn_loop_seconds": round(loop),
        "times_faster": round(loop / ours),
        "largest_difference": difference,
    }


def main() -> None:
    result = {
        "what": f"AUROC and AUPRC, {RESAMPLES} patient resamples, {LABELS} labels, {STUDIES} studies, {PATIENTS} patients",
        "loop": f"measured on {LOOPED} resamples, scaled to {RESAMPLES}",
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "cases": {name: measure(prevalence) for name, prevalence in CASES.items()},
    }
    out = Path(__file__).parent / "results" / "bootstrap.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
