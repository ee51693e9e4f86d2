"""The preprocessing of pixels at import, kept with the cohort and with every run, so that a prediction does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError, InputError
from chiasm.formats.crop import CROPS, find_footer
from chiasm.formats.intensity import Intensity, Scale, to_store
from chiasm.formats.pixels import fit
from chiasm.geometry import Geometry
from chiasm.study import Image, Values


class Prepared(NamedTuple):
    """An image as the store keeps it.

    Attributes:
        pixels: [C, H, W] or [C, D, H, W], uint8 or uint16. geometry: from the original frame to them.
        scale: what the values are.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    geometry: Geometry
    scale: Scale


@dataclass(frozen=True)
class Preprocessing:
    """Crop, intensity rule and size: the one way from an image as it was read to an image as it is stored.

    Attributes:
        size, volume_size: pixels of a stored image (size x size) and volume.
        intensity: the rule of each DICOM modality.
        crop: "footer" crops a burned-in footer from pictures of 8 bits; "" crops nothing.
        channels: names of the colour channels of pictures, where each is an image of its own; () for gray.
        slices_mm: the spacing (slice to slice, row to row, column to column) of volumes whose slices are pictures; () where a
            picture is an image.
    """

    size: int = 224
    volume_size: tuple[int, ...] = (64, 64, 64)
    intensity: Intensity = field(default_factory=Intensity)
    crop: str = ""
    channels: tuple[str, ...] = ()
    slices_mm: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError("no such crop", expected="footer, or nothing", got=self.crop)

    def shape(self, ndim: int) -> tuple[int, ...]:
        """Of a stored image: (size, size) or `volume_size`."""
        return (self.size, self.size) if ndim == 2 else self.volume_size

    def prepare(self, image: Image, where: str = "") -> Prepared:
        """Crop an image, bring its values to those of the store, and resize and pad it.

        Raises:
            ImageError: the pixels are no image, or do not belong to their geometry.
        """
        ndim = len(image.geometry.shape)
        if image.pixels.ndim - ndim not in (0, 1) or ndim not in (2, 3):
            got = f"pixels {image.pixels.shape}, geometry {image.geometry.shape}"
            raise ImageError("The pixels are not of the size of their geometry", got=got, where=where)
        if self.crop and image.pixels.ndim == 2 and image.values is Values.GRAY:
            image = _without_footer(image)
        stored, scale = to_store(image, self.intensity.of(image.dicom_modality), where)
        channels = [fit(c, image.geometry, self.shape(ndim)) for c in (stored if stored.ndim > ndim else stored[None])]
        pixels = np.stack([np.rint(values).astype(stored.dtype, copy=False) for values, _ in channels])
        return Prepared(pixels, channels[0][1], scale)

    def to_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "volume_size": list(self.volume_size),
            "crop": self.crop,
            **({"channels": list(self.channels)} if self.channels else {}),
            **({"slices_mm": list(self.slices_mm)} if self.slices_mm else {}),
            "intensity": self.intensity.to_dict(),
        }

    def arguments(self) -> dict[str, Any]:
        """Of `write_cohort` and `cohort_from_studies`, for images to be prepared in the same way."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; what else stands in `raw` is left out."""
        return cls(
            raw["size"],
            tuple(raw["volume_size"]),
            Intensity.parse(raw["intensity"]),
            raw["crop"],
            tuple(raw.get("channels", ())),
            tuple(raw.get("slices_mm", ())),
        )


def _without_footer(image: Image) -> Image:
    pixels = image.pixels
    footer = find_footer(pixels.astype(np.uint8, copy=False)) if pixels.dtype == np.uint8 else 0
    if not footer:
        return image
    kept = len(pixels) - footer
    return replace(image, pixels=pixels[:kept], geometry=image.geometry.cropped((0, 0), (kept, pixels.shape[1])))
