"""Any BIDS folder (Brain Imaging Data Structure, https://bids-specification.readthedocs.io): participants and images by suffix.

    participants.tsv, phenotype/*.tsv                         the chart, a row a participant, or a participant and session
    sub-*/sub-*_sessions.tsv                                  a row a session
    participants.json, phenotype/*.json, ...                  what their columns mean: units and codes
    sub-*/[ses-*/]*/sub-*[_ses-*]_..._SUFFIX.nii.gz            images; derivatives/ where no raw file has the suffix
    *.json                                                    sidecars, by the inheritance principle

A session is a study, with the chart of the session where there is one, else of the participant. The columns are read as
those of any table (`chiasm.sources.table`): what is not said is guessed from the cells, and what is skipped is said. Linked
folders and files are followed, as in a dataset of datalad.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from chiasm.errors import InputError
from chiasm.formats.cells import check_folder, walk
from chiasm.formats.intensity import Intensity
from chiasm.sources.registry import Source
from chiasm.sources.table.cells import DATES, LONGEST_LABEL, MISSING, MOST_WORDS, no_category, numeric_share
from chiasm.sources.table.columns import Columns
from chiasm.sources.table.media import PICTURES
from chiasm.sources.table.patients import plain_id
from chiasm.sources.table.read import read_studies
from chiasm.sources.table.schema import read_map, record_name
from chiasm.sources.table.tabular import read_table
from chiasm.study import Image, Rejected, Study

ABOUT = "any BIDS folder: participants.tsv and images by suffix (suffix=T1w,FLAIR outcomes=COLUMN:KIND,... record=COLUMN,...)"
log = logging.getLogger(__name__)

_KNOWN = ("age_years", "sex")  # of these alone it is plain that they were known when the image was taken
_MODALITY = {"anat": "MR", "dwi": "MR", "func": "MR", "perf": "MR", "fmap": "MR", "pet": "PT", "ct": "CT"}
_PERSON = re.compile(r"(sub-[a-zA-Z0-9]+)(?:_(ses-[a-zA-Z0-9]+))?_")
_STUDY, _IMAGES, _PARTICIPANT = "bids:study", "bids:images", "participant_id"
_SESSIONS = ("session_id", "session", "ses_id")  # the first is the name that BIDS gives
_AGE_UNITS = {
    "years": ("year", "years", "y", "yr", "yrs", "a"),
    "months": ("month", "months", "mo", "mos", "m"),
    "weeks": ("week", "weeks", "w", "wk", "wks"),
    "days": ("day", "days", "d"),
}
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
    chart = _read_chart(root, files)
    map_ = read_map(_map(chart, _split(outcomes), _split(record)))
    columns = Columns(chart.frame, map_, root / "participants.tsv")
    bad = dict.fromkeys((*chart.rejected, *columns.rejected))  # a cell of a participant with two sessions is one cell
    names = _names(files)
    return chain(bad, (_described(item, root, names) for item in read_studies(columns, intensity)))


def _split(names: Names) -> tuple[str, ...]:
    given = names.split(",") if isinstance(names, str) else names
    return tuple(str(name).strip() for name in given if str(name).strip())


def _stem(file: Path) -> str:
    """The name without its ending, which may have two parts."""
    return file.name.partition(".")[0]


def _find_images(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of each suffix in turn: raw ones, or where there are none, derived ones."""
    known = sorted(f for f in walk(root) if f.name.lower().endswith(PICTURES) and _PERSON.match(f.name))
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


@dataclass
class _Chart:
    """What the tables of a dataset say of each session.

    Attributes:
        frame: a row a session, with the study id and the paths of its images; its index is the row of participants.tsv, 0
            where there is none. about: column -> what the JSON files beside the tables say of it.
    """

    frame: pd.DataFrame
    about: dict[str, Mapping[str, Any]]
    rejected: list[Rejected] = field(default_factory=list)


