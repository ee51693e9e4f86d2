"""The map: every problem in one message, with the nearest name."""

from pathlib import Path
from typing import Any

import pytest

from chiasm.errors import TableError
from chiasm.sources.table.schema import TableMap, read_map


def problems(raw: Any) -> str:
    with pytest.raises(TableError) as caught:
        read_map(raw)
    return str(caught.value)


def test_all_problems_come_in_one_message() -> None:
    message = problems(
        {
            "imagse": "x",
            "images": {"columns": "a", "fodler": "img"},
            "record": {"temp": {"column": "t", "kidn": "numeric"}},
            "labels": [{"columns": ["m"], "values": {"2": "unsure"}}],
            "table": {"decimal": ";", "delimiter": "::"},
        }
    )
    assert "7 problems" in message
    for part in (
        "patient: missing",
        "imagse: unknown key, did you mean images?",
        "images.fodler: unknown key, did you mean folder?",
        "record.temp.kidn: unknown key, did you mean kind?",
        "labels.0.values.2: Input should be 'present'",
        "table.decimal",
        "table.delimiter: must be one character",
    ):
        assert part in message


def test_the_kinds_of_one_target_and_names_that_come_twice() -> None:
    two = {"patient": "p", "labels": [{"columns": ["Effusion", "Pleural Effusion"]}]}
    assert "findings.pleural_effusion: two columns say it" in problems(two)
    by_reader = [{"columns": ["Effusion"], "reader": "a"}, {"columns": ["Pleural Effusion"], "reader": "b"}]
    assert len(read_map({"patient": "p", "labels": by_reader}).labels) == 2
    outcomes = [{"column": "a", "target": "t"}, {"column": "b", "target": "t", "kind": "ordinal"}]
    assert "target t: has several kinds" in problems({"patient": "p", "outcomes": outcomes})
    assert "target record: the name is taken" in problems(
        {"patient": "p", "labels": {"columns": "a", "target": "record"}}
    )


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"labels": [{"target": "x"}]}, "exactly one of columns"),
        ({"report": {"column": "a", "file": "b"}}, "exactly one of column, sections, file"),
        ({"report": {"sections": {"finding": "a"}}}, "no section finding; did you mean findings?"),
        ({"images": {"columns": ["a", "b"], "views": ["pa"]}}, "one view for each of the 2"),
        ({"outcomes": {"column": "days", "kind": "survival"}}, "`event` names the column"),
        ({"outcomes": {"column": "died", "event": "d"}}, "of kind survival, and of no other"),
        ({"boxes": {"columns": ["x", "y"], "label": "m"}, "images": "a"}, "must be four"),
        ({"boxes": {"columns": list("xywh")}, "images": "a"}, "exactly one of label"),
        (
            {"boxes": {"columns": list("xywh"), "label": "m", "file": "b.csv"}, "images": "a"},
            "exactly one of image and study",
        ),
        ({"boxes": {"columns": list("xywh"), "label": "m", "frame": [5]}, "images": "a"}, "[width, height]"),
        ({"boxes": {"columns": list("xywh"), "label": "m"}}, "the map has no `images`"),
    ],
)
def test_parts_that_make_no_sense(part: dict[str, Any], said: str) -> None:
    assert said in problems({"patient": "p", **part})


def test_short_and_long_forms_are_one() -> None:
    short = {
        "patient": "p",
        "images": "i",
        "report": "r",
        "record": ["Age", "Patient Gender", "Temp C"],
        "labels": {"columns": "m"},
    }
    long = {
        "patient": "p",
        "images": {"columns": ["i"], "folder": ["."]},
        "report": {"column": "r"},
        "record": {"age_years": {"column": "Age"}, "sex": {"column": "Patient Gender"}, "temp_c": {"column": "Temp C"}},
        "labels": [{"columns": {"m": "m"}}],
    }
    assert read_map(short) == read_map(long)


def test_names_of_the_chart() -> None:
    assert list(read_map({"patient": "p", "record": {"age": "A", "Temp (C)": "T", "gender": "S"}}).record) == [
        "age_years",
        "temp_c",
        "sex",
    ]
    assert "two columns are called age_years" in problems({"patient": "p", "record": ["Age", "patient_age"]})


def test_yaml_takes_names_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    text = "patient: no\nstudy: 2024\nsplit:\nlabels: {columns: [on, y], values: {yes: present, 2: absent}}\n"
    path.write_text(text, "utf-8-sig")
    assert read_map(path) == TableMap.model_validate(
        {
            "patient": "no",
            "study": "2024",
            "labels": [{"columns": {"on": "on", "y": "y"}, "values": {"yes": "present", "2": "absent"}}],
        }
    )


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "not valid YAML"), ("- a\n", "not a mapping"), ("", "not a mapping")]
)
def test_what_is_no_map(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    assert said in problems(path)
    assert "is not there" in problems(tmp_path / "gone.yaml")
