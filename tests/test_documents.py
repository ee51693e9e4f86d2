"""A document comes back as it was written, and one that does not fit is one error that names file and key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from chiasm.documents import STRICT, Document, check_yaml, read_document, to_json
from chiasm.errors import RunError


@dataclass(frozen=True)
class Part:
    __pydantic_config__ = STRICT

    name: str
    share: float | None = None


@dataclass(frozen=True)
class Whole(Document):
    SCHEMA: ClassVar[int] = 7

    count: int
    parts: tuple[Part, ...]
    by_name: dict[str, Part] = field(default_factory=dict)


WHOLE = Whole(3, (Part("a", 0.1), Part("b")), {"c": Part("c", 2.0)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "whole.json").write_text(json.dumps(to_json(WHOLE)))
    return tmp_path / "whole.json"


def test_what_is_read_is_what_was_written(path: Path) -> None:
    assert list(json.loads(path.read_text())) == ["schema", "count", "parts", "by_name"]
    assert read_document(path, Whole, "make it again") == WHOLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": "three"}, "count: "),
        ({"count": None}, "count: "),
        ({"parts": [{"name": "a"}, {"share": 0.5}]}, "parts.1.name: "),
        ({"by_name": {"c": {"name": "c", "share": "secret"}}}, "by_name.c.share: "),
        ({"colour": "secret"}, "colour: "),
        ({"schema": 6}, "expected: schema 7"),
        ({"schema": None}, "got: schema None"),
    ],
)
def test_a_key_that_does_not_fit_is_named_and_no_value_quoted(path: Path, change: dict[str, Any], said: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError) as error:
        read_document(path, Whole, "make it again")
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "make it again" in str(error.value)
    assert "secret" not in str(error.value) and "three" not in str(error.value)


def test_several_faults_are_one_error(path: Path) -> None:
    path.write_text('{"schema": 7, "parts": 1, "more": 2}')
    with pytest.raises(RunError, match=r"count: .*parts: .*more: "):
        read_document(path, Whole, "make it again")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_a_file_that_holds_no_object_is_damaged(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(RunError, match="damaged"):
        read_document(path, Whole, "make it again")
    path.unlink()
    with pytest.raises(RunError, match="FileNotFoundError"):
        read_document(path, Whole, "make it again")


def test_the_version_that_wrote_another_schema_is_named(path: Path) -> None:
    path.write_text('{"schema": 9, "versions": {"chiasm": "2.3"}}')
    with pytest.raises(RunError, match=r"use chiasm 2\.3, which wrote it, or make it again"):
        read_document(path, Whole, "make it again")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcdefg", "bcdefgh")),
        "a: &a [*a]",
        "[" * 200 + "]" * 200,
        "a: " + "{a: " * 150 + "1" + "}" * 150,
    ],
)
def test_yaml_that_grows_when_it_is_read_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="aliases counted"):
        check_yaml(text)


def test_yaml_with_aliases_of_an_ordinary_size_is_none_of_that() -> None:
    check_yaml(
        "values: &v {yes: present, no: absent}\nlabels: [{columns: [a], values: *v}, {columns: [b], values: *v}]\n"
    )
