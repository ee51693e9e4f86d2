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
    "cohort_from_studies": "chiasm.cohort.store",
    "compare": "chiasm.comparison.compare",
    "embed": "chiasm.prediction.embed",
    "evaluate": "chiasm.evaluation.evaluate",
    "import_cohort": "chiasm.cohort.imports",
    "label_report": "chiasm.report.findings",
    "load_predictor": "chiasm.prediction.predictor",
    "predict": "chiasm.prediction.folder",
    "read_recipe": "chiasm.recipe",
    "register": "chiasm.registry",
    "train": "chiasm.training.train",
    "train_baselines": "chiasm.comparison.baselines",
    "verify": "chiasm.evaluation.verify",
    "write_cohort": "chiasm.cohort.store",
    "write_texts": "chiasm.cohort.compose",
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
    "cohort_from_studies",
    "compare",
    "embed",
    "evaluate",
    "import_cohort",
    "label_report",
    "load_predictor",
    "predict",
    "read_recipe",
    "register",
    "train",
    "train_baselines",
    "verify",
    "write_cohort",
    "write_texts",
    "__version__",
]

if TYPE_CHECKING:
    __version__: str
    from chiasm.cohort.compose import write_texts
    from chiasm.cohort.imports import import_cohort
    from chiasm.cohort.store import Cohort, cohort_from_studies, write_cohort
    from chiasm.comparison.baselines import train_baselines
    from chiasm.comparison.compare import compare
    from chiasm.errors import ChiasmError
    from chiasm.evaluation.evaluate import evaluate
    from chiasm.evaluation.verify import verify
    from chiasm.geometry import Geometry
    from chiasm.prediction.embed import embed
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
    if name == "__version__":
        from importlib.metadata import version

        return version("chiasm")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), _OTHERWISE_NAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
