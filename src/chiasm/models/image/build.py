"""The image encoder of a recipe: what makes tokens of a backbone's maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chiasm.encoding.plan import Plan
from chiasm.models.image.encoder import Extractor, ImageEncoder
from chiasm.models.image.territories import TerritoryEncoder
from chiasm.recipe import ImageInput


def build_image_encoder(options: ImageInput, plan: Plan, dim: int) -> Extractor:
    """The encoder of a recipe's `inputs.image`, of width D.

    Raises:
        RecipeError: it does not read the cohort's images.
    """
    return READERS[options.tokens](options, plan, dim)


def _grid(options: ImageInput, plan: Plan, dim: int) -> Extractor:
    assert plan.image_shape is not None and plan.grid is not None
    return ImageEncoder(options, plan.image_shape, plan.grid, dim, len(plan.channels), len(plan.sequences))


READERS: Mapping[str, Callable[[ImageInput, Plan, int], Extractor]] = {"grid": _grid, "territories": TerritoryEncoder}
"""`inputs.image.tokens` -> what makes such tokens."""
