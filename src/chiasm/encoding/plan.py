"""How rows of a cohort become tensors: fitted once on the training rows, kept with the model, so prediction encodes alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.levels import NEVER, Floats, Levels, place
from chiasm.formats.intensity import Intensity
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
        scaling: regression target -> (mean, standard deviation) of each label over the training rows; labels are
            standardized by it.
        localized: (target, label) of each channel of the localization maps.
        grid: cells of an image's tokens and maps, or None without images.
        channels: of an image as the model sees it: names of what is stored, or windows.
        preprocessing: what was done to the pixels (`chiasm.encoding.images.join_preprocessing`).
        atlas: where the atlas lies (`Geometry.to_json`), when volumes are read by its regions; else "".
        regions: number -> name of the regions of that atlas.
        findings: the targets whose labels are findings with states; the others are outcomes.
        views: of the training images, the most frequent first; an image of another view is read as the first of them.
        sequences: names of the training images, where a study may have several images of different names; an image of one of them
            is told by its name instead of its view.
        facts, fact_words: what was measured on the images, as `numeric` and `categories`; of a baseline only.
        levels: leveled target -> of each label, the levels that training has (`chiasm.encoding.levels`): such a label is answered by
            a number for each.
        heads: name -> what the head learned of training (its `fit`), as JSON.
        rates: leveled target -> of each label, how often training has each level, or the hazard of each interval.
        prevalence: binary target -> of each label the share of training studies that have it.
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
    atlas: str = ""
    regions: dict[str, str] = field(default_factory=dict)
    channels: Words = ("gray",)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    views: Words = ()
    sequences: Words = ()
    facts: dict[str, tuple[float, float]] = field(default_factory=dict)
    fact_words: dict[str, Words] = field(default_factory=dict)
    levels: dict[str, tuple[Levels, ...]] = field(default_factory=dict)
    rates: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    prevalence: dict[str, tuple[float, ...]] = field(default_factory=dict)
    heads: dict[str, Any] = field(default_factory=dict)

    @property
    def intensity(self) -> Intensity:
        """The rule of each modality."""
        return Intensity.parse(self.preprocessing.get("intensity", {}))

    def shape(self, target: str) -> tuple[int, ...]:
        """Of the answers to one study: (L,), or (L, Q) of a leveled target, Q being the most levels of a label."""
        labels = len(self.targets[target])
        return (labels, max(map(len, self.levels[target]))) if target in self.levels else (labels,)

    def prior(self, target: str) -> Floats:
        """[L], or [L, Q] of a leveled target: what training says of a patient of whom nothing is known, as an answer.

        The prevalence, the mean, how often each level was, or the survival curve of all.
        """
        if target in self.prevalence:
            return np.array(self.prevalence[target])
        if target in self.scaling:
            return np.array(self.scaling[target])[:, 0]
        found = np.zeros(self.shape(target))
        for own, rates in zip(found, self.rates[target], strict=True):
            survives = self.kinds[target] is Kind.SURVIVAL
            own[: len(rates)] = np.cumprod(1 - np.array(rates)) if survives else rates
        return found

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`, exactly: floats are written with all their digits."""
        raw = {key: value if key == "heads" else _tuples(value) for key, value in json.loads(text).items()}
        raw["kinds"] = {target: Kind(kind) for target, kind in raw["kinds"].items()}
        return cls(**raw)


@dataclass(frozen=True)
class Layout:
    """Labels and levels of several models' answers: one fold may lack what another has.

    Attributes:
        labels: target -> labels that any model knows; kinds: target -> what its values are.
        levels: leveled target -> of each label the levels of all models; of survival the edges of the model with most.
    """

    labels: Mapping[str, Sequence[str]]
    kinds: Mapping[str, Kind]
    levels: Mapping[str, Sequence[Levels]]

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Layout:
        labels: dict[str, list[str]] = {}
        for plan in plans:
            for target, own in plan.targets.items():
                known = labels.setdefault(target, [])
                known += [name for name in own if name not in known]
        kinds = {target: kind for plan in plans for target, kind in plan.kinds.items()}
        levels: dict[str, list[Levels]] = {}
        for target, names in labels.items():
            for name in names if kinds[target].leveled else ():
                knowing = [plan for plan in plans if name in plan.targets.get(target, ())]
                each = [plan.levels[target][plan.targets[target].index(name)] for plan in knowing]
                joint = max(each, key=len) if kinds[target] is Kind.SURVIVAL else _sorted(chain(*each))
                levels.setdefault(target, []).append(joint)
        return cls(labels, kinds, levels)

    def shape(self, target: str) -> tuple[int, ...]:
        """Of the answers to one study: (L,), or (L, Q) of a leveled target."""
        labels = len(self.labels[target])
        return (labels, max(map(len, self.levels[target]))) if target in self.levels else (labels,)

    def place(self, plan: Plan, target: str, values: Floats) -> Floats:
        """[n, ...] answers of one model -> [n, *shape]; NaN for a label that it does not know."""
        if target not in self.levels:
            return self.place_labels(plan, target, values)
        result = np.full((len(values), *self.shape(target)), np.nan)
        for own, label, old, new in self._pairs(plan, target):
            result[:, label] = 0.0
            result[:, label, : len(new)] = place(values[:, own], old, new, self.kinds[target])
        return result

    def place_labels(self, plan: Plan, target: str, values: NDArray[np.floating]) -> Floats:
        """[n, own L] of one model -> [n, L], NaN for a label that it does not know."""
        result = np.full((len(values), len(self.labels[target])), np.nan)
        result[:, self._columns(plan, target)] = values
        return result

    def place_prior(self, plan: Plan, target: str, count: int) -> Floats:
        """[count, *shape] what the training of one model says of patients of whom nothing is known."""
        return self.place(plan, target, np.repeat(plan.prior(target)[None], count, axis=0))

    def place_logits(self, plan: Plan, target: str, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """[n, ...] logits of one model -> [n, *shape]: each level at its own place, each interval at its number."""
        if target not in self.levels:
            return self.place_labels(plan, target, logits).astype(np.float32)
        result = np.full((len(logits), *self.shape(target)), np.nan, np.float32)
        for own, label, old, new in self._pairs(plan, target):
            result[:, label] = NEVER
            result[:, label, self._places(target, old, new)] = logits[:, own, : len(old)]
        return result

    def take_logits(self, plan: Plan, target: str, placed: NDArray[np.floating]) -> NDArray[np.float32]:
        """The inverse of `place_logits`."""
        if target not in self.levels:
            return placed[:, self._columns(plan, target)].astype(np.float32)
        logits = np.full((len(placed), *plan.shape(target)), NEVER, np.float32)
        for own, label, old, new in self._pairs(plan, target):
            logits[:, own, : len(old)] = placed[:, label, self._places(target, old, new)]
        return logits

    def _columns(self, plan: Plan, target: str) -> list[int]:
        known = list(self.labels[target])
        return [known.index(name) for name in plan.targets.get(target, ())]

    def _pairs(self, plan: Plan, target: str) -> Iterator[tuple[int, int, Levels, Levels]]:
        """Of each label of a model: its number there and here, its levels there and here."""
        for own, label in enumerate(self._columns(plan, target)):
            yield own, label, plan.levels[target][own], self.levels[target][label]

    def _places(self, target: str, old: Levels, new: Levels) -> list[int]:
        return list(range(len(old))) if self.kinds[target] is Kind.SURVIVAL else [new.index(level) for level in old]


def _sorted(levels: Iterable[float | str]) -> Levels:
    """Each once, in order: numbers or words, never both."""
    found: Any = set(levels)
    return tuple(sorted(found))


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
