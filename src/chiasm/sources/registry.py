"""The sources of studies: one module a layout, each with a `SOURCE` that says how it is read; `chiasm.registry` names them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chiasm.errors import InputError
from chiasm.formats.atlas import Atlas
from chiasm.registry import SOURCES
from chiasm.study import Rejected, Study


@dataclass(frozen=True)
class Source:
    """A layout that can be imported.

    Attributes:
        about: one sentence for `chiasm sources`.
        read: `read(path, **options)`, or `read(**options)` for a source that makes its studies itself. With the parameter
            `intensity` it is given the rules of the import, for what it makes of a file depends on them.
        notes: sentences for cohort.json, which everyone who uses such a cohort must know.
        atlas: `atlas(path, **options)` or `atlas(**options)` with the atlas in whose space all volumes lie, where there is one.
        preprocessing: `preprocessing(**options)`, where the source says what is to be done to the pixels of all images:
            {"intensity": rules}, and what else of `Preprocessing`.
    """

    name: str
    about: str
    read: Callable[..., Iterator[Study | Rejected]]
    notes: tuple[str, ...] = ()
    atlas: Callable[..., Atlas | None] | None = None
    preprocessing: Callable[..., Mapping[str, Any]] | None = None

    @property
    def takes_path(self) -> bool:
        path = inspect.signature(self.read).parameters.get("path")
        return path is not None and path.default is inspect.Parameter.empty

    @property
    def options(self) -> tuple[str, ...]:
        asked = [inspect.signature(f).parameters for f in (self.read, self.preprocessing) if f is not None]
        return tuple(dict.fromkeys(name for names in asked for name in names if name not in ("path", "intensity")))


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in SOURCES:
        raise InputError(
            "no such source", expected=f"one of {', '.join(SOURCES)}", got=name, remedy=nearest(name, tuple(SOURCES))
        )
    source: Source = SOURCES[name]
    return source


def nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "`chiasm sources` lists them"
