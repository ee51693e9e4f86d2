"""The table as text: whatever its delimiter and encoding, with the row numbers of a spreadsheet."""

import gzip
import logging
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.errors import TableError
from chiasm.sources.table.tabular import find_folders, find_table, nearest, read_table

TEXT = "id,Größe\n1,ä;b\n2,é\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_found_out(tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        frame, rejected = read_table(write(tmp_path / "t.csv", TEXT.encode(encoding)))
    assert frame.to_dict("list") == {"id": ["1", "2"], "Größe": ["ä;b", "é"]}
    assert rejected == []
    assert ["Latin-1" in message for message in caplog.messages] == [True] * (encoding == "latin-1")


def test_a_given_encoding_is_kept_to(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TEXT.encode("cp437"))
    assert list(read_table(path, encoding="cp437")[0].columns) == ["id", "Größe"]
    for encoding in ("ascii", "no-such"):
        with pytest.raises(TableError, match=encoding):
            read_table(path, encoding=encoding)


@given(
    cells=st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=2, max_size=2), max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)  # fmt: skip
def test_what_pandas_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("round") / "t.csv"
    pd.DataFrame(cells, columns=["first", "second"]).to_csv(path, index=False, sep=delimiter, lineterminator="\r\n")
    frame, rejected = read_table(path)
    full = [[cell.strip() for cell in row] for row in cells]
    assert frame.to_numpy().tolist() == [row for row in full if any(row)]
    assert list(frame.index) == [number for number, row in enumerate(full, start=2) if any(row)]
    assert rejected == []


def test_rows_of_another_length_and_blank_lines(tmp_path: Path) -> None:
    text = 'a,b,,\n1,2\n1,2,,,\n\n1\n1,2,3,4,5\n1,"x\ny",3,\n'
    frame, rejected = read_table(write(tmp_path / "t.csv", text))
    assert frame.to_dict("split") == {
        "index": [2, 3, 7],
        "columns": ["a", "b"],
        "data": [["1", "2"], ["1", "2"], ["1", "x\ny"]],
    }
    assert [r.where for r in rejected] == ["t.csv: row 5", "t.csv: row 6"]


def test_a_column_that_comes_twice_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        frame, _ = read_table(write(tmp_path / "t.csv", "a,b,a\n1,2,3\n"))
    assert list(frame.columns) == ["b"]
    assert frame.attrs["twice"] == ("a",)
    assert "neither is read: a" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ('a,b\n1,"x\n2,y\n', "quotes"),
        (b"\x89PNG\x00\x00\xff\xff", "no text"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(TableError, match=said):
        read_table(write(tmp_path / "t.csv", content))


def test_a_wrong_delimiter_is_an_error_that_names_the_right_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a;b;c\n1;2;3\n")
    with pytest.raises(TableError, match=r"1 column with .*; 3 with semicolon"):
        read_table(path, delimiter=",")
    assert list(read_table(path, delimiter=";")[0].columns) == ["a", "b", "c"]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"id": [1.0, None], "flag": [True, None], "text": ["x ", None], "n": [1.5, 2.0]})
    frame.to_parquet(path)
    read, rejected = read_table(path)
    assert read.to_dict("list") == {"id": ["1", ""], "flag": ["True", ""], "text": ["x", ""], "n": ["1.5", "2"]}
    assert (list(read.index), rejected) == ([2, 3], [])
    pd.DataFrame({"a": [[1, 2]]}).to_parquet(path)
    with pytest.raises(TableError, match="lists"):
        read_table(path)
    with pytest.raises(TableError, match="cannot be read"):
        read_table(write(path, b"PAR1 no more"))


def test_find_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no table"):
        find_table(tmp_path)
    table = write(tmp_path / "a.csv", TEXT)
    write(tmp_path / "README.txt", "text")
    assert find_table(tmp_path) == find_table(table) == table
    write(tmp_path / "b.tsv", TEXT)
    with pytest.raises(TableError, match=r"(?s)several tables.*a\.csv, b\.tsv"):
        find_table(tmp_path)
    assert find_table(tmp_path, others=["b.tsv"]) == table
    with pytest.raises(TableError, match="save the sheet as"):
        find_table(write(tmp_path / "c.xls", b"PK"))
    with pytest.raises(TableError, match="no such file"):
        find_table(tmp_path / "gone")


# --- what Excel writes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;"])
def test_a_first_line_that_names_the_separator_is_no_header(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.csv", f"{first}\r\nid;note\r\n1;a,b\r\n2;c\r\n")
    frame, rejected = read_table(path)
    assert list(frame.columns) == ["id", "note"] and frame["note"].tolist() == ["a,b", "c"]
    assert frame.index.tolist() == [3, 4] and not rejected
    with pytest.raises(TableError, match="empty"):
        read_table(write(tmp_path / "b.csv", "sep=;\n"))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz"])
def test_a_gzipped_table_is_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = "\t" if "tsv" in name else ","
    path = tmp_path / name
    path.write_bytes(gzip.compress(f"id{sign}note\n1{sign}a\n".encode()))
    assert find_table(tmp_path) == path
    assert read_table(path)[0]["note"].tolist() == ["a"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TableError, match="unpacked"):
        read_table(path)
    path.write_bytes(gzip.compress(b"id,note\n" + b"0" * 10**6))
    monkeypatch.setenv("CHIASM_MAX_IMAGE_GB", "0.0001")
    with pytest.raises(TableError, match="larger than may be read"):
        read_table(path)


def test_an_excel_file_is_read_as_its_cells_are_meant(tmp_path: Path) -> None:
    """Whole numbers, dates and gaps; a second sheet without cells is none."""
    path = tmp_path / "a.xlsx"
    rows = [
        ["id", "age", "born", "note", "ok"],
        [7, 54.0, datetime(1970, 3, 2), "a, b", True],
        [8, 36.6, None, None, False],
    ]
    with pd.ExcelWriter(path) as book:
        pd.DataFrame(rows).to_excel(book, sheet_name="exams", header=False, index=False)
        pd.DataFrame().to_excel(book, sheet_name="empty", header=False, index=False)
    (tmp_path / "~$a.xlsx").write_bytes(b"a lock of Excel")
    assert find_table(tmp_path) == path
    frame, _ = read_table(path)
    assert frame.loc[2].tolist() == ["7", "54", "1970-03-02", "a, b", "True"]
    assert frame.loc[3].tolist() == ["8", "36.6", "", "", "False"]
    with pd.ExcelWriter(path) as book:
        for name in ("one", "two"):
            pd.DataFrame([["id"], [name]]).to_excel(book, sheet_name=name, header=False, index=False)
    with pytest.raises(TableError, match="several sheets") as caught:
        read_table(path)
    assert "sheet: NAME" in caught.value.remedy
    assert read_table(path, sheet="two")[0]["id"].tolist() == ["two"]
    with pytest.raises(TableError, match="no such sheet"):
        read_table(path, sheet="three")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(TableError, match="cannot be read"):
        read_table(path)


def test_nearest() -> None:
    known = ["Patient ID", "age", "Age (y)", "sex"]
    assert nearest("patient_id", known) == "Patient ID"
    assert nearest("AGE", known) == "age"
    assert nearest("sx", known) == "sex"
    assert nearest("zzz", known) is None


def test_find_folders(tmp_path: Path) -> None:
    for folder in ("x/images", "y"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").touch()
    assert find_folders(tmp_path, ["a.png"]) == ["y", "x/images"]
    assert find_folders(tmp_path, ["b.png"]) == []
