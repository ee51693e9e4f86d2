"""A cohort of charts alone, on which plain baselines train in no time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.recipe import Recipe, read_recipe
from chiasm.study import Outcome, Record, Study


def chart_cohort(out: Path, n: int = 150, changed: Mapping[str, float] | None = None) -> Cohort:
    """n patients with numbers `sharp` and `dull`, which tell much and little of the outcome `event`.

    Args:
        changed: study -> another outcome.
    """
    rng = np.random.default_rng(7)
    event = (rng.random(n) < 0.4).astype(float)
    sharp, dull = event + 0.7 * rng.normal(size=n), event + 4 * rng.normal(size=n)
    studies = []
    for i in range(n):
        value = (changed or {}).get(f"s{i:03}", event[i])
        record = Record({"sharp": float(sharp[i]), "dull": float(dull[i])})
        studies.append(Study(f"s{i:03}", f"p{i:03}", record=record, outcomes=(Outcome("event", value),)))
    return write_cohort(studies, out, source="hand", options={})


def chart_recipe(*more: str) -> Recipe:
    """Logistic regression on them; as it stands, of what tells little alone."""
    given = ("targets=[outcome]", "evaluate.resamples=100", "baseline.model=logistic")
    return read_recipe("baseline-record", [*given, "inputs.record.columns=[dull]", *more])


SPACE = "baseline-record: {inputs.record.columns: [[dull], [sharp], [sharp, dull]]}\n"
"""What may be chosen of it."""
