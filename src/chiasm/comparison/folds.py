"""The scores of each fold by itself, where two runs were trained on the same folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chiasm.comparison.answered import Answered
from chiasm.evaluation.score import score_arm
from chiasm.evaluation.spec import Arm
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.name import MetricName
from chiasm.run.folder import read_run
from chiasm.run.split import read_split

FoldScores = dict[MetricName, NDArray[np.float64]]
"""Name of a figure -> [fold models] of each fold's own test studies; NaN where it is undefined."""


def fold_scores(first: Answered, other: Answered) -> tuple[tuple[FoldScores, FoldScores], float, str]:
    """Both runs' scores of each fold, n_test / n_train, and "" or why there are none."""
    splits, theirs = list(_splits(first)), list(_splits(other))
    if len(splits) < 2 or len(theirs) < 2:
        return ({}, {}), 0.0, "a run without folds has one training"
    if first.record.external or other.record.external or _tests(splits) != _tests(theirs):
        return ({}, {}), 0.0, "the runs were not trained on the same folds"
    test = np.mean([len(split["test"]) for split in splits])
    learned = np.mean([len(split["train"]) + len(split["validation"]) for split in splits])
    return (_by_fold(first), _by_fold(other)), float(test / learned), ""


def _splits(run: Answered) -> Iterator[dict[str, list[str]]]:
    """Of each fold model: "train", "validation", "test" -> sorted studies."""
    info = read_run(run.path)
    hashes = [recorded.hash for recorded in info.cohorts]
    for name in info.fold_models:
        yield {
            part: sorted(f"{hashes[int(key.partition('/')[0])]}/{key.partition('/')[2]}" for key in studies)
            for part, studies in read_split(run.path / name).parts.items()
        }


def _tests(splits: Sequence[Mapping[str, list[str]]]) -> list[list[str]]:
    return [split["test"] for split in splits]


def _by_fold(run: Answered) -> FoldScores:
    """Each fold model scored by itself on the studies it tested: no answer of a repeat is averaged with another's."""
    evidence, truth = run.evidence, run.truth
    fold_models = read_run(run.path).fold_models
    found: FoldScores = {}
    for prefix, arm in evidence.arms.items():
        values = {target: arm.by_model(target) for target in arm.values}
        for fold_model in range(len(fold_models)):
            rows, slot = np.nonzero(evidence.pool.fold_model == fold_model)
            own = Arm({target: each[rows, slot] for target, each in values.items()})
            here = replace(
                truth,
                labels={t: each[rows] for t, each in truth.labels.items()},
                mask={t: each[rows] for t, each in truth.mask.items()},
            )
            alone = Resamples.draw(np.arange(len(rows)), resamples=0)
            for name, estimate in score_arm(evidence.question, here, own, alone, prefix).items():
                found.setdefault(name, np.full(len(fold_models), np.nan))[fold_model] = estimate.draws[0]
    everything = "+".join(evidence.question.modalities)
    whole = {name._replace(subset=everything): each for name, each in found.items() if not name.prefix}
    return whole | found
