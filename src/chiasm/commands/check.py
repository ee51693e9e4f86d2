"""The option --check of commands that use what was stored."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

CHECK_HELP = (
    "How stored files are compared with what was written. fast: by size and time, and by content where they differ. "
    "full: by content, every one."
)


class Check(StrEnum):
    """How thoroughly stored files are checked before they are used."""

    FAST = "fast"
    FULL = "full"


def check_fully(folders: Iterable[Path]) -> None:
    """Compare every file of cohorts and runs with what was written; what is neither is left to the command.

    Raises:
        CohortError, RunError: something has changed.
    """
    from chiasm.cohort.store import Cohort
    from chiasm.run.cohorts import open_recorded
    from chiasm.run.folder import check_run, read_run

    for folder in folders:
        if (folder / "cohort.json").is_file():
            Cohort.open(folder).verify()
        elif (folder / "run.json").is_file():
            check_run(folder, full=True)
            for recorded in read_run(folder).cohorts:
                if (Path(recorded.path) / "cohort.json").is_file():  # a model may answer where its cohort is not
                    open_recorded(recorded).verify()
