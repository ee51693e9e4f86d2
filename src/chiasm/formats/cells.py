"""The tools that readers of published layouts share: tables, cells and image files, so that a bad one costs nothing else.

A cell that cannot be used is missing and said: it becomes a `Rejected` that names the table, the row and the column.
A cell that says there is nothing to know ("", "N/A", "unknown") is missing without a word, for that is what it says.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypeVar

from chiasm.errors import ChiasmError, InputError, TableError
from chiasm.formats.pixels import SUFFIXES
from chiasm.study import Rejected

T = TypeVar("T", float, str)
MISSING = frozenset({"", "-", "?", "n/a", "na", "nan", "none", "null", "unknown", "todo", "not available"})
OLDEST_YEARS = 120.0
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_UNIT = re.compile(r"(?:(y|m|w|d)|(y)(?:ear|r)s?|(m)o(?:nth)?s?|(w)(?:ee)?ks?|(d)ays?)")
_YEARS_IN = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_BAND = re.compile(
    r"[\[(]?\s*\d+(?:\.\d+)?\s*(?:-|–|—|to|,|\.\.)\s*\d+(?:\.\d+)?\s*[\])]?\s*(?:[a-z]*)|[<≤]=?\s*\d+|\d+s"
)
_OPEN_END = re.compile(r">=?\s*(\d+)|(\d+)\s*(?:y?\+|and over|or older)")
_SHORT = re.compile(r"[<>=~+−-]{0,2}\d{1,3}(?:[.,]\d{1,3})?\s?[%+]?[a-zA-Z]?|\[?\d{1,3}\s?[-–,]\s?\d{1,3}\)?|\d{1,3}s")
_FILE = re.compile(
    r"(?:[\w.+() -]*[/\\])*[\w.+-]*(?: [\w.+-]+)?\.(?:\w{2,5}|nii\.gz|csv\.gz)|(?:[\w.+-]+[/\\])+[\w.+-]+"
)
_LONGEST_NAME = 200
_FIELD_LIMIT = 1 << 24  # characters of one cell; the default of the csv module, 131072, is less than a long note


class CellError(ValueError):
    """A cell cannot be used as it stands.

    Attributes:
        value: the nearest that is true of it, or None.
        understood: the meaning is plain, though no value can be made of it: the column is the one that was meant.
    """

    def __init__(self, reason: str, value: float | None = None, *, understood: bool = False) -> None:
        super().__init__(reason if value is not None else f"{reason}: treated as missing")
        self.value, self.understood = value, understood


def is_missing(text: str) -> bool:
    """Whether a cell says that there is nothing to know."""
    return text.strip().lower() in MISSING


def parse_number(text: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high].

    Raises:
        CellError: anything else.
    """
    try:
        value = float(text)
    except ValueError:
        raise CellError(f"{quoted(text)} is not a number") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise CellError(f"{quoted(text)} is outside {low:g} .. {high:g}")
    return value


def parse_age_years(text: str, unit: str = "years") -> float:
    """Years of "58", "058Y", "18 months", "010D" (DICOM's age string counts years, months, weeks or days).

    Args:
        unit: of an age without one: years, months, weeks or days.

    Raises:
        CellError: unreadable, a band ("35-40"), or above 120 (ChestX-ray14 has ages of 400 and more); the open-ended "89+" of
            de-identified charts carries 89 as its value, the least that is true.

    >>> parse_age_years("58"), parse_age_years("006Y"), parse_age_years("18 months")
    (58.0, 6.0, 1.5)
    """
    word = text.strip().lower()
    if match := _OPEN_END.fullmatch(word):
        least = float(match[1] or match[2]) * _YEARS_IN[unit[0]]
        if least <= OLDEST_YEARS:
            raise CellError(f"{quoted(text)} is an open-ended age: kept as {least:g}", least)
    match = _AGE.fullmatch(word)
    if match is None or not _UNIT.fullmatch(match[2] or "y"):
        if _BAND.fullmatch(word):
            raise CellError(f"{quoted(text)} is a band of ages", understood=True)
        raise CellError(f"{quoted(text)} is not an age")
    years = float(match[1]) * _YEARS_IN[(match[2] or unit)[0]]
    if years > OLDEST_YEARS:
        raise CellError(f"{quoted(text)} is no age of a human being")
    return years


