"""JSON documents that chiasm writes and reads back, dataclasses with a schema version; and a check of YAML from outside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from chiasm.errors import RunError, check_schema

_MOST_VALUES, _DEEPEST = 100_000, 100
STRICT = ConfigDict(extra="forbid", strict=True)
"""Of the parts of a document, as their `__pydantic_config__`: no key more, and no text where a number belongs."""


@dataclass(frozen=True)
class Document:
    """What is written as JSON.

    Attributes:
        SCHEMA: of the form in which it is written now; a change of its keys is a new one.
    """

    __pydantic_config__ = STRICT
    SCHEMA: ClassVar[int]


Read = TypeVar("Read", bound=Document)


def to_json(document: Document) -> dict[str, Any]:
    """The document as JSON has it, its schema first."""
    return {"schema": document.SCHEMA, **asdict(document)}


def read_document(path: Path, kind: type[Read], remedy: str) -> Read:
    """Read what `to_json` gave.

    Args:
        remedy: what makes the file anew.

    Raises:
        RunError: there is no such file, it is no JSON object, of another schema, or a key is missing, unknown or of another type;
            the message names file and key, and quotes no value.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, type(error).__name__, remedy) from None
    if not isinstance(raw, dict):
        raise damaged(path, f"a {type(raw).__name__} in the place of an object", remedy)
    versions = raw.get("versions")
    writer = versions.get("chiasm") if isinstance(versions, dict) else None
    check_schema(
        raw.pop("schema", None),
        kind.SCHEMA,
        RunError,
        what=f"{path.name} is",
        where=str(path),
        remedy=f"use chiasm {writer}, which wrote it, or {remedy}" if isinstance(writer, str) else remedy,
    )
    try:
        return TypeAdapter(kind).validate_json(json.dumps(raw))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise damaged(path, "; ".join(faults), remedy) from None


def damaged(path: Path, got: str, remedy: str) -> RunError:
    """What a file of a run that is not as chiasm wrote it raises."""
    return RunError(
        "the run is damaged", expected="the files that chiasm wrote", got=got, where=str(path), remedy=remedy
    )


def check_yaml(text: str) -> None:
    """Make sure that a YAML text is no larger when it is read than it looks: aliases repeat what they stand for.

    Raises:
        yaml.YAMLError: it is no YAML, nests deeper than a hundred levels, or holds more than a hundred thousand values.
    """
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(str(event.anchor), _MOST_VALUES + 1)  # an alias of what it stands in has no end
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            sizes |= {event.anchor: _MOST_VALUES + 1} if event.anchor else {}
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes |= {anchor: count - before} if anchor else {}
        if count > _MOST_VALUES or len(opened) > _DEEPEST:
            raise yaml.YAMLError(
                f"more than {_MOST_VALUES:,} values or {_DEEPEST} levels, aliases counted as what they repeat"
            )
