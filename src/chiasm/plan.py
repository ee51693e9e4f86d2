"""How rows of a cohort become tensors: fitted once on the training rows, kept with the model, so prediction encodes alike."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from chiasm.study import Kind

Words = tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The encoding of a study.

    Attributes:
        image_shape: (H, W) or (D, H, W) of stored pixels, or None without images.
        numeric: record column -> mean and standard deviation over the observed training values (1 for a constant).
        categories: record column -> words; code 0 is missing or unseen, code i + 1 the i-th word.
        text_sections, max_tokens: the report as an input; no sections if it is none.
        description_sections, description_max_tokens: the text to be generated; no sections if there is none.
        targets: target -> labels, in the order of the heads.
        kinds: target -> what its values are; uncertain: target -> how a hedged finding counts.
        scaling: target that is not binary -> (mean, standard deviation) of each label over the training rows; labels are
            standardized by it.
        localized: (target, label) of each channel of the localization maps.
        grid: cells of an image's tokens and maps, or None without images.
        findings: the targets whose labels are findings with states; the others are outcomes.
        views: of the training images, the most frequent first; an image of another view is read as the first of them.
    """

    image_shape: tuple[int, ...] | None
    numeric: dict[str, tuple[float, float]]
    categories: dict[str, Words]
    text_sections: Words
    max_tokens: int
    description_sections: Words
    description_max_tokens: int
    targets: dict[str, Words]
    kinds: dict[str, Kind]
    uncertain: dict[str, str]
    scaling: dict[str, tuple[tuple[float, float], ...]]
    localized: tuple[tuple[str, str], ...]
    grid: tuple[int, ...] | None
    findings: Words = ()
    views: Words = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`, exactly: floats are written with all their digits."""
        raw = {key: _tuples(value) for key, value in json.loads(text).items()}
        raw["kinds"] = {target: Kind(kind) for target, kind in raw["kinds"].items()}
        return cls(**raw)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
