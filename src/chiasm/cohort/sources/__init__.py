"""Where studies come from: one module a layout, each with `ABOUT` and `read(path, *, options)`, an iterator of studies.

A module may also have `NOTES`, sentences that everyone who uses such a cohort must know, and `find_atlas` with parameters of
`read`: the atlas of the space in which all volumes lie.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.cohort.stroke_facts import Atlas
from chiasm.errors import InputError
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
    """

    name: str
    about: str
    read: Callable[..., Iterator[Study | Rejected]]
    notes: tuple[str, ...] = ()
    atlas: Callable[..., Atlas | None] | None = None

    @property
    def takes_path(self) -> bool:
        path = inspect.signature(self.read).parameters.get("path")
        return path is not None and path.default is inspect.Parameter.empty

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(name for name in inspect.signature(self.read).parameters if name != "path")


class _Sources(Mapping[str, Source]):
    """Name -> source; a module is imported when it is asked for."""

    def __getitem__(self, name: str) -> Source:
        if name not in NAMES:
            raise KeyError(name)
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        return Source(
            name, module.ABOUT, module.read, getattr(module, "NOTES", ()), getattr(module, "find_atlas", None)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


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
            "no such source", expected=f"one of {', '.join(NAMES)}", got=name, remedy=_nearest(name, NAMES)
        ) from None


def import_cohort(
    source: str,
    path: Path | str | None,
    out: Path | str,
    *,
    size: int = 224,
    volume_size: tuple[int, int, int] = (64, 64, 64),
    split: str = "auto",
    seed: int = 0,
    strict: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cohort:
    """Read a source folder or file and write it as a cohort; see `write_cohort` for what the arguments mean.

    Args:
        path: of the source; None for one that makes its studies itself.
        options: keyword arguments of the source's `read`. One that has an option `seed`, `size` or `volume_size` gets the
            import's.

    Raises:
        InputError: no such source, path or option; or something was rejected, and `strict` is set.
        CohortError: as `write_cohort`.
    """
    found, options = find_source(source), dict(options or {})
    for name in options:
        if name not in found.options:
            raise InputError(
                f"the source {source} has no option {name}",
                expected=f"one of {', '.join(found.options)}" if found.options else "no options",
                got=name,
                remedy=_nearest(name, found.options),
            )
    for name, value in (
        ("seed", seed),
        ("size", size),
        ("volume_size", volume_size),
    ):  # a source that makes its images makes them of the right size
        if name in found.options:
            options.setdefault(name, value)
    arguments: tuple[Path, ...] = ()
    if found.takes_path:
        if path is None or not Path(path).exists():
            raise InputError(
                "the input is not there" if path else f"the source {source} needs a path",
                expected=found.about,
                got="no such file or folder" if path else "no path",
                where=str(path or ""),
                remedy="correct the path",
            )
        arguments = (Path(path),)
    elif path is not None:
        raise InputError(f"the source {source} takes no path: it makes its studies itself", got=str(path))
    atlas = None
    if found.atlas is not None:
        wanted = inspect.signature(found.atlas).parameters
        atlas = found.atlas(*arguments, **{name: value for name, value in options.items() if name in wanted})
    recorded = {name: _recorded(value) for name, value in options.items()}
    return write_cohort(
        found.read(*arguments, **options),
        out,
        source=source,
        options=recorded,
        size=size,
        volume_size=volume_size,
        split=split,
        seed=seed,
        strict=strict,
        progress=progress,
        notes=found.notes,
        atlas=atlas,
    )


def _recorded(value: Any) -> Any:
    """An option as cohort.json keeps it: a path by its last part, never the place it had on this machine."""
    return value.name if isinstance(value, PurePath) else list(value) if isinstance(value, tuple | set) else value


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "`chiasm sources` lists them"
