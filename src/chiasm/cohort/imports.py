"""The import of a source as a cohort on disk."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import InputError
from chiasm.formats.intensity import Intensity
from chiasm.sources.registry import find_source, nearest


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
    intensity: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cohort:
    """Read a source folder or file and write it as a cohort; see `write_cohort` for what the arguments mean.

    Args:
        path: of the source; None for one that makes its studies itself.
        options: keyword arguments of the source's `read`. One that has an option `seed`, `size` or `volume_size` gets the
            import's.
        intensity: DICOM modality (or "other") -> rule, as `chiasm.formats.intensity.Rule.parse` reads it:
            {"CT": "40,400;-600,1500", "DX": "bits"}. What is left out is as the source says, else the default.

    Raises:
        InputError: no such source, path, option or rule; or something was rejected, and `strict` is set.
        CohortError: as `write_cohort`.
    """
    found, options = find_source(source), dict(options or {})
    for name in options:
        if name not in found.options:
            raise InputError(
                f"the source {source} has no option {name}",
                expected=f"one of {', '.join(found.options)}" if found.options else "no options",
                got=name,
                remedy=nearest(name, found.options),
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
    chosen = _call(found.preprocessing, (), options) if found.preprocessing else {}
    rules = Intensity.parse({**chosen.get("intensity", {}), **(intensity or {})})
    atlas = _call(found.atlas, arguments, options) if found.atlas is not None else None
    recorded = {name: _recorded(value) for name, value in options.items()}
    return write_cohort(
        _call(found.read, arguments, {**options, "intensity": rules}),
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
        intensity=rules,
        **{name: value for name, value in chosen.items() if name != "intensity"},
    )


def _call(function: Callable[..., Any], arguments: tuple[Path, ...], options: Mapping[str, Any]) -> Any:
    """A function of a source with those of the options that it takes."""
    wanted = inspect.signature(function).parameters
    return function(*arguments, **{name: value for name, value in options.items() if name in wanted})


def _recorded(value: Any) -> Any:
    """An option as cohort.json keeps it: a path by its last part, never the place it had on this machine."""
    return value.name if isinstance(value, PurePath) else list(value) if isinstance(value, tuple | set) else value
