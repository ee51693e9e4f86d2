"""Files in, files out."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.atomic import write_bytes, write_csv, write_json
from chiasm.cohort.preprocessing import Preprocessing
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.encoding.plan import Plan
from chiasm.errors import CohortError, InputError
from chiasm.formats.cells import reason
from chiasm.prediction.read import name_of, read_study
from chiasm.run.ensemble import predict_together
from chiasm.run.fold_model import load_fold_models, read_plans
from chiasm.run.folder import read_run
from chiasm.study import Prediction, Study
from chiasm.summary.figures import overlay

AT_ONCE = 64
"""Studies of a cohort that are answered together: memory does not grow with the cohort."""


def predict_inputs(
    run: Path, inputs: Sequence[Path], out: Path, *, report: Path | None = None, record: Path | None = None
) -> list[Prediction]:
    """Answer files, study folders or cohorts, and write one JSON a study and one overlay PNG per located image into `out`.

    Args:
        inputs: an image, a DICOM or NIfTI file; a study folder (images/, report.txt, record.json); a cohort.
        report, record: a text file and a JSON file that belong to the one study among `inputs`.

    Returns:
        the predictions: files and folders first, then cohorts, by study id within each. `out/rejected.csv` lists the
        inputs that were not taken.

    Raises:
        InputError: no input could be taken (of several; the fault of a single one is raised as it is), `report` or `record`
            come with several inputs or a cohort, or `out` lies among the inputs. CohortError, RunError: see the message.
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
    plan = _joint(read_plans(run))
    rejects = _Rejects(alone=len(inputs) == 1)
    ignored: dict[str, tuple[str, ...]] = {}
    predictions: list[Prediction] = []
    names: set[str] = set()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chiasm-") as scratch:
        made = _gather(_read_studies(files, plan, report, record, rejects, ignored), plan, Path(scratch) / "cohort")
        for path in [*filter(None, [made]), *cohorts]:
            with rejects.take(path):
                for cohort, prediction in _answer(run, path):
                    if path == made:
                        prediction = replace(prediction, ignored=(*ignored[prediction.study_id], *prediction.ignored))
                    _write(prediction, cohort, out, names)
                    predictions.append(prediction)
    rejects.write(out / "rejected.csv")
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

    @contextmanager
    def take(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (InputError, CohortError) as error:
            if self.alone:
                raise
            self.rows.append((str(path), reason(error)))

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


def _read_studies(
    paths: Sequence[Path],
    plan: Plan,
    report: Path | None,
    record: Path | None,
    rejects: _Rejects,
    ignored: dict[str, tuple[str, ...]],
) -> Iterator[Study]:
    """Each input as a study that bears its file's name, or, where several have one name, its path."""
    shared = Counter(name_of(path) for path in paths)
    for path in paths:
        with rejects.take(path):
            study, unread = read_study(path, plan, report, record)
            if shared[study.study_id] > 1:
                study = _renamed(study, path.as_posix())
            ignored[study.study_id] = unread
            yield study


def _gather(studies: Iterator[Study], plan: Plan, folder: Path) -> Path | None:
    """Studies as one cohort of the model's size, so that they are answered as every cohort is; None if there is none."""
    first = next(studies, None)
    if first is None:
        return None
    prepared = Preprocessing.from_dict(plan.preprocessing)
    write_cohort(
        chain([first], studies), folder, source="predict", options={}, split="hash", strict=True, **prepared.arguments(),
    )  # fmt: skip
    return folder


def _answer(run: Path, path: Path) -> Iterator[tuple[Cohort, Prediction]]:
    """The prediction of every study of a cohort."""
    cohort = Cohort.open(path)
    fold_models = load_fold_models(run, [cohort])
    notes = tuple(dict.fromkeys(note for entry in read_run(run)["cohorts"] for note in entry.get("notes", ())))
    for start in range(0, len(cohort), AT_ONCE):
        for prediction in predict_together(fold_models, np.arange(start, min(start + AT_ONCE, len(cohort)))):
            yield cohort, replace(prediction, notes=notes)


def _renamed(study: Study, name: str) -> Study:
    """The study and its images under another name."""
    own = len(study.study_id)
    images = tuple(replace(image, image_id=name + image.image_id[own:]) for image in study.images)
    return replace(study, study_id=name, patient_id=name, images=images)


def _joint(plans: Sequence[Plan]) -> Plan:
    """The plan of the first model, with all that the others know of records, sections and words."""
    first = plans[0]
    columns = dict.fromkeys(name for plan in plans for name in plan.categories)
    return replace(
        first,
        image_shape=next((plan.image_shape for plan in plans if plan.image_shape), None),
        numeric={name: scale for plan in reversed(plans) for name, scale in plan.numeric.items()},
        categories={c: tuple(dict.fromkeys(w for p in plans for w in p.categories.get(c, ()))) for c in columns},
        text_sections=tuple(dict.fromkeys(name for plan in plans for name in plan.text_sections)),
    )


def to_json(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: everything but the maps."""
    return {
        "not_for_clinical_use": True,
        "study_id": prediction.study_id,
        "arm": prediction.arm,
        "used": list(prediction.used),
        "ignored": list(prediction.ignored),
        "notes": list(prediction.notes),
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
        picture = overlay(gray, np.zeros((0, 4)), boxes, heat, names=labels, max_side=1024)
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
