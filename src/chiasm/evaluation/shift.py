"""In what the patients of another cohort differ from those whom the models learned from, and what that does to the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.batches import Loader
from chiasm.encoding.plan import Plan
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.run.fold_model import FoldModelOver
from chiasm.run.records import Difference
from chiasm.study import Kind
from chiasm.summary.shift import Shift
from chiasm.summary.tables import pretty, side_by_side

IMAGES, BINS = 200, 32
"""Images of each side whose gray values are looked at, and bins of their histogram."""
LARGE = {"share": 0.1, "mean": 0.2, "words": 0.1}
"""Measure -> from where a difference is said in a sentence: of shares, in standard deviations (Cohen 1988: small), total variation."""


def find_shift(tested: Sequence[FoldModelOver], taught: Sequence[FoldModelOver]) -> tuple[Difference, ...]:
    """The differences of all tested studies from all that trained any of the models.

    Args:
        tested: the models over the other cohort; taught: over their own ones.
    """
    plans = [fold_model.plan for fold_model in taught]
    rows = np.unique(np.concatenate([fold_model.split["train"] for fold_model in taught]))
    old, new = (taught[0].loader, rows), (tested[0].loader, np.arange(len(tested[0].loader)))
    return (
        *_labels(plans[0], old, new),
        *_record(plans, old, new),
        *_inputs(plans[0], old, new),
        *_images(plans[0], old, new),
    )


Side = tuple[Loader, NDArray[np.int64]]
"""Studies: a loader, and which of its own."""


def _labels(plan: Plan, old: Side, new: Side) -> Iterator[Difference]:
    """How often each binary label is, among those of whom it is known."""
    for target, labels in plan.targets.items():
        for k, label in enumerate(labels):
            if plan.kinds[target] is Kind.BINARY:
                own = [
                    side[0].labels[target][side[1], k][side[0].label_mask[target][side[1], k]] for side in (old, new)
                ]
                if all(map(len, own)):
                    yield _share("labels", pretty(target, label), *own)


def _record(plans: Sequence[Plan], old: Side, new: Side) -> Iterator[Difference]:
    """Columns that the models read, and age and sex in any case: their values, and how often they are missing."""
    columns = dict.fromkeys(name for plan in plans for name in (*plan.numeric, *plan.categories))
    for column in dict.fromkeys(["age_years", "sex", *columns]):
        values = [_column(side, column) for side in (old, new)]
        known = [[v for v in own if v is not None] for own in values]
        if all(known):
            if all(isinstance(v, int | float) for own in known for v in own):
                yield _mean("record", column, *(np.array(own, float) for own in known))
            else:
                yield _words("record", column, *([str(v) for v in own] for own in known))
        if column in columns:
            missing = [np.array([v is None for v in own], float) for own in values]
            if any(own.any() for own in missing):
                yield _share("missing", column, *missing)


def _inputs(plan: Plan, old: Side, new: Side) -> Iterator[Difference]:
    """How often a whole input is missing."""
    lacking = [
        {
            "image": np.array([not loader.image_rows(int(i)) for i in rows], float) if plan.image_shape else None,
            "report": _without_text(loader, rows) if plan.text_sections else None,
        }
        for loader, rows in (old, new)
    ]
    for name in ("image", "report"):
        before, after = lacking[0][name], lacking[1][name]
        if before is not None and after is not None and (before.any() or after.any()):
            yield _share("missing", f"the whole {name}", before, after)


def _without_text(loader: Loader, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    texts = [text for cohort in range(len(loader.cohorts)) for text in loader.texts(cohort)]
    return np.array([not texts[i].strip() for i in rows], float)


def _images(plan: Plan, old: Side, new: Side) -> Iterator[Difference]:
    """How images were taken, and their gray values as the model's import stores them."""
    if plan.image_shape is None:
        return
    told = [list(_headers(side)) for side in (old, new)]
    if not all(told):
        return
    for name, place in (("DICOM modality", 0), ("view", 1)):
        yield _words("images", name, *([str(row[place]) or "unknown" for row in own] for own in told))
    gray = [_gray(side) for side in (old, new)]
    yield _mean("images", "mean gray value of an image", *(own[:, 0] for own in gray))
    yield _mean("images", "contrast (standard deviation of its gray values)", *(own[:, 1] for own in gray))
    histograms = [own[:, 2:].mean(axis=0) for own in gray]
    size = float(np.abs(histograms[0] - histograms[1]).sum() / 2)
    yield Difference(
        "images", f"histogram of gray values, {BINS} bins", "", "", "words", size, (len(gray[0]), len(gray[1]))
    )


