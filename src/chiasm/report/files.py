"""Reports in files: text, JSON lines, Open-i XML, or a folder or zip of them."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from chiasm.errors import InputError
from chiasm.formats.reading import check_size, explained
from chiasm.report.sections import SECTIONS, read_lexicon, split_sections
from chiasm.study import Rejected, Report

LARGEST_XML = 1 << 20
"""Bytes; the largest report of Open-i has nine thousand."""
_LAST_LATIN = "\u024f"
_READ = (".txt", ".xml")
_MARKED = (".json", ".rtf", ".htm", ".html")
_TABLES = (".csv", ".tsv", ".parquet", ".xls", ".xlsx")
_FORMS = "a .txt or .jsonl file (id, text), or a folder or .zip of .txt or Open-i .xml files"


class NamedReport(NamedTuple):
    """A report and its id: the XML's own, the JSON line's `id`, the study's, or the file's name without its ending (with its
    folders where several files have that name).
    """

    id: str
    report: Report


def read_report_files(path: Path, rejected: list[Rejected] | None = None) -> Iterator[NamedReport]:
    """Every report of a file, folder or zip, in the order of the file names.

    Args:
        rejected: takes each file or line that cannot be read, and how many files of other kinds lie there, and the others are
            read on; without it the first that cannot be read raises.

    Raises:
        InputError: no such path, nothing to read in it, or a file that is not UTF-8, not XML, not JSON lines.
    """
    if not path.exists():
        raise InputError("no such file or folder", expected=_FORMS, where=str(path))
    empty, failure = True, None
    for read in _walk(path):
        try:
            yield read()
            empty = False
        except InputError as error:
            if rejected is None:
                raise
            failure = failure or error
            rejected.append(Rejected(error.where, f"{error.what} ({error.got})" if error.got else error.what))
    others = _others(path)
    if empty:
        raise failure or InputError("no report was found", expected=_FORMS, got=others, where=str(path))
    if others and rejected is not None:
        rejected.append(Rejected(str(path), f"not read: {others}"))


def find_other_language(text: str) -> str | None:
    """The language of a text that is not English, as far as its commonest words and its script tell; None for English.

    >>> find_other_language("Der Herzschatten ist nicht vergrößert."), find_other_language("Heart normal.")
    ('German', None)
    """
    if not text.isascii():
        text = _plain(text)
        letters = [c for c in text if c.isalpha()]
        if 2 * sum(c > _LAST_LATIN for c in letters) > len(letters):
            return "another script"
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    counts = {language: sum(words[w] for w in common if w in words) for language, common in _languages().items()}
    likeliest = max(counts, key=lambda language: counts[language])
    return likeliest if counts[likeliest] > max(1, counts["English"]) else None


@cache
def _languages() -> dict[str, frozenset[str]]:
    return {language: frozenset(_plain(words).split()) for language, words in read_lexicon("languages").items()}


def _plain(text: str) -> str:
    """Without accents: many a report is typed without them."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def _walk(path: Path) -> Iterator[Callable[[], NamedReport]]:
    """What reads each report."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _READ and not p.is_dir())
        for file, name in zip(files, _names([file.relative_to(path) for file in files]), strict=True):
            yield partial(_read_file, file, name)
    elif path.suffix.lower() == ".zip":
        yield from _walk_zip(path)
    elif path.suffix.lower() == ".jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield partial(_read_line, line, f"{path}, line {number}")
    elif path.suffix.lower() in _TABLES:  # read as a text it would be one report, and a wrong one
        raise InputError(
            "a table is not a report",
            expected=_FORMS,
            where=str(path),
            remedy="chiasm import table TABLE --out COHORT, then chiasm label COHORT",
        )
    elif path.suffix.lower() in _MARKED:
        raise InputError("the file is not plain text", expected=_FORMS, got=path.suffix, where=str(path))
    else:
        yield partial(_read_file, path, path.stem)


def _names(files: Sequence[PurePath]) -> list[str]:
    """Of each file: its name without its ending; where several have one, with the folders before it."""
    often = Counter(file.stem for file in files)
    return [file.stem if often[file.stem] == 1 else file.with_suffix("").as_posix() for file in files]


def _others(path: Path) -> str:
    """What lies in a folder or zip and is of no kind that is read: "2 files of other kinds (.pdf)"."""
    if path.is_dir():
        files: list[PurePath] = [p for p in path.rglob("*") if not p.is_dir()]
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            files = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
    else:
        return ""
    kinds = [p.suffix.lower() for p in files if p.suffix.lower() not in _READ and not p.name.startswith(".")]
    return f"{len(kinds)} files of other kinds ({', '.join(sorted(set(kinds))[:5])})" if kinds else ""


def _walk_zip(path: Path) -> Iterator[Callable[[], NamedReport]]:
    with explained("the zip archive cannot be read", str(path), error=InputError):
        archive = zipfile.ZipFile(path)
        members = sorted(name for name in archive.namelist() if Path(name).suffix.lower() in _READ)
    with archive:
        for member, name in zip(members, _names([PurePosixPath(member) for member in members]), strict=True):
            yield partial(_read_member, archive, member, name, str(path))


def _read_member(archive: zipfile.ZipFile, member: str, name: str, path: str) -> NamedReport:
    with explained("the zip archive cannot be read", f"{path}: {member}", error=InputError):
        about = archive.getinfo(member)
        check_size(about.file_size, about.compress_size, f"{path}: {member}", compressed=True, error=InputError)
        data = archive.read(member)
    return _read(name, Path(member).suffix, data, f"{path}: {member}")


def _read_file(path: Path, name: str) -> NamedReport:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("the file cannot be read", got=type(error).__name__, where=str(path)) from None
    return _read(name, path.suffix, data, str(path))


def _read_line(line: bytes, where: str) -> NamedReport:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # half a character (\\ud800) can be read, and not be written
    except (ValueError, RecursionError):
        raise InputError("the line is not JSON", expected='{"id": ..., "text": ...}', where=where) from None
    identity, text = (row.get("id"), row.get("text")) if isinstance(row, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(identity, str | int) or identity == "":
        what = "the line is not a report: it needs an id (letters or digits) and a text"
        raise InputError(what, expected='{"id": ..., "text": "..."}', where=where)
    return NamedReport(str(identity), Report(split_sections(text)))


def read_openi_xml(data: bytes, where: str) -> NamedReport:
    """One report of the Open-i collection: the abstract's sections. The MeSH codes are labels and stay unread.

    Raises:
        InputError: not XML, too large, with a document type of its own, or without an id.
    """
    root = parse_openi_xml(data, where)
    return NamedReport(openi_id(root, where), Report(openi_sections(root)))


def parse_openi_xml(data: bytes, where: str = "") -> ElementTree.Element:
    """The tree of one report. A document type is refused, and with it every entity: nothing outside is ever loaded.

    Raises:
        InputError: not XML, larger than `LARGEST_XML` bytes, or with a document type.
    """
    try:
        text = data.decode("utf-8-sig")
        if len(data) > LARGEST_XML or "<!DOCTYPE" in text:
            what = f"the XML is refused: it is larger than {LARGEST_XML} bytes, or declares a document type"
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
        what, expected = "the XML is not a report of Open-i: it has no uId", 'an element <uId id="...">'
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


def _read(name: str, suffix: str, data: bytes, where: str) -> NamedReport:
    if suffix.lower() == ".xml":
        return read_openi_xml(data, where)
    try:
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), len(data), "a zero byte")
    except UnicodeDecodeError as error:
        got, remedy = f"byte {error.start} cannot be read", "save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            got, remedy = "UTF-16", "save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"
        elif b"\0" in data:
            got, remedy = "zero bytes, as in PDF, Word, images and UTF-16", "save the report as plain text in UTF-8"
        what, remedy = "the file is not UTF-8 text", f"{remedy}, or take it out of the folder"
        raise InputError(what, got=got, where=where, remedy=remedy) from None
    return NamedReport(name, Report(split_sections(text)))
