"""Is acting on a probability worth more than acting on everybody or on nobody (Vickers & Elkin 2006)?

Who acts from a probability t on says that one patient treated in vain weighs t / (1 - t) of one rightly treated. Arguments as
in `chiasm.metrics.classification`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples
from chiasm.metrics.classification import Curve, known_rows


def net_benefit(
    labels: ArrayLike,
    probabilities: ArrayLike,
    at: Sequence[float],
    resamples: Resamples,
    mask: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """`net_benefit_T` for each T of `at`: (true positives - false positives T / (1 - T)) / n where probability >= T is acted on.

    The detail tells what acting on everybody is worth; acting on nobody is worth 0.
    """
    y, p, rows = known_rows(labels, probabilities, resamples, mask)
    draws = _draws(y, p, rows, np.array(at, np.float64))
    everybody = _draws(y, np.ones_like(p), rows, np.array(at, np.float64))[:, 0]
    return {
        f"net_benefit_{t:g}": rows.estimate(
            draw,
            f"net benefit of acting from a probability of {t:g} on, per patient",
            detail=f"acting on everybody: {all_:.4f}",
            classes=(y, ~y),
        )
        for t, draw, all_ in zip(at, draws, everybody, strict=True)
    }


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, resamples: Resamples, mask: ArrayLike | None = None, points: int = 81
) -> Curve:
    """Net benefit over thresholds .01 to .81, with its 95% band."""
    y, p, rows = known_rows(labels, probabilities, resamples, mask)
    x = 0.01 + 0.8 * np.linspace(0, 1, points)
    draws = _draws(y, p, rows, x)
    low, high = np.percentile(draws[:, 1:], [2.5, 97.5], axis=1)
    return Curve(x, draws[:, 0], low, high)


def _draws(y: NDArray[np.bool_], p: Floats, rows: Resamples, at: Floats) -> Floats:
    """[T, R + 1]."""
    worth = np.where(y, 1.0, 0.0)[:, None] - np.where(y, 0.0, 1.0)[:, None] * (at / (1 - at))
    each = np.where(p[:, None] >= at, worth, 0.0).T
    return rows.draws(np.vstack([each, np.ones(len(y))]), lambda sums: sums[:-1] / sums[-1])
