"""What `evaluate` and `compare` record: evaluation.json and compare.json, each read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from chiasm.documents import STRICT, Document, read_document, to_json
from chiasm.metrics.metric import Metric
from chiasm.run.cohorts import RecordedCohort


def _with_metrics(document: Document, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """The document with its metrics as scripts read them: no reason where there is a value."""
    return {**to_json(document), "metrics": {name: metric.to_json() for name, metric in metrics.items()}}


@dataclass(frozen=True)
class Difference:
    """In what tested studies differ from those of training.

    Attributes:
        group: "labels", "record", "missing" or "images". training, tested: both sides in words; "" of a histogram.
        measure: "share", "mean" or "words": the size is a difference of shares, of means in standard deviations, or the total
            variation of shares. n: how many studies or images of each side it rests on.
    """

    __pydantic_config__ = STRICT

    group: str
    name: str
    training: str
    tested: str
    measure: str
    size: float
    n: tuple[int, int]


@dataclass(frozen=True)
class Evaluated(Document):
    """What evaluation.json says; no identifier and no report text.

    Attributes:
        recipe, run, cohorts, seed, versions: what was asked, and of whom. external: of a cohort that took no part in training.
        fold_models, folds, repeats, modalities: of the run. studies, patients, resamples: what the figures rest on.
        weights: fold model -> hash; predictions: file -> hash.
        notes: what was switched off; shared: what training and test have in common, and should not.
        few: what training or calibration had too few patients of. lead: what the page says first, a list of sentences.
        leads: prefixes of the arms that lead the page; data_notes: what users of the cohorts must know; added: what a written
            text added. init: path of the run whose encoders the training began with; "" of one that began anew.
        internal: of an external cohort, the run's figures on its own patients, where they were known when it was evaluated.
        shift: in what its studies differ from those of training.
        tried: how many configurations were evaluated on these patients, this one among them; 0 where nobody counted.
        warnings: sentences, the gravest first. metrics: by the names of `chiasm.metrics.name`.
    """

    SCHEMA: ClassVar[int] = 4

    recipe: str
    run: str
    cohorts: tuple[RecordedCohort, ...]
    external: bool
    fold_models: int
    folds: int
    repeats: int
    modalities: tuple[str, ...]
    studies: int
    patients: int
    resamples: int
    seed: int
    versions: dict[str, str]
    made: str
    weights: dict[str, str]
    predictions: dict[str, str]
    notes: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    few: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()
    leads: tuple[str, ...] = ("",)
    data_notes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    init: str = ""
    internal: dict[str, Metric] = field(default_factory=dict)
    shift: tuple[Difference, ...] = ()
    tried: int = 0
    warnings: tuple[str, ...] = ()
    metrics: dict[str, Metric] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        internal = {name: metric.to_json() for name, metric in self.internal.items()}
        return {**_with_metrics(self, self.metrics), "internal": internal}


def read_evaluated(folder: Path) -> Evaluated:
    """The evaluation.json of a folder that `evaluate` wrote.

    Raises:
        RunError: there is none, or it is damaged, or of another schema version.
    """
    return read_document(folder / "evaluation.json", Evaluated, "evaluate the run again")


@dataclass(frozen=True)
class ComparedRun:
    """A run that took part in a comparison. `weights`: fold model -> hash; `protocol`: which models answered whom."""

    __pydantic_config__ = STRICT

    name: str
    path: str
    recipe: str
    baseline: bool
    modalities: tuple[str, ...]
    protocol: str
    weights: dict[str, str]


@dataclass(frozen=True)
class Compared(Document):
    """What compare.json says; no identifiers.

    Attributes:
        runs: the first and the others. metrics: of the first, on the common studies.
        comparisons: name of another run -> name of a figure -> its difference, tests and verdict.
        notes: what was left out, and why; warnings: the baselines that the first run does not beat.
    """

    SCHEMA: ClassVar[int] = 2

    made: str
    runs: tuple[ComparedRun, ...]
    cohorts: tuple[RecordedCohort, ...]
    studies: int
    patients: int
    resamples: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: dict[str, Metric]
    comparisons: dict[str, dict[str, dict[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        return _with_metrics(self, self.metrics)


def read_compared(folder: Path) -> Compared:
    """The compare.json of a folder that `compare` wrote.

    Raises:
        RunError: there is none, or it is damaged, or of another schema version.
    """
    return read_document(folder / "compare.json", Compared, "compare the runs again")
