"""Files and folders that appear whole or not at all and locks between processes."""

from __future__ import annotations

import contextlib
import csv
import glob
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from chiasm.errors import ChiasmError

_MARK = ".chiasm-unfinished"
"""The file by which an unfinished folder is known for ours."""
_LONG_AGO = 3600.0  # s


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new file to write, which takes the place of `path` at the end, when it is on the disk; on an error `path` stays.

    A link at `path` is replaced, never followed. What processes that died an hour ago or more left beside it is removed.

    >>> with whole_file(path) as partial:  # doctest: +SKIP
    ...     table.to_parquet(partial)
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    for left in _left_behind(path):
        left.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)  # a link of this name is nothing to write through
    try:
        with _placed(path):
            yield partial
            _sync(partial)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _placed(path: Path) -> Iterator[None]:
    """Give an error of the system its place: a full disk does not say what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # a message of its own would be lost
            error.filename = error.filename or str(path)
        raise


def reserve(file: Path) -> None:
    """Take the room on the disk that a sparse file announces: writing through a map to a full disk would kill the process.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _left_behind(path: Path) -> list[Path]:
    """Files of this name that a process began and cannot finish any more. Where processes cannot be asked for, none."""
    if os.name != "posix":
        return []
    found = []
    for file in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
        number = file.name.rpartition("-")[2]
        old = file.lstat().st_mtime < time.time() - _LONG_AGO
        if file.name == f"{path.name}.partial-{number}" and number.isdecimal() and old and not _is_alive(int(number)):
            found.append(file)
    return found


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by one with this content."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a file by one with this text, as UTF-8, with its line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace a file by one with this content as JSON.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


class CsvWriter:
    """Rows of a CSV file, none of whose cells a spreadsheet would run as a formula.

    A text that begins with =, +, -, @, a tab or a line end, and is no number, gets an apostrophe before it.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)

    def writerow(self, row: Iterable[object]) -> None:
        self._writer.writerow([_harmless(cell) for cell in row])

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        for row in rows:
            self.writerow(row)


def _harmless(cell: object) -> object:
    if not (isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Replace a file by one with these rows, of which the first is the header."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        CsvWriter(file).writerows(rows)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace a file by a compressed .npz of these arrays, which holds no pickle."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def whole_folder(out: Path, error: type[ChiasmError]) -> Iterator[Path]:
    """A folder OUT.partial that becomes `out` at the end, when all its files are on the disk, and disappears on an error.

    A killed process leaves it, and the next one removes it: whoever writes holds a lock (`locked`). A folder of that name that is
    not ours (it lacks our mark) is left alone.

    Raises:
        ChiasmError: an `error`, where `out` is a link, a file or a folder that is not empty, or OUT.partial is not ours.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise error(
            "the output exists already",
            where=str(out),
            remedy="choose another --out, or remove it: nothing is overwritten",
        )
    partial = out.with_name(f"{out.name}.partial")
    if partial.is_symlink() or (partial.exists() and not _is_ours(partial)):
        raise error(
            "a folder has the name of an unfinished output, and is none",
            where=str(partial),
            remedy="rename it, or choose another --out",
        )
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / _MARK).touch()
    try:
        with _placed(out):
            yield partial
            for path in (*(p for p in partial.rglob("*") if p.name != _MARK), partial):
                _sync(path)
            if out.is_dir():
                out.rmdir()  # empty, and in the way where the system is not POSIX
            partial.rename(out)
        (out / _MARK).unlink()  # not before: without it an unfinished folder would be nobody's
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether a folder was begun here: it has our mark, or nothing yet."""
    return folder.is_dir() and ((folder / _MARK).is_file() or not any(folder.iterdir()))


def _sync(path: Path) -> None:
    """Bring a file to the disk, and the names in a folder where the system can."""
    if not path.is_dir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    elif os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(file: Path, error: type[ChiasmError], busy: str = "") -> Iterator[None]:
    """Hold a lock file between processes, and remove it at the end; the system frees it when the process is killed.

    Args:
        busy: what to say where another process holds it; without it, wait.

    Raises:
        ChiasmError: an `error`, where another process holds the file, or the folder cannot be written.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=not busy)
    except Timeout:
        raise error(busy, where=str(file.parent), remedy="wait until it has finished") from None
    except OSError as failure:
        raise error("the folder cannot be written", got=failure.strerror or "", where=str(file.parent)) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # where an open file cannot be removed, releasing it does so
            file.unlink()
        lock.release()
