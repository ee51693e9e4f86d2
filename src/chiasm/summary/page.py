"""The page of an evaluation: one HTML file that needs nothing else, and shows the evidence for every number."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiasm.atomic import write_text
from chiasm.heads.head import Picture as HeadPicture
from chiasm.heads.head import Section
from chiasm.metrics.name import MetricName
from chiasm.summary import tables
from chiasm.summary.cases import Case, Glass, bar
from chiasm.summary.figures import Confusion, Curves, decision_svg, overlay, pr_svg, reliability_svg, roc_svg, thumbnail
from chiasm.summary.glossary import explain, slug, term_of
from chiasm.summary.shift import Shift

SIDE = 480
"""Pixels of the longer side of a picture."""
SHOWN_LEADS = 2
"""Targets whose first paragraph and picture stand open on the page; those of the others are folded."""
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
        lead: leading figure of a target -> what is said of it first. beside: leading figure -> rows beside the answer.
        metadata: what the control of that name holds.
        leads: prefixes of the arms in the leading tables, the trustworthy one first: ("",) or ("image+record", "").
        protocol: the sentence under the title: which patients, which folds.
        curves, confusions: the figures; empty where there is nothing to show. sections: the heads' own.
        coverage: the chance with which prediction sets are to hold the truth; None where there are none.
        data_notes: sentences of the cohorts that everyone who reads the page must know. added: what a written text added.
        opted_in: record columns of unknown time that are inputs.
        cases: single patients; glass: what the model looked at, or None.
        cases_chosen: how, one sentence. shift: in what an external cohort differs; None of the run's own.
        selected: how the configuration was chosen.
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
    lead: Mapping[MetricName, Sequence[str]] = field(default_factory=dict)
    beside: Mapping[MetricName, Sequence[tables.Row]] = field(default_factory=dict)
    metadata: str = ""
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
    shift: Shift | None = None
    selected: Selected = Selected()


def write_page(summary: Summary, path: Path) -> Path:
    """Write the page. It holds patient data (images, identifiers, report texts) and says so."""
    write_text(path, render(summary))
    return path


def render(summary: Summary) -> str:
    """The page as HTML: no script, nothing loaded from anywhere, every text escaped."""
    from markupsafe import Markup

    names = summary.metrics
    shown = {
        "answers": tables.answer_tables(names, summary.leads, summary.beside),
        "scores": [
            (_heading(summary, lead), _lead_name(summary, names, lead), found)
            for lead in summary.leads
            if (found := tables.score_tables(names, lead))
        ],
        "subsets": tables.subset_tables(names),
        "added": tables.added_tables(names, summary.opted_in),
        "controls": tables.control_tables(names),
        "sections": [_draw_section(section, names) for section in summary.sections],
        "subgroups": tables.subgroup_tables(names, summary.leads[0]),
        "figures": [(curve.name, [Markup(figure(curve)) for figure in _figures(curve)]) for curve in summary.curves],
    }
    terms = _terms(summary, shown)
    return render_template(
        "summary.html",
        s=summary,
        **shown,
        terms=terms,
        contents=_contents(summary, shown, terms),
        lead=_lead_name(summary, names, summary.leads[0]),
        paragraphs=list(summary.lead.items()),
        shown_leads=SHOWN_LEADS,
        shown=SHOWN_CURVES,
        largest=max(
            (abs(x) for case in summary.cases for x in (*case.shares.values(), *(s for s, _ in case.columns.values()))),
            default=1.0,
        ),
        protocols=_protocols(summary.metrics),
    )


def _contents(summary: Summary, shown: Mapping[str, Any], terms: Mapping[str, str]) -> list[tuple[str, str]]:
    """Anchor and words of each section that the page has, in its order."""
    every = [
        ("data", "About the data", summary.data_notes),
        *(
            (f"scores-{i}", heading.removeprefix("The same, "), True)
            for i, (heading, *_) in enumerate(shown["scores"], 1)
        ),
        ("shift", "Shift", summary.shift),
        ("modalities", "What each modality adds", shown["subsets"]),
        ("shortcuts", "Shortcut controls", shown["controls"]),
        ("curves", "Ranking and calibration", shown["figures"]),
        ("levels", "Confusion matrices", summary.confusions),
        ("patients", "Example cases", summary.cases),
        ("glass", "Saliency", summary.glass),
        *((section.target, section.title, True) for section in summary.sections),
        ("subgroups", "Subgroups", shown["subgroups"]),
        ("method", "Methods", True),
        ("glossary", "Glossary", terms),
    ]
    return [(anchor, words) for anchor, words, there in every if there]


def _terms(summary: Summary, shown: Mapping[str, Any]) -> dict[str, str]:
    """What the glossary explains: the headings of every table, and what stands in its figures and texts."""
    found: list[tables.Table] = [*shown["answers"], *shown["subsets"], *shown["added"], *shown["subgroups"]]
    found += [table for *_, own in shown["scores"] for table in own]
    found += [table for section in shown["sections"] for table in section["tables"]]
    headings = [heading for table in found for heading in table.columns]
    also = {
        "Interval": any(m.low is not None for m in summary.metrics.values()),
        "Within folds": any(name.metric.endswith("_pooled") for name in summary.metrics),
        "Prediction set": any(name.metric == "coverage" for name in summary.metrics),
        "Shapley share": any(name.metric.startswith("shapley_") for name in summary.metrics),
        "Prior": any(name.control == "prior" for name in summary.metrics),
        "AUROC": bool(shown["controls"]),
    }
    return explain(headings, [term for term, there in also.items() if there])


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
    environment.filters.update(number=tables.number, data=_data, capitalize_first=lambda s: s[:1].upper() + s[1:])
    environment.globals.update(pretty=tables.pretty, bar=bar, slug=slug, term_of=term_of)
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
