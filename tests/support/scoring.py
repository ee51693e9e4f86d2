"""All figures of hand-made evidence."""

from chiasm.evaluation.score import Scores, score
from chiasm.evaluation.spec import Evidence
from chiasm.heads.head import open_heads
from chiasm.heads.maps import Located, locate
from chiasm.heads.spec import Case, Truth
from chiasm.metrics.bootstrap import Estimate, Resamples


def score_all(evidence: Evidence, truth: Truth, resamples: Resamples) -> Scores:
    case = Case(evidence.question, evidence.pool, truth, resamples)
    return score(evidence, case, open_heads(evidence.question))


def by_name(scores: Scores) -> dict[str, Estimate]:
    """The same, under the names as JSON has them."""
    return {str(name): estimate for name, estimate in scores.items()}


def locate_all(evidence: Evidence) -> list[Located]:
    return locate(evidence.heads["localization"][""], evidence.question, evidence.pool)
