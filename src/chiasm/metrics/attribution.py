"""What each modality added: exact Shapley values over modality subsets (Shapley 1953; few modalities, so all subsets).

What is shared out is the stated answer itself, after calibration and after averaging fold models, on a scale on which parts add
up: log-odds of a probability, a value in its own units, the expected level or time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from chiasm.encoding.levels import expectation
from chiasm.encoding.plan import Layout
from chiasm.study import Kind

Values = Mapping[str, NDArray[np.float64]]
"""target -> [n, L] or [n, L, Q] calibrated answers (`chiasm.run.fold_model.calibrated`)."""
SURE = 1e-9
"""A probability nearer to 0 or 1 than this has no finite log-odds, and counts as this."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset, the empty one first, each in the given order.

    >>> subsets(["image", "text"])
    [(), ('image',), ('text',), ('image', 'text')]
    """
    return [chosen for size in range(len(modalities) + 1) for chosen in combinations(modalities, size)]


def shapley(
    values: Mapping[tuple[str, ...], NDArray[np.floating]], modalities: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """The average of what a modality adds to v(S) over all orders in which modalities can arrive.

    Args:
        values: v of every subset of `subsets(modalities)`, arrays of one shape (logits [n, L]).

    Returns:
        modality -> values of that shape; they sum to v(all) - v(none).
    """
    n = len(modalities)
    result = {}
    for modality in modalities:
        total = np.zeros_like(values[()], dtype=np.float64)
        for rest in subsets([m for m in modalities if m != modality]):
            joined = tuple(m for m in modalities if m in rest or m == modality)
            weight = factorial(len(rest)) * factorial(n - len(rest) - 1) / factorial(n)
            total += weight * (np.asarray(values[joined], np.float64) - values[rest])
        result[modality] = total
    return result


class Number(NamedTuple):
    """One of the numbers that `told` tells of a target: its column, its label, and its class where the label has classes."""

    target: str
    column: int
    label: str
    word: str | None = None

    @property
    def name(self) -> str:
        """ "target/label" or, of a class, "target/label=class"."""
        return f"{self.target}/{self.label}" + (f"={self.word}" if self.word is not None else "")


def numbers(layout: Layout) -> Iterator[Number]:
    """Every number that `told` tells, target by target."""
    for target, labels in layout.labels.items():
        if layout.kinds[target] is Kind.MULTICLASS:
            pairs = [
                (label, str(word)) for label, own in zip(labels, layout.levels[target], strict=True) for word in own
            ]
            yield from (Number(target, k, label, word) for k, (label, word) in enumerate(pairs))
        else:
            yield from (Number(target, k, label) for k, label in enumerate(labels))


def told(values: Values, layout: Layout) -> dict[str, NDArray[np.float64]]:
    """target -> [n, numbers]: probabilities and values as they are, the expected level or time.

    Of a multiclass label the probability of each class.
    """
    found = {}
    for target, each in values.items():
        kind, levels = layout.kinds[target], layout.levels.get(target, ())
        if kind is Kind.MULTICLASS:
            found[target] = np.concatenate([each[:, k, : len(own)] for k, own in enumerate(levels)], axis=1)
        elif kind.leveled:
            found[target] = np.stack([expectation(each[:, k], own, kind) for k, own in enumerate(levels)], axis=1)
        else:
            found[target] = each
    return found


def additive(values: Values, layout: Layout) -> dict[str, NDArray[np.float64]]:
    """target -> [n, numbers] on the scale that modalities add to: log-odds of a binary target, log-probability of a class,
    else what `told` tells."""
    found = told(values, layout)
    for target, kind in layout.kinds.items():
        if kind is Kind.BINARY:
            found[target] = logit(np.clip(found[target], SURE, 1 - SURE))
        elif kind is Kind.MULTICLASS:
            found[target] = np.log(np.maximum(found[target], SURE))
    return found


def from_prior(values: Values, prior: Values, known: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """The answers to a subset of the modalities, where a study shows none of them the prior: what is absent adds nothing.

    Args:
        known: [n] whether a study shows any modality of the subset.
    """
    return {t: np.where(known.reshape(-1, *[1] * (own.ndim - 1)), own, prior[t]) for t, own in values.items()}


def attribute(
    answers: Mapping[tuple[str, ...], Values], layout: Layout, modalities: Sequence[str]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """target -> modality -> [n, numbers] what the modality added to each study's answer.

    Args:
        answers: of every subset of `subsets(modalities)`; of the empty one the prevalence, or mean, of training (`Plan.prior`).
    """
    scaled = {subset: additive(values, layout) for subset, values in answers.items()}
    return {t: shapley({s: own[t] for s, own in scaled.items()}, modalities) for t in layout.labels}


Coalition = tuple[tuple[str, ...], tuple[str, ...]]
"""Other modalities than the record, and columns of the record: what is shown of a study."""
EXACT = 64
"""Coalitions up to which the shares of columns are exact."""
ORDERS = 4
"""Orders of arrival, each with its reverse, of which they are else the mean."""


class ColumnShares:
    """The record's Shapley value shared out to its columns (Owen 1977): the average of what a column adds to v, over the orders
    in which modalities can arrive and, once the record does, its columns.

    Exact where there are few coalitions; else the mean over `ORDERS` random orders and their reverses (antithetic pairs; Mitchell
    et al. 2022), with its standard error. Either way the shares of a study sum to the record's share, or to its estimate.

    Args:
        modalities: of the model, with "record"; columns: of the record.
    """

    def __init__(self, modalities: Sequence[str], columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        others = [m for m in modalities if m != "record"]
        weights = {rest: _weight(len(rest), len(others)) for rest in subsets(others)}
        self.exact = len(weights) * 2 ** len(columns) <= EXACT
        steps: list[list[tuple[str, Coalition, Coalition, float]]] = []
        if self.exact:
            steps.append(
                [
                    (
                        column,
                        (rest, shown),
                        (rest, self._with(shown, column)),
                        weight * _weight(len(shown), len(columns) - 1),
                    )
                    for column in columns
                    for shown in subsets([c for c in columns if c != column])
                    for rest, weight in weights.items()
                ]
            )
        else:
            random = np.random.default_rng(0)
            chances = np.array(list(weights.values()))
            for _ in range(ORDERS):
                rest = list(weights)[random.choice(len(chances), p=chances)]
                order = [str(c) for c in random.permutation(self.columns)]
                steps.append([step for way in (order, order[::-1]) for step in self._arrive(rest, way)])
        self._steps = steps

    def _with(self, shown: Sequence[str], column: str) -> tuple[str, ...]:
        return tuple(c for c in self.columns if c in shown or c == column)

    def _arrive(self, rest: tuple[str, ...], order: Sequence[str]) -> Iterator[tuple[str, Coalition, Coalition, float]]:
        """What each column adds as the columns arrive in this order, weighing half: the other half is the reverse."""
        for place, column in enumerate(order):
            shown = tuple(c for c in self.columns if c in order[:place])
            yield column, (rest, shown), (rest, self._with(shown, column)), 0.5

    @property
    def coalitions(self) -> list[Coalition]:
        """What has to be asked."""
        return list(
            dict.fromkeys(c for steps in self._steps for _, without, with_, _ in steps for c in (without, with_))
        )

    @property
    def partial(self) -> list[Coalition]:
        """Those that show some columns and not all: the others are subsets of the modalities."""
        return [c for c in self.coalitions if c[1] and c[1] != self.columns]

    def share(
        self, values: Mapping[Coalition, NDArray[np.float64]]
    ) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """v of every coalition -> of each column its share and the standard error of that, 0 where it is exact."""
        found = {}
        for column in self.columns:
            each = np.stack(
                [
                    np.sum(
                        [w * (values[with_] - values[without]) for c, without, with_, w in steps if c == column], axis=0
                    )
                    for steps in self._steps
                ]
            )
            error = np.zeros(each.shape[1:]) if self.exact else each.std(axis=0, ddof=1) / np.sqrt(len(each))
            found[column] = (each.mean(axis=0), error)
        return found


def _weight(size: int, others: int) -> float:
    """The chance that just these `size` of `others` players came before."""
    return factorial(size) * factorial(others - size) / factorial(others + 1)
