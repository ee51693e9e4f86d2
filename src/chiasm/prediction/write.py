"""What `predict` writes of a study: JSON for programs, a page for people, a picture of each image with a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.atomic import write_bytes, write_csv, write_json
from chiasm.cohort.store import Cohort
from chiasm.prediction.page import describe_run, draw_images, tell_patient
from chiasm.study import Prediction
from chiasm.summary.figures import overlay
from chiasm.summary.patient import write_patient

SIDE = 1024
"""Pixels of the longer side of a picture file, at most."""


@dataclass(frozen=True)
class Written:
    """An answer and the content of its JSON file, in which `page` and `overlays` name the files beside it."""

    prediction: Prediction
    document: dict[str, Any]


class Writer:
    """Writes predictions of one run into one folder; no two files have one name."""

    def __init__(self, run: Path, out: Path, sections: Sequence[str]) -> None:
        """Args: sections: of the report, that the models read."""
        self.out, self.facts, self.sections = out, describe_run(run), sections
        self._names: set[str] = set()

    def write(self, prediction: Prediction, cohort: Cohort, row: int) -> Written:
        """`<study>.json`, `<study>.html` and, for each image with maps, `<image>.png`: its original frame, with map and boxes.

        Args:
            cohort, row: where the study stands as it was looked at.
        """
        images = draw_images(prediction, cohort, row)
        warning = "unlike the training data" if any(note.unlike for note in prediction.notes) else ""
        overlays: dict[str, str] = {}
        for image_id, image in images.items():
            if image.heat is not None:
                overlays[image_id] = self._free_name(image_id, ".png")
                names, none = [name for name, _ in image.located], np.zeros((0, 4))
                picture = overlay(
                    image.pixels, none, image.boxes, image.heat, names=names, max_side=SIDE, warning=warning
                )
                write_bytes(self.out / overlays[image_id], picture)
        file = self._free_name(prediction.study_id, ".json")
        page = self._free_name(prediction.study_id, ".html")
        patient = tell_patient(prediction, cohort, row, list(images.values()), self.facts, self.sections)
        write_patient(patient, self.out / page)
        document = {**to_json(prediction), "overlays": overlays, "page": page}
        write_json(self.out / file, document)
        return Written(prediction, document)

    def _free_name(self, name: str, ending: str) -> str:
        """A file name made of an id, that no other file of this call has."""
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        number, free = 1, stem + ending
        while free.lower() in self._names:
            number += 1
            free = f"{stem}-{number}{ending}"
        self._names.add(free.lower())
        return free


def write_boxes(predictions: Sequence[Prediction], path: Path) -> None:
    """Every predicted box as a line of CSV, in pixels of the original image; `phrase` is empty for the boxes of findings."""
    rows: list[tuple[object, ...]] = []
    for each in predictions:
        rows += [
            (each.study_id, r.image_id, f"{r.target}/{r.label}", "", *r.box, r.score) for r in each.regions if r.box
        ]
        for said in each.heads.get("phrases", ()):
            rows += [
                (each.study_id, b["image_id"], said["finding"], said["phrase"], *b["box"], b["score"])
                for b in said["boxes"]
            ]
    write_csv(path, [("study_id", "image_id", "finding", "phrase", "x_min", "y_min", "x_max", "y_max", "score"), *rows])


def to_json(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: everything but the maps."""
    return {
        "not_for_clinical_use": True,
        "study_id": prediction.study_id,
        "patient_id": prediction.patient_id,
        "arm": prediction.arm,
        "used": list(prediction.used),
        "ignored": list(prediction.ignored),
        "notes": [note.text for note in prediction.notes],
        "notes_about": [str(note.about) for note in prediction.notes],
        "findings": [
            {
                "target": f.target,
                "name": f.name,
                "probability": f.probability,
                "state": str(f.state),
                "prediction_set": None if f.prediction_set is None else [str(state) for state in f.prediction_set],
                "coverage": f.coverage,
            }
            for f in prediction.findings
        ],
        "outcomes": [
            {
                "target": o.target,
                "name": o.name,
                "kind": str(o.kind),
                "value": o.value,
                "probability": o.probability,
                "expected": o.expected,
                "distribution": dict(o.distribution),
                "prediction_set": None if o.prediction_set is None else list(o.prediction_set),
                "coverage": o.coverage,
            }
            for o in prediction.outcomes
        ],
        "regions": [
            {"image_id": r.image_id, "target": r.target, "label": r.label, "box": r.box, "score": r.score}
            for r in prediction.regions
        ],
        "description": prediction.description,
        "contributions": {m: dict(c) for m, c in prediction.contributions.items()},
        "record_contributions": {m: dict(c) for m, c in prediction.record_contributions.items()},
        "record_errors": {m: dict(c) for m, c in prediction.record_errors.items()},
        "without_report": dict(prediction.without_report),
        "thresholds": dict(prediction.thresholds),
        "statements": [{"start": s.start, "end": s.end, "changes": dict(s.changes)} for s in prediction.statements],
        "heads": dict(prediction.heads),
    }
