"""The document of `inspect_cohort` as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

SPLITS = ("train", "validation", "test", "all")
_WIDTH = 110
_LISTED = 5


def render_inspection(document: Mapping[str, Any]) -> str:
    """Tables of counts, truth, missing values and leakage, and the warnings last, where they are seen."""
    from rich.console import Console

    text = StringIO()
    console = Console(file=text, width=_WIDTH, highlight=False, markup=False)
    cohort = document["cohort"]
    console.print(
        f"{cohort['source']} cohort of {document['splits']['all']['studies']} studies, split: {cohort['split_rule']}, "
        f"{cohort['rejected']} inputs rejected\nhash {cohort['hash']}\n"
    )
    _splits(console, document["splits"])
    images = {name: tally for name, tally in document["images"].items() if tally}
    _table(
        console, "images", ("", "how many"), [(name.replace("_", " "), _words(tally)) for name, tally in images.items()]
    )
    _truth(console, document["targets"])
    _missing(console, document["missing"])
    _columns(console, "record", document["record"])
    _columns(console, "measured on the images, never an input", document["facts"])
    _leakage(console, document["leakage"])
    for note in cohort["notes"]:
        console.print(f"note: {note}")
    for warning in document["warnings"]:
        console.print(f"warning: {warning}")
    if not document["warnings"]:
        console.print("nothing to warn of")
    console.print("this page holds study ids: treat it like the data")
    return text.getvalue().rstrip()


def _splits(console: Any, splits: Mapping[str, Mapping[str, int]]) -> None:
    rows = [(name.replace("_", " "), *(str(splits[s][name]) for s in SPLITS)) for name in splits["all"]]
    _table(console, "", ("", *SPLITS), rows)


def _truth(console: Any, targets: Mapping[str, Any]) -> None:
    """A finding's cell: present + absent (prevalence); a binary outcome's likewise; a number's: known, median."""
    for target, info in targets.items():
        rows = [
            (label, *(_truth_cell(entry["splits"][split]) for split in SPLITS))
            for label, entry in info["labels"].items()
        ]
        what = _CELLS.get(info["kind"], "known, median (range)")
        _table(console, f"{target} ({info['kind']}): {what}", ("", *SPLITS), rows)


_CELLS = {
    "binary": "positive of known, +n? uncertain",
    "multiclass": "known, classes",
    "survival": "known, median time (range), events",
}


def _truth_cell(facts: Mapping[str, Any]) -> str:
    if "median" in facts:
        if not facts["known"]:
            return "-"
        events = f", {facts['events']}" if "events" in facts else ""
        return f"{facts['known']}, {facts['median']:g} ({facts['min']:g}..{facts['max']:g}){events}"
    if "classes" in facts:
        return f"{facts['known']}, {_words(facts['classes'])}" if facts["known"] else "-"
    positive = facts.get("present", facts.get("positive"))
    known = facts["known"] if "known" in facts else facts["present"] + facts["absent"]
    hedged = f" +{facts['uncertain']}?" if facts.get("uncertain") else ""
    return f"{positive} of {known} ({facts['prevalence']:.1%}){hedged}" if known else f"-{hedged}"


def _missing(console: Any, missing: Mapping[str, Any]) -> None:
    entries = {"image": missing["image"]}
    entries |= {f"report {name}": shares for name, shares in missing["report"].items()}
    entries |= {f"record {name}": shares for name, shares in missing["record"].items()}
    rows = [(name, *(_percent(shares[split]) for split in SPLITS)) for name, shares in entries.items()]
    _table(console, "missing", ("", *SPLITS), rows)


def _columns(console: Any, what: str, described: Mapping[str, Any]) -> None:
    rows = []
    for name, facts in described.items():
        if facts["kind"] == "categorical":
            more = f", and {facts['further_words']} more words" if facts["further_words"] else ""
            said = _words(facts["words"]) + more
        elif facts["known"]:
            said = (
                f"{facts['min']:g} .. {facts['q25']:g} .. {facts['median']:g} .. {facts['q75']:g} .. {facts['max']:g}"
            )
        else:
            said = "-"
        rows.append((name + (" (unknown time)" if facts["unknown_time"] else ""), said))
    _table(console, f"{what}: words, or minimum, quartiles and maximum", ("", ""), rows)


def _leakage(console: Any, leakage: Mapping[str, Any]) -> None:
    kinds = ("shared_patients", "identical_pixels", "near_identical_pixels", "identical_reports")
    counts = ("count", "across_patients", "across_splits")
    rows = [(kind.replace("_", " "), *(str(leakage[kind][count]) for count in counts)) for kind in kinds]
    _table(console, "leakage", ("groups", "found", "across patients", "across splits"), rows)
    for kind in kinds:
        for group in leakage[kind]["listed"][:_LISTED]:
            said = f", correlation {group['correlation']}" if "correlation" in group else ""
            names = ", ".join(group["studies"][:4]) + ", ..." * (len(group["studies"]) > 4)
            console.print(f"  {kind.replace('_', ' ')}: {names} ({', '.join(group['splits'])}{said})")
        if (more := leakage[kind]["count"] - _LISTED) > 0:
            console.print(f"  ... and {more} more (--json lists {len(leakage[kind]['listed'])})")
    rows = [
        (section, label, *(_percent(entry[f"{how}_{when}"]) if f"{how}_{when}" in entry else "" for how in ("named", "affirmed") for when in ("if_present", "otherwise")), f"{entry['auroc']:.2f}")
        for section, entries in leakage["label_words"].items()
        for label, entry in entries.items()
        if entry["auroc"] is not None
    ]  # fmt: skip
    columns = ("section", "label", "named if present", "otherwise", "affirmed if present", "otherwise", "AUROC")
    _table(console, "words of a label in a report that is an input", columns, rows)


def _table(console: Any, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if title:
        console.print(title)
    console.print(table)


def _words(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in tally.items())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
