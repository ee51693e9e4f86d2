"""Answers of a fold model as arrays, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.levels import answers as answers_of
from chiasm.encoding.plan import Plan
from chiasm.study import Kind

Calibration = dict[str, dict[str, dict[str, Any]]]
"""target -> label -> {"temperature", "threshold", "radius", "map_threshold", "shown"}, each where it could be fitted.
"shown": inputs ("image+record") -> {"temperature", "threshold", "radius"} of studies that show just these."""


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
    calibration: Calibration, what: str, target: str, labels: Sequence[str], shown: NDArray[np.str_], default: float
) -> NDArray[np.float64]:
    """[n, L]: what validation gave for the inputs a study shows; for inputs it could not judge, what it gave for all."""
    own = [calibration.get(target, {}).get(label, {}) for label in labels]
    rows = {s: [fit.get("shown", {}).get(s, fit).get(what, default) for fit in own] for s in np.unique(shown).tolist()}
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
