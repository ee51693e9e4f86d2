"""One study, one answer: calibrated, located on the original pixels, with what each modality added."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.nifti import SUFFIXES, read_nifti
from chiasm.cohort.pixels import read_image
from chiasm.cohort.sources.dicom import read_study as read_dicom_study
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import ChiasmError, InputError
from chiasm.geometry import Geometry
from chiasm.members import Answers, Calibration, Member, answer, load_members, read_run
from chiasm.metrics.attribution import shapley, subsets
from chiasm.metrics.localization import map_to_boxes
from chiasm.plan import Plan
from chiasm.report.sections import split_sections
from chiasm.study import Finding, Image, Kind, Outcome, Prediction, Record, Region, Rejected, Report, State, Study
from chiasm.summary.figures import overlay

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def predict_members(members: Sequence[Member], indices: NDArray[np.int64]) -> list[Prediction]:
    """One `Prediction` a study: the mean probability of the members, what each modality added, boxes and description.

    The description and the maps come from the first member; a mean of texts does not exist.
    """
    first = members[0]
    modalities = first.model.modalities
    chosen = {s: [answer(m, indices, subset=s, maps=s == modalities) for m in members] for s in subsets(modalities)}
    full = chosen[modalities]
    described = answer(first, indices, describe=True, maps=False).descriptions
    values = _mean_values(members, full)
    hidden = _mean_values(members, chosen[tuple(m for m in modalities if m != "text")])
    added = {
        t: shapley({s: np.mean([a.logits[t] for a in chosen[s]], axis=0) for s in chosen}, modalities)
        for t in first.plan.targets
    }
    present = {m: here.numpy() for m, here in first.loader.batch(indices).present().items() if m in modalities}
    return [
        _prediction(first, full[0], i, int(index), values, hidden, added, present, described)
        for i, index in enumerate(indices)
    ]


def _mean_values(members: Sequence[Member], answers: Sequence[Answers]) -> dict[str, NDArray[np.float64]]:
    """target -> [n, L]: probabilities or values, averaged over members."""
    each = [member.probabilities(a) for member, a in zip(members, answers, strict=True)]
    return {target: np.mean([values[target] for values in each], axis=0) for target in each[0]}


def _prediction(
    member: Member,
    answers: Answers,
    i: int,
    index: int,
    values: dict[str, NDArray[np.float64]],
    hidden: dict[str, NDArray[np.float64]],
    added: dict[str, dict[str, NDArray[np.float64]]],
    present: dict[str, NDArray[np.bool_]],
    described: list[str] | None,
) -> Prediction:
    plan, loader = member.plan, member.loader
    cohort, _ = loader.cohort_of(index)
    findings, outcomes = [], []
    for target, labels in plan.targets.items():
        for k, label in enumerate(labels):
            value = float(values[target][i, k])
            threshold = member.calibration.get(target, {}).get(label, {}).get("threshold", 0.5)
            is_finding = target in loader.finding_targets
            if is_finding:
                state = State.PRESENT if value >= threshold else State.ABSENT
                findings.append(Finding(label, state, target, "chiasm", probability=value))
            elif plan.kinds[target] is Kind.BINARY:
                outcomes.append(Outcome(label, float(value >= threshold), Kind.BINARY, target, "chiasm", value))
            else:
                outcomes.append(Outcome(label, value, plan.kinds[target], target, "chiasm"))
    maps, geometries, regions = {}, {}, []
    if answers.maps is not None and answers.map_index is not None:
        images = loader.cohorts[cohort].images
        for m in np.flatnonzero(answers.map_index[:, 0] == index):
            image_row = int(answers.map_index[m, 1])
            image_id = str(images["image_id"].iloc[image_row])
            geometries[image_id] = geometry = loader.cohorts[cohort].geometry(image_row)
            for channel, (target, label) in enumerate(plan.localized):
                grid = 1.0 / (1.0 + np.exp(-answers.maps[m, channel].astype(np.float32)))
                maps[image_id, f"{target}/{label}"] = grid
                said = next(f for f in findings if (f.target, f.name) == (target, label))
                if said.state is State.PRESENT:
                    threshold = map_threshold(member.calibration, target, label)
                    boxes, scores = map_to_boxes(grid, threshold, geometry)
                    regions += [
                        Region(label, image_id, tuple(map(float, b)), target=target, reader="chiasm", score=float(s))  # type: ignore[arg-type]
                        for b, s in zip(boxes, scores, strict=True)
                    ]
    used = tuple(m for m, here in present.items() if here[i])
    places = [(t, k, f"{t}/{label}") for t, labels in plan.targets.items() for k, label in enumerate(labels)]
    return Prediction(
        study_id=str(loader.study_ids[index]),
        patient_id=str(loader.patient_ids[index]),
        findings=tuple(findings),
        outcomes=tuple(outcomes),
        regions=tuple(sorted(regions, key=lambda r: -(r.score or 0.0))),
        description=described[i] if described is not None else None,
        maps=maps,
        geometries=geometries,
        contributions={m: {name: float(added[t][m][i, k]) for t, k, name in places} for m in member.model.modalities},
        used=used,
        without_report={name: float(hidden[t][i, k]) for t, k, name in places} if "text" in used else {},
    )


def map_threshold(calibration: Calibration, target: str, label: str) -> float:
    """The cut of a label's localization map, fitted on validation boxes; .5 where there were none."""
    return calibration.get(target, {}).get(label, {}).get("map_threshold", 0.5)


