"""Boxes of a table: in its own rows or in a file beside it, matched to images by path, name or study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from chiasm.sources.table.cells import is_missing, parse_numbers
from chiasm.sources.table.media import PICTURES
from chiasm.sources.table.schema import Boxes, Format, label_name
from chiasm.sources.table.tabular import nearest, read_table
from chiasm.study import Box, Rejected
from chiasm.vocabulary import snake_case

ROUNDING_PX = 0.01


@dataclass(frozen=True)
class Drawn:
    """One box as the table has it, and where it stands there.

    Attributes:
        box: None where the reader looked and drew nothing.
        frame: (width, height) of the picture it was drawn on, or None for the pixels of the file.
        phrase: the words of a report that it shows, or "".
    """

    box: Box | None
    label: str
    target: str
    reader: str
    frame: tuple[int, ...] | None
    where: str
    phrase: str = ""

    def within(self, shape: tuple[int, ...]) -> tuple[Box | None, str]:
        """The box in an original frame of `shape` [..., H, W], clipped at its edges; None and why if nothing is left."""
        size = np.array([shape[-1], shape[-2]] * 2, float)
        scale = size / (np.array([*self.frame] * 2, float) if self.frame else size)
        box = np.array(self.box or (0, 0, 0, 0)) * scale
        cut = np.clip(box, 0, size)
        picture = f"the picture of {size[0]:.0f} x {size[1]:.0f}"
        hint = (
            ""
            if self.frame
            else " (if the files were resized since, `frame: [width, height]` under boxes says from what)"
        )
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            return None, f"the box lies outside {picture}: skipped{hint}"
        reaches = float(np.abs(box - cut).max()) > ROUNDING_PX
        return (
            (float(cut[0]), float(cut[1]), float(cut[2]), float(cut[3])),
            f"the box reaches beyond {picture}: clipped there{hint}" if reaches else "",
        )


def check_boxes(part: Boxes, frame: pd.DataFrame, name: str) -> list[str]:
    """Columns the map names and the table lacks."""
    wanted = [*part.columns, *filter(None, (part.label_column, part.phrase, part.image, part.study))]
    return [lacking(column, frame, f"boxes of {name}") for column in wanted if column not in frame.columns]


def lacking(column: str, frame: pd.DataFrame, key: str) -> str:
    """The sentence for a column that is not there."""
    if column in frame.attrs.get("twice", ()):
        return f"{key}: the header has the column {column} twice; rename one of them"
    near = nearest(column, map(str, frame.columns))
    return f"{key}: there is no column {column}" + (f", did you mean {near}?" if near else "")


def read_boxes(part: Boxes, frame: pd.DataFrame, name: str, form: Format) -> tuple[dict[int, Drawn], list[Rejected]]:
    """The boxes of a table by position of their row, and the rows that hold only part of one.

    A row without any coordinate has no box. In a box file for one label it says that the reader looked and found none.
    """
    where = [f"{name}: row {number}" for number in frame.index]
    given = np.stack([~is_missing(frame[column], form.words) for column in part.columns])
    numbers = [parse_numbers(frame[column], form.words, form.decimal) for column in part.columns]
    values = np.stack([cells.values.astype(float) for cells in numbers])
    size = values[2:] - values[:2] if part.corners else values[2:]
    corners = np.concatenate([values[:2], values[:2] + size])
    target = snake_case(part.target)
    silent = is_missing(frame[part.phrase], form.words) if part.phrase else np.ones(len(frame), bool)
    drawn: dict[int, Drawn] = {}
    if part.file and part.label:
        nothing = (None, label_name(part.label), target, part.reader, part.frame)
        drawn = {i: Drawn(*nothing, where[i]) for i in np.flatnonzero(~given.any(axis=0)).tolist()}
    rejected: list[Rejected] = []
    for i in np.flatnonzero(given.any(axis=0)).tolist():
        label = label_name(str(frame[part.label_column].iloc[i]) if part.label_column else str(part.label))
        bad = [column for column, value in zip(part.columns, values[:, i], strict=True) if not np.isfinite(value)]
        why = f"column {', '.join(bad)}: no number" if bad else "" if label else "the box has no label"
        if not why and (size[:, i] <= 0).any():
            other = "without `corners` the columns are x, y, width, height"
            other = other if part.corners else "`corners: true` makes the columns x_min, y_min, x_max, y_max"
            why = f"the box has no width or height ({other})"
        if why:
            rejected.append(Rejected(where[i], f"{why}: skipped"))
            continue
        x_min, y_min, x_max, y_max = (float(value) for value in corners[:, i])
        box = (x_min, y_min, x_max, y_max)
        phrase = frame[part.phrase].iloc[i] if part.phrase and not silent[i] else ""
        drawn[i] = Drawn(box, label, target, part.reader, part.frame, where[i], str(phrase).strip())
    return drawn, rejected


class BoxFiles:
    """The boxes of all box files, by the path (as in the table's cells) or the study they belong to."""

    def __init__(self, paths: Sequence[str], studies: Sequence[str]) -> None:
        self.by_path: dict[str, list[Drawn]] = {path: [] for path in paths}
        self.by_study: dict[str, list[Drawn]] = {study: [] for study in studies}
        self._ends: dict[str, set[str]] = {}
        for path in self.by_path:
            for end in _ends(path):
                self._ends.setdefault(end, set()).add(path)

    def add(self, part: Boxes, root: Path, form: Format) -> tuple[list[str], list[Rejected]]:
        """Read one box file; what comes back are problems of the map, and rows that were skipped."""
        name = str(part.file)
        frame, rejected = read_table(root / name, encoding=form.encoding)
        if problems := check_boxes(part, frame, name):
            return problems, rejected
        drawn, bad = read_boxes(part, frame, name, form)
        rejected += bad
        keys = frame[str(part.image or part.study)]
        for i, box in drawn.items():
            known = self._find(str(keys.iloc[i])) if part.image else self.by_study.get(str(keys.iloc[i]))
            if isinstance(known, list):
                known.append(box)
            else:
                what = "image" if part.image else "study"
                rejected.append(Rejected(box.where, known or f"the box belongs to no {what} of the table: skipped"))
        if drawn and len(drawn) == len({r.where for r in rejected} & {b.where for b in drawn.values()}):
            key = "image" if part.image else "study"
            return [
                f"boxes of {name}: not one cell of its column {part.image or part.study} names a {key} of the table"
            ], rejected
        return [], rejected

    def _find(self, key: str) -> list[Drawn] | str | None:
        """The boxes of the one image that the key names: either may lack leading folders, or the ending."""
        ends = _ends(key)
        paths = next((found for end in ends[:2] if (found := self._ends.get(end))), None)
        paths = paths or next(
            ({path} for end in ends for path in self._ends.get(end, ()) if end in _ends(path)[:2]), None
        )
        if paths and len(paths) > 1:
            return "several images of the table, in different folders, have the name of the box's image: skipped"
        return self.by_path[next(iter(paths))] if paths else None


def _ends(path: str) -> list[str]:
    """A path and its ends without leading folders, each as it is and without the file's ending.

    >>> _ends("a/b.png")
    ['a/b.png', 'a/b', 'b.png', 'b']
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    suffix = next((suffix for suffix in PICTURES if path.lower().endswith(suffix)), "")
    return [form for end in ends for form in (end, end[: len(end) - len(suffix)])]


def frame_of(parts: Sequence[Boxes], masks: bool) -> tuple[int, ...] | None:
    """The one frame that all boxes refer to, which is then the original; None (the file's pixels) if there is none."""
    frames: Mapping[tuple[int, ...] | None, None] = dict.fromkeys(part.frame for part in parts)
    return next(iter(frames)) if len(frames) == 1 and not masks else None
