"""Progress of long work, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, ClassVar, Self


def say(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Progress:
    """A task of `total` steps (None: unknown). One that begins while another is shown is part of it, and shows nothing itself.

    >>> with Progress("import", 3) as bar:
    ...     bar.advance(3, "done")
    """

    _shown: ClassVar[Progress | None] = None

    def __init__(self, task: str, total: int | None, done: int = 0) -> None:
        self.task, self.total, self.done = task, total, done
        self._bar: Any = None
        self._begun = self._said = 0.0

    def __enter__(self) -> Self:
        self._begun = self._said = time.monotonic()
        if Progress._shown is not None:
            return self
        Progress._shown = self
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._bar.start()
            self._bar.add_task(self.task, total=self.total, completed=self.done, note="")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done, with a short note of how it goes."""
        self.done += steps
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=steps, note=note)
        elif now - self._said >= 10 and Progress._shown is self:  # a log file wants a line now and then
            self._said = now
            self._line(note)

    def _line(self, note: str) -> None:
        of = f" of {self.total}" if self.total else ""
        say(f"{self.task}: {self.done}{of}, {time.monotonic() - self._begun:.0f} s{', ' + note if note else ''}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Progress._shown is not self:
            return
        Progress._shown = None
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and time.monotonic() - self._begun >= 2:
            self._line("done")
