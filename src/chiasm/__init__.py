"""chiasm: models that read a medical image, the radiology report and the chart together, with the evidence.

Not for clinical use. The names below are the public ones. Importing chiasm imports none of them: each comes from its
room when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "ChiasmError": "chiasm.errors",
    "Cohort": "chiasm.cohort.store",
    "Finding": "chiasm.study",
    "Geometry": "chiasm.geometry",
    "Image": "chiasm.study",
    "Kind": "chiasm.study",
    "Note": "chiasm.study",
    "Outcome": "chiasm.study",
    "Prediction": "chiasm.study",
    "Recipe": "chiasm.recipe",
    "Record": "chiasm.study",
    "Region": "chiasm.study",
    "Report": "chiasm.study",
    "State": "chiasm.study",
    "Study": "chiasm.study",
    "View": "chiasm.study",
    "compare": "chiasm.comparison.compare",
    "evaluate": "chiasm.evaluation.evaluate",
    "import_cohort": "chiasm.cohort.imports",
    "label_report": "chiasm.report.findings",
    "load_predictor": "chiasm.prediction.predictor",
    "predict": "chiasm.prediction.folder",
    "read_recipe": "chiasm.recipe",
    "register": "chiasm.registry",
    "train": "chiasm.training.train",
}
_OTHERWISE_NAMED = {"predict": "predict_inputs"}

__all__ = [
    "ChiasmError",
    "Cohort",
    "Finding",
    "Geometry",
    "Image",
    "Kind",
    "Note",
    "Outcome",
    "Prediction",
    "Recipe",
    "Record",
    "Region",
    "Report",
    "State",
    "Study",
    "View",
    "compare",
    "evaluate",
    "import_cohort",
    "label_report",
    "load_predictor",
    "predict",
    "read_recipe",
    "register",
    "train",
]

if TYPE_CHECKING:
    from chiasm.cohort.imports import import_cohort
    from chiasm.cohort.store import Cohort
    from chiasm.comparison.compare import compare
    from chiasm.errors import ChiasmError
    from chiasm.evaluation.evaluate import evaluate
    from chiasm.geometry import Geometry
    from chiasm.prediction.folder import predict_inputs as predict
    from chiasm.prediction.predictor import load_predictor
    from chiasm.recipe import Recipe, read_recipe
    from chiasm.registry import register
    from chiasm.report.findings import label_report
    from chiasm.study import (
        Finding,
        Image,
        Kind,
        Note,
        Outcome,
        Prediction,
        Record,
        Region,
        Report,
        State,
        Study,
        View,
    )
    from chiasm.training.train import train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), _OTHERWISE_NAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
