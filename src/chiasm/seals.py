"""Hashes of files that were written, kept beside them: whether they are still what they were when they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chiasm.atomic import write_json

FILE = "files.json"


def seal(folder: Path, names: Iterable[str]) -> None:
    """Write size, time and SHA-256 of some files of a folder to its files.json."""
    write_json(folder / FILE, {name: describe(folder / name) for name in sorted(names)})


def describe(file: Path) -> dict[str, Any]:
    """What is kept of a file."""
    digest, about = file_hash(file), file.stat()
    return {"size": about.st_size, "time_ns": about.st_mtime_ns, "sha256": digest}


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def changed(folder: Path, *, full: bool = False) -> list[str] | None:
    """The names of files that are gone or no longer what they were; None where a folder has no files.json to tell.

    A file of the same size and time is taken for the same; where only the time differs (a copy, a touched file) its hash
    decides. `full` compares all hashes.
    """
    try:
        known = json.loads((folder / FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return [FILE]
    if not isinstance(known, dict):
        return [FILE]
    return [name for name, about in known.items() if not is_same(folder / name, about, full=full)]


def is_same(file: Path, about: Mapping[str, Any], *, full: bool = False) -> bool:
    """Whether a file is still what `describe` said of it."""
    try:
        now = file.stat()
        if now.st_size != about["size"]:
            return False
        if now.st_mtime_ns == about["time_ns"] and not full:
            return True
        return bool(file_hash(file) == about["sha256"])
    except (OSError, LookupError, TypeError):
        return False
