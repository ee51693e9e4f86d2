"""One question put to a fold model."""

from chiasm.run.answers import Answers
from chiasm.run.infer import Ask, infer


def answer(fold_model, indices, *, subset=None, shuffled=None, hidden_columns=(), describe=False, maps=True) -> Answers:
    heads = ("localization",) * maps + ("description",) * describe
    shown = None if subset is None else tuple(subset)
    ask = Ask(shown, shuffled, tuple(hidden_columns), heads, ("description",) * describe)
    return infer(fold_model, indices, [ask])[0]


def maps_of(answers: Answers):
    """[m, C, *grid] logits and [m, 2] places; None without."""
    found = answers.heads.get("localization")
    return (None, None) if found is None else (found.values, found.index)