# --- files in, files out -----------------------------------------------------------------------------------------------


def predict_inputs(
    run: Path, inputs: Sequence[Path], out: Path, *, report: Path | None = None, record: Path | None = None
) -> list[Prediction]:
    """Answer files, study folders or cohorts, and write one JSON and one overlay PNG per image into `out`.

    Args:
        inputs: an image, a DICOM or NIfTI file; a study folder (images/, report.txt, record.json); a cohort.
        report, record: a text file and a JSON file that belong to the one image among `inputs`.

    Returns:
        the predictions, by study id within each cohort. Inputs that cannot be read stand in `out/rejected.csv`.

    Raises:
        InputError: nothing could be read, or `report` or `record` come with several inputs. RunError: see the message.
    """
    if (report or record) and len(inputs) != 1:
        raise InputError(
            "--report and --record belong to one study",
            expected="one input",
            got=f"{len(inputs)} inputs",
            remedy="put each study in a folder: images/, report.txt, record.json",
        )
    out.mkdir(parents=True, exist_ok=True)
    cohorts = [path for path in inputs if (path / "cohort.json").is_file()]
    files = [path for path in inputs if path not in cohorts]
    predictions: list[Prediction] = []
    with tempfile.TemporaryDirectory(prefix="chiasm-") as scratch:
        opened = [Cohort.open(path) for path in cohorts]
        if files:
            shape = load_plan(run).image_shape or (224, 224)
            volume = (shape[0], shape[1], shape[2]) if len(shape) == 3 else (64, 64, 64)
            made = write_cohort(
                _read_studies(files, report, record), Path(scratch) / "cohort", source="predict", options={},
                size=shape[-1], volume_size=volume, split="hash", strict=len(inputs) == 1,
            )  # fmt: skip
            shutil.copy(made.path / "rejected.csv", out / "rejected.csv")
            opened.insert(0, made)
        for cohort in opened:
            found = predict_members(load_members(run, [cohort]), np.arange(len(cohort)))
            for prediction in found:
                _write(prediction, cohort, out)
            predictions += found
    return predictions


def _read_studies(paths: Sequence[Path], report: Path | None, record: Path | None) -> Iterator[Study | Rejected]:
    """Each input as a study with an id of its own; of several, one that cannot be read is rejected, not the end."""
    seen: Counter[str] = Counter()
    for path in paths:
        try:
            study = read_study(path, report, record)
        except ChiasmError as error:
            if len(paths) == 1:
                raise
            yield Rejected(str(path), error.what)
            continue
        seen[study.study_id] += 1
        number = seen[study.study_id]
        if number > 1:  # two files of one name
            study = replace(
                study,
                study_id=f"{study.study_id}-{number}",
                images=tuple(replace(image, image_id=f"{image.image_id}-{number}") for image in study.images),
            )
        yield study


def load_plan(run: Path) -> Plan:
    """The plan of a run's first model.

    Raises:
        RunError: no such run.
    """
    folder = run / str(read_run(run)["members"][0])
    return Plan.from_json((folder / "plan.json").read_text("utf-8"))


