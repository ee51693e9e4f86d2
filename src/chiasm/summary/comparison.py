"""The page of a comparison: the differences of the first run and each other one, as a forest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.atomic import write_text
from chiasm.metrics.metric import LOWER_IS_BETTER, NEITHER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName, parse_name
from chiasm.summary.page import render_template
from chiasm.summary.tables import TITLES, Row, Table, arm_name, leading, number, pretty

Compared = Mapping[str, Mapping[str, Any]]
"""Name of another run -> name of a figure -> its difference, as in compare.json."""


def write_comparison_page(document: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a compare.json. It holds no patient data."""
    write_text(path, render_comparison(document))
    return path


def render_comparison(document: Mapping[str, Any]) -> str:
    """The page as HTML: first what stands for each target, folded below it all else that the runs share."""
    first, *others = document["runs"]
    names = {parse_name(name): Metric.from_json(raw) for name, raw in document["metrics"].items()}
    lead = leading({n: m for n, m in names.items() if not n.subset})
    rest = [n for n in names if n not in lead and _is_shown(n, lead, first)]
    return render_template(
        "comparison.html",
        document=document,
        first=first,
        others=others,
        tables=[table for n in lead if (table := difference_table(document["comparisons"], n))],
        more=[table for n in rest if (table := difference_table(document["comparisons"], n))],
        facts=_facts(document),
    )


def _is_shown(name: MetricName, lead: list[MetricName], run: Mapping[str, Any]) -> bool:
    """Of the whole model every figure that can be better; of a subset of its inputs the leading ones."""
    if name.subset:
        return name.subset != "+".join(run["modalities"]) and name._replace(subset=None) in lead
    return name.metric not in NEITHER_IS_BETTER


def difference_table(compared: Compared, name: MetricName) -> Table | None:
    """One figure: a row for each other run, first minus other; None where no run shares it."""
    rows = []
    for other, found in compared.items():
        if (raw := found.get(str(name))) is not None:
            rows.append(Row(f"− {other}", [_metric(raw), _over_folds(raw["folds"])], _verdict(raw)))
    if not rows:
        return None
    ends = [x for row in rows for m in row.cells[:1] if m for x in (m.value, m.low, m.high) if x is not None]
    reach = 1.1 * max([*map(abs, ends), 1e-3])
    title = " · ".join(filter(None, [pretty(name.target, name.label), TITLES.get(name.metric, pretty(name.metric))]))
    inputs = f", {arm_name(name.subset)}" if name.subset else ""
    lower = " (lower is better)" if name.metric in LOWER_IS_BETTER else ""
    return Table(f"{title}{inputs}{lower}", ["over patients", "over folds"], rows, -reach, reach, chance=0.0)


def _metric(raw: Mapping[str, Any]) -> Metric:
    fields = {key: raw[key] for key in ("value", "low", "high", "n", "protocol", "reason") if key in raw}
    return Metric.from_json(fields)


def _over_folds(folds: Mapping[str, Any]) -> Metric:
    if "reason" in folds:
        return Metric(None, None, None, 0, "corrected resampled t-test", folds["reason"])
    said = f"corrected resampled t-test, {folds['df']} degrees of freedom: p = {p_value(folds['p'])}"
    return Metric(folds["value"], folds["low"], folds["high"], 0, said + _adjusted(folds))


def _verdict(raw: Mapping[str, Any]) -> str:
    """Both values, p and the patients whose truth is known, as the note of a row."""
    ours, theirs = (number(value) for value in raw["of"])
    p = f"; p = {p_value(raw['p'])}{_adjusted(raw)}" if raw["p"] is not None else ""
    return f"{ours} against {theirs}{p}; n = {raw['n']:,}"


def _adjusted(raw: Mapping[str, Any]) -> str:
    adjusted = raw["p_adjusted"]
    return "" if adjusted is None or adjusted == raw["p"] else f" (Holm {p_value(adjusted)})"


def p_value(p: float) -> str:
    """Three digits.

    >>> p_value(0.0213), p_value(0.0002)
    ('.021', '< .001')
    """
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    runs = {run["name"]: f"{run['recipe']} · {', '.join(run['modalities'])}" for run in document["runs"]}
    return {
        **runs,
        "Cohort": ", ".join(f"{c['source']} · {c['hash'][:12]}" for c in document["cohorts"]),
        "Patients": f"{document['patients']:,} ({document['studies']:,} studies)",
        "Resamples": f"{document['resamples']:,}, of patients",
        "Made": document["made"],
    }
