"""Any BIDS folder (Brain Imaging Data Structure, https://bids-specification.readthedocs.io): participants and images by suffix.

    participants.tsv, participants.json                       the chart, and what its codes mean
    sub-*/[ses-*/]*/sub-*[_ses-*]_..._SUFFIX.nii.gz            images; derivatives/ where no raw file has the suffix
    *.json                                                    sidecars, by the inheritance principle

A session is a study; the chart is the participant's. The columns are read as those of any table
(`chiasm.sources.table`): what is not said is guessed from the cells, and what is skipped is said.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from chiasm.errors import InputError
from chiasm.formats.cells import check_folder
from chiasm.formats.intensity import Intensity
from chiasm.sources.registry import Source
from chiasm.sources.table.cells import MISSING, MOST_WORDS, numeric_share
from chiasm.sources.table.columns import Columns
from chiasm.sources.table.media import PICTURES
from chiasm.sources.table.read import read_studies
from chiasm.sources.table.schema import read_map, record_name
from chiasm.sources.table.tabular import read_table
from chiasm.study import Image, Rejected, Study

ABOUT = "any BIDS folder: participants.tsv and images by suffix (suffix=T1w,FLAIR outcomes=COLUMN:KIND,... record=COLUMN,...)"
log = logging.getLogger(__name__)

_KNOWN = ("age_years", "sex")  # of these alone it is plain that they were known when the image was taken
_MODALITY = {"anat": "MR", "dwi": "MR", "func": "MR", "perf": "MR", "fmap": "MR", "pet": "PT", "ct": "CT"}
_PERSON = re.compile(r"(sub-[a-zA-Z0-9]+)(?:_(ses-[a-zA-Z0-9]+))?_")
_STUDY, _IMAGES = "bids:study", "bids:images"
Names = str | Sequence[str]


def read(
    path: Path,
    *,
    suffix: Names = (),
    outcomes: Names = (),
    record: Names = (),
    intensity: Intensity | None = None,
) -> Iterator[Study | Rejected]:
    """Read a session as a study; `n/a` is missing, a participant without images is a study without image.

    Args:
        suffix: of the images, each read as one more image of a study: "T1w", or with entities before it:
            "desc-lesion_mask". Of a mask a stored cell holds the share (the rule of SEG).
        outcomes: columns of participants.tsv that are to be learned: COLUMN:KIND or COLUMN:KIND:TARGET, the kind binary,
            ordinal or regression.
        record: further columns that were known when the image was taken. BIDS does not say when a column was recorded, so
            all but age and sex are of unknown time, and need a recipe's opt-in.
        intensity: the rules of modalities; the defaults if None.

    Raises:
        InputError: no folder, no such suffix. TableError: columns are not what the options say.
    """
    root = check_folder(path, "participants.tsv and sub-* folders")
    files = _find_images(root, _split(suffix))
    table = root / "participants.tsv"
    people, rejected = (
        read_table(table) if table.is_file() else (pd.DataFrame({"participant_id": []}, dtype=object), [])
    )
    frame = _by_session(people, files, root)
    columns = Columns(frame, read_map(_map(frame, root, _split(outcomes), _split(record))), table)
    bad = dict.fromkeys((*rejected, *columns.rejected))  # a cell of a participant with two sessions is one cell
    return chain(bad, (_described(item, root) for item in read_studies(columns, intensity)))


def _split(names: Names) -> tuple[str, ...]:
    given = names.split(",") if isinstance(names, str) else names
    return tuple(str(name).strip() for name in given if str(name).strip())


def _stem(file: Path) -> str:
    """The name without its ending, which may have two parts."""
    return file.name.partition(".")[0]


def _find_images(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of each suffix in turn: raw ones, or where there are none, derived ones."""
    known = sorted(f for f in root.rglob("sub-*_*") if f.name.lower().endswith(PICTURES) and _PERSON.match(f.name))
    found: list[Path] = []
    lacking = [] if suffixes else ["(none given)"]
    for suffix in suffixes:
        own = [f for f in known if _stem(f).endswith(f"_{suffix}")]
        raw = [f for f in own if f.relative_to(root).parts[0].startswith("sub-")]
        found += raw or own
        lacking += [suffix] * (not own)
    if lacking:
        counts = Counter(_stem(f).rpartition("_")[2] for f in known)
        raise InputError(
            "no image has the suffix that was asked for",
            expected=", ".join(f"{name} ({n} files)" for name, n in counts.most_common()) or "image files sub-*_SUFFIX",
            got=", ".join(lacking),
            where=str(root),
            remedy="--option suffix=NAME, or several with commas between them",
        )
    return found


