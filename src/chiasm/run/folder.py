"""A run folder on disk: run.json, and what a damaged one raises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from chiasm.errors import RunError, check_schema

SCHEMA = 3


def read_run(run: Path) -> dict[str, Any]:
    """The run's `run.json`.

    Raises:
        RunError: no run, an unfinished one, or one of another schema version.
    """
    path = run / "run.json"
    if not path.is_file():
        raise RunError(
            "this is not a run",
            expected="a folder written by chiasm train, with run.json",
            where=str(run),
            remedy="chiasm train RECIPE COHORT --out RUN",
        )
    with readable(path):
        info: dict[str, Any] = dict(json.loads(path.read_text("utf-8")))
    writer = info.get("versions", {}).get("chiasm", "of an unknown version")
    remedy = f"use chiasm {writer}, which wrote it, or train again"
    check_schema(info.get("schema"), SCHEMA, RunError, what="the run is", where=str(path), remedy=remedy)
    return info


@contextmanager
def readable(where: Path) -> Iterator[None]:
    """What a missing, cut off or foreign file of a run raises, as a `RunError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(
            "the run is damaged",
            expected="the files that chiasm train wrote",
            got=type(error).__name__,
            where=str(where),
            remedy="copy the run again, or train again",
        ) from None
