"""One table of the user's, read as text: CSV, TSV or Parquet, whatever its delimiter and encoding.

A row keeps the number a spreadsheet shows: the header is row 1. Rows of a file may be named so in every message,
because a number says nothing of a patient.
"""

from __future__ import annotations

import csv
import difflib
import io
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from chiasm.errors import TableError
from chiasm.study import Rejected
from chiasm.vocabulary import snake_case

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_EXPECTED = "a CSV, TSV or Parquet file, or a folder that holds exactly one"


def find_table(path: Path, others: Collection[str] = ()) -> Path:
    """The table `path` is or holds; `others` are files of the folder that the map names for something else.

    Raises:
        TableError: nothing there, no table, or more than one.
    """
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return path
        spreadsheet = path.suffix.lower() in (".xlsx", ".xls", ".ods")
        raise TableError(
            "this kind of file is not read as a table",
            expected=_EXPECTED,
            got=path.suffix or "a file without a suffix",
            where=str(path),
            remedy="save the sheet as CSV (UTF-8)" if spreadsheet else "save it as CSV, TSV or Parquet",
        )
    if not path.is_dir():
        raise TableError("there is no such file or folder", expected=_EXPECTED, where=str(path))
    tables = [f for f in sorted(path.iterdir()) if f.suffix.lower() in SUFFIXES and f.is_file()]
    if any(f.suffix.lower() != ".txt" for f in tables):
        tables = [f for f in tables if f.suffix.lower() != ".txt"]
    tables = [f for f in tables if f.name not in others]
    if len(tables) == 1:
        return tables[0]
    raise TableError(
        "the folder holds several tables" if tables else "the folder holds no table",
        expected=_EXPECTED,
        got=", ".join(f.name for f in tables[:10]) + (", ..." if len(tables) > 10 else ""),
        where=str(path),
        remedy=f"name the table itself: {path / tables[0].name}"
        if tables
        else "name the table itself; images alone need one, a row an image with its path: docs/table.md",
    )


def read_table(
    path: Path, delimiter: str | None = None, encoding: str | None = None
) -> tuple[pd.DataFrame, list[Rejected]]:
    """All cells as stripped text ("" for none), the index being the row numbers of a spreadsheet.

    Args:
        delimiter, encoding: None to find out: UTF-8, else (said in the log) Latin-1; the delimiter that splits the header
            into most columns.

    Returns:
        the table, and the rows that have more or fewer cells than the header.

    Raises:
        TableError: empty, truncated, not in the given encoding, a quote that is never closed, not a Parquet file.
    """
    if not path.is_file():
        raise TableError("the table is not there", expected="a CSV, TSV or Parquet file", where=str(path))
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path), []
    text = decode(path, encoding)
    if not text.strip():
        raise TableError("the table is empty", expected="a header and rows", where=str(path))
    header = next(line for line in text.splitlines() if line.strip())
    widths = {d: len(next(csv.reader([header], delimiter=d))) for d in DELIMITERS}
    best = max(widths, key=lambda d: widths[d])
    if delimiter is not None and widths.get(delimiter, len(header.split(delimiter))) == 1 < widths[best]:
        raise TableError(
            "the delimiter does not split the header",
            got=f"1 column with table.delimiter {delimiter!r}; {widths[best]} with {DELIMITERS[best]}",
            where=path.name,
            remedy=f"write `delimiter: {DELIMITERS[best]}` in the map, or leave the key out",
        )
    if (
        delimiter is None
        and path.suffix.lower() in (".csv", ".tsv")
        and (best == "\t") != (path.suffix.lower() == ".tsv")
    ):
        log.warning("%s: the cells are separated by %s, in spite of the file's suffix", path.name, DELIMITERS[best])
    return _read_csv(text, delimiter or best, path.name)


