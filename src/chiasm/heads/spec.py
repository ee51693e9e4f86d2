"""What heads are asked in an evaluation: the question, the tested studies, and what is true of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort
from chiasm.encoding.levels import Levels
from chiasm.encoding.plan import Layout
from chiasm.errors import RunError
from chiasm.metrics.bootstrap import Resamples
from chiasm.study import Kind

Floats = NDArray[np.float64]


def mean_known(values: NDArray[np.floating], axis: int) -> Floats:
    """The mean along an axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=axis, dtype=np.float64) / known.sum(axis=axis))


@dataclass(frozen=True)
class Question:
    """What is asked of every arm, from the plans of the run.

    Attributes:
        targets: target -> labels; kinds: target -> what its values are; uncertain: target -> how a hedged finding counts.
        findings: targets whose labels are findings.
        modalities: inputs of the model, in the order of `chiasm.tensors.MODALITIES`.
        text_sections, description_sections: of the report, read and written.
        localized: (target, label) of each channel of the maps.
        external: the studies are of a cohort the run was not trained on, and are answered by all fold models together.
        levels: leveled target -> of each label its levels.
        opted_in: record columns that are inputs although their time is unknown.
        columns: of the record, that are inputs. reads_view: the view of an image is an input.
        heads: name -> {"options", "state"} of each head of the run.
        coverage: the chance with which prediction sets are to hold the truth. net_benefit_at: chances from which one would act.
    """

    targets: Mapping[str, Sequence[str]]
    kinds: Mapping[str, Kind]
    uncertain: Mapping[str, str]
    findings: Sequence[str] = ()
    modalities: Sequence[str] = ("image",)
    text_sections: Sequence[str] = ()
    description_sections: Sequence[str] = ()
    localized: Sequence[tuple[str, str]] = ()
    external: bool = False
    levels: Mapping[str, Sequence[Levels]] = field(default_factory=dict)
    opted_in: Sequence[str] = ()
    coverage: float = 0.9
    net_benefit_at: Sequence[float] = ()
    heads: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()
    reads_view: bool = False

    @property
    def layout(self) -> Layout:
        return Layout(self.targets, self.kinds, self.levels)

    def name_of(self, target: str, label: str) -> str:
        """The label's part of a metric's name: `all` where a target's only label has the name of the target."""
        return "all" if list(self.targets[target]) == [target] else label


@dataclass(frozen=True)
class Pool:
    """The n answered studies.

    Attributes:
        cohorts: those the studies are of.
        cohort, row: [n] number of the cohort, and the study's row in it.
        fold model: [n, M] numbers of the models that answered: one a repeat, all for another cohort.
    """

    cohorts: Sequence[Cohort]
    cohort: NDArray[np.int64]
    row: NDArray[np.int64]
    fold_model: NDArray[np.int64]

    @classmethod
    def find(cls, cohorts: Sequence[Cohort], keys: Sequence[str], fold_model: NDArray[np.int64]) -> Pool:
        """The pool of "COHORT NUMBER/STUDY ID" keys.

        Raises:
            RunError: a study is not in the cohorts.
        """
        rows = {
            f"{number}/{study}": (number, row)
            for number, cohort in enumerate(cohorts)
            for row, study in enumerate(cohort.table("studies", ["study_id"])["study_id"].to_pylist())
        }
        if lost := sum(key not in rows for key in keys):
            raise RunError(
                "the predictions are of studies that the cohort does not hold",
                expected=f"{len(keys)} studies of the cohort",
                got=f"{lost} that are not in it",
                remedy="evaluate the run again",
            )
        places = np.array([rows[key] for key in keys], np.int64).reshape(-1, 2)
        return cls(cohorts, places[:, 0], places[:, 1], fold_model)

    def __len__(self) -> int:
        return len(self.row)

    def gather(self, values: Callable[[Cohort], Any]) -> NDArray[Any]:
        """[n, ...] of an array or list that `values` gives with one entry per study of a cohort."""
        return self.take([np.asarray(values(cohort)) for cohort in self.cohorts])

    def take(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """[n, ...] of an array for each cohort with one entry per study."""
        start = np.cumsum([0, *map(len, parts)])
        return np.concatenate(parts)[start[self.cohort] + self.row]

    def column(self, name: str) -> NDArray[Any]:
        """[n] objects of a column of `studies`; None where a cohort lacks it."""

        def values(cohort: Cohort) -> NDArray[Any]:
            known = name in cohort.studies.columns
            return cohort.studies[name].to_numpy(object) if known else np.full(len(cohort), None)

        return self.gather(values)

    def numbers(self, name: str) -> Floats:
        """[n] of a numeric column of `studies`; NaN where there is no number, as in a column of words ("40-50")."""
        return np.array([v if isinstance(v, int | float) else np.nan for v in self.column(name)], np.float64)

    @cached_property
    def keys(self) -> NDArray[np.str_]:
        """[n] "COHORT NUMBER/STUDY ID"."""
        return np.array([f"{c}/{s}" for c, s in zip(self.cohort, self.column("study_id"), strict=True)], np.str_)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """[n] "COHORT NUMBER/PATIENT ID": intervals resample these."""
        return np.array([f"{c}/{p}" for c, p in zip(self.cohort, self.column("patient_id"), strict=True)], np.str_)


@dataclass(frozen=True)
class Truth:
    """What the cohorts say of the n studies.

    Attributes:
        labels, mask: target -> [n, L] in the target's own units (a class by its number, a time with the sign of its event:
            `chiasm.encoding.levels`), and where they are known.
        groups: "sex=f" -> [n] bool. bayes: subset -> [n] true probability of the event, NaN where unknown.
        references: [n] texts, whole; "" where there is none.
    """

    labels: Mapping[str, NDArray[np.float32]]
    mask: Mapping[str, NDArray[np.bool_]]
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    bayes: Mapping[str, Floats] = field(default_factory=dict)
    references: Sequence[str] = ()


@dataclass(frozen=True)
class Case:
    """All that figures of a head may rest on beside its evidence."""

    question: Question
    pool: Pool
    truth: Truth
    resamples: Resamples
