"""The nouns of an evaluation: who was answered, what is true of them, and what each arm said.

An arm is one way to answer the same studies: the full model (""), a subset of its inputs ("image+record"), a control
("shuffled_text", "thumbnail"). Every figure is a function of these arrays alone; no model is needed to compute it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.cohort.store import Cohort
from chiasm.encoding.levels import Levels
from chiasm.encoding.plan import Layout
from chiasm.errors import RunError
from chiasm.geometry import Geometry
from chiasm.study import Kind

Floats = NDArray[np.float64]
FULL = ""
NOTHING = "nothing"
"""The arm of a model that is shown nothing: what every modality adds to, and no figure of its own."""
WITHOUT_OPT_IN = "without_opt_in"
"""The arm of all inputs but the record columns of unknown time that the recipe opted in."""
SHUFFLED_IMAGE = "shuffled_image"
"""The control of descriptions that are written from another patient's image."""
DESCRIBED = ("", SHUFFLED_IMAGE, "nearest", "constant")
"""Whose descriptions are scored: the model's, and those of its controls."""


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
        coverage: the chance with which likely sets are to hold the truth. net_benefit_at: chances from which one would act.
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
class Arm:
    """What one arm says of the n studies.

    Attributes:
        values: target -> [n, L] calibrated probabilities, or values in the target's own units, or [n, L, Q] of levels; NaN
            where the fold model that was asked does not know the label.
        logits: target -> [n, M, L] or [n, M, L, Q] of each fold model, before calibration; empty for controls that have none.
        cuts: target -> [n, L] where an answer is cut, the mean of the fold models; NaN where validation could not say; empty
            for controls, which decide nothing.
        shown: [n, M] what a study showed the fold model: "image+record"; None for controls.
        radii: target -> [n, L] how strange a truth may be to be held likely, as `cuts`.
    """

    values: Mapping[str, Floats]
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    cuts: Mapping[str, Floats] = field(default_factory=dict)
    shown: NDArray[np.str_] | None = None
    radii: Mapping[str, Floats] = field(default_factory=dict)

    def uncalibrated(self, target: str) -> Floats | None:
        """[n, L] mean over fold models of sigmoid(logit), temperature 1; None without logits."""
        logits = self.logits.get(target)
        return None if logits is None else mean_known(expit(logits.astype(np.float64)), axis=1)


@dataclass(frozen=True)
class Maps:
    """Localization maps of the pool's images, from the image alone.

    Attributes:
        values: [m, C, h, w] (or [m, C, d, h, w]) probabilities at grid resolution, mean over fold models.
        study: [m] place in the pool; image_row: [m] row in the `images` of that study's cohort.
        geometry: [m] from the original frame to the stored pixels the grid lies on.
        thresholds: [fold models, C] where a map is cut, fitted on validation.
    """

    values: NDArray[np.float16]
    study: NDArray[np.int64]
    image_row: NDArray[np.int64]
    geometry: Sequence[Geometry]
    thresholds: Floats


@dataclass(frozen=True)
class Look:
    """What in their volumes spoke for the outcome of those who had it (`chiasm.evaluation.saliency`).

    Attributes:
        values: [D, H, W] on the grid of stored volumes, the mean over studies of what is positive in gradient x input.
        target, label: the outcome. studies: how many had it, and a volume.
    """

    values: NDArray[np.float32]
    target: str
    label: str
    studies: int


@dataclass(frozen=True)
class Evidence:
    """All that is scored.

    Attributes:
        arms: prefix -> arm; the full model is "".
        descriptions: of `DESCRIBED`, a text a study.
        neighbour: how the nearest neighbour was found, one clause.
        look: what the model looked at; None where that has no common space.
    """

    question: Question
    pool: Pool
    arms: Mapping[str, Arm]
    maps: Maps | None = None
    descriptions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    neighbour: str = ""
    look: Look | None = None


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


def read_truth(question: Question, pool: Pool, age_bands: Sequence[float]) -> Truth:
    """What is true of the pool, from its cohorts alone."""
    labels, mask = {}, {}
    for target, names in question.targets.items():
        how = question.uncertain.get(target, "ignore")
        read = [cohort.labels(target, names, how, question.levels.get(target)) for cohort in pool.cohorts]
        labels[target], mask[target] = (pool.take(list(part)) for part in zip(*read, strict=True))
    subsets = dict.fromkeys(subset for cohort in pool.cohorts for subset in cohort.bayes)
    sections = question.description_sections
    return Truth(
        labels,
        mask,
        groups=subgroups(pool, age_bands),
        bayes={s: pool.column(f"bayes.{s}").astype(np.float64) for s in subsets},
        references=[str(text) for text in pool.gather(lambda c: c.texts(sections))] if sections else (),
    )


def subgroups(pool: Pool, age_bands: Sequence[float]) -> dict[str, NDArray[np.bool_]]:
    """Who is of which sex, age band and view: "sex=f" -> [n] bool. A study with two views is in both groups.

    A column that puts everybody into one group says nothing and is left out.
    """
    groups: dict[str, dict[str, NDArray[np.bool_]]] = {"sex": {}, "age": {}, "view": {}}
    sex = pool.column("record.sex")
    groups["sex"] = {value: sex == value for value in sorted({s for s in sex if isinstance(s, str)})}
    age = pool.numbers("record.age_years")
    edges = [0.0, *age_bands, np.inf]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        name = f"{low:g}_{high:g}" if np.isfinite(high) else f"{low:g}_plus"
        groups["age"][name] = (age >= low) & (age < high)
    views = [_views(cohort) for cohort in pool.cohorts]
    for view in dict.fromkeys(view for known in views for view in known):
        of_cohort = [known.get(view, np.zeros(len(c), bool)) for known, c in zip(views, pool.cohorts, strict=True)]
        groups["view"][view] = pool.take(of_cohort)
    found: dict[str, NDArray[np.bool_]] = {}
    for column, parts in groups.items():
        filled = {name: who for name, who in parts.items() if who.any()}
        if len(filled) > 1:
            found |= {f"{column}={name}": who for name, who in filled.items()}
    return found


def _views(cohort: Cohort) -> dict[str, NDArray[np.bool_]]:
    """View -> [studies] whether a study has an image of it."""
    views = cohort.images["view"].to_numpy(object)
    return {v: np.isin(np.arange(len(cohort)), cohort.image_study[views == v]) for v in sorted(set(views))}