class _Table:
    """One table of the dataset, found by participant and session ("" for what holds of all sessions)."""

    def __init__(self, file: Path, root: Path, known: Collection[tuple[str, str]], person: str | None = None) -> None:
        """Args: known: participants and sessions as the names of images spell them. person: of whom the table is."""
        self.name = file.relative_to(root).as_posix()
        self.frame, self.rejected = read_table(file)
        if person is None and _PARTICIPANT not in self.frame.columns:
            got = ", ".join(map(str, self.frame.columns))
            raise InputError(f"{self.name} has no participants", expected=f"a column {_PARTICIPANT}", got=got)
        blank = [""] * len(self.frame)
        own = next((column for column in _SESSIONS if column in self.frame.columns), None)
        people = [_prefixed(i, "sub") for i in (self.frame[_PARTICIPANT] if person is None else [person] * len(blank))]
        sessions = [_prefixed(i, "ses") for i in (blank if own is None else self.frame[own])]
        people, sessions = _spelled(people, (who for who, _ in known)), _spelled(sessions, (s for _, s in known))
        self.rows: dict[str, dict[str, list[int]]] = {}
        for row, (who, session) in enumerate(zip(people, sessions, strict=True)):
            if who:
                self.rows.setdefault(who, {}).setdefault(session, []).append(row)
        self.columns = [str(c) for c in self.frame.columns if c not in (_PARTICIPANT, own)]

    def find(self, person: str, session: str) -> list[int]:
        """The rows of a session: its own, else those of the participant; of one session where the images name none."""
        mine = self.rows.get(person, {})
        if session in mine or "" in mine:
            return mine.get(session, mine.get("", []))
        return next(iter(mine.values())) if not session and len(mine) == 1 else []


def _read_chart(root: Path, files: Sequence[Path]) -> _Chart:
    """The chart of every session that has images or a row."""
    paths: dict[tuple[str, str], list[str]] = {}
    for file in files:
        if match := _PERSON.match(file.name):
            paths.setdefault((match[1], match[2] or ""), []).append(file.relative_to(root).as_posix())
    people = _Table(root / "participants.tsv", root, paths) if (root / "participants.tsv").is_file() else None
    visits = {}
    for file in sorted(root.glob("sub-*/sub-*_sessions.tsv")):
        visits[file.name.removesuffix("_sessions.tsv")] = _Table(
            file, root, paths, file.name.removesuffix("_sessions.tsv")
        )
    further = [_Table(file, root, paths) for file in sorted(root.glob("phenotype/*.tsv"))]
    keys = _sessions(paths, people, visits)
    chart = _Chart(pd.DataFrame(), _about(root, further))
    lacking: Counter[str] = Counter()
    rows, numbers = [], []
    for person, session in keys:
        found = people.find(person, session) if people else []
        lacking["participants.tsv"] += bool(people and not found)
        cells = _merged(people, found, chart) if people else {}
        if own := visits.get(person):
            theirs = own.find(person, session) if session else []
            lacking["the table of their sessions"] += bool(session and not theirs)
            cells |= {c: v for c, v in _merged(own, theirs, chart).items() if v or c not in cells}
        for table in further:
            stem = Path(table.name).stem
            for column, value in _merged(table, table.find(person, session), chart).items():
                taken = (people is not None and column in people.columns) or any(
                    column in t.columns for t in visits.values()
                )
                cells[f"{stem}_{column}" if taken else column] = value
        images = "|".join(paths.get((person, session), []))
        study = "_".join(filter(None, (person, session)))
        rows.append({_PARTICIPANT: person, **cells, _STUDY: study, _IMAGES: images})
        numbers.append(people.frame.index[found[0]] if people and found else 0)
    for table_name, count in lacking.items():
        if count:
            log.warning("%d studies have no row in %s: taken without its columns", count, table_name)
    tables = [*([people] if people else []), *visits.values(), *further]
    chart.frame = pd.DataFrame(rows, index=numbers, dtype=object).fillna("")
    chart.rejected += [item for table in tables for item in table.rejected]
    return chart


