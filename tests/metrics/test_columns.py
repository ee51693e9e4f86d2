"""What one column tells: by its numbers either way, its words, its codes, and by being there."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from chiasm.metrics.columns import column_features, tell
from chiasm.metrics.controls import probe

N = 200
POSITIVE = np.arange(N) % 4 == 1
NOISE = np.random.default_rng(0).normal(size=N)


def words(values) -> np.ndarray:
    return np.array(list(values), object)


TELLING = {
    "larger": POSITIVE + 0.01 * NOISE,
    "smaller": -1000.0 * POSITIVE + NOISE,
    "there": np.where(POSITIVE, NOISE, np.nan),
    "missing": np.where(POSITIVE, np.nan, NOISE),
    "known of some": np.where(np.arange(N) < 100, POSITIVE + 0.01 * NOISE, np.nan),
    "codes without order": np.where(POSITIVE, 2.0, np.where(np.arange(N) % 2, 1.0, 3.0)),
    "flag": POSITIVE.astype(float),
    "words": words(np.where(POSITIVE, "red", np.where(np.arange(N) % 2, "blue", "green"))),
    "a word or none": words("said" if yes else None for yes in POSITIVE),
}


@pytest.mark.parametrize("how", TELLING)
def test_a_column_that_is_the_label_tells_it(how: str) -> None:
    assert tell(TELLING[how], POSITIVE) > 0.99


@pytest.mark.parametrize(
    "values",
    [
        NOISE,
        np.full(N, 3.0),
        np.full(N, np.nan),
        words(f"id {i}" for i in range(N)),
        words(["x"] * N),
        words([None] * N),
    ],
    ids=["noise", "constant", "missing", "a word of its own for everybody", "one word", "no word"],
)
def test_a_column_that_knows_nothing_tells_nothing(values: np.ndarray) -> None:
    assert 0.5 <= tell(values, POSITIVE) < 0.62


def test_a_class_that_is_not_there_cannot_be_told() -> None:
    assert tell(NOISE, np.ones(N, bool)) == tell(NOISE, np.zeros(N, bool)) == 0.5


def test_numbers_are_ranked_as_by_the_area_under_the_curve() -> None:
    values = POSITIVE + NOISE
    assert tell(values, POSITIVE) == pytest.approx(roc_auc_score(POSITIVE, values))


def test_a_handful_of_known_values_says_nothing_of_their_order() -> None:
    few = np.full(N, np.nan)
    few[[1, 5, 9, 2, 3, 4]] = [9.1, 9.2, 9.3, 1.1, 1.2, 1.3]
    assert tell(few, POSITIVE) < 0.62


@pytest.mark.parametrize("how", TELLING)
def test_a_probe_of_one_column_answers_others_as_it_tells(how: str) -> None:
    if how == "known of some":
        return
    rows = column_features(TELLING[how])
    scores = probe(rows[:120], POSITIVE[:120], rows[120:])
    assert roc_auc_score(POSITIVE[120:], scores) > 0.99
