"""Findings of many reports as one CSV file, in the columns of a published label set or in the project's own words."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from chiasm.report.findings import label_texts, scheme_labels
from chiasm.report.texts import Text
from chiasm.study import State
from chiasm.vocabulary import FINDINGS, scheme

SCHEMES = ("states", "chestxray14", "chexpert")
_CHEXPERT = {State.PRESENT: "1.0", State.ABSENT: "0.0", State.UNCERTAIN: "-1.0", State.NOT_MENTIONED: ""}


def write_labels(
    texts: Iterable[Text],
    out: Path,
    name: Literal["states", "chestxray14", "chexpert"] = "states",
    uncertain: Literal["positive", "negative"] = "negative",
) -> dict[str, int]:
    """Write one row a report and return counts: `reports`, and `silent`, those that mention no finding.

    Args:
        name: "states": a column `id`, and for each finding of the vocabulary present, absent, uncertain or not_mentioned;
            "chestxray14": `filename` and 0 or 1 for its 14 names and `normal`; "chexpert": `id` and 1.0, 0.0, -1.0
            (uncertain) or nothing (not mentioned) for its 14 names.
        uncertain: what a hedged finding counts as in chestxray14.
    """
    counts = {"reports": 0, "silent": 0}
    partial = out.with_name(f"{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_header(name))
            for identity, report in texts:
                states = label_texts([report])[0]
                counts["reports"] += 1
                counts["silent"] += int((states == State.NOT_MENTIONED).all())
                if name == "chestxray14":
                    row: list[object] = list(scheme_labels([report], name, uncertain)[0].values())
                else:
                    known = dict(zip(FINDINGS, states.tolist(), strict=True))
                    row = (
                        [_CHEXPERT[State(known[f])] for f in scheme(name)]
                        if name == "chexpert"
                        else list(known.values())
                    )
                writer.writerow([identity, *row])
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return counts


def _header(name: str) -> list[str]:
    if name == "states":
        return ["id", *FINDINGS]
    if name == "chexpert":
        return ["id", *scheme(name).values()]
    return ["filename", *(own if finding != "normal" else "normal" for finding, own in scheme(name).items())]
