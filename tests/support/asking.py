"""The models of a run over cohorts, and one question put to one of them."""

from chiasm.run.answers import Answers
from chiasm.run.fold_model import FoldModelOver, load_fold_models, over_own_cohorts
from chiasm.run.infer import Ask, infer


def fold_models_over(run, cohorts=None) -> list[FoldModelOver]:
    """Over the cohorts they were trained on, or over others."""
    loaded = load_fold_models(run)
    return over_own_cohorts(run, loaded) if cohorts is None else [each.over(cohorts) for each in loaded]


def answer(fold_model, indices, *, subset=None, shuffled=None, hidden_columns=(), describe=False, maps=True) -> Answers:
    heads = ("localization",) * maps + ("description",) * describe
    shown = None if subset is None else tuple(subset)
    ask = Ask(shown, shuffled, tuple(hidden_columns), heads, ("description",) * describe)
    return infer(fold_model, indices, [ask])[0]


def maps_of(answers: Answers):
    """[m, C, *grid] logits and [m, 2] places; None without."""
    found = answers.heads.get("localization")
    return (None, None) if found is None else (found.values, found.index)
