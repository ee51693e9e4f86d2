"""Phrases on an image: "left lower lobe consolidation" is looked for on the map of the finding it names, "no effusion" nowhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.domains.chest.frame import frame_parts, name_parts
from chiasm.heads.localization import LocalizationOptions
from chiasm.heads.maps import within_range
from chiasm.metrics.localization import map_to_boxes
from chiasm.report.attributes import Described, describe_findings
from chiasm.study import Prediction, State

CUT: float = LocalizationOptions.model_fields["threshold"].default
"""Share of a map's range from which a phrase is seen, whatever the finding."""


@dataclass(frozen=True)
class Box:
    """A place on an image, in pixels of the original; score: height of the map there, as a share of its range."""

    image_id: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Grounded:
    """Where a phrase lies.

    Attributes:
        finding: "target/label" of the map that was read, or None. confidence: probability that the finding is present, times the share
            of its map's range that is reached where the phrase points; 0 without boxes. reason: why there is no box, else "".
    """

    phrase: str
    finding: str | None
    boxes: tuple[Box, ...]
    confidence: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ground(prediction: Prediction, phrase: str) -> Grounded:
    """The boxes of a phrase, from the maps of an answer; words of side, zone and lobe mean places of a frontal radiograph.

    A phrase that denies its finding has nothing to point at, and neither has one whose finding the model does not see.
    """
    found = describe_findings(phrase)
    stated = [one for one in found if one.mention.state is not State.ABSENT]
    if not stated:
        why = "the phrase says that it is absent" if found else "no finding is named"
        return Grounded(phrase, None, (), 0.0, why)
    findings = {f"{f.target}/{f.name}": f for f in prediction.findings}
    mapped = [key for key in dict.fromkeys(key for _, key in prediction.maps) if key in findings]
    # "patchy consolidation" names an opacity as well: the first name counts of which there is a map
    known = [(one, key) for one in stated for key in mapped if findings[key].name == one.mention.finding]
    if not known:
        return Grounded(phrase, None, (), 0.0, "the model has no map of this finding")
    one, key = known[0]
    if findings[key].state is not State.PRESENT:
        return Grounded(phrase, key, (), 0.0, "the model does not see the finding")
    boxes: list[Box] = []
    for (image_id, own), values in prediction.maps.items():
        if own == key:
            seen = _restrict(within_range(values[None, None])[0, 0], one)
            places = zip(*map_to_boxes(seen, CUT, prediction.geometries[image_id]), strict=True)
            boxes += [Box(image_id, tuple(float(x) for x in box), float(score)) for box, score in places]  # type: ignore[arg-type]
    best = max((box.score for box in boxes), default=0.0)
    reason = "" if boxes else "the model sees the finding elsewhere"
    return Grounded(phrase, key, tuple(boxes), best * (findings[key].probability or 0.0), reason)


def _restrict(values: NDArray[np.floating], said: Described) -> NDArray[np.floating]:
    """The map where the phrase points, 0 elsewhere."""
    named = name_parts(*(said.values(kind) for kind in ("side", "zone", "lobe")))
    if named is None or values.ndim != 2:
        return values
    return np.asarray(np.where(np.array(named)[frame_parts((values.shape[0], values.shape[1]))], values, 0.0))
