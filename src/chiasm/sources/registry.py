"""The sources of studies: one module a layout, each with `ABOUT` and `read(path, *, options)`, an iterator of studies.

A module may also have `NOTES`, sentences that everyone who uses such a cohort must know; `find_atlas` with parameters of
`read`, the atlas of the space in which all volumes lie; and `preprocessing` with options of its own, what is to be done to the
pixels of all images: {"intensity": rules, "crop": crop}. A `read` with the parameter `intensity` is given the rules of the
import, for what it makes of a file depends on them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chiasm.errors import InputError
from chiasm.formats.atlas import Atlas
from chiasm.registry import SOURCES as ADDED
from chiasm.study import Rejected, Study

NAMES = (
    "chestxray14",
    "covid-chestxray",
    "mimic-cxr",
    "openi",
    "medpix",
    "soop",
    "bids",
    "table",
    "dicom",
    "phantom-chest",
    "phantom-stroke",
)


@dataclass(frozen=True)
class Source:
    """A layout that can be imported.

    Attributes:
        about: one sentence for `chiasm sources`.
        read: `read(path, **options)`, or `read(**options)` for a source that makes its studies itself.
        notes: sentences for cohort.json.
        atlas: `atlas(path, **options)` or `atlas(**options)` with the atlas of all volumes, where there is one.
        preprocessing: `preprocessing(**options)`, where the source says what is to be done to pixels.
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


class _Sources(Mapping[str, Source]):
    """Name -> source; a module is imported when it is asked for."""

    def __getitem__(self, name: str) -> Source:
        if name in ADDED:
            added: Source = ADDED[name]
            return added
        if name not in NAMES:
            raise KeyError(name)
        file = "table.read" if name == "table" else name.replace("-", "_")
        module = importlib.import_module(f"chiasm.sources.{file}")
        optional = (getattr(module, part, None) for part in ("find_atlas", "preprocessing"))
        return Source(name, module.ABOUT, module.read, getattr(module, "NOTES", ()), *optional)

    def __iter__(self) -> Iterator[str]:
        return iter((*NAMES, *ADDED))

    def __len__(self) -> int:
        return len(NAMES) + len(ADDED)


SOURCES: Mapping[str, Source] = _Sources()


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    try:
        return SOURCES[name]
    except KeyError:
        raise InputError(
            "no such source", expected=f"one of {', '.join(SOURCES)}", got=name, remedy=nearest(name, tuple(SOURCES))
        ) from None


def nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "`chiasm sources` lists them"
