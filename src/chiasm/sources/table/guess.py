"""A map made from well-known column names, for a table that comes without one; and the map to copy where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from chiasm.errors import TableError
from chiasm.report.sections import SECTIONS
from chiasm.sources.table.cells import MISSING, SPLITS, STATES, is_missing, looks_like
from chiasm.sources.table.media import PICTURES
from chiasm.sources.table.schema import LEAKAGE, TableMap, label_name, read_map, record_name
from chiasm.sources.table.tabular import column_names, find_folders, is_plain_name, lacks_header
from chiasm.vocabulary import FINDINGS, snake_case

CHOOSE = "CHOOSE_A_COLUMN"
_KNOWN = {
    "study": ("study_id", "study", "study_instance_uid", "studyinstanceuid", "exam_id", "accession_number"),
    "patient": ("patient_id", "patientid", "patient", "subject_id", "subjectid", "subject", "mrn", "participant_id"),
    "images": (
        "image_path",
        "image",
        "path",
        "image_file",
        "file_path",
        "filepath",
        "file_name",
        "filename",
        "file",
        "image_index",
    ),
    "view": ("view", "view_position", "viewposition"),
    "split": ("split", "partition"),
    "report": ("report", "report_text"),
}
_LISTS = ("labels", "finding_labels", "label", "label_list")


def guess_map(frame: pd.DataFrame, file: Path) -> tuple[TableMap, str]:
    """The map of a table by the names and cells of its columns, and one sentence that says it.

    Raises:
        TableError: no column is known to be the patient, or nothing to learn from is; the message holds a map to copy.
    """
    raw = guess_parts(frame, file.parent)
    content = raw.keys() & {"images", "report", "record"}
    problem = (
        f"no column is known to hold the patient: {LEAKAGE}"
        if "patient" not in raw
        else "no column is known to hold an image, a report or a chart value"
    )
    if "patient" not in raw or not content:
        raise TableError(
            f"the columns cannot be guessed: {problem}",
            expected="columns such as patient_id, image or path, report, age, sex, label_pneumonia; or a map",
            got=column_names(frame),
            where=file.name,
            remedy="give it a header, a row of names above the others"
            if lacks_header(frame)
            else f"save this as map.yaml, correct it, and pass --map map.yaml\n\n{ready_map(frame, raw)}",
        )
    used = _names(raw)
    unused = [column for column in frame.columns if column and column not in used and is_plain_name(str(column))]
    said = "; ".join(f"{key}: {_brief(value)}" for key, value in raw.items())
    return read_map(raw), f"{said}" + (f"; not used: {', '.join(unused)}" if unused else "")


def ready_map(frame: pd.DataFrame, raw: dict[str, Any]) -> str:
    """YAML of a map with every column of the table: in its place where that is known, in a comment where not."""
    filled: dict[str, Any] = {"patient": _like_patient(frame) or CHOOSE, **raw}
    if not filled.keys() & {"images", "report", "record"}:
        filled["images"] = {"columns": CHOOSE, "folder": "images"}
    lines = yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110).splitlines()
    lines[0] += "   # the column that names the patient; `study` if no patient has two studies"
    plain = [str(column) for column in frame.columns if column and is_plain_name(str(column))]
    unused = [column for column in plain if column not in _names(filled)]
    texts = [column for column in unused if "report" not in filled and _like_text(frame[column])]
    lines += [f"# report: {_brief(column)}   # if this is the report" for column in texts]
    return "\n".join(lines + ([f"# columns without a place yet: {', '.join(unused)}"] if unused else []))


def guess_parts(frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """What the names and cells of columns say, as keys of a map; it may lack what a map needs."""
    columns = {snake_case(str(column)): str(column) for column in reversed(frame.columns) if column}
    found = {role: next((columns[n] for n in names if n in columns), None) for role, names in _KNOWN.items()}
    if found["images"] is None:
        found["images"] = next((c for c in columns.values() if _like_files(frame[c])), None)
    raw: dict[str, Any] = {key: found[key] for key in ("patient", "study") if found[key]}
    if found["images"]:
        raw["images"] = _images(frame[found["images"]], folder, found["images"], found["view"])
    if found["split"] and looks_like(frame[found["split"]], SPLITS):
        raw["split"] = found["split"]
    sections = {s: columns[s] for s in SECTIONS if s in columns and _like_text(frame[columns[s]])}
    if found["report"] or sections:
        raw["report"] = found["report"] or {"sections": sections}
    if chart := [c for key, c in columns.items() if record_name(c) in ("age_years", "sex")]:
        raw["record"] = {record_name(c): c for c in reversed(chart)}
    raw["labels"] = _labels(frame, columns)
    outcomes = [
        {"column": c} for key, c in columns.items() if key.startswith("outcome_") and looks_like(frame[c], STATES)
    ]
    raw["outcomes"] = [{**o, "name": snake_case(o["column"]).removeprefix("outcome_")} for o in reversed(outcomes)]
    return {key: value for key, value in raw.items() if value}


def _images(cells: pd.Series[Any], folder: Path, column: str, view: str | None) -> dict[str, Any]:
    names = [str(cell) for cell in cells[~is_missing(cells, MISSING)].iloc[:5]]
    folders = find_folders(folder, names)
    return {
        "columns": column,
        **({"folder": folders} if folders not in ([], ["."]) else {}),
        **({"view": view} if view else {}),
    }


def _labels(frame: pd.DataFrame, columns: dict[str, str]) -> list[dict[str, Any]]:
    """Columns label_*, columns named for a known finding whose cells are all 0/1/-1, and a column of lists."""
    single = [
        c
        for key, c in columns.items()
        if (key.startswith("label_") and key not in _LISTS)
        or (label_name(c) in FINDINGS and looks_like(frame[c], STATES))
    ]
    lists = next((columns[n] for n in _LISTS if n in columns and not looks_like(frame[columns[n]], STATES)), None)
    if single:
        return [{"columns": single[::-1]}]
    return [{"column": lists, "separator": "|"}] if lists else []


def _like_files(cells: pd.Series[Any]) -> bool:
    given = cells[~is_missing(cells, MISSING)]
    return len(given) > 0 and bool(given.str.lower().str.endswith(PICTURES).mean() > 0.5)


def _like_text(cells: pd.Series[Any]) -> bool:
    given = cells[~is_missing(cells, MISSING)]
    return len(given) > 0 and float(given.str.count(" ").median()) >= 2


def _like_patient(frame: pd.DataFrame) -> str | None:
    names = [str(column) for column in frame.columns]
    return next(
        (n for n in names if any(part in n.lower() for part in ("patient", "subj", "mrn", "person", "case"))), None
    )


def _names(value: Any) -> set[str]:
    """Every text in a raw map; the columns of the table that are not among them have no place in it."""
    if isinstance(value, dict):
        return {name for part in value.values() for name in _names(part)}
    return {name for part in value for name in _names(part)} if isinstance(value, list) else {str(value)}


def _brief(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()
