"""Without a map: well-known names, or a map to copy."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from chiasm.errors import TableError
from chiasm.sources.table.guess import CHOOSE, guess_map
from chiasm.sources.table.schema import TableMap, read_map


def frame(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=object)


def guess(tmp_path: Path, table: pd.DataFrame) -> TableMap:
    return guess_map(table, tmp_path / "t.csv")[0]


def expect(**raw: Any) -> TableMap:
    return read_map(raw)


def test_names_of_published_tables(tmp_path: Path) -> None:
    (tmp_path / "png" / "more").mkdir(parents=True)
    (tmp_path / "png" / "more" / "1.png").touch()
    table = frame(
        **{
            "Image Index": ["1.png", "2.png"],
            "Finding Labels": ["Mass|Edema", "No Finding"],
            "Patient ID": ["1", "2"],
            "Patient Age": ["5", "6"],
            "Patient Gender": ["M", "F"],
            "View Position": ["PA", "AP"],
            "split": ["train", "test"],
        }
    )
    assert guess(tmp_path, table) == expect(
        patient="Patient ID",
        images={"columns": "Image Index", "folder": "png/more", "view": "View Position"},
        split="split",
        record=["Patient Age", "Patient Gender"],
        labels={"column": "Finding Labels"},
    )


def test_label_columns_outcomes_and_sections(tmp_path: Path) -> None:
    table = frame(
        subject_id=["1", "2"],
        study_id=["1", "2"],
        findings=["The heart is large.", ""],
        impression=["", "No acute disease at all."],
        Pneumonia=["1.0", ""],
        label_hip=["0", "7"],
        Mass=["5", "12"],
        outcome_died=["1", "0"],
        split=["a", "b"],
    )
    assert guess(tmp_path, table) == expect(
        patient="subject_id",
        study="study_id",
        report={"sections": {"findings": "findings", "impression": "impression"}},
        labels={"columns": ["Pneumonia", "label_hip"]},
        outcomes={"column": "outcome_died", "name": "died"},
    )


def test_an_image_column_is_known_by_its_cells(tmp_path: Path) -> None:
    table = frame(patient=["1", "2", "3"], scan=["a.dcm", "b.DCM", ""], note=["c.png", "x", "y"])
    assert guess(tmp_path, table).images == expect(patient="p", images="scan").images


@pytest.mark.parametrize(
    ("columns", "filled"),
    [
        ({"case no": ["1"], "pic": ["a.png"], "Age": ["5"], "dx": ["a text of words"]}, {"patient": "case no", "images": {"columns": "pic"}, "record": {"age_years": "Age"}}),
        ({"who": ["1"], "pic": ["a.png"], "label_mass": ["1"]}, {"patient": CHOOSE, "images": {"columns": "pic"}, "labels": [{"columns": ["label_mass"]}]}),
        ({"patient_id": ["1"], "stuff: [a]": ["1"]}, {"patient": "patient_id", "images": {"columns": CHOOSE, "folder": "images"}}),
    ],
)  # fmt: skip
def test_where_the_guess_fails_there_is_a_map_to_copy(
    tmp_path: Path, columns: dict[str, list[str]], filled: dict[str, Any]
) -> None:
    with pytest.raises(TableError) as caught:
        guess(tmp_path, frame(**columns))
    message = str(caught.value)
    text = message.partition("--map map.yaml\n\n")[2]
    assert yaml.safe_load(text) == filled
    for column in columns:
        assert column in text
    if "patient_id" not in columns:
        assert "every score comes out too high" in message
        assert "`patient: study`" in message
    assert ("\n# report: dx " in text) == ("dx" in columns)
    copied = tmp_path / "map.yaml"
    copied.write_text(text.replace(CHOOSE, "stuff"))
    assert read_map(copied).images is not None
