"""Answers of a fold model as arrays, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from chiasm.atomic import write_json
from chiasm.documents import STRICT, Document, read_document, to_json
from chiasm.encoding.levels import answers as answers_of
from chiasm.encoding.plan import Plan
from chiasm.study import Kind


@dataclass(frozen=True)
class Fit:
    """What validation says of a label; None where it could not.

    Attributes:
        temperature: that logits are divided by. threshold: from which an answer is a yes.
        quantile: of the prediction set (`chiasm.metrics.conformal`).
    """

    __pydantic_config__ = STRICT

    temperature: float | None = None
    threshold: float | None = None
    quantile: float | None = None


@dataclass(frozen=True)
class LabelFit(Fit):
    """As `Fit`, for studies as they come.

    Attributes:
        map_threshold: where the label's map is cut, fitted on validation boxes; of maps without boxes a second figure alone uses it.
        shown: inputs ("image+record") -> the fit for studies that show just these, where there were enough.
    """

    map_threshold: float | None = None
    shown: dict[str, Fit] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration(Document):
    """What calibration.json says of a fold model: target -> label -> its fit."""

    SCHEMA: ClassVar[int] = 2

    targets: dict[str, dict[str, LabelFit]] = field(default_factory=dict)

    def fit(self, target: str, label: str) -> LabelFit:
        """Of a label; an empty one where nothing was fitted."""
        return self.targets.get(target, {}).get(label, LabelFit())

    def map_threshold(self, target: str, label: str) -> float:
        """Where a label's localization map becomes boxes; .5 where validation has no region of it."""
        threshold = self.fit(target, label).map_threshold
        return 0.5 if threshold is None else threshold


def read_calibration(path: Path) -> Calibration:
    """Read a fold model's calibration.json.

    Raises:
        RunError: it is missing, damaged or of another schema.
    """
    return read_document(path, Calibration, "train again")


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a fold model's calibration.json."""
    write_json(path, to_json(calibration))


@dataclass
class Answers:
    """What a model says of some studies, before calibration.

    Attributes:
        indices: [n] studies, in the index space of the loader.
        logits: target -> [n, L] (regression targets: standardized values), or [n, L, Q] of leveled ones.
        shown: [n] which modalities the model was shown: "image+record", "" for none.
        heads: name of a head -> what is kept of its answers (`chiasm.heads.head.Head.join`), of the heads that were asked.
    """

    indices: NDArray[np.int64]
    logits: dict[str, NDArray[np.float32]]
    shown: NDArray[np.str_]
    heads: Mapping[str, Any] = field(default_factory=dict)


def fitted(
    calibration: Calibration,
    what: Literal["temperature", "threshold", "quantile"],
    target: str,
    labels: Sequence[str],
    shown: NDArray[np.str_],
    default: float,
) -> NDArray[np.float64]:
    """[n, L]: what validation gave for the inputs a study shows; for inputs it could not judge, what it gave for all."""
    own = [calibration.fit(target, label) for label in labels]
    values = {s: [getattr(fit.shown.get(s, fit), what) for fit in own] for s in np.unique(shown).tolist()}
    rows = {s: [default if value is None else value for value in each] for s, each in values.items()}
    return np.array([rows[s] for s in shown.tolist()], np.float64).reshape(len(shown), len(labels))


def calibrated(
    logits: dict[str, NDArray[np.float32]], shown: NDArray[np.str_], plan: Plan, calibration: Calibration
) -> dict[str, NDArray[np.float64]]:
    """Logits of each target -> probabilities at the fitted temperature, or values in the target's own units.

    [n, L], and [n, L, Q] of leveled targets: of each level, or of no event until the end of each interval.

    Args:
        shown: [n] inputs of each study: a model that sees less is less sure, so each set has a temperature of its own.
    """
    result = {}
    for target, values in logits.items():
        values = values.astype(np.float64)
        if plan.kinds[target] is Kind.BINARY:
            t = fitted(calibration, "temperature", target, plan.targets[target], shown, 1.0)
            result[target] = 1.0 / (1.0 + np.exp(-values / t))
        elif plan.kinds[target].leveled:
            t = fitted(calibration, "temperature", target, plan.targets[target], shown, 1.0)
            result[target] = answers_of(values, plan.kinds[target], t[:, :, None])
        else:
            mean, std = np.array(plan.scaling[target]).T
            result[target] = values * std + mean
    return result
