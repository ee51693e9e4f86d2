"""Score a run against truth and against its controls: figures, predictions, the page."""

from chiasm.evaluate.again import verify
from chiasm.evaluate.evaluation import Evaluation, evaluate, publish

__all__ = ["Evaluation", "evaluate", "publish", "verify"]
