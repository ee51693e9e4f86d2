"""Reports from files: a text, a folder or zip of texts or Open-i XML, or JSON lines."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from chiasm.errors import InputError
from chiasm.report.sections import SECTIONS, split_sections
from chiasm.study import Report

LARGEST_XML = 1 << 20
"""Bytes; the largest report of Open-i has nine thousand."""
_READ = (".txt", ".xml")
_TABLES = (".csv", ".tsv", ".parquet", ".xls", ".xlsx")
_FORMS = "a .txt or .jsonl file (id, text), or a folder or .zip of .txt or Open-i .xml files"


class Text(NamedTuple):
    """A report and its id: the file's name without its ending, the XML's own id, or the JSON line's `id`."""

    id: str
    report: Report


def read_texts(path: Path) -> Iterator[Text]:
    """Every report of a file, folder or zip, in the order of the file names.

    Raises:
        InputError: no such path, nothing to read in it, or a file that is not UTF-8, not XML, not JSON lines.
    """
    if not path.exists():
        raise InputError("no such file or folder", expected=_FORMS, where=str(path))
    empty = True
    for text in _walk(path):
        empty = False
        yield text
    if empty:
        raise InputError("there is no report to read", expected=_FORMS, where=str(path))


def _walk(path: Path) -> Iterator[Text]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in _READ):
            yield _read(file.stem, file.suffix, file.read_bytes(), str(file))
    elif path.suffix.lower() == ".zip":
        yield from _read_zip(path)
    elif path.suffix.lower() == ".jsonl":
        yield from _read_lines(path)
    elif path.suffix.lower() in _TABLES:  # read as a text it would be one report, and a wrong one
        raise InputError(
            "a table is not a report",
            expected=_FORMS,
            where=str(path),
            remedy="chiasm import table TABLE --out COHORT, then chiasm label COHORT",
        )
    else:
        yield _read(path.stem, path.suffix, path.read_bytes(), str(path))


def read_openi_xml(data: bytes, where: str) -> Text:
    """One report of the Open-i collection: the abstract's sections. The MeSH codes are labels and stay unread.

    Raises:
        InputError: not XML, too large, with a document type of its own, or without an id.
    """
    root = parse_openi_xml(data, where)
    return Text(openi_id(root, where), Report(openi_sections(root)))


def parse_openi_xml(data: bytes, where: str = "") -> ElementTree.Element:
    """The tree of one report. A document type is refused, and with it every entity: nothing outside is ever loaded.

    Raises:
        InputError: not XML, larger than `LARGEST_XML` bytes, or with a document type.
    """
    try:
        text = data.decode("utf-8-sig")
        if len(data) > LARGEST_XML or "<!DOCTYPE" in text:
            what = f"no report: larger than {LARGEST_XML} bytes, or with a document type of its own"
            raise InputError(what, where=where)
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError("the file is not XML that can be read", got=type(error).__name__, where=where) from None


def openi_id(root: ElementTree.Element, where: str = "") -> str:
    """The report's own id.

    Raises:
        InputError: there is none.
    """
    identity = root.find("uId")
    found = identity.get("id") if identity is not None else None
    if not found:
        what, expected = "the XML is no report of Open-i: it has no uId", 'an element <uId id="...">'
        raise InputError(what, expected=expected, where=where)
    return found


def openi_sections(root: ElementTree.Element) -> dict[str, str]:
    """The parts of the abstract by section; parts of one name are joined, and a name that is no section is "other"."""
    sections: dict[str, str] = {}
    for part in root.iter("AbstractText"):
        label = (part.get("Label") or "").lower()
        name, words = label if label in SECTIONS else "other", " ".join("".join(part.itertext()).split())
        if words:
            sections[name] = f"{sections[name]}\n{words}" if name in sections else words
    return sections


def _read(name: str, suffix: str, data: bytes, where: str) -> Text:
    if suffix.lower() == ".xml":
        return read_openi_xml(data, where)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "the file is not UTF-8 text",
            got=f"byte {error.start} cannot be read",
            where=where,
            remedy="save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8), or take it out of the folder",
        ) from None
    return Text(name, Report(split_sections(text)))


def _read_zip(path: Path) -> Iterator[Text]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                member = Path(name)
                if member.suffix.lower() in _READ:
                    yield _read(member.stem, member.suffix, archive.read(name), f"{path}: {name}")
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: encrypted
        raise InputError("the zip archive cannot be read", got=type(error).__name__, where=str(path)) from None


def _read_lines(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError("the line is not JSON", expected='{"id": ..., "text": ...}', where=where) from None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str) or "id" not in row:
                raise InputError("the line is no report", expected='{"id": ..., "text": "..."}', where=where)
            yield Text(str(row["id"]), Report(split_sections(row["text"])))
