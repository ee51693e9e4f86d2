"""Predictions as lines of text."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chiasm.study import About


def render_predictions(predictions: Sequence[Mapping[str, Any]], rejected: int, out: Path) -> str:
    """A line for each study, then what was not used, what must be known, and where the results are.

    Args:
        predictions: as `to_json` makes them; rejected: the number of inputs that were skipped; out: the results' folder.
    """
    lines = [f"{p['study_id']}: {render_answers(p)}" for p in predictions]
    lines += dict.fromkeys(f"not used: {reason}" for p in predictions for reason in p.get("ignored", ()))
    for p in predictions:  # what is said of the data is the same for all, the rest of each
        notes = zip(p.get("notes", ()), p.get("notes_about", ()), strict=True)
        lines += [f"note: {note}" if about == About.DATA else f"{p['study_id']}: note: {note}" for note, about in notes]
    lines = list(dict.fromkeys(lines))
    skipped = f"; {rejected} inputs were skipped, see {out / 'rejected.csv'}" if rejected else ""
    return "\n".join([*lines, f"the results are in {out}{skipped}"])


def count_rejected(out: Path) -> int:
    """The number of inputs that `predict` skipped, from the `rejected.csv` in the results' folder."""
    path = out / "rejected.csv"
    if not path.exists():
        return 0
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def render_answers(prediction: Mapping[str, Any]) -> str:
    """The five most probable answers of one study, with the level or class that is meant, then the numeric ones.

    >>> outcomes = [{"name": "died", "kind": "binary", "value": 0.0, "probability": 0.1},
    ...             {"name": "mrs", "kind": "ordinal", "value": 3.0, "probability": 0.4},
    ...             {"name": "nihss", "kind": "regression", "value": 7.25, "probability": None}]
    >>> render_answers({"findings": [], "outcomes": outcomes})
    'mrs = 3 0.40, died 0.10, nihss 7.25'
    """
    answers = [*prediction["findings"], *prediction["outcomes"]]
    probable = sorted((a for a in answers if a["probability"] is not None), key=lambda a: -a["probability"])[:5]
    values = [f"{a['name']} {a['value']:.3g}" for a in prediction["outcomes"] if a["probability"] is None]
    return ", ".join([*(f"{_name(a)} {a['probability']:.2f}" for a in probable), *values])


def _name(answer: Mapping[str, Any]) -> str:
    if answer.get("kind") not in ("ordinal", "multiclass"):
        return str(answer["name"])
    value = answer["value"]
    return f"{answer['name']} = {value if isinstance(value, str) else format(value, 'g')}"