def decode(path: Path, encoding: str | None = None) -> str:
    """The text of a file: UTF-8 with or without a mark, UTF-16 with one, else Latin-1, which is said in the log.

    Raises:
        TableError: not in the given encoding, or of no text at all.
    """
    raw = path.read_bytes()
    marked = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding or marked)
    except (UnicodeDecodeError, LookupError) as error:
        if encoding is not None:
            raise TableError(
                "the table is not in the encoding the map names",
                got=f"{encoding}: {type(error).__name__}",
                where=path.name,
                remedy="correct `table.encoding`, or leave it out and it is found out",
            ) from None
    if b"\0" in raw[:4096]:
        raise TableError("the file is no text", expected="a CSV or TSV file", got="binary data", where=path.name)
    log.warning("%s: not UTF-8, read as Latin-1; `table.encoding` in the map names another", path.name)
    try:
        return raw.decode("cp1252")  # Latin-1 as Windows writes it
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _read_csv(text: str, delimiter: str, name: str) -> tuple[pd.DataFrame, list[Rejected]]:
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise TableError(
            "the quotes of the table do not match",
            expected='cells with a comma or a line break in double quotes, a quote inside doubled: "" ',
            got=str(error),
            where=f"{name}, about line {reader.line_num}",
            remedy="write the table anew with a spreadsheet or pandas, which quote as they should",
        ) from None
    finally:
        csv.field_size_limit(limit)
    full = [(number, cells) for number, cells in enumerate(lines, start=1) if any(cell.strip() for cell in cells)]
    header = [cell.strip() for cell in full[0][1]]
    width = max((i for i, column in enumerate(header, start=1) if column), default=0)
    rows, numbers, rejected = [], [], []
    for number, cells in full[1:]:
        if len(cells) < width or any(cell.strip() for cell in cells[len(header) :]):
            reason = (
                f"{len(cells)} cells where the header names {width} (a cell with the delimiter needs quotes): skipped"
            )
            rejected.append(Rejected(f"{name}: row {number}", reason))
        else:
            rows.append((cells + [""] * len(header))[: len(header)])
            numbers.append(number)
    frame = pd.DataFrame(rows, index=numbers, columns=header, dtype=object)
    twice = sorted({column for column in header if column and header.count(column) > 1})
    once = [bool(column) and column not in twice for column in header]
    if twice:
        log.warning("%s: the header has twice, so neither is read: %s", name, ", ".join(twice))
    frame = frame.loc[:, once].map(str.strip)
    frame.attrs["twice"] = tuple(twice)
    return frame, rejected


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError("the Parquet file cannot be read", got=type(error).__name__, where=path.name) from None
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)]
    if nested:
        raise TableError(
            "some columns hold lists, structures or bytes",
            expected="one value a cell",
            got=", ".join(nested),
            where=path.name,
            remedy="join lists with a separator (and name it in the map), drop structures",
        )
    cells = {name: [_text(cell) for cell in table.column(i).to_pylist()] for i, name in enumerate(table.column_names)}
    return pd.DataFrame(cells, index=range(2, table.num_rows + 2), dtype=object)


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # null or NaN
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # an id or a 0/1 label that became 12.0 where a column had gaps
    return str(cell).strip()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant: equal but for case and marks, else the closest spelling."""
    names = list(known)
    alike = [other for other in names if snake_case(other) == snake_case(name)]
    close = alike or difflib.get_close_matches(name.lower(), [other.lower() for other in names], 1)
    return next((other for other in names if other.lower() == close[0].lower()), None) if close else None


def find_folders(root: Path, names: Sequence[str], depth: int = 3) -> list[str]:
    """Folders below `root` (relative, "." for itself) that hold files of these names, the shallowest first."""
    found, level = [], [root]
    for _ in range(depth + 1):
        found += [folder for folder in level if any((folder / name).is_file() for name in names)]
        level = [sub for folder in level for sub in sorted(folder.iterdir()) if sub.is_dir()]
    return [folder.relative_to(root).as_posix() for folder in found]
