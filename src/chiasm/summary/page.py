"""The page of an evaluation: one HTML file that needs nothing else, and shows the evidence for every number."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.atomic import write_text
from chiasm.heads.head import Picture as HeadPicture
from chiasm.heads.head import Section
from chiasm.summary import tables
from chiasm.summary.cases import Case, Glass, bar
from chiasm.summary.figures import Confusion, Curves, decision_svg, overlay, pr_svg, reliability_svg, roc_svg, thumbnail

SIDE = 480
"""Pixels of the longer side of a picture."""
SHOWN_CURVES = 2
"""Labels whose curves stand open on the page; those of the others are folded."""


@dataclass(frozen=True)
class Selected:
    """How the configuration was chosen: sentences, and a row for each fold with what it chose. Empty where there is nothing to say."""

    said: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Summary:
    """All that the page shows.

    Attributes:
        title, about: of the recipe. facts: name -> value, in the order of the header.
        warnings: sentences; notes: what was switched off; commands: how to make it again.
        metrics: by name; the tables are made of them.
        leads: prefixes of the arms in the leading tables, the trustworthy one first: ("",) or ("image+record", "").
        protocol: the sentence under the title: which patients, which folds.
        curves, confusions: the figures; empty where there is nothing to show. sections: the heads' own.
        coverage: the chance with which prediction sets are to hold the truth; None where there are none.
        data_notes: sentences of the cohorts that everyone who reads the page must know. added: what a written text added.
        opted_in: record columns of unknown time that are inputs.
        cases: single patients; glass: what the model looked at, or None.
        cases_chosen: how, one sentence. selected: how the configuration was chosen.
    """

    title: str
    facts: Mapping[str, str]
    metrics: tables.Names
    about: str = ""
    protocol: str = ""
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()
    leads: Sequence[str] = ("",)
    curves: Sequence[Curves] = ()
    confusions: Sequence[Confusion] = ()
    sections: Sequence[Section] = ()
    coverage: float | None = None
    data_notes: Sequence[str] = ()
    added: Sequence[str] = ()
    opted_in: Sequence[str] = ()
    cases: Sequence[Case] = ()
    cases_chosen: str = ""
    glass: Glass | None = None
    selected: Selected = Selected()


def write_page(summary: Summary, path: Path) -> Path:
    """Write the page. It holds patient data (images, identifiers, report texts) and says so."""
    write_text(path, render(summary))
    return path


def render(summary: Summary) -> str:
    """The page as HTML: no script, nothing loaded from anywhere, every text escaped."""
    from markupsafe import Markup

    names = summary.metrics
    return render_template(
        "summary.html",
        s=summary,
        scores=[
            (_heading(summary, lead), _lead_name(summary, names, lead), tables.score_tables(names, lead))
            for lead in summary.leads
        ],
        lead=_lead_name(summary, names, summary.leads[0]),
        subsets=tables.subset_tables(names),
        added=tables.added_tables(names, summary.opted_in),
        controls=tables.control_tables(names),
        sections=[_draw_section(section, names) for section in summary.sections],
        subgroups=tables.subgroup_tables(names, summary.leads[0]),
        figures=[(curve.name, [Markup(figure(curve)) for figure in _figures(curve)]) for curve in summary.curves],
        shown=SHOWN_CURVES,
        largest=max(
            (abs(x) for case in summary.cases for x in (*case.shares.values(), *(s for s, _ in case.columns.values()))),
            default=1.0,
        ),
        protocols=_protocols(summary.metrics),
    )


def _draw_section(section: Section, names: tables.Names) -> dict[str, Any]:
    """A head's part of the page with its tables made and its pictures drawn."""
    drawn: dict[str, list[tuple[HeadPicture, bytes]]] = {}
    for picture in section.pictures:
        jpeg = overlay(
            picture.pixels,
            picture.truth,
            picture.predicted,
            picture.heat,
            mask_truth=picture.mask,
            max_side=SIDE,
            format="JPEG",
        )
        drawn.setdefault(picture.group, []).append((picture, jpeg))
    return {
        "section": section,
        "tables": tables.arm_table(names, section.target, section.columns),
        "groups": drawn,
        "texts": [(text, None if text.pixels is None else thumbnail(text.pixels)) for text in section.texts],
    }


def _heading(summary: Summary, lead: str) -> str:
    columns = tables.pretty(*summary.opted_in) if summary.opted_in else ""
    if lead == summary.leads[0]:
        return "Performance"
    if lead:
        return f"The same, without {columns}"
    return f"The same, with {columns or 'the report'} as an input"


def _lead_name(summary: Summary, names: tables.Names, lead: str) -> str:
    if lead == tables.WITHOUT_OPT_IN:
        return f"all inputs without {tables.pretty(*summary.opted_in)}"
    return tables.lead_name(names, lead)


def _figures(curves: Curves) -> list[Callable[[Curves], str]]:
    return [roc_svg, pr_svg, reliability_svg, *([decision_svg] if curves.decision else [])]


def render_template(name: str, **values: Any) -> str:
    """A template of this folder."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("chiasm.summary", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=tables.number, data=_data)
    environment.globals.update(pretty=tables.pretty, bar=bar)
    return environment.get_template(name).render(**values).lstrip()


def _data(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _protocols(metrics: tables.Names) -> list[tuple[str, list[str]]]:
    """Each protocol once, with the names that follow it."""
    found: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        found.setdefault(metric.protocol, []).append(str(name))
    return list(found.items())
