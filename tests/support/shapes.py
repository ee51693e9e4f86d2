"""Shapes in the signatures of public tensor functions, checked wherever a test calls one (jaxtyping, beartype)."""

import importlib
import inspect

import jaxtyping
from beartype import beartype

MODULES = (
    "chiasm.objectives.alignment",
    "chiasm.objectives.balance",
    "chiasm.objectives.cross_attention",
    "chiasm.objectives.description",
    "chiasm.objectives.grounding",
    "chiasm.objectives.outcome",
    "chiasm.models.attention",
)


def check_shapes() -> None:
    """Put checked functions in the place of those of `MODULES`, before others import them by name."""
    for name in MODULES:
        module = importlib.import_module(name)
        vars(module).update(Bool=jaxtyping.Bool, Float=jaxtyping.Float, Int=jaxtyping.Int)
        for own, function in list(vars(module).items()):
            if inspect.isfunction(function) and function.__module__ == name and not own.startswith("_"):
                setattr(module, own, jaxtyping.jaxtyped(typechecker=beartype)(function))
