"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chiasm.errors import CohortError


@contextlib.contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A locked folder beside `out` that becomes `out` at the end, and disappears on an error."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CohortError(
            "the output exists already",
            where=str(out),
            remedy="choose another --out, or remove it: nothing is overwritten",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CohortError("the output cannot be written", got=error.strerror or "", where=str(out)) from None
    for stale in out.parent.glob(f"{glob.escape(out.name)}.partial-*"):
        with _locked(stale):
            shutil.rmtree(stale)
    folder = out.with_name(f"{out.name}.partial-{os.getpid()}")
    folder.mkdir()
    with _locked(folder) as handle:
        try:
            yield folder
            os.fsync(handle)
            folder.rename(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold a folder; the system lets go of it when the process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    except BlockingIOError:
        raise CohortError("another import is writing this cohort", where=str(folder), remedy="wait for it") from None
    finally:
        os.close(handle)


def sync(file: Any) -> None:
    """Bring an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())
