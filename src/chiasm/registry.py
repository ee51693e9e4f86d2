"""Parts that can be plugged in by name: heads, fusion families, sources, encoders, arms and controls.

A name leads to an object, or to the dotted path of a built-in one, which is imported when it is first asked for: so a
recipe knows names and option models without importing what lies above it. Users add their own by `chiasm.register`, or by
an entry point of an installed package in the group `chiasm.KIND` (`chiasm.head`, `chiasm.image_encoder`, ...).
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from chiasm.errors import InputError

T = TypeVar("T")


@cache
def _installed(group: str) -> Mapping[str, EntryPoint]:
    """Entry points of installed packages; finding them reads the metadata of every one, so once a process."""
    return {point.name: point for point in entry_points(group=group)}


class Registry(Mapping[str, T], Generic[T]):
    """Name -> part of one kind.

    Args:
        kind: what the parts are; builtin: name -> "module:attribute".
    """

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._builtin = dict(builtin)
        self._added: dict[str, T] = {}

    def add(self, name: str, part: T) -> None:
        """Give a part a name.

        Raises:
            InputError: the name is taken, or is not made of small letters, digits and hyphens.
        """
        if not re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", name):
            raise InputError(
                f"the {self.kind} cannot have this name",
                expected="small letters, digits, hyphens and underscores",
                got=repr(name),
            )
        if name in self and self._added.get(name) is not part:
            raise InputError(f"there is a {self.kind} of this name already", got=name, remedy="give yours another name")
        self._added[name] = part

    def remove(self, name: str) -> None:
        """Take back what `add` gave."""
        del self._added[name]

    def __getitem__(self, name: str) -> T:
        if name in self._added:
            return self._added[name]
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            part: T = getattr(importlib.import_module(module), attribute)
            return part
        loaded: T = self._entry_points()[name].load()
        return loaded

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._builtin, *self._added, *self._entry_points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._added or name in self._entry_points()

    def nearest(self, name: str) -> str:
        """A sentence that names the nearest known name, or all of them."""
        near = difflib.get_close_matches(name, list(self), 1)
        return f"did you mean {near[0]}?" if near else f"known: {', '.join(self)}"

    def _entry_points(self) -> Mapping[str, EntryPoint]:
        return _installed(f"chiasm.{self.kind.replace('-', '_')}")  # a group's name has no hyphens


HEADS: Registry[Any] = Registry(
    "head",
    {
        "localization": "chiasm.heads.localization:LocalizationHead",
        "description": "chiasm.heads.description:DescriptionHead",
        "alignment": "chiasm.heads.alignment:AlignmentHead",
        "grounding": "chiasm.heads.grounding:GroundingHead",
    },
)
FUSIONS: Registry[Any] = Registry(
    "fusion",
    {
        "late-mean": "chiasm.models.fusion.late:LateMean",
        "late-weighted": "chiasm.models.fusion.late:LateWeighted",
        "late-stacked": "chiasm.models.fusion.late:LateStacked",
        "early": "chiasm.models.fusion.early:Early",
        "gated": "chiasm.models.fusion.gated:Gated",
        "low-rank": "chiasm.models.fusion.low_rank:LowRank",
        "film": "chiasm.models.fusion.film:FiLM",
        "daft": "chiasm.models.fusion.daft:DAFT",
        "co-attention": "chiasm.models.fusion.co_attention:CoAttention",
        "sequential": "chiasm.models.fusion.sequential:Sequential",
        "experts": "chiasm.models.fusion.experts:Experts",
        "vision-conditioned": "chiasm.models.fusion.vision_conditioned:VisionConditioned",
    },
)
IMAGE_ENCODERS: Registry[Any] = Registry(
    "image-encoder",
    {
        "efficientnet-lite0": "chiasm.models.image.encoder:EfficientNetBackbone",
        "small-cnn": "chiasm.models.image.encoder:SmallCNN",
        "hf": "chiasm.models.image.encoder:HuggingFaceBackbone",
        "monai": "chiasm.models.image.encoder:MonaiBackbone",
        "voxels": "chiasm.models.image.encoder:Voxels",
    },
)
TEXT_ENCODERS: Registry[Any] = Registry(
    "text-encoder",
    {
        "bilstm": "chiasm.models.text.encoder:BiLSTM",
        "minilm": "chiasm.models.text.encoder:MiniLM",
        "hf": "chiasm.models.text.encoder:HuggingFaceText",
    },
)
RECORD_ENCODERS: Registry[Any] = Registry("record-encoder", {"columns": "chiasm.models.record.encoder:RecordEncoder"})
ARMS: Registry[Any] = Registry(
    "arm",
    {
        "without_opt_in": "chiasm.evaluation.arms:WITHOUT_OPTED_IN",
        "shuffled_text": "chiasm.evaluation.arms:SHUFFLED_TEXT",
        "shuffled_image": "chiasm.evaluation.arms:SHUFFLED_IMAGES",
    },
)
"""Ways to ask a model beside all of its inputs and every subset of them."""
CONTROLS: Registry[Any] = Registry(
    "control",
    {
        "prior": "chiasm.evaluation.controls:PRIOR",
        "record_column": "chiasm.evaluation.column_control:RECORD_COLUMN",
        "metadata_only": "chiasm.evaluation.controls:METADATA",
        "pixel_statistics": "chiasm.evaluation.controls:PIXELS",
        "thumbnail": "chiasm.evaluation.controls:THUMBNAIL",
        "constant": "chiasm.evaluation.controls:CONSTANT",
        "nearest": "chiasm.evaluation.controls:NEAREST",
        "region_prior": "chiasm.evaluation.map_controls:REGIONS",
        "centre_prior": "chiasm.evaluation.map_controls:CENTRE",
        "organ_prior": "chiasm.evaluation.map_controls:ORGANS",
        "other_patient": "chiasm.evaluation.map_controls:OTHER",
        "grad_cam": "chiasm.evaluation.grad_cam:GRAD_CAM",
        "random_weights": "chiasm.evaluation.map_controls:RANDOM",
    },
)
SOURCES: Registry[Any] = Registry(
    "source",
    {
        "chestxray14": "chiasm.sources.chestxray14:SOURCE",
        "covid-chestxray": "chiasm.sources.covid_chestxray:SOURCE",
        "mimic-cxr": "chiasm.sources.mimic_cxr:SOURCE",
        "ms-cxr": "chiasm.sources.ms_cxr:SOURCE",
        "openi": "chiasm.sources.openi:SOURCE",
        "medpix": "chiasm.sources.medpix:SOURCE",
        "soop": "chiasm.sources.soop:SOURCE",
        "bids": "chiasm.sources.bids:SOURCE",
        "table": "chiasm.sources.table.read:SOURCE",
        "dicom": "chiasm.sources.dicom:SOURCE",
        "phantom-chest": "chiasm.sources.phantom_chest:SOURCE",
        "phantom-stroke": "chiasm.sources.phantom_stroke:SOURCE",
    },
)
REGISTRIES: Mapping[str, Registry[Any]] = {
    r.kind: r for r in (HEADS, FUSIONS, IMAGE_ENCODERS, TEXT_ENCODERS, RECORD_ENCODERS, SOURCES, ARMS, CONTROLS)
}


def register(kind: str, name: str, part: Any) -> None:
    """Add a part of your own, to be named in recipes and commands like a built-in one.

    Args:
        kind: "head", "fusion", "image-encoder", "text-encoder", "record-encoder", "source", "arm" or "control".
        part: what CONTRIBUTING.md says of its kind.

    Raises:
        InputError: no such kind, or the name is taken.
    """
    if kind not in REGISTRIES:
        raise InputError("no such kind of part", expected=f"one of {', '.join(REGISTRIES)}", got=kind)
    REGISTRIES[kind].add(name, part)