def _sessions(
    paths: Mapping[tuple[str, str], Sequence[str]], people: _Table | None, visits: Mapping[str, _Table]
) -> list[tuple[str, str]]:
    """(participant, session) of every study: those with images, those with a row, and participants without either."""
    listed = {(who, session) for who, mine in (people.rows if people else {}).items() for session in mine}
    listed |= {(who, session) for who, own in visits.items() for session in own.rows.get(who, ()) if session}
    pictured = {who for who, _ in paths}
    named = {who for who, session in (*listed, *paths) if session}
    return [
        (who, session)
        for who, session in _in_order({*paths, *listed}, people)
        if session or (who, "") in paths or not (who in named or who in pictured)
    ]


def _in_order(keys: Iterable[tuple[str, str]], people: _Table | None) -> list[tuple[str, str]]:
    """In the order of participants.tsv, and of the sessions' names."""
    place = {who: n for n, who in enumerate(people.rows if people else ())}
    return sorted(keys, key=lambda key: (place.get(key[0], len(place)), key))


def _merged(table: _Table, rows: Sequence[int], chart: _Chart) -> dict[str, str]:
    """What rows of one session say; where they do not agree, nothing, and it is said."""
    cells: dict[str, str] = {}
    for column in table.columns:
        said = {str(table.frame[column].iloc[row]) for row in rows} - {""}
        if len(said) > 1:
            numbers = ", ".join(str(table.frame.index[row]) for row in rows)
            where = f"{table.name}, column {column}"
            chart.rejected.append(Rejected(where, f"rows {numbers} are one session and do not agree: all are skipped"))
        cells[column] = said.pop() if len(said) == 1 else ""
    return cells


