"""Files in, files out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chiasm.atomic import write_bytes, write_csv, write_json
from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError, InputError
from chiasm.formats.cells import reason
from chiasm.prediction.phrases import ground
from chiasm.prediction.predictor import AT_ONCE, Predictor, load_predictor
from chiasm.prediction.read import name_of, read_study
from chiasm.study import Prediction, Study
from chiasm.summary.figures import overlay


def predict_inputs(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    report: Path | None = None,
    record: Path | None = None,
    strict: bool = False,
    phrases: Sequence[str] = (),
) -> list[Prediction]:
    """Answer files, study folders or cohorts, and write one JSON a study and one overlay PNG per located image into `out`.

    Args:
        inputs: an image, a DICOM or NIfTI file; a study folder (images/, report.txt, record.json); a cohort.
        report, record: a text file and a JSON file that belong to the one study among `inputs`.
        strict: refuse studies that are unlike the training data; the others are answered and written first.
        phrases: to be found on the images; where they lie stands in `heads["phrases"]` of each answer.

    Returns:
        the predictions: files and folders first, then cohorts, by study id within each. `out/rejected.csv` lists the
        inputs that were not taken.

    Raises:
        InputError: no input could be taken (of several; the fault of a single one is raised as it is), `report` or `record`
            come with several inputs or a cohort, or `out` lies among the inputs; or, if strict, a study was refused.
            CohortError, RunError: see the message.
    """
    inputs = list(dict.fromkeys(inputs))
    cohorts = [path for path in inputs if (path / "cohort.json").is_file()]
    files = [path for path in inputs if path not in cohorts]
    if (report or record) and (len(inputs) != 1 or cohorts):
        raise InputError(
            "--report and --record belong to one study",
            expected="one image or study folder",
            got="a cohort" if len(inputs) == 1 else f"{len(inputs)} inputs",
            remedy="put each study in a folder: images/, report.txt, record.json",
        )
    _check_out(out, [*inputs, *filter(None, (report, record))])
    predictor = load_predictor(run, strict=strict)
    rejects = _Rejects(alone=len(inputs) == 1)
    predictions: list[Prediction] = []
    names: set[str] = set()
    out.mkdir(parents=True, exist_ok=True)
    for cohort, prediction in chain(
        _answer_files(predictor, files, report, record, rejects), _answer_cohorts(predictor, cohorts, rejects)
    ):
        try:
            predictor.check(prediction)
        except InputError as error:
            rejects.refuse(prediction.study_id, error)
            continue
        if phrases:
            found = [ground(prediction, phrase).to_json() for phrase in phrases]
            prediction = replace(prediction, heads={**prediction.heads, "phrases": found})
        _write(prediction, cohort, out, names)
        predictions.append(prediction)
    rejects.write(out / "rejected.csv")
    rejects.raise_refused(len(predictions), out / "rejected.csv")
    if not predictions:
        raise InputError(
            "none of the inputs could be taken", got=f"{len(rejects.rows)} inputs", where=str(out / "rejected.csv")
        )
    return predictions


@dataclass
class _Rejects:
    """Of several inputs, one that cannot be taken is written down and not the end of the others."""

    alone: bool
    rows: list[tuple[str, str]] = field(default_factory=list)
    refused: list[InputError] = field(default_factory=list)

    @contextmanager
    def take(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (InputError, CohortError) as error:
            if self.alone:
                raise
            self.rows.append((str(path), reason(error)))

    def refuse(self, study: str, error: InputError) -> None:
        """Write down a study that is unlike the training data; the others are answered first."""
        self.refused.append(error)
        self.rows.append((study, reason(error)))

    def raise_refused(self, answered: int, file: Path) -> None:
        """
        Raises:
            InputError: a study was refused: its own fault where it was the only one.
        """
        if not self.refused:
            return
        if not answered and len(self.refused) == 1:
            raise self.refused[0]
        raise InputError(
            f"{len(self.refused)} studies are unlike the training data and were not answered",
            got=f"{answered} others were answered",
            where=str(file),
            remedy="read there in what they are unlike it, or predict without --strict",
        )

    def write(self, path: Path) -> None:
        write_csv(path, [("where", "reason"), *self.rows])


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    """What is written has the names of what is read: it must not lie beside it.

    Raises:
        InputError: `out` holds an input file, or lies in an input folder.
    """
    here = out.resolve()
    for path in (path.resolve() for path in inputs):
        if here.is_relative_to(path) or (path.is_file() and here == path.parent):
            raise InputError(
                "the output folder holds an input, which could be overwritten",
                where=str(out),
                remedy="choose another --out",
            )


def _answer_files(
    predictor: Predictor, paths: Sequence[Path], report: Path | None, record: Path | None, rejects: _Rejects
) -> Iterator[tuple[Cohort, Prediction]]:
    """The prediction of each input, by study id, and the study as it was looked at.

    A study bears its file's name, or, where several have one name, its path.
    """
    shared = Counter(name_of(path) for path in paths)
    called = {path: path.as_posix() if shared[name_of(path)] > 1 else name_of(path) for path in paths}
    order = sorted(paths, key=called.__getitem__)
    for start in range(0, len(order), AT_ONCE):
        brought: list[_Brought] = []
        for path in order[start : start + AT_ONCE]:
            with rejects.take(path):
                study, unread = read_study(path, predictor.plan, report, record)
                brought.append(_Brought(path, predictor.bring(_renamed(study, called[path])), unread))
        for own, prediction in _answer_together(predictor, brought, rejects):
            yield own.cohort, replace(prediction, ignored=(*own.unread, *prediction.ignored))


class _Brought(NamedTuple):
    """An input as it was read, and a sentence for each part of it that the model does not read."""

    path: Path
    cohort: Cohort
    unread: tuple[str, ...]


def _answer_together(
    predictor: Predictor, brought: Sequence[_Brought], rejects: _Rejects
) -> list[tuple[_Brought, Prediction]]:
    """The predictions of some inputs; where one of them does not fit the model, each is asked alone."""
    try:
        return list(zip(brought, predictor.over([own.cohort for own in brought]), strict=True))
    except CohortError:
        answered = []
        for own in brought:
            with rejects.take(own.path):
                answered += [(own, prediction) for prediction in predictor.over([own.cohort])]
        return answered


def _answer_cohorts(
    predictor: Predictor, paths: Sequence[Path], rejects: _Rejects
) -> Iterator[tuple[Cohort, Prediction]]:
    """The prediction of every study of every cohort."""
    for path in paths:
        with rejects.take(path):
            cohort = Cohort.open(path)
            for prediction in predictor.over([cohort]):
                yield cohort, prediction


def _renamed(study: Study, name: str) -> Study:
    """The study and its images under another name."""
    if name == study.study_id:
        return study
    own = len(study.study_id)
    images = tuple(replace(image, image_id=name + image.image_id[own:]) for image in study.images)
    return replace(study, study_id=name, patient_id=name, images=images)


def to_json(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: everything but the maps."""
    return {
        "not_for_clinical_use": True,
        "study_id": prediction.study_id,
        "arm": prediction.arm,
        "used": list(prediction.used),
        "ignored": list(prediction.ignored),
        "notes": [note.text for note in prediction.notes],
        "notes_about": [str(note.about) for note in prediction.notes],
        "findings": [
            {"target": f.target, "name": f.name, "probability": f.probability, "state": str(f.state)}
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
                "likely": None if o.likely is None else list(o.likely),
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
        "heads": dict(prediction.heads),
    }


def _write(prediction: Prediction, cohort: Cohort, out: Path, names: set[str]) -> None:
    """`<study>.json` and, for each image with maps, `<image>.png`: its original frame, with map and boxes.

    Args:
        names: of files written before, which stay.
    """
    overlays = {}
    rows = {str(image_id): row for row, image_id in enumerate(cohort.images["image_id"])}
    for image_id, geometry in prediction.geometries.items():
        overlays[image_id] = f"{_free_name(image_id, '.png', names)}"
        heat = geometry.map_to_original(np.max([m for (i, _), m in prediction.maps.items() if i == image_id], axis=0))
        pixels = geometry.map_to_original(cohort.pixels(rows[image_id]).astype(np.float32))
        own = [region for region in prediction.regions if region.image_id == image_id]
        boxes = np.array([region.box for region in own]).reshape(-1, 4)
        if pixels.ndim == 3:  # the slice where the map is highest stands for a volume
            z = int(heat.max(axis=(1, 2)).argmax())
            pixels, heat = pixels[z], heat[z]
        gray, labels = np.clip(pixels, 0, 255).astype(np.uint8), [region.label.replace("_", " ") for region in own]
        warning = "unlike the training data" if any(note.unlike for note in prediction.notes) else ""
        picture = overlay(gray, np.zeros((0, 4)), boxes, heat, names=labels, max_side=1024, warning=warning)
        write_bytes(out / overlays[image_id], picture)
    content = {**to_json(prediction), "overlays": overlays}
    write_json(out / _free_name(prediction.study_id, ".json", names), content)


def _free_name(name: str, ending: str, names: set[str]) -> str:
    """A file name made of an id, that no other file of this call has."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    number, free = 1, stem + ending
    while free.lower() in names:
        number += 1
        free = f"{stem}-{number}{ending}"
    names.add(free.lower())
    return free
