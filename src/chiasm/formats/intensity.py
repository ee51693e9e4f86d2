"""Intensity rules: how the gray values of an image are stored and shown, by its DICOM modality.

A rule is chosen once, at import, and belongs to every run that is trained on the cohort. Stored values are 0 .. 255 (uint8),
0 .. 65535 (uint16, black to white), or modality values with an offset of `OFFSET` (uint16: of CT, HU + 1024), to which windows
are applied when a batch is made. No rule stretches a CT scan by scan: one tissue has one value in every study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError, InputError
from chiasm.study import Image, Values

OFFSET = 1024
"""Added to modality values in the store: air, -1000 HU, is 24."""
OTHER = "other"
"""Stands for every modality without a rule of its own."""
MOST_LABELS = 32
"""Different values of a label map, at most; a picture has more."""
_PERCENTILES = (0.5, 99.5)
_TOP8, _TOP16 = 255, 65535

Window = tuple[float, float]
"""Centre and width, in modality values (HU)."""


class Scale(StrEnum):
    """What the stored values of an image are."""

    UINT8 = "uint8"
    UINT16 = "uint16"
    MODALITY = "modality"


@dataclass(frozen=True)
class Rule:
    """How images of one modality are stored and shown.

    Attributes:
        kind: "window" (modality values are kept, and `windows` applied when they are shown, one channel each; what carries
            no such values stays as stored), "percentile" (8 bits as they are; else linear from the 0.5 to the 99.5 percentile
            of each image), "bits" (linear over the bits stored), "stored" (as it is), "mask" (all but 0 is white). Label maps
            (at most `MOST_LABELS` whole numbers from 0 on) are spread over black to white by "percentile" and "bits".
    """

    kind: str
    windows: tuple[Window, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> Self:
        """A rule of a word ("percentile"), of windows ("40,400", "40,400;-600,1500"), or of numbers (40, 400).

        Raises:
            InputError: it is none.
        """
        if isinstance(value, str) and value.strip() in _WORDS:
            return cls(value.strip())
        if isinstance(value, str):
            parts: list[Any] = [part.split(",") for part in value.split(";")]
        else:
            given = list(value) if isinstance(value, Sequence) else [value]
            parts = [given] if all(isinstance(n, int | float) for n in given) else given
        try:
            windows = tuple((float(center), float(width)) for center, width in parts)
        except (TypeError, ValueError):
            windows = ()
        if not windows or not np.isfinite(windows).all() or min(width for _, width in windows) <= 1:
            raise InputError(
                "This is no intensity rule: neither a word nor a window",
                expected=f"{', '.join(_WORDS)}, or CENTER,WIDTH with a width above 1, as in 40,400, several with ; between",
                got=str(value),
            )
        return cls("window", windows)

    def __str__(self) -> str:
        return ";".join(f"{center:g},{width:g}" for center, width in self.windows) or self.kind


_WORDS = ("percentile", "bits", "stored", "mask")
DEFAULTS: Mapping[str, Rule] = MappingProxyType(
    {"CT": Rule("window", ((0.0, 2000.0),)), "SEG": Rule("mask"), OTHER: Rule("percentile")}
)


@dataclass(frozen=True)
class Intensity:
    """The rule of every DICOM modality."""

    rules: Mapping[str, Rule] = field(default_factory=lambda: dict(DEFAULTS))

    @classmethod
    def parse(cls, rules: Mapping[str, Any]) -> Self:
        """The defaults, but for these rules, in the forms of `Rule.parse`.

        Raises:
            InputError: one of them is none, or their windows differ in number.
        """
        chosen = {**DEFAULTS, **{name if name == OTHER else name.upper(): Rule.parse(r) for name, r in rules.items()}}
        several = {len(rule.windows) for rule in chosen.values()} - {0, 1}
        if len(several) > 1:
            raise InputError(
                "the modalities have different numbers of windows",
                expected="one number of windows for all, or one window",
                got=" and ".join(map(str, sorted(several))),
            )
        return cls(chosen)

    def of(self, modality: str) -> Rule:
        return self.rules.get(modality, self.rules[OTHER])

    def to_dict(self) -> dict[str, str]:
        """Modality -> rule, as `parse` reads it."""
        return {name: str(rule) for name, rule in sorted(self.rules.items())}


def to_store(image: Image, rule: Rule, where: str = "") -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Scale]:
    """Bring the pixels of an image to the values of the store, and say what these are; before `fit`, whose padding is zero.

    A constant image of another dtype than uint8 becomes all 0 under "percentile". Where both percentiles are one value, the
    extremes take their place. A label map counts alike whatever its dtype: as 0, 1, 2 it would be all but black.

    Args:
        where: names the image in an error.

    Raises:
        ImageError: no pixels, NaN or infinite values, values that are not real numbers, or that "stored" cannot keep.
    """
    pixels = _real(image.pixels, where)
    if image.values is Values.STORED and pixels.dtype in (np.uint8, np.uint16):
        return pixels, Scale(pixels.dtype.name)
    if rule.kind == "window" and image.values is Values.MODALITY:
        shifted = np.clip(pixels.astype(np.float64 if pixels.dtype.itemsize > 4 else np.float32) + OFFSET, 0, _TOP16)
        return np.rint(shifted).astype(np.uint16), Scale.MODALITY
    if rule.kind == "mask":
        return np.where(pixels != 0, np.uint8(_TOP8), np.uint8(0)), Scale.UINT8
    if rule.kind in ("window", "stored"):
        return _as_stored(pixels, where)
    if (top := _top_label(pixels)) is not None:
        return np.rint(pixels.astype(np.float64) * (_TOP8 / top)).astype(np.uint8), Scale.UINT8
    if rule.kind == "bits" and pixels.dtype.kind == "u":
        bits = image.bits or 8 * pixels.dtype.itemsize
        if bits <= 16:
            top8, dtype = (_TOP8, np.uint8) if bits <= 8 else (_TOP16, np.uint16)
            spread = np.rint(pixels.astype(np.float64) * (top8 / (2**bits - 1)))
            return spread.clip(0, top8).astype(dtype), Scale.UINT8 if bits <= 8 else Scale.UINT16
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False), Scale.UINT8
    return _by_percentiles(pixels, where), Scale.UINT16


def _real(pixels: NDArray[np.generic], where: str) -> NDArray[Any]:
    if pixels.dtype.kind not in "buif" or not pixels.size:
        got = f"{pixels.dtype} {list(pixels.shape)}"
        raise ImageError("The pixels are no image", expected="real numbers", got=got, where=where)
    if pixels.dtype.kind == "f" and (bad := pixels.size - int(np.count_nonzero(np.isfinite(pixels)))):
        got = f"{bad:,} NaN or infinite of {pixels.size:,}"
        raise ImageError("The pixels are not all numbers", expected="finite values", got=got, where=where)
    return pixels


def _as_stored(pixels: NDArray[Any], where: str) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Scale]:
    if pixels.dtype == bool:
        return pixels * np.uint8(_TOP8), Scale.UINT8
    if pixels.dtype == np.uint8:
        return pixels, Scale.UINT8
    least, most = pixels.min(), pixels.max()
    if pixels.dtype.kind not in "ui" or least < 0 or most > _TOP16:
        raise ImageError(
            "The gray values cannot be kept as they are, and say nothing that a window could be applied to",
            expected="whole numbers 0 .. 65535, or a CT that carries Hounsfield units",
            got=f"{pixels.dtype} from {least:g} to {most:g}",
            where=where,
            remedy="choose another rule for this modality: --intensity MODALITY=percentile",
        )
    return pixels.astype(np.uint16), Scale.UINT16


def _top_label(pixels: NDArray[Any]) -> float | None:
    """The highest label of a label map; None of a picture."""
    flat = pixels.ravel()
    if len(np.unique(flat[:: max(1, flat.size // 4096)])) > MOST_LABELS:
        return None  # the first look costs nothing
    labels = np.unique(flat)
    few = len(labels) <= min(MOST_LABELS, max(2, flat.size // 8))
    whole = pixels.dtype.kind != "f" or bool((labels == np.rint(labels)).all())
    return float(labels[-1]) if few and whole and labels[0] == 0 and labels[-1] > 0 else None


def _by_percentiles(pixels: NDArray[Any], where: str) -> NDArray[np.uint16]:
    exact = pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32
    values: NDArray[Any] = pixels.astype(np.float32 if exact else np.float64)
    least, most = float(values.min()), float(values.max())
    if most - least > np.finfo(values.dtype).max:
        raise ImageError("The pixel values span too wide a range", got=f"{least:g} .. {most:g}", where=where)
    low, high = (float(p) for p in np.percentile(values, _PERCENTILES))
    if low == high:
        low, high = least, most
    if low == high:
        return np.zeros(values.shape, np.uint16)
    np.clip(values, low, high, out=values)
    values -= low
    values /= high - low
    values *= _TOP16
    result: NDArray[np.uint16] = np.rint(values, out=values).astype(np.uint16)
    return result


# --- from the store to a model or a picture ----------------------------------------------------------------------------


def widen(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Eight bits among sixteen: black and white stay black and white, and `narrow` gives the same bits back."""
    return pixels * np.uint16(_TOP16 // _TOP8)


def narrow(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The inverse of `widen`; of other values the nearest of 0 .. 255."""
    gray: NDArray[np.uint8] = np.rint(pixels.astype(np.float32) / np.float32(_TOP16 // _TOP8)).astype(np.uint8)
    return gray


@lru_cache(maxsize=64)
def shown_values(scale: Scale, windows: tuple[Window, ...]) -> NDArray[np.float32]:
    """[channels, 65536] gray values 0 .. 255 as a model sees them, of every value that a uint16 array can hold.

    Windows are linear and are clipped at their ends (DICOM PS3.3, C.11.2.1.2, before rounding), one channel each; other
    images have one channel.
    """
    values = np.arange(_TOP16 + 1, dtype=np.float32)
    if scale is not Scale.MODALITY or not windows:
        return (values / np.float32(_TOP16 // _TOP8))[None]
    hu = values - OFFSET
    tables = [np.clip((hu - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * _TOP8 for center, width in windows]
    return np.stack(tables).astype(np.float32)
