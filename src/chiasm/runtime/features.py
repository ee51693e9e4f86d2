"""Features of encoders whose weights stand, whoever computes them: the model, the disk, another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.images import Shown

Levels = list[NDArray[np.float16]]
Pixels = Shown | NDArray[np.generic]


class FeatureProvider(Protocol):
    """What an encoder makes of images and texts, without running the model: a class for each runtime, and one for the disk.

    Features are in half precision wherever they come from, so an answer does not hang on it. A provider says None of a modality
    whose encoder is still learned, or run with the model.
    """

    def images(self, pixels: Pixels) -> Levels | None:
        """[n, C, *S] images in 0 .. 255 -> of each level of the backbone [n, c, *s]; no level of no images."""

    def texts(self, ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float16] | None:
        """The ids of texts, [T] each -> the states of their tokens, one text after another: [sum of T, width]."""

    def key(self, modality: str) -> str:
        """A digest of all that the features of "image" or "text" depend on, but for what is read."""
