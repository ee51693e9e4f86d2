"""The page of one patient: what was answered, on what it rests, and what must be known first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.atomic import write_text
from chiasm.summary.figures import overlay
from chiasm.summary.page import render_template

SIDES = (560, 900)
"""Pixels of the longer side of a picture: at least, at most."""
OPEN = 3
"""Answers whose inputs stand open on the page; those of the others are folded."""


@dataclass(frozen=True)
class Answer:
    """One answer in words.

    Attributes:
        name, group: the label and its target. said: "yes", "3", "between 2 and 5". positive: it is what one looks for.
        probability, without_report: as the page shows them; "" where there is none. threshold: from where it is a yes.
        prediction_set: the prediction set, "" where validation was too small to say.
        unit: of the shares. shares: modality -> its Shapley value. columns: record column and value -> its part, and its error.
    """

    name: str
    group: str
    said: str
    positive: bool = False
    probability: str = ""
    threshold: str = ""
    prediction_set: str = ""
    without_report: str = ""
    unit: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """An image in its original frame, or a slice of a volume.

    Attributes:
        pixels: [H, W] uint8. boxes: [n, 4] what was located; located: (finding, probability) of each.
        heat: [H, W] the highest map of all findings; None of a model that has none.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.floating]
    heat: NDArray[np.floating] | None
    caption: str
    located: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Passage:
    """A piece of the report. rank: 1 of the sentence that changes an answer most, 0 of no key statement; changed: what it changes."""

    text: str
    rank: int = 0
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class Patient:
    """All that the page of one patient shows. Every text is untrusted and is escaped.

    Attributes:
        study: its name; arm: the inputs in words. facts: run, model, date. unlike: in what the study is unlike the training data.
        notes: what else must be known; ignored: what was handed in and not read.
        answers: those that are a yes first. coverage: of the prediction sets, None where there are none.
        report: that was read, in pieces. images: with what was located in them. description: generated from the image, None of a model that writes none.
    """

    study: str
    arm: str
    facts: Mapping[str, str]
    answers: Sequence[Answer]
    unlike: Sequence[str] = ()
    notes: Sequence[str] = ()
    ignored: Sequence[str] = ()
    coverage: float | None = None
    images: Sequence[Shown] = ()
    description: str | None = None
    report: Sequence[Passage] = ()


def write_patient(patient: Patient, path: Path) -> Path:
    """Write the page: one HTML file without script that loads nothing. It holds patient data and says so."""
    write_text(path, render_patient(patient))
    return path


def render_patient(patient: Patient) -> str:
    """The page as HTML."""
    explained = [answer for answer in patient.answers if answer.shares]
    sizes = [abs(x) for a in explained for x in (*a.shares.values(), *(share for share, _ in a.columns.values()))]
    groups: dict[str, list[Answer]] = {}
    for answer in patient.answers:
        groups.setdefault(answer.group, []).append(answer)
    return render_template(
        "patient.html",
        p=patient,
        groups=groups,
        pictures=[(image, _picture(image)) for image in patient.images],
        columns={
            name: any(getattr(answer, name) for answer in patient.answers)
            for name in ("probability", "threshold", "prediction_set", "without_report")
        },
        explained=explained,
        key=sorted((piece for piece in patient.report if piece.rank), key=lambda piece: piece.rank),
        shown=OPEN,
        largest=max(sizes, default=1.0),
    )


def _picture(image: Shown) -> bytes:
    """The image with its map and boxes."""
    names = [" ".join(filter(None, pair)) for pair in image.located]
    least, most = SIDES
    return overlay(
        image.pixels,
        np.zeros((0, 4)),
        image.boxes,
        image.heat,
        names=names,
        min_side=least,
        max_side=most,
        format="JPEG",
    )
