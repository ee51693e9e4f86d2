"""One question put to a fold model."""

from chiasm.run.answers import Answers
from chiasm.run.infer import Ask, infer


def answer(fold_model, indices, *, subset=None, shuffled=None, hidden_columns=(), describe=False, maps=True) -> Answers:
    ask = Ask(None if subset is None else tuple(subset), shuffled, tuple(hidden_columns), describe, maps)
    return infer(fold_model, indices, [ask])[0]
