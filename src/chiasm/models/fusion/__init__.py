"""Fusion families: {modality: Tokens} in, Fused out. What they need of a recipe is `recipe.NEEDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from chiasm.models.fusion.co_attention import CoAttention
from chiasm.models.fusion.daft import DAFT
from chiasm.models.fusion.early import Early
from chiasm.models.fusion.experts import Experts
from chiasm.models.fusion.film import FiLM
from chiasm.models.fusion.gated import Gated
from chiasm.models.fusion.late import Late
from chiasm.models.fusion.low_rank import LowRank
from chiasm.models.fusion.sequential import Sequential
from chiasm.models.fusion.vision_conditioned import VisionConditioned

FAMILIES: dict[str, Callable[[Sequence[str], int, int, float], nn.Module]] = {
    "late-mean": partial(Late, rule="mean"),
    "late-weighted": partial(Late, rule="weighted"),
    "late-stacked": partial(Late, rule="stacked"),
    "early": Early,
    "gated": Gated,
    "low-rank": LowRank,
    "film": FiLM,
    "daft": DAFT,
    "co-attention": CoAttention,
    "sequential": Sequential,
    "experts": Experts,
    "vision-conditioned": VisionConditioned,
}
