"""The phantom's report: written from the truth, the way reports are: with omissions, hedges and words that mislead.

What it says of findings is one thing, what its indication tells of the clinical course another: the course decides the
outcome (see `outcome.py`), the findings do not. It never speaks of lung volume, interstitial pattern or vital signs, which
are for the image and the record to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chiasm.domains.chest.lesions import CARDIOMEGALY, KINDS, SIDES, ZONES, Lesion
from chiasm.study import Report, State

Rng = np.random.Generator

OMITTED_SHARE, HEDGED_SHARE = 0.12, 0.13  # of the findings that are there
RESOLVED_SHARE, NEGATED_SHARE = 0.15, 0.42  # of those that are not; resolved ones only where there is a prior

_CERTAIN = {
    "pneumothorax": (
        "{Size}{side} apical pneumothorax.",
        "A visceral pleural line is seen on the {side}, in keeping with {size}pneumothorax.",
        "There is a {size}pneumothorax on the {side}.",
        "{Side} pneumothorax, without mediastinal shift.",
    ),
    "pleural_effusion": (
        "{Size}{side} pleural effusion.",
        "There is a {size}pleural effusion on the {side}.",
        "Blunting of the {side} costophrenic angle by a {size}effusion.",
        "Layering fluid at the {side} base, consistent with pleural effusion.",
    ),
    "atelectasis": (
        "Band of atelectasis in the {place}.",
        "Plate-like atelectasis in the {place}.",
        "Linear opacity in the {place}, consistent with atelectasis.",
        "Subsegmental atelectasis is present in the {place}.",
    ),
    "consolidation": (
        "Focal consolidation in the {place}.",
        "Airspace consolidation in the {place}.",
        "There is patchy consolidation in the {place}.",
        "Ill-defined airspace disease in the {place}.",
    ),
    "mass": (
        "Large mass in the {place}.",
        "A well-defined mass projects over the {place}.",
        "There is a rounded mass in the {place}.",
        "Soft tissue mass in the {place}.",
    ),
    "nodule": (
        "Pulmonary nodule in the {place}.",
        "A round nodule projects over the {place}.",
        "There is a small nodule in the {place}.",
        "Well-circumscribed nodule in the {place}.",
    ),
    CARDIOMEGALY: (
        "The heart is enlarged.",
        "Cardiomegaly is present.",
        "The cardiac silhouette is enlarged.",
        "Moderate cardiomegaly.",
    ),
}
_HEDGED = {
    "pneumothorax": ("Possible {side} apical pneumothorax.", "A small {side} pneumothorax cannot be excluded."),
    "pleural_effusion": ("Possible {side} pleural effusion.", "A {side} pleural effusion cannot be excluded."),
    "atelectasis": ("Linear opacity in the {place} may represent atelectasis.", "Possible atelectasis in the {place}."),
    "consolidation": (
        "Opacity in the {place} may represent consolidation.",
        "Questionable consolidation in the {place}.",
    ),
    "mass": ("Opacity in the {place}, possibly a mass.", "A mass in the {place} cannot be excluded."),
    "nodule": ("Possible nodule in the {place}.", "Nodular density in the {place} may represent a nodule."),
    CARDIOMEGALY: ("Possible cardiomegaly.", "The heart may be mildly enlarged."),
}
_NEGATED = {
    "pneumothorax": ("No pneumothorax.", "There is no evidence of pneumothorax.", "Negative for pneumothorax."),
    "pleural_effusion": ("No pleural effusion.", "There is no pleural effusion.", "No evidence of effusion."),
    "atelectasis": ("No atelectasis.", "No evidence of atelectasis."),
    "consolidation": ("No focal consolidation.", "There is no consolidation.", "No airspace disease."),
    "mass": ("No mass is seen.", "No evidence of a mass."),
    "nodule": ("No pulmonary nodule.", "No suspicious nodule is identified."),
    CARDIOMEGALY: ("The heart is normal in size.", "No cardiomegaly.", "The heart is not enlarged."),
}
_RESOLVED = {
    "pneumothorax": ("The {side} pneumothorax seen previously has resolved.",),
    "pleural_effusion": ("The previously seen {side} pleural effusion has resolved.",),
    "atelectasis": ("Previously described atelectasis in the {place} is no longer seen.",),
    "consolidation": (
        "The consolidation previously seen in the {place} has resolved.",
        "Interval clearing of the consolidation in the {place}.",
    ),
    "mass": ("The mass previously seen in the {place} has been resected.",),
    "nodule": ("The nodule described previously in the {place} is no longer seen.",),
    CARDIOMEGALY: ("The previously noted cardiomegaly has resolved.",),
}
_NORMAL = (
    "The mediastinal contours are unremarkable.",
    "The osseous structures are intact.",
    "The trachea is midline.",
    "No acute bony abnormality.",
    "The aortic contour is normal.",
    "The visualized upper abdomen is unremarkable.",
)
_CLEAR = ("No acute cardiopulmonary abnormality.", "No acute disease.", "Unremarkable examination of the chest.")
_PRIOR = (
    "Prior chest radiograph.",
    "Comparison is made with an earlier examination.",
    "Previous radiograph available.",
)
_NO_PRIOR = ("None.", "No prior examination.", "None available.")

_SYMPTOMS = (
    *("cough", "shortness of breath", "chest pain", "dyspnea", "fatigue"),
    *("wheezing", "chest tightness", "productive cough"),
)
COURSES: tuple[tuple[str, ...], ...] = (
    (
        *(
            "no respiratory complaints",
            "routine screening",
            "asymptomatic",
            "feels well",
            "denies {s}",
            "free of symptoms",
        ),
        *("preoperative assessment, no symptoms", "pre-employment check, no complaints", "screening, denies {s}"),
    ),
    (
        *(
            "improving {s}",
            "{s}, better than at the last visit",
            "resolving {s}",
            "{s} that has eased",
            "less {s} than before",
        ),
        *("{s}, nearly recovered", "{s}, settling on treatment", "{s}, responding to therapy", "recovering from {s}"),
    ),
    (
        *("unchanged {s}", "stable {s}", "persistent {s}, no change", "chronic {s} at baseline", "{s} as before"),
        *("{s}, the same as at the last visit", "longstanding steady {s}", "ongoing {s}, no better and no worse"),
    ),
    (
        *("worsening {s}", "increasing {s}", "{s}, progressive over days", "{s} getting worse", "more {s} than before"),
        *("{s}, worse than at the last visit", "{s}, not responding to therapy", "gradual decline with {s}"),
    ),
    (
        *("acute respiratory distress", "severe {s} at rest", "sudden severe {s}", "rapid deterioration with {s}"),
        *("{s}, unable to speak in full sentences", "respiratory failure with {s}", "extreme {s}, in distress"),
        *("acutely unwell with {s}", "critical, with {s}", "{s}, emergency admission"),
    ),
)
"""Wordings of each level of the clinical course, mildest first; `{s}` is a symptom that tells nothing."""
_QUESTIONS = (
    *("Evaluate for pneumonia.", "Rule out pneumothorax.", "Exclude pleural effusion.", "Known hypertension."),
    *("Former smoker.", "Evaluate for consolidation.", "History of breast cancer, exclude a mass.", "Diabetes."),
)


@dataclass(frozen=True)
class Truth:
    """What a report is written from. `course` is a level of `COURSES`, or None where the report leaves it out."""

    age_years: int
    sex: str
    course: int | None
    lesions: tuple[Lesion, ...]
    enlarged_heart: bool
    has_prior: bool

    @property
    def present(self) -> frozenset[str]:
        """The findings that are there."""
        hearts = {CARDIOMEGALY} if self.enlarged_heart else set()
        return frozenset(lesion.name for lesion in self.lesions) | hearts


def write_report(truth: Truth, rng: Rng) -> tuple[Report, dict[str, State]]:
    """A report, and what it says of each of `KINDS`: the answer a perfect reader of the text would give."""
    positive: list[str] = []
    negative: list[str] = []
    conclusions: list[str] = []
    said: dict[str, State] = {}
    for name in KINDS:
        chance = rng.random()
        if name in truth.present:
            said[name] = _positive_state(chance)
            if said[name] is not State.NOT_MENTIONED:
                bank = _CERTAIN if said[name] is State.PRESENT else _HEDGED
                sentences = [_fill(_pick(bank[name], rng), *where) for where in _places(name, truth.lesions)]
                positive += sentences
                conclusions += sentences[:1] if rng.random() < 0.8 else []
        elif chance < RESOLVED_SHARE and truth.has_prior:
            said[name] = State.ABSENT
            side, zone = _pick(SIDES, rng), _pick(tuple(ZONES), rng)
            negative.append(_fill(_pick(_RESOLVED[name], rng), side, zone, ""))
        elif chance < RESOLVED_SHARE + NEGATED_SHARE:
            said[name] = State.ABSENT
            negative.append(_pick(_NEGATED[name], rng))
        else:
            said[name] = State.NOT_MENTIONED
    normal = rng.choice(len(_NORMAL), size=int(rng.integers(1, 4)), replace=False)
    comparison = _pick(_PRIOR if truth.has_prior else _NO_PRIOR, rng)
    impression = conclusions or ([] if positive else [_pick(_CLEAR, rng)])
    sections = {
        "indication": _indication(truth, rng),  # drawn last, so that the course changes nothing else
        "comparison": comparison,
        "findings": " ".join([*positive, *negative, *(_NORMAL[i] for i in sorted(normal))]),
        "impression": " ".join(impression),
    }
    return Report({name: text for name, text in sections.items() if text}), said


def _positive_state(chance: float) -> State:
    if chance < OMITTED_SHARE:
        return State.NOT_MENTIONED
    return State.UNCERTAIN if chance < OMITTED_SHARE + HEDGED_SHARE else State.PRESENT


def _places(name: str, lesions: Sequence[Lesion]) -> list[tuple[str, str, str]]:
    """(side, zone, size) of each lesion of a kind; the heart is in one place."""
    found = [(lesion.side, lesion.zone, _size(lesion)) for lesion in lesions if lesion.name == name]
    return found or [("", "", "")]


def _size(lesion: Lesion) -> str:
    small, large = {"pneumothorax": (0.50, 0.58), "pleural_effusion": (0.33, 0.41)}.get(lesion.name, (0.0, 1.0))
    return "small " if lesion.along < small else "large " if lesion.along > large else "moderate "


def _fill(sentence: str, side: str, zone: str, size: str) -> str:
    place = f"{side} {zone} zone"
    text = sentence.format(side=side, Side=side.capitalize(), place=place, size=size, Size=size.capitalize())
    return text[0].upper() + text[1:]


def _indication(truth: Truth, rng: Rng) -> str:
    person = f"{truth.age_years}-year-old {'woman' if truth.sex == 'f' else 'man'}"
    symptom, question = _pick(_SYMPTOMS, rng), _pick(_QUESTIONS, rng) if rng.random() < 0.5 else ""
    clause = "" if truth.course is None else ", " + _pick(COURSES[truth.course], rng).format(s=symptom)
    return f"{person}{clause}. {question}".strip()


def _pick(options: Sequence[str], rng: Rng) -> str:
    return options[int(rng.integers(len(options)))]
