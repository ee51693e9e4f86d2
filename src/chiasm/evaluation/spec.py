"""The nouns of an evaluation: who was answered, what is true of them, and what each arm said.

An arm is one way to answer the same studies: the full model (""), a subset of its inputs ("image+record"), a control
("shuffled_text", "thumbnail"). Every figure is a function of these arrays alone; no model is needed to compute it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.cohort.store import Cohort
from chiasm.heads.spec import Floats, Pool, Question, Truth, mean_known

FULL = ""
NOTHING = "nothing"
"""The arm of nobody who looks at a patient, the prevalence or mean of training: what every modality adds to; it has no figures."""
WITHOUT_OPT_IN = "without_opt_in"
"""The arm of all inputs but the record columns of unknown time that the recipe opted in."""
SHUFFLED_IMAGE = "shuffled_image"
"""The control of descriptions that are written from another patient's image."""


@dataclass(frozen=True)
class Arm:
    """What one arm says of the n studies.

    Attributes:
        values: target -> [n, L] calibrated probabilities, or values in the target's own units, or [n, L, Q] of levels; NaN
            where the fold model that was asked does not know the label.
        logits: target -> [n, M, L] or [n, M, L, Q] of each fold model, before calibration; empty for controls that have none.
        thresholds: target -> [n, L] from which an answer is yes, the mean of the fold models; NaN where validation could not say; empty
            for controls, which decide nothing.
        shown: [n, M] what a study showed the fold model: "image+record"; None for controls.
        quantiles: target -> [n, L] the nonconformity up to which a level is in the prediction set, as `thresholds`.
        each: target -> [n, M, L] or [n, M, L, Q] of `values` what each of the M fold models says; empty where there is one.
        details: of a control: "target/label" (as in names of metrics), or "" for all -> what it rests on in this cohort, a clause.
    """

    values: Mapping[str, Floats]
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    thresholds: Mapping[str, Floats] = field(default_factory=dict)
    shown: NDArray[np.str_] | None = None
    quantiles: Mapping[str, Floats] = field(default_factory=dict)
    each: Mapping[str, Floats] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, each: Mapping[str, Floats], **more: Any) -> Self:
        """An arm of what each fold model says: its values are their mean."""
        values = {target: mean_known(own, axis=1) for target, own in each.items()}
        return cls(values, **more, each=each if any(own.shape[1] > 1 for own in each.values()) else {})

    def detail(self, target: str, label: str) -> str:
        """What a control rests on, of one label; "" where it says nothing of that."""
        return self.details.get(f"{target}/{label}", self.details.get("", ""))

    def yes_from(self, target: str, k: int) -> Floats:
        """[n] from which a binary answer to label k is a yes: its threshold, .5 where validation could not say."""
        fitted = (
            self.thresholds[target][:, k] if target in self.thresholds else np.full(len(self.values[target]), np.nan)
        )
        return np.where(np.isnan(fitted), 0.5, fitted)

    def by_model(self, target: str) -> Floats:
        """[n, M, L] or [n, M, L, Q] what each fold model says."""
        return self.each[target] if target in self.each else self.values[target][:, None]

    def uncalibrated(self, target: str) -> Floats | None:
        """[n, L] mean over fold models of sigmoid(logit), temperature 1; None without logits."""
        logits = self.logits.get(target)
        return None if logits is None else mean_known(expit(logits.astype(np.float64)), axis=1)


@dataclass(frozen=True)
class Saliency:
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
class CaseMaps:
    """What in the images of example cases spoke for the answer (`chiasm.evaluation.case_maps`).

    Attributes:
        values: place in the pool -> [H, W] on the grid of the stored image, what is positive in gradient x input.
        alike: rank correlation of these maps with those of the same models with random weights; None where there are none.
    """

    values: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    alike: float | None = None


@dataclass(frozen=True)
class Evidence:
    """All that is scored.

    Attributes:
        arms: prefix -> arm; the full model is "".
        heads: name of a head -> evidence of its own kind, of the model ("") and of each control.
        neighbour: how the nearest neighbour was found, one clause.
        saliency: what the model looked at; None where that has no common space.
        columns: place of an example case in the pool -> (record column, its share of the answer, the standard error of that).
        maps: what in the images of example cases spoke for the answer.
    """

    question: Question
    pool: Pool
    arms: Mapping[str, Arm]
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    neighbour: str = ""
    saliency: Saliency | None = None
    columns: Mapping[int, Sequence[tuple[str, float, float]]] = field(default_factory=dict)
    maps: CaseMaps = CaseMaps()


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