def _by_session(people: pd.DataFrame, files: Sequence[Path], root: Path) -> pd.DataFrame:
    """A row a session, or a participant without one: the participant's cells, the study id and the paths of its images."""
    if "participant_id" not in people.columns:
        got = ", ".join(map(str, people.columns))
        raise InputError("participants.tsv has no participants", expected="a column participant_id", got=got)
    paths: dict[str, dict[str, list[str]]] = {}
    for file in files:
        if match := _PERSON.match(file.name):
            sessions = paths.setdefault(match[1], {})
            sessions.setdefault(match[2] or "", []).append(file.relative_to(root).as_posix())
    ids = [f"sub-{str(i).removeprefix('sub-')}" if i else "" for i in people["participant_id"]]
    people = people.assign(participant_id=ids)
    if extra := sorted(paths.keys() - set(ids)):
        log.warning("%d participants have images and no row in participants.tsv: taken without a chart", len(extra))
        people = pd.concat([people, pd.DataFrame({"participant_id": extra}, dtype=object)]).fillna("")
    rows, studies, images = [], [], []
    for row, person in enumerate(people["participant_id"]):
        for session, found in sorted(paths.get(person, {"": []}).items()):
            rows.append(row)
            studies.append("_".join(filter(None, (person, session))))
            images.append("|".join(found))
    return people.iloc[rows].assign(**{_STUDY: studies, _IMAGES: images})


def _map(frame: pd.DataFrame, root: Path, outcomes: Sequence[str], record: Sequence[str]) -> dict[str, Any]:
    """The map of the table, as a user of the source `table` would write it."""
    learned = [dict(zip(("column", "kind", "target"), part.split(":"), strict=False)) for part in outcomes]
    taken = {_STUDY, _IMAGES, "participant_id", *(part["column"] for part in learned)}
    levels = _dictionary(root)
    columns: dict[str, dict[str, Any]] = {}
    for column in (c for c in map(str, frame.columns) if c not in taken):
        name, share = record_name(column), numeric_share(frame[column], MISSING)
        words = frame[column].nunique()
        kind = "categorical" if column in levels or (share or 0) <= 0.5 else "numeric"
        if share is None or (kind == "categorical" and words > MOST_WORDS):
            log.warning(
                "participants.tsv: column %s is left out: %s", column, "no value" if share is None else "a text"
            )
            continue
        late = name not in _KNOWN and column not in record and name not in record
        columns[name] = {"column": column, "unknown_time": late, **({} if name in _KNOWN else {"kind": kind})}
    lacking = {column: {"column": column} for column in record if column not in (*frame.columns, *columns)}
    return {
        "patient": "participant_id",
        "study": _STUDY,
        "images": {"columns": _IMAGES, "separator": "|"},
        "record": columns | lacking,  # the table's own error names what is not there
        "outcomes": learned,
    }


def _dictionary(root: Path) -> set[str]:
    """The columns whose codes participants.json explains: words, even where they are written as numbers."""
    file = root / "participants.json"
    return {str(c) for c, about in _json(file).items() if isinstance(about, dict) and about.get("Levels")}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except ValueError as error:
        raise InputError("a JSON file cannot be read", got=type(error).__name__, where=str(file)) from None
    return content if isinstance(content, dict) else {}


def _described(item: Study | Rejected, root: Path) -> Study | Rejected:
    if isinstance(item, Rejected):
        return item
    return replace(item, images=tuple(_describe_image(image, root) for image in item.images))


def _describe_image(image: Image, root: Path) -> Image:
    """With its suffix as name, and its modality by the sidecars or the folder."""
    file = root / image.source
    suffix = _stem(file).rpartition("_")[2]
    modality = image.dicom_modality or _sidecar(file, suffix, root).get("Modality")
    modality = str(modality or _MODALITY.get(suffix, _MODALITY.get(file.parent.name, "")))
    return replace(image, dicom_modality="SEG" if suffix == "mask" else modality, name=suffix)


def _sidecar(file: Path, suffix: str, root: Path) -> dict[str, Any]:
    """What the sidecars say, from the root down: one applies if the image has all its entities, and the nearest wins."""
    entities = set(_stem(file).split("_"))
    merged: dict[str, Any] = {}
    for folder in (root, *reversed([p for p in file.parents if p.is_relative_to(root) and p != root])):
        for sidecar in sorted(folder.glob(f"*{suffix}.json"), key=lambda found: len(found.name)):
            merged |= _json(sidecar) if set(_stem(sidecar).split("_")) <= entities else {}
    return merged


SOURCE = Source("bids", ABOUT, read)
