"""One table of the user's, read as text: CSV, TSV or Parquet, whatever its delimiter and encoding.

A row keeps the number a spreadsheet shows: the header is row 1. Rows of a file may be named so in every message,
because a number says nothing of a patient.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import logging
import re
import zipfile
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, time
from pathlib import Path

import pandas as pd

from chiasm.errors import TableError
from chiasm.formats.reading import check_deflated, check_size, explained
from chiasm.study import Rejected
from chiasm.vocabulary import snake_case

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".xlsx")
_PACKED = ".gz"
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_EXPECTED = "a CSV, TSV (also gzipped), Excel or Parquet file, or a folder that holds exactly one"


def find_table(path: Path, others: Collection[str] = ()) -> Path:
    """The table `path` is or holds; `others` are files of the folder that the map names for something else.

    Raises:
        TableError: nothing there, no table, or more than one.
    """
    if path.is_file():
        if _kind(path) in SUFFIXES:
            return path
        spreadsheet = path.suffix.lower() in (".xls", ".ods", ".xlsb", ".numbers")
        raise TableError(
            "this kind of file is not read as a table",
            expected=_EXPECTED,
            got=path.suffix or "a file without a suffix",
            where=str(path),
            remedy="save the sheet as .xlsx or CSV (UTF-8)" if spreadsheet else "save it as CSV, TSV or Parquet",
        )
    if not path.is_dir():
        raise TableError("there is no such file or folder", expected=_EXPECTED, where=str(path))
    tables = [f for f in sorted(path.iterdir()) if _kind(f) in SUFFIXES and f.is_file() and not f.name.startswith("~$")]
    if any(_kind(f) != ".txt" for f in tables):
        tables = [f for f in tables if _kind(f) != ".txt"]
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


def _kind(path: Path) -> str:
    """The suffix that says how a table is written: ".csv" of table.csv.gz."""
    name = path.name.lower().removesuffix(_PACKED)
    return Path(name).suffix


def read_table(
    path: Path, delimiter: str | None = None, encoding: str | None = None, sheet: str | None = None
) -> tuple[pd.DataFrame, list[Rejected]]:
    """All cells as stripped text ("" for none), the index being the row numbers of a spreadsheet.

    Args:
        delimiter, encoding: None to find out: UTF-8, else (said in the log) Latin-1; the delimiter that a first line `sep=;`
            names, as Excel writes it, else the one that splits the header into most columns.
        sheet: of an Excel file; None for the only one that holds cells.

    Returns:
        the table, and the rows that have more or fewer cells than the header.

    Raises:
        TableError: empty, truncated, not in the given encoding, a quote that is never closed, not a Parquet or Excel file, several
            sheets, or larger than may be read.
    """
    if not path.is_file():
        raise TableError("the table is not there", expected="a CSV, TSV or Parquet file", where=str(path))
    if _kind(path) == ".parquet":
        return _read_parquet(path), []
    if _kind(path) == ".xlsx":
        return _frame_of(_read_sheet(path, sheet), path.name)
    text = decode(path, encoding)
    if not text.strip():
        raise TableError("the table is empty", expected="a header and rows", where=str(path))
    first = text.lstrip("\r\n").split("\n", 1)[0].strip().strip('"')
    if first[:4].lower() == "sep=" and len(first) == 5:  # Excel's own line; the header is the next, and row 2
        delimiter, text = delimiter or first[4], text.replace(first, "", 1).replace('""', "", 1)
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
    if delimiter is None and _kind(path) in (".csv", ".tsv") and (best == "\t") != (_kind(path) == ".tsv"):
        log.warning("%s: the cells are separated by %s, in spite of the file's suffix", path.name, DELIMITERS[best])
    return _read_csv(text, delimiter or best, path.name)


def decode(path: Path, encoding: str | None = None) -> str:
    """The text of a file: UTF-8 with or without a mark, UTF-16 with one, else Latin-1, which is said in the log.

    Raises:
        TableError: not in the given encoding, or of no text at all.
    """
    raw = _unpacked(path)
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


def _unpacked(path: Path) -> bytes:
    """The bytes of a file, of a gzipped one what it holds."""
    raw = path.read_bytes()
    check_size(len(raw), len(raw), path.name, error=TableError)
    if not path.name.lower().endswith(_PACKED):
        return raw
    check_deflated(raw, path.name, 31, error=TableError)
    with explained("the table cannot be unpacked", path.name, expected="a gzipped file", error=TableError):
        return gzip.decompress(raw)


def _read_sheet(path: Path, sheet: str | None) -> list[list[str]]:
    """The cells of a sheet as text, a list a row."""
    with explained("the Excel file cannot be read", path.name, expected="an .xlsx file", error=TableError):
        with zipfile.ZipFile(path) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
        check_size(unpacked, path.stat().st_size, path.name, compressed=True, error=TableError)
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl")
        found = {str(name): cells for name, cells in sheets.items() if cells.size and (sheet in (None, name))}
    if len(found) != 1:
        raise TableError(
            "the Excel file holds several sheets" if found else "the Excel file holds no such sheet with cells",
            expected="one sheet" if sheet is None else f"a sheet called {sheet}",
            got=f"{len(sheets)} sheets",
            where=path.name,
            remedy="name the sheet under `table` in the map: `sheet: NAME`",
        )
    (cells,) = found.values()
    return [[_text(cell) for cell in row] for row in cells.itertuples(index=False)]


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
    return _frame_of(lines, name)


def _frame_of(lines: Sequence[Sequence[str]], name: str) -> tuple[pd.DataFrame, list[Rejected]]:
    """Rows of cells, the first with a cell being the header, as a table; and the rows that do not fit it."""
    full = [(number, list(cells)) for number, cells in enumerate(lines, start=1) if any(cell.strip() for cell in cells)]
    if not full:
        raise TableError("the table is empty", expected="a header and rows", where=name)
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

    with explained("the Parquet file cannot be read", path.name, error=TableError):
        about = pq.read_metadata(path)
        unpacked = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
        check_size(unpacked, path.stat().st_size, path.name, compressed=True, error=TableError)
        table = pq.read_table(path)
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
    if isinstance(cell, datetime):  # a day without a time of day
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # an id or a 0/1 label that became 12.0 where a column had gaps
    return str(cell).strip()


def column_names(frame: pd.DataFrame) -> str:
    """The columns of a table in an error; of one without a header these would be cells, which are not shown."""
    names = [str(column) for column in frame.columns if column]
    if lacks_header(frame):
        return f"{len(names)} names, some of them numbers, dates or files: the table seems to have no header"
    return ", ".join(name if is_plain_name(name) else f"(a name of {len(name)} characters)" for name in names)


def lacks_header(frame: pd.DataFrame) -> bool:
    """Whether the first row holds what only cells hold: a number, a date or the name of an image file."""
    return any(
        re.fullmatch(r"[-+]?\d[\d.,/: -]*|.*\.(?:png|jpe?g|tiff?|bmp|dcm|nii|nii\.gz)", str(c), re.I)
        for c in frame.columns
    )


def is_plain_name(name: str) -> bool:
    """Whether the name of a column is not so long that it may be a text."""
    return len(name) <= 40 and len(name.split()) <= 5


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
        found += [folder for folder in level if any(_is_file(folder / name) for name in names)]
        level = [sub for folder in level for sub in sorted(folder.iterdir()) if sub.is_dir()]
    return [folder.relative_to(root).as_posix() for folder in found]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that no file can be called by
        return False
