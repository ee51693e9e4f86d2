"""What an import did not take, or took with a note: rejected.csv, and its sum by reason."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from chiasm.atomic import write_csv
from chiasm.study import Rejected

FILE = "rejected.csv"
_HEADER = ("where", "reason", "taken")
_MOST = 8
_OWN = re.compile(r"'[^']*'|[^\s:]*[/\\][^\s:]*|\S+\.(?:\w{1,5}|nii\.gz)\b(?=[:,\s]|$)|(?:\d[\d.,/x-]*)")
"""What of a reason belongs to one input alone: quoted cells, paths, names of files, numbers."""


def write_skipped(folder: Path, skipped: Iterable[Rejected]) -> None:
    """Write rejected.csv of a cohort."""
    write_csv(folder / FILE, [_HEADER, *((r.where, r.reason, "yes" if r.taken else "no") for r in skipped)])


def read_skipped(folder: Path) -> list[Rejected]:
    """The rows of rejected.csv."""
    with (folder / FILE).open(encoding="utf-8", newline="") as file:
        return [Rejected(row["where"], row["reason"], row.get("taken") == "yes") for row in csv.DictReader(file)]


def sum_up(skipped: Sequence[Rejected]) -> list[str]:
    """Lines that say how often each reason stands, the most frequent first."""
    reasons = (" ".join(_OWN.sub("..", item.reason).split()) for item in skipped)
    counts = Counter(re.sub(r"\.\.(?:[ ,]*\.\.)+", "..", reason) for reason in reasons)
    width = len(str(max(counts.values(), default=0)))
    lines = [f"{count:>{width + 2}}  {reason}" for reason, count in counts.most_common(_MOST)]
    rest = len(counts) - len(lines)
    return [*lines, *([f"{'':>{width + 2}}  and {rest} more reasons"] if rest else [])]