def _spelled(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Ids as the names of images spell them: a table that went through a spreadsheet has lost its zeros (sub-1 for sub-01)."""
    exact = set(known)
    plain: dict[str, set[str]] = {}
    for name in exact:
        plain.setdefault(plain_id(name), set()).add(name)
    listed = set(names)
    found = []
    for name in names:
        alike = plain.get(plain_id(name), set()) - listed
        found.append(next(iter(alike)) if name not in exact and len(alike) == 1 else name)
    return found


def _prefixed(name: object, kind: str) -> str:
    """An id with the prefix that the names of files have."""
    text = str(name or "").strip()
    return f"{kind}-{text.removeprefix(f'{kind}-')}" if text else ""


def _map(chart: _Chart, outcomes: Sequence[str], record: Sequence[str]) -> dict[str, Any]:
    """The map of the table, as a user of the source `table` would write it."""
    frame = chart.frame
    learned = [dict(zip(("column", "kind", "target"), part.split(":"), strict=False)) for part in outcomes]
    taken = {_STUDY, _IMAGES, _PARTICIPANT, *(part["column"] for part in learned)}
    columns: dict[str, dict[str, Any]] = {}
    for column in (c for c in map(str, frame.columns) if c not in taken):
        name, share = record_name(column), numeric_share(frame[column], MISSING)
        words = frame[column].nunique()
        kind = "categorical" if chart.about.get(column, {}).get("Levels") or (share or 0) <= 0.5 else "numeric"
        what = no_category(frame[column], MISSING)
        what = (
            what if what == DATES or (kind == "categorical" and not chart.about.get(column, {}).get("Levels")) else ""
        )
        if share is None or what or (kind == "categorical" and words > MOST_WORDS):
            log.warning(
                "the chart: column %s is left out: %s", column, "no value" if share is None else what or "a text"
            )
            continue
        unit = _age_unit(chart.about.get(column, {})) if name == "age_years" else "years"
        if unit is None:
            log.warning("the chart: column %s is in a unit that is no age, so it is taken as plain numbers", column)
            name = "age_in_other_unit"
        late = name not in _KNOWN and column not in record and name not in record
        columns[name] = {"column": column, "unknown_time": late, **({} if name in _KNOWN else {"kind": kind})}
        columns[name] |= {"unit": unit} if unit not in (None, "years") else {}
        if (meanings := _levels(chart.about.get(column, {}))) and name not in _KNOWN:
            columns[name]["words"] = meanings
    lacking = {column: {"column": column} for column in record if column not in (*frame.columns, *columns)}
    return {
        "patient": _PARTICIPANT,
        "study": _STUDY,
        "images": {"columns": _IMAGES, "separator": "|"},
        "record": columns | lacking,  # the table's own error names what is not there
        "outcomes": learned,
    }


def _levels(about: Mapping[str, Any]) -> dict[str, str]:
    """Code -> what it means; of a level that is described at length, its label or the code itself."""
    levels = about.get("Levels")
    if not isinstance(levels, dict):
        return {}
    told = {str(code): says.get("Label", code) if isinstance(says, dict) else says for code, says in levels.items()}
    return {code: str(says).strip() or code for code, says in told.items() if len(str(says)) <= LONGEST_LABEL}


def _age_unit(about: Mapping[str, Any]) -> str | None:
    """The unit of an age, years where nothing is said; None for another one."""
    said = str(about.get("Units") or "years").strip().lower()
    return next((unit for unit, names in _AGE_UNITS.items() if said in names), None)


def _about(root: Path, further: Sequence[_Table]) -> dict[str, Mapping[str, Any]]:
    """What the JSON files beside the tables say of their columns: units, and the words of codes."""
    sessions = [*sorted(root.glob("*sessions.json")), *sorted(root.glob("sub-*/sub-*_sessions.json"))]
    files = [*((root / table.name).with_suffix(".json") for table in further), *sessions, root / "participants.json"]
    said = [item for file in files for item in _json(file).items()]
    return {str(column): about for column, about in said if isinstance(about, dict)}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError("a JSON file cannot be read", got=type(error).__name__, where=str(file)) from None
    return content if isinstance(content, dict) else {}


def _names(files: Iterable[Path]) -> dict[str, str]:
    """File -> what its image is called: the suffix, after the entities that tell images of one session apart.

    Runs, spaces, echoes and the like stand in the name where a session has several; a part (phase, real, imag) always does,
    for it is another quantity.
    """
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for file in files:
        *entities, suffix = _stem(file).split("_")
        own = dict(entity.partition("-")[::2] for entity in entities)
        groups.setdefault((own.get("sub", ""), own.get("ses", ""), suffix), []).append(own)
    apart: dict[str, set[str]] = {}
    for (_, _, suffix), members in groups.items():
        keys = {key for own in members for key in own}
        apart.setdefault(suffix, set()).update(key for key in keys if len({own.get(key) for own in members}) > 1)
    found = {}
    for file in files:
        *entities, suffix = _stem(file).split("_")
        shown = [e for e in entities if e.partition("-")[0] in {*apart[suffix], "part"} and e != "part-mag"]
        found[file.name] = "_".join([*shown, suffix])
    return found


def _described(item: Study | Rejected, root: Path, names: Mapping[str, str]) -> Study | Rejected:
    if isinstance(item, Rejected):
        return item
    return replace(item, images=tuple(_describe_image(image, root, names) for image in item.images))


def _describe_image(image: Image, root: Path, names: Mapping[str, str]) -> Image:
    """With its name, and its modality by the sidecars or the folder."""
    file = root / image.source
    suffix = _stem(file).rpartition("_")[2]
    try:
        said = _sidecar(file, suffix, root)
    except InputError as error:
        note = Rejected(
            Path(error.where).relative_to(root).as_posix(), "the sidecar is no JSON: it is left out", taken=True
        )
        said, image = {}, replace(image, notes=(*image.notes, note))
    modality = str(
        image.dicom_modality or said.get("Modality") or _MODALITY.get(suffix, _MODALITY.get(file.parent.name, ""))
    )
    return replace(image, dicom_modality="SEG" if suffix == "mask" else modality, name=names[file.name])


def _sidecar(file: Path, suffix: str, root: Path) -> dict[str, Any]:
    """What the sidecars say, from the root down: one applies if the image has all its entities, and the nearest wins."""
    entities = set(_stem(file).split("_"))
    merged: dict[str, Any] = {}
    for folder in (root, *reversed([p for p in file.parents if p.is_relative_to(root) and p != root])):
        for sidecar in sorted(folder.glob(f"*{suffix}.json"), key=lambda found: len(found.name)):
            merged |= _json(sidecar) if set(_stem(sidecar).split("_")) <= entities else {}
    return merged


SOURCE = Source("bids", ABOUT, read)