def read_study(path: Path, report: Path | None = None, record: Path | None = None) -> Study:
    """One study of an image, DICOM or NIfTI file, or of a folder with images/ and, if any, report.txt and record.json.

    Raises:
        InputError: nothing there, or a part of it cannot be read.
    """
    if path.is_dir():
        files = sorted(f for f in (path / "images").glob("*") if f.is_file())
        report = report or (path / "report.txt" if (path / "report.txt").is_file() else None)
        record = record or (path / "record.json" if (path / "record.json").is_file() else None)
        if not (files or report or record):
            raise InputError(
                "the study folder is empty",
                expected="images/ with files, report.txt or record.json, any of them",
                where=str(path),
            )
    elif path.is_file():
        files = [path]
    else:
        raise InputError("no such input", expected="a file or a study folder", where=str(path))
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0] if path.is_file() else path.name
    parts = [_read_file(file, f"{name}-{n}" if len(files) > 1 else name) for n, file in enumerate(files)]
    values: dict[str, float | str | None] = {}
    for _, found in parts:
        values |= found
    if record is not None:
        values |= _read_record(record)
    text = report.read_text("utf-8", errors="replace") if report is not None else ""
    return Study(
        study_id=name,
        patient_id=name,
        images=tuple(image for image, _ in parts),
        report=Report(split_sections(text)) if text.strip() else None,
        record=Record(values) if values else None,
    )


def _read_file(path: Path, image_id: str) -> tuple[Image, dict[str, float | str | None]]:
    """One image and what its header says of the patient (age, sex)."""
    suffix = path.suffix.lower()
    if path.name.lower().endswith(SUFFIXES):
        return read_nifti(path, image_id=image_id), {}
    if suffix in PICTURES:
        pixels = read_image(path)
        return Image(image_id, pixels, Geometry.identity(pixels.shape)), {}
    study = read_dicom_study(path)
    return replace(study.images[0], image_id=image_id), dict(study.record.values) if study.record else {}


def _read_record(path: Path) -> dict[str, float | str | None]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "the record cannot be read", expected="a JSON object", got=type(error).__name__, where=str(path)
        ) from None
    if not isinstance(values, dict) or not all(v is None or isinstance(v, int | float | str) for v in values.values()):
        raise InputError(
            "the record does not fit",
            expected='a JSON object of columns and values, {"age_years": 63, "sex": "f"}',
            where=str(path),
        )
    return {str(key): float(v) if isinstance(v, int | float) else v for key, v in values.items()}


def to_json(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: everything but the maps."""
    return {
        "not_for_clinical_use": True,
        "study_id": prediction.study_id,
        "arm": prediction.arm,
        "used": list(prediction.used),
        "findings": [
            {"target": f.target, "name": f.name, "probability": f.probability, "state": str(f.state)}
            for f in prediction.findings
        ],
        "outcomes": [
            {"target": o.target, "name": o.name, "kind": str(o.kind), "value": o.value, "probability": o.probability}
            for o in prediction.outcomes
        ],
        "regions": [
            {"image_id": r.image_id, "target": r.target, "label": r.label, "box": r.box, "score": r.score}
            for r in prediction.regions
        ],
        "description": prediction.description,
        "contributions": {m: dict(c) for m, c in prediction.contributions.items()},
        "without_report": dict(prediction.without_report),
    }


def _write(prediction: Prediction, cohort: Cohort, out: Path) -> None:
    """`<study>.json` and, for each image, `<image>.png`: the image in its original frame, with map and boxes."""
    name = _file_name(prediction.study_id)
    (out / f"{name}.json").write_text(json.dumps(to_json(prediction), indent=1), "utf-8")
    rows = {str(image_id): row for row, image_id in enumerate(cohort.images["image_id"])}
    for image_id, geometry in prediction.geometries.items():
        found = [m for (i, _), m in prediction.maps.items() if i == image_id]
        heat = geometry.map_to_original(np.max(found, axis=0)) if found else None
        pixels = geometry.map_to_original(cohort.pixels(rows[image_id]).astype(np.float32))
        boxes = np.array([r.box for r in prediction.regions if r.image_id == image_id]).reshape(-1, 4)
        if pixels.ndim == 3:  # the slice where the map is highest stands for a volume
            z = int(heat.max(axis=(1, 2)).argmax()) if heat is not None else len(pixels) // 2
            pixels, heat = pixels[z], heat[z] if heat is not None else None
        picture = overlay(np.clip(pixels, 0, 255).astype(np.uint8), np.zeros((0, 4)), boxes, heat, max_side=1024)
        (out / f"{_file_name(image_id)}.png").write_bytes(picture)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
