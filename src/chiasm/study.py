"""The nouns: a `Study` as it was made, a `Prediction` as it is answered. Frozen, NumPy only.

Truth and answer are made of the same nouns (findings, regions, report, outcomes), so they are compared like with like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.geometry import Geometry

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the original image; x_max and y_max are exclusive edges."""


class _Compared:
    """Equality of nouns that hold arrays: by value, NaN equal to NaN; a hash that agrees with it, of what is text."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]

    def __hash__(self) -> int:
        values = (getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return hash(tuple(value for value in values if isinstance(value, str)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.inexact))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b))


def shorten(names: Sequence[str], most: int = 6) -> str:
    """ "a, b, c" of a few names, "a, b and 7 more" of many."""
    shown = list(names)[: most if len(names) <= most else most - 1]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A small table for a notebook; everything in it is escaped."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


class State(StrEnum):
    """What a reader says of a finding. `NOT_MENTIONED` is silence: neither a yes nor a no."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    NOT_MENTIONED = "not_mentioned"


class View(StrEnum):
    """How the image was taken. Everything that is not a chest projection is `OTHER`."""

    PA = "pa"
    AP = "ap"
    LATERAL = "lateral"
    OTHER = "other"


class Kind(StrEnum):
    """What the values of an outcome are, and so which head and metrics answer it."""

    BINARY = "binary"
    ORDINAL = "ordinal"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    SURVIVAL = "survival"

    @property
    def leveled(self) -> bool:
        """Whether an answer is a number for each level: of a scale, for each class, for each interval of time."""
        return self in (Kind.ORDINAL, Kind.MULTICLASS, Kind.SURVIVAL)


@dataclass(frozen=True)
class Finding:
    """One finding and its state, in one target.

    Attributes:
        name: canonical name of `chiasm.vocabulary`, or the user's own snake_case name.
        state: what is said of it.
        target: the group it is learned and scored in; findings of another truth (RSNA's reviewed opacity beside NIH's
            text-mined labels) stand in a target of their own and are never merged.
        reader: who says so ("nih", "rsna", "phantom").
        probability: only in predictions: calibrated P(present).
        prediction_set, coverage: only in predictions: the states that hold the truth in `coverage` of patients, as of an `Outcome`.
        span: character range (start, end) of the report text that says so, when a text says so.
    """

    name: str
    state: State
    target: str = "findings"
    reader: str = ""
    probability: float | None = None
    span: tuple[int, int] | None = None
    prediction_set: tuple[State, ...] | None = None
    coverage: float | None = None


@dataclass(frozen=True, eq=False)
class Region(_Compared):
    """A place in one image: a box, a mask, or both.

    Attributes:
        label: the finding it shows, or the anatomy ("left_lung").
        box: in pixels of the original image; None for a mask alone.
        mask: [H, W] or [D, H, W] bool in pixels of the original image, or None.
        image_id: the image of the study it lies in.
        target: the target whose label it locates; "anatomy" for organs, which are never a finding.
        reader: who drew it. phrase: of a report, which it shows; "" of a region without one.
        score: only in predictions.
    """

    label: str
    image_id: str
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None
    target: str = "findings"
    reader: str = ""
    score: float | None = None
    phrase: str = ""

    def __repr__(self) -> str:
        box = "" if self.box is None else f" box ({', '.join(f'{x:g}' for x in self.box)})"
        mask = "" if self.mask is None else f" mask of {int(self.mask.sum())} pixels"
        return f"<Region {self.label} on image {self.image_id}:{box}{mask}>"


@dataclass(frozen=True)
class Outcome:
    """What is learned and known only after the image was taken, or given by a reader: survival, mRS, a severity score.

    Attributes:
        value: a number, of a multiclass outcome a word; a binary one is 0 or 1; of survival the time; None if unknown. In
            predictions the most probable level, and of survival the mean time without the event up to the last interval.
        target: "outcome" for what happened later, "severity" for a reader's score.
        event: survival: whether it happened at that time; False if all that is known is that it had not.
        probability: only in predictions: of 1 (binary), of `value` (ordinal, multiclass), of the event before the last
            interval ends (survival).
        expected: only in predictions: the mean of an ordinal scale.
        distribution: only in predictions: level -> its probability; of survival time -> that of no event until then.
        prediction_set: only in predictions: the levels, or the lowest and highest number, that hold the truth in `coverage` of
            patients like those of validation; None where validation was too small to say.
    """

    name: str
    value: float | str | None
    kind: Kind = Kind.BINARY
    target: str = "outcome"
    reader: str = ""
    event: bool | None = None
    probability: float | None = None
    expected: float | None = None
    distribution: Mapping[str, float] = field(default_factory=dict)
    prediction_set: tuple[float | str, ...] | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Report:
    """A radiology report, by sections in the order of the text.

    Attributes:
        sections: name -> text; the names are those of `chiasm.report.sections.SECTIONS`. A clinical note is the section
            "history".
        image_id: set when the text belongs to one image (a caption), None when to the study.
    """

    sections: Mapping[str, str]
    image_id: str | None = None

    def __repr__(self) -> str:
        return f"<Report: {', '.join(f'{name} ({len(text)} characters)' for name, text in self.sections.items())}>"

    @property
    def text(self) -> str:
        return "\n".join(text for text in self.sections.values() if text)


