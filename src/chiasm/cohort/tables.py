"""The contents of the tables of a cohort: descriptions of targets and columns, run lengths of masks, and the hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image as Pillow

from chiasm.study import Kind

SCHEMA = 4
# where a row lies and where it came from is not content; the perceptual hash follows from the pixels
_NOT_CONTENT = {"images": {"index", "source", "perceptual_hash"}}


@dataclass(frozen=True)
class TargetInfo:
    """A group of labels that are learned and scored together.

    Attributes:
        kind: what the values are; one kind a target.
        readers: who gave each label, in the order of `labels`; "" if the source does not say.
        of: "findings" have states (and may have regions), "outcomes" have numbers or, if multiclass, words.
        classes: of a multiclass target, the words of each label, in order.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    readers: tuple[str, ...]
    of: Literal["findings", "outcomes"] = "findings"
    classes: tuple[tuple[str, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        raw = {"kind": self.kind.value, "labels": list(self.labels), "readers": list(self.readers), "of": self.of}
        return raw | ({"classes": [list(words) for words in self.classes]} if self.classes else {})

    @classmethod
    def from_dict(cls, name: str, raw: Mapping[str, Any]) -> TargetInfo:
        classes = tuple(tuple(words) for words in raw.get("classes", ()))
        return cls(name, Kind(raw["kind"]), tuple(raw["labels"]), tuple(raw["readers"]), raw["of"], classes)


@dataclass(frozen=True)
class ColumnInfo:
    """A column of the record: numbers, or words of `categories`; `unknown_time` ones need a recipe's opt-in."""

    name: str
    kind: Literal["numeric", "categorical"]
    categories: tuple[str, ...] = ()
    unknown_time: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "categories": list(self.categories), "unknown_time": self.unknown_time}

    @classmethod
    def from_dict(cls, name: str, raw: Mapping[str, Any]) -> ColumnInfo:
        return cls(name, raw["kind"], tuple(raw["categories"]), raw["unknown_time"])


def encode_mask(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask of any shape in C order; the first run counts zeros and may be 0.

    >>> encode_mask(np.array([[True, True, False], [False, False, True]]))
    [0, 2, 3, 1]
    """
    flat = np.asarray(mask, bool).ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs: list[int] = np.diff(changes, prepend=0, append=flat.size).tolist()
    return runs


def decode_mask(runs: Sequence[int] | NDArray[np.integer], shape: Sequence[int]) -> NDArray[np.bool_]:
    """The inverse of `encode_mask`."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(tuple(shape))


def pixel_hash(pixels: NDArray[np.generic]) -> str:
    """SHA-256 of the shape and the stored pixels, in as many bits as the image has: equal exactly where two images are."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits that stay near each other (Hamming distance) for like images; a volume is seen as its mean along depth.

    The signs against their median of the 8 x 8 lowest DCT-II coefficients of the image reduced to 32 x 32.
    """
    plane = pixels if pixels.ndim == 2 else pixels.mean(axis=0).astype(np.uint8)
    small = np.asarray(Pillow.fromarray(plane).resize((32, 32), Pillow.Resampling.BOX), np.float64)
    low = np.round(_COSINES @ small @ _COSINES.T, 6).ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


_COSINES = np.cos(np.pi * np.outer(np.arange(8), np.arange(32) + 0.5) / 32)


def content_hash(tables: Mapping[str, pa.Table], described: Mapping[str, Any]) -> str:
    """SHA-256 over what a cohort says: every table column by column, and what cohort.json says of targets and columns.

    Rows are sorted by study when a cohort is written, so the order of arrival does not count; nor do file bytes, times,
    paths and the place of an image in its array. Pixels are in by their hash.
    """
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tables):
        for column in sorted(set(tables[name].column_names) - _NOT_CONTENT.get(name, set())):
            digest.update(f"{name}.{column}".encode())
            for start in range(0, len(tables[name]), 10_000):  # by parts, so that long tables need no second memory
                values = tables[name].column(column).slice(start, 10_000).to_pylist()
                digest.update(json.dumps(values, allow_nan=False, separators=(",", ":")).encode())
    return digest.hexdigest()