def _headers(side: Side) -> Iterator[tuple[str, str]]:
    """DICOM modality and view of each image that the model reads."""
    loader, rows = side
    for i in rows.tolist():
        cohort = loader.cohorts[loader.cohort_of(i)[0]]
        for row in loader.image_rows(i):
            image = cohort.images.iloc[row]
            yield str(image["dicom_modality"]), str(image["view"])


def _gray(side: Side) -> NDArray[np.float64]:
    """[images, 2 + BINS] mean, standard deviation and shares of bins of gray values 0 .. 255, of some images."""
    loader, rows = side
    pairs = [(i, row) for i in rows.tolist() for row in loader.image_rows(i)]
    chosen = np.sort(np.random.default_rng(0).permutation(len(pairs))[:IMAGES])
    found = []
    for i, row in (pairs[place] for place in chosen.tolist()):
        pixels = np.asarray(loader.cohorts[loader.cohort_of(i)[0]].pixels(row))
        shares = np.bincount(pixels.ravel() // (256 // BINS), minlength=BINS) / pixels.size
        found.append([pixels.mean(), pixels.std(), *shares])
    return np.array(found)


def _column(side: Side, column: str) -> list[Any]:
    """The values of studies in a record column, None where missing."""
    loader, rows = side
    values: list[Any] = []
    for cohort in loader.cohorts:
        if column in cohort.record:
            own = cohort.table("studies", [f"record.{column}"])[f"record.{column}"].to_pylist()
            values += [None if isinstance(v, float) and np.isnan(v) else v for v in own]
        else:
            values += [None] * len(cohort)
    return [values[i] for i in rows.tolist()]


# --- one difference ----------------------------------------------------------------------------------------------------


def _share(group: str, name: str, old: NDArray[Any], new: NDArray[Any]) -> Difference:
    shares = float(old.mean()), float(new.mean())
    before, after = (f"{100 * share:.0f}%" for share in shares)
    return Difference(group, name, before, after, "share", abs(shares[1] - shares[0]), (len(old), len(new)))


def _mean(group: str, name: str, old: NDArray[np.float64], new: NDArray[np.float64]) -> Difference:
    """Measured by the standardized difference: of the means, over the root of the mean variance (Cohen 1988)."""
    spread = float(np.sqrt((old.var() + new.var()) / 2))
    gap = abs(float(new.mean() - old.mean()))
    size = gap / spread if spread else float(gap > 0)
    before, after = (f"{own.mean():.3g} ± {own.std():.2g}" for own in (old, new))
    return Difference(group, name, before, after, "mean", size, (len(old), len(new)))


def _words(group: str, name: str, old: Sequence[str], new: Sequence[str]) -> Difference:
    """Measured by the total variation: half the sum of the differences of shares."""
    counts = [Counter(own) for own in (old, new)]
    shares = [{word: count / own.total() for word, count in own.items()} for own in counts]
    size = sum(abs(shares[0].get(w, 0.0) - shares[1].get(w, 0.0)) for w in shares[0].keys() | shares[1].keys()) / 2
    before, after = (", ".join(f"{word} {100 * share:.0f}%" for word, share in _largest(own)) for own in shares)
    return Difference(group, name, before, after, "words", size, (len(old), len(new)))


def _largest(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))[:3]


# --- in words ----------------------------------------------------------------------------------------------------------


def tell_shift(
    differences: Sequence[Difference], internal: Mapping[str, Metric], external: Mapping[str, Metric]
) -> Shift | None:
    """The section of the page; None where there is nothing to compare with."""
    if not differences and not internal:
        return None
    names = {parse_name(name): metric for name, metric in external.items()}
    before = {parse_name(name): metric for name, metric in internal.items()}
    large = [d for d in differences if d.size >= LARGE[d.measure]]
    said = [_sentence(d) for d in large if d.group != "missing"]
    if missing := [f"{pretty(d.name)} {d.tested} ({d.training})" for d in large if d.group == "missing"]:
        said.append(f"Missing in so many of the tested studies (of training): {', '.join(missing)}.")
    return Shift(said, list(differences), side_by_side(before, names))


def _sentence(difference: Difference) -> str:
    d = difference
    if d.group == "labels":
        return f"{pretty(d.name)} is present in {d.tested} of the tested studies and in {d.training} of the training studies."
    if not d.training:
        return f"The gray values are distributed differently: {100 * d.size:.0f}% of the {d.name} would have to move."
    if d.measure == "mean":
        return f"{pretty(d.name)} is {d.tested} in the tested studies and {d.training} in training: {d.size:.2f} standard deviations apart."
    return f"{pretty(d.name)} is {d.tested} in the tested studies and {d.training} in training."