@dataclass(frozen=True)
class Record:
    """What the chart holds at prediction time: column -> number, word, or None for missing.

    Attributes:
        values: units stand in the column name (`temperature_c`, `age_years`).
        unknown_time: columns recorded at an unknown time; a recipe takes them only when it opts in by name.
    """

    values: Mapping[str, float | str | None]
    unknown_time: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        known = sum(value is not None for value in self.values.values())
        return f"<Record: {known} of {len(self.values)} values, {shorten(list(self.values))}>"


class Values(StrEnum):
    """What the pixel values of an image are.

    GRAY ones say which pixel is brighter, MODALITY ones are those of the file in the unit of its modality (HU of a CT), to
    which a window can be applied, STORED ones are a cohort's: 0 .. 255 or 0 .. 65535, on which nothing is to be done.
    """

    GRAY = "gray"
    MODALITY = "modality"
    STORED = "stored"


@dataclass(frozen=True, eq=False)
class Image(_Compared):
    """One image or one volume (slices of a CT or MR series are one volume).

    Attributes:
        image_id: unique in the cohort.
        pixels: [H, W] or [D, H, W], or with channels before them [C, H, W] or [C, D, H, W]; any real dtype, MONOCHROME1
            inverted.
        geometry: from the frame boxes and masks refer to (the "original") to these pixels: the identity for most;
            for ChestX-ray14 at 512 px, whose boxes were published at 1024 x 1024, a scale of one half.
        source: path of the file relative to the source folder; never an absolute path.
        name: what the image is, where modality and view do not say it: "lesion-mask", "FLAIR".
        body_part: what the file says was examined, in DICOM's words ("CHEST"); "" if it says nothing.
        values: what the pixel values are. bits: of gray values, how many the file stores; 0 if unknown.
        notes: files and values of it that were left out, and what was done to it that a user must know.
    """

    image_id: str
    pixels: NDArray[np.generic]
    geometry: Geometry
    view: View = View.OTHER
    dicom_modality: str = ""
    source: str = ""
    name: str = ""
    values: Values = Values.GRAY
    bits: int = 0
    body_part: str = ""
    notes: tuple[Rejected, ...] = ()

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.pixels.shape))
        said = [word for word in (self.dicom_modality, self.view.value, self.name) if word]
        return f"<Image {self.image_id}: {shape} {self.pixels.dtype}, {', '.join(said)}>"


@dataclass(frozen=True, eq=False)
class Study(_Compared):
    """One examination of one patient: what the model may see, and what is true of it.

    Attributes:
        split: "train", "validation" or "test" where the source publishes one, else None.
        bayes: phantoms only: modality subset ("image+record") -> the true P(outcome = 1 | what the subset reveals).
        facts: what was measured on the image ("lesion_volume_ml"): for writers and plain baselines, never an input of a
            network.
    """

    study_id: str
    patient_id: str
    images: tuple[Image, ...] = ()
    report: Report | None = None
    record: Record | None = None
    findings: tuple[Finding, ...] = ()
    regions: tuple[Region, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    split: str | None = None
    bayes: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, float | str | None] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = [f"{len(self.images)} image{'s' * (len(self.images) != 1)}"]
        parts += [f"report ({shorten(list(self.report.sections))})"] if self.report else []
        parts += [f"record of {len(self.record.values)} columns"] if self.record else []
        parts += [f"{len(own)} {what}" for what in ("findings", "regions", "outcomes") if (own := getattr(self, what))]
        return f"<Study {self.study_id}: {', '.join(parts)}{f'; {self.split}' if self.split else ''}>"


