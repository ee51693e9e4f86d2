"""Figures against chance and against each other, from estimates whose intervals are written down."""

import numpy as np
import pytest

from chiasm.evaluation.verdicts import against, against_chance, gain, near, say, say_difference
from chiasm.metrics.bootstrap import Estimate, Resamples
from chiasm.metrics.name import parse_name

ROWS = Resamples.draw([f"p{i}" for i in range(40)], 100)
AUROC, MAE = parse_name("outcome/event/auroc"), parse_name("severity/all/mae")


def between(low: float, high: float, protocol: str = "p") -> Estimate:
    return ROWS.estimate(np.r_[(low + high) / 2, np.linspace(low, high, 100)], protocol)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.6, 0.9, "better"), (0.4, 0.6, "unclear"), (0.1, 0.4, "worse"), (np.nan, np.nan, "")]
)
def test_a_ranking_is_held_against_one_half(low: float, high: float, verdict: str) -> None:
    assert against_chance({AUROC: between(low, high)}, AUROC) == verdict


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.5, 0.9, "better"), (0.8, 1.2, "unclear"), (1.1, 1.5, "worse")])
def test_an_error_is_held_against_the_prior(low: float, high: float, verdict: str) -> None:
    prior = ROWS.estimate(np.full(101, 1.0), "p")
    assert against_chance({MAE: between(low, high), MAE.of_arm("prior"): prior}, MAE) == verdict


def test_too_few_for_an_interval_is_not_told_from_chance() -> None:
    one = Resamples.draw(["p", "p"], 50).estimate(np.full(51, 0.9), "p")
    assert against_chance({AUROC: one}, AUROC) == "unclear"
    assert against_chance({}, AUROC) == ""


def test_lower_is_better_turns_the_gain_and_not_what_is_said() -> None:
    small, large = between(0.5, 0.6), between(0.9, 1.0)
    assert (against(small, large, "mae"), against(small, large, "auroc")) == ("better", "worse")
    gained = gain(small, large, "mae")
    assert gained is not None
    assert gained.value == pytest.approx(0.4)
    assert say_difference(gained, "mae") == "difference -0.400, -0.400 to -0.400"


def test_averages_over_other_labels_are_not_compared() -> None:
    assert gain(between(0.5, 0.6), between(0.5, 0.6, "mean over other labels"), "auroc") is None
    assert near(between(0.8, 0.9), between(0.8, 0.9, "mean over other labels")) == ""
    assert near(between(0.8, 0.9), None) == ""


def test_a_figure_is_said_with_its_interval() -> None:
    assert say(between(0.6, 0.8), "auroc").startswith("AUROC 0.700 (95% interval 0.60")
    one = Resamples.draw(["p", "p"], 50).estimate(np.full(51, 0.9), "p")
    assert say(one) == "0.900 (no interval)"