def parse_sex(text: str) -> str:
    """ "f", "m" or "o" (other).

    Raises:
        CellError: another word.

    >>> parse_sex("Female"), parse_sex("M")
    ('f', 'm')
    """
    word = text.strip().lower()
    if word not in {"f", "female", "m", "male", "o", "other"}:
        raise CellError(f"{quoted(text)} is neither female, male nor other")
    return word[0]


def parse_yes_no(text: str) -> float:
    """1.0 for yes, 0.0 for no.

    Raises:
        CellError: another word.

    >>> parse_yes_no("Y"), parse_yes_no("no"), parse_yes_no("1.0")
    (1.0, 0.0, 1.0)
    """
    word = text.strip().lower()
    if word in {"y", "yes", "true", "1", "1.0"}:
        return 1.0
    if word in {"n", "no", "false", "0", "0.0"}:
        return 0.0
    raise CellError(f"{quoted(text)} is neither yes nor no")


def quoted(text: str) -> str:
    """A cell in an error: itself if it is plainly a short number gone wrong, else only its length.

    Anything longer may be a name, a date of birth, a telephone number or the text of a report.

    >>> quoted("400"), quoted("35-40"), quoted("12.03.1956"), quoted("Doe")
    ("'400'", "'35-40'", 'a text of 10 characters', 'a text of 3 characters')
    """
    text = text.strip()
    return f"'{text}'" if _SHORT.fullmatch(text) else f"a text of {len(text)} characters"


def file_name(text: str) -> str:
    """A cell that should name a file, in an error: itself if it looks like a name, else only its length.

    >>> file_name("images/a 1.png"), file_name("Small effusion.")
    ('images/a 1.png', 'a text of 15 characters that is no file name')
    """
    shown = len(text) <= _LONGEST_NAME and _FILE.fullmatch(text)
    return text if shown else f"a text of {len(text)} characters that is no file name"


@dataclass(frozen=True)
class Row:
    """One row of a table; each cell that cannot be used as it stands is added to `rejected`.

    Attributes:
        where: "metadata.csv: row 17", counted with the header as row 1, as a spreadsheet does.
        cells: column -> text; a column the table lacks reads as missing.
    """

    where: str
    cells: Mapping[str, str]
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, column: str, reason: str, *, taken: bool = False) -> None:
        self.rejected.append(Rejected(f"{self.where}, column {column}", reason, taken))

    def text(self, column: str) -> str | None:
        """The text without outer white space, or None where the cell says there is none."""
        text = self.cells.get(column, "").strip()
        return None if is_missing(text) else text

    def number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        return self._take(column, lambda text: parse_number(text, low, high))

    def age_years(self, column: str) -> float | None:
        return self._take(column, parse_age_years)

    def sex(self, column: str) -> str | None:
        value = self._take(column, parse_sex)
        return value if isinstance(value, str) else None

    def yes_no(self, column: str, no_answer: Iterable[str] = ()) -> float | None:
        """1, 0 or None; `no_answer` are the words, in lower case, by which a source says that it does not know."""
        if self.cells.get(column, "").strip().lower() in no_answer:
            return None
        return self._take(column, parse_yes_no)

    def _take(self, column: str, parse: Callable[[str], T]) -> T | float | None:
        text = self.text(column)
        try:
            return None if text is None else parse(text)
        except CellError as error:
            self.reject(column, str(error), taken=error.value is not None)
            return error.value