@dataclass(frozen=True)
class Rejected:
    """An input that was not taken, and why; or, where `taken`, one that was taken with a note.

    `where` is a path or row number, never a patient's name.
    """

    where: str
    reason: str
    taken: bool = False


class About(StrEnum):
    """What a note of a prediction is about.

    DATA: what users must know of the cohorts that the model learned from. HEADER, PIXELS, RECORD: the study is unlike them, by
    what its files say of themselves, by its pixels alone, by its chart. CONTRADICTION: parts of the answer do not agree.
    UNCHECKED: what could not be checked.
    """

    DATA = "data"
    HEADER = "header"
    PIXELS = "pixels"
    RECORD = "record"
    CONTRADICTION = "contradiction"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Note:
    """A sentence that belongs to a prediction."""

    about: About
    text: str

    @property
    def unlike(self) -> bool:
        """Whether it says that the study is unlike the training data."""
        return self.about in (About.HEADER, About.PIXELS, About.RECORD)


@dataclass(frozen=True)
class Statement:
    """A sentence of the text that the model read, and what it changed.

    Attributes:
        start, end: characters of that text: the report's sections that the model reads, joined by newlines.
        changes: "target/label" -> the answer minus the one without this sentence, on the scale of `Prediction.contributions`.
    """

    start: int
    end: int
    changes: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Prediction(_Compared):
    """The answer to one study, in the nouns of a study.

    Attributes:
        findings: with calibrated probabilities; `state` by the validation threshold.
        outcomes: with calibrated probabilities, values or distributions, and the set or interval that is likely to hold the
            truth.
        regions: boxes in pixels of the original image, with scores.
        description: generated text, or None when the model has no description head. Never conditioned on the report.
        maps: (image_id, "target/label") -> [h, w] or [d, h, w] probabilities at grid resolution.
        geometries: image_id -> geometry, so a map can be laid on the original.
        contributions: modality -> "target/label" -> Shapley value of the modality: on the log-odds of a binary target, in the
            target's units of others (ordinal: the expected level; survival: the mean time), and of a multiclass label for
            each "target/label=class" on the log-probability.
        record_contributions: column of the record -> the same of its part of the record's value; empty of one column.
        record_errors: the standard errors of these, 0 where they are exact.
        used: the modalities the answer rests on.
        ignored: a sentence for each thing that was handed in and that the model does not read.
        notes: what users must know: of the cohorts that the model learned from, such as that an expert drew its images; in
            what the study is unlike them; what of the answer contradicts itself.
        heads: name of a further head -> what it answers, as JSON.
        without_report: "target/label" -> the same number when the report is hidden; empty where no report was used.
        thresholds: "target/label" -> probability from which a finding is present, or a binary outcome a yes; .5 where
            validation was too small to say.
        statements: of the report, as far as it was read, each sentence and what it changed.
    """

    study_id: str
    patient_id: str
    findings: tuple[Finding, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    regions: tuple[Region, ...] = ()
    description: str | None = None
    maps: Mapping[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    contributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    record_contributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    record_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    without_report: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    statements: tuple[Statement, ...] = ()
    heads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arm(self) -> str:
        """ "report-conditioned" if the report was read, else what was: "image+record"."""
        return "report-conditioned" if "text" in self.used else "+".join(self.used) or "prior"

    def __repr__(self) -> str:
        said = shorten([f"{name} {answer}" for _, name, answer, _ in self._answers()])
        return f"<Prediction of {self.study_id} ({self.arm}): {said}>"

    def _repr_html_(self) -> str:
        rows = [(target, name, answer, state) for target, name, answer, state in self._answers()]
        table = html_table(
            f"{self.study_id}: {self.arm}. Not for clinical use.", ("target", "label", "answer", ""), rows
        )
        said = [*(note.text for note in self.notes), *self.ignored, *([self.description] if self.description else [])]
        return table + "".join(f"<p>{escape(text)}</p>" for text in said)

    def _answers(self) -> list[tuple[str, str, str, str]]:
        """Target, label, answer and what it means, of each finding and outcome."""
        found = [
            (f.target, f.name, "" if f.probability is None else f"{f.probability:.2f}", f.state.value)
            for f in self.findings
        ]
        for o in self.outcomes:
            value = "" if o.value is None else o.value if isinstance(o.value, str) else f"{o.value:g}"
            found.append((o.target, o.name, value if o.probability is None else f"{o.probability:.2f}", value))
        return found
