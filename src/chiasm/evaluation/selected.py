"""What the choice of a run's configuration does to its figures: inside each fold, or by hand on the tested patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chiasm.metrics.metric import Metric
from chiasm.metrics.name import MetricName, parse_name
from chiasm.run.selection import Selection
from chiasm.summary.page import Selected
from chiasm.summary.tables import TITLES, number, pretty

INNER, OPTIMISM = "_inner", "_optimism"


def selected_metrics(selection: Selection | None, metrics: Mapping[MetricName, Metric]) -> dict[MetricName, Metric]:
    """The figure by which each fold chose, and how much higher it is than the one of patients who had no part in the choice."""
    if selection is None or (name := parse_name(selection.metric)) not in metrics:
        return {}
    outer = metrics[name]
    how = (
        f"mean over {len(selection.folds)} outer folds of the figure that each chose by, itself the mean over "
        f"{selection.inner_folds} inner folds; of patients who took part in the choice"
    )
    inner = Metric(selection.inner, None, None, outer.n, f"{how}; no interval: each patient counts in several folds")
    figures = {name._replace(metric=f"{name.metric}{INNER}"): inner}
    difference = f"{name.metric}{INNER} minus {name.metric}"
    if outer.value is None:
        optimism = Metric(None, None, None, outer.n, difference, outer.reason)
    else:
        optimism = Metric(selection.inner - outer.value, None, None, outer.n, difference)
        if outer.low is not None and outer.high is not None:
            ends = {"low": selection.inner - outer.high, "high": selection.inner - outer.low}
            protocol = f"{difference}; its interval is that of {name.metric} alone, the inner figure taken as it is"
            optimism = replace(optimism, **ends, protocol=protocol)  # type: ignore[arg-type]
    return figures | {name._replace(metric=f"{name.metric}{OPTIMISM}"): optimism}


def tell_selection(selection: Selection, metrics: Mapping[MetricName, Metric]) -> Selected:
    """For the page: how it was chosen, what it is worth, and what each fold chose."""
    name = parse_name(selection.metric)
    tried = sorted({chosen.tried for chosen in selection.folds.values()})
    many = f"{tried[0]}" if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
    figure = f"{TITLES.get(name.metric, pretty(name.metric))} of {pretty(name.target, name.label)}"
    said = [
        f"Chosen inside each fold from {many} configurations of {', '.join(selection.recipes)}, by {figure} in "
        f"{selection.inner_folds} inner folds of its own training and validation patients. The tested patients had no part in it."
    ]
    optimism = metrics.get(name._replace(metric=f"{name.metric}{OPTIMISM}"))
    if optimism is not None and optimism.value is not None:
        said.append(
            f"{figure}: {number(metrics[name].value)} on patients whom the choice has not seen; {number(selection.inner)} by the "
            f"inner folds that chose; optimism {number(optimism.value)}."
        )
    if failed := sum(chosen.failed for chosen in selection.folds.values()):
        said.append(f"{failed} configurations could not be trained or scored, over all folds.")
    rows = []
    for fold, chosen in selection.folds.items():
        settings = ", ".join(f"{key} {_short(value)}" for key, value in chosen.settings.items()) or "as it stands"
        rows.append((fold, chosen.recipe, settings, number(chosen.inner), number(chosen.as_given)))
    columns = ("fold", "recipe", "settings", "inner figure", "of the first recipe as it stands")
    return Selected(said, columns, rows)


def tell_tried(tried: int) -> str:
    """A sentence for a run that was configured by hand, where others were evaluated on the same patients; "" where none was."""
    if tried < 2:
        return ""
    return (
        f"{tried} configurations were evaluated on these test patients; this is one of them; nothing corrects for the choice. "
        "chiasm tune chooses without looking at them."
    )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