def read_rows(path: Path, columns: Iterable[str], key: str | None = None) -> Iterator[Row | Rejected]:
    """Stream the rows of a CSV or TSV file (UTF-8, also gzipped) whose header has at least `columns`.

    A row with another number of cells than the header has names is rejected: its cells may stand under wrong names.

    Args:
        key: a column that tells rows apart; a row that repeats a key, or has none, is rejected.

    Raises:
        TableError: the file is missing, empty, no table, not UTF-8, or lacks a column.
    """
    seen: set[str] = set()
    with _open(path) as file:
        lines = csv.reader(file, delimiter="\t" if ".tsv" in path.suffixes else ",")
        header = [name.strip() for name in next(lines, [])]
        _check(path, header, list(columns))
        named = [i for i, name in enumerate(header) if name]
        for number, cells in enumerate(lines, start=2):
            where = f"{path.name}: row {number}"
            if not any(cell.strip() for cell in cells):
                continue  # a blank line holds nothing
            if len(cells) <= named[-1] or any(cell.strip() for cell in cells[len(header) :]):
                yield Rejected(where, f"{len(cells)} cells where the header names {named[-1] + 1} columns")
                continue
            row = Row(where, {header[i]: cells[i] for i in named})
            if key is not None:
                name = row.text(key)
                if name is None or name in seen:
                    yield Rejected(where, f"{key} " + ("is missing" if name is None else "repeats an earlier row's"))
                    continue
                seen.add(name)
            yield row


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    if not path.is_file():
        raise TableError("The table is not there", expected=f"a file {path.name}", got="no such file", where=str(path))
    csv.field_size_limit(max(_FIELD_LIMIT, csv.field_size_limit()))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
            yield io.TextIOWrapper(raw, "utf-8-sig", newline="")
    except UnicodeDecodeError:
        got, remedy = "other bytes", "save it as CSV in UTF-8"
        raise TableError("The table is not UTF-8 text", got=got, where=str(path), remedy=remedy) from None
    except (csv.Error, OSError, EOFError) as error:
        raise TableError("The table cannot be read", expected="a CSV file", got=str(error), where=str(path)) from None


def _check(path: Path, header: list[str], columns: list[str]) -> None:
    found = ", ".join(name for name in header if name) or "no columns"
    if lacking := ", ".join(name for name in columns if name not in header):
        raise TableError(f"The table lacks {lacking}", expected=f"the column(s) {lacking}", got=found, where=str(path))
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise TableError(f"The table has the column {twice[0]} twice", got=found, where=str(path))


class Files:
    """Files under some folders, found by name; where the extension differs from the table's, by stem.

    Attributes:
        by_stem: how many were found under another extension (".png" in the table, ".jpg" on disk).
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._names: dict[str, list[Path]] = {}
        self._stems: dict[str, list[Path]] = {}
        self._taken: set[Path] = set()
        self.by_stem = 0
        for folder in folders:
            for path in walk(folder):
                self._names.setdefault(path.name, []).append(path)
                self._stems.setdefault(path.stem, []).append(path)

    def __len__(self) -> int:
        return sum(map(len, self._names.values()))

    def find(self, name: str) -> Path:
        """The one file of that name, or else the one with its stem.

        Raises:
            InputError: there is none, or there are several.
        """
        if (known := self._names.get(name)) is None:
            stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
            known = self._stems.get(stem, [])
            self.by_stem += len(known) == 1
        self._taken.update(known)
        if len(known) != 1:
            raise InputError(f"{len(known)} image files have this name" if known else "the image file is not there")
        return known[0]

    def left(self) -> Iterator[Path]:
        """The image files that no one has asked for."""
        for path in (path for paths in self._names.values() for path in paths):
            if path.suffix.lower() in SUFFIXES and path not in self._taken:
                yield path


def walk(folder: Path) -> Iterator[Path]:
    """All files below, in the order of their names; linked folders too, each once, and none that is hidden."""
    entered: set[str] = set()
    for parent, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names))


def find_table(folder: Path, *patterns: str) -> Path | None:
    """The first file in `folder`, in the order of the patterns and then of names, that fits; or None."""
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()), None)


def check_folder(path: Path, expected: str) -> Path:
    """The path, if it is a folder.

    Raises:
        InputError: it is not; the message says what was `expected` in it.
    """
    if not path.is_dir():
        got = "a file" if path.exists() else "no such path"
        raise InputError(
            "The source folder is not there", expected=f"a folder with {expected}", got=got, where=str(path)
        )
    return path


def reason(error: ChiasmError) -> str:
    """An error as one line for rejected.csv, without the path."""
    return f"{error.what}: {error.got}" if error.got else error.what
