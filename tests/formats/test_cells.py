import gzip

import pytest

from chiasm.errors import InputError, TableError
from chiasm.formats.cells import CellError, Files, Row, check_folder, find_table, parse_age_years, read_rows
from chiasm.study import Rejected


def row(**cells: str) -> Row:
    return Row("t.csv: row 2", cells)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *[("58", 58), (" 58.5 ", 58.5), ("058Y", 58), ("006M", 0.5), ("52 weeks", 52 * 7 / 365.25)],
        *[("010D", 10 / 365.25), ("0", 0), ("120", 120), ("3 yrs", 3), ("2 years", 2), ("18 mo", 1.5)],
    ],
)
def test_ages_of_every_unit_are_years(text: str, years: float) -> None:
    assert parse_age_years(text) == pytest.approx(years, abs=1e-12)


@pytest.mark.parametrize("text", ["121", "413", "-3", "forty", "58X", "5 8", "1e2", "inf", "M", "130+"])
def test_an_age_that_is_none_is_missing_and_said(text: str) -> None:
    entry = row(age=text)
    assert entry.age_years("age") is None
    assert [r.where for r in entry.rejected] == ["t.csv: row 2, column age"]
    assert entry.rejected[0].reason.endswith("treated as missing")


@pytest.mark.parametrize("text", ["89+", "> 89", "89 and over", "89Y+"])
def test_an_open_ended_age_keeps_the_least_that_is_true_and_says_so(text: str) -> None:
    entry = row(age=text)
    assert entry.age_years("age") == 89
    assert "kept as 89" in entry.rejected[0].reason
    with pytest.raises(CellError):
        parse_age_years(text)


@pytest.mark.parametrize("text", ["", " ", "n/a", "N/A", "NaN", "Unknown", "todo", "None"])
def test_a_cell_that_says_nothing_is_missing_without_a_word(text: str) -> None:
    entry = row(x=text)
    assert (entry.text("x"), entry.number("x"), entry.age_years("x"), entry.sex("x"), entry.yes_no("x")) == (None,) * 5
    assert (entry.text("y"), entry.number("y")) == (None, None)  # a column the table lacks
    assert entry.rejected == []


def test_numbers_words_and_answers_are_read_and_bad_ones_said() -> None:
    entry = row(a="1.5", b="inf", c="1,5", d="7", e="Female", f="x", g="Y", h="maybe", i="Not visible")
    assert entry.number("a") == 1.5
    assert [entry.number("b"), entry.number("c"), entry.number("d", high=5)] == [None, None, None]
    assert (entry.sex("e"), entry.sex("f")) == ("f", None)
    assert (entry.yes_no("g"), entry.yes_no("h")) == (1.0, None)
    assert entry.yes_no("i", no_answer={"not visible"}) is None
    assert [r.where[-1] for r in entry.rejected] == ["b", "c", "d", "f", "h"]


def test_a_cell_that_may_hold_a_name_is_never_repeated() -> None:
    entry = row(age="Smith, John", sex="John")
    entry.age_years("age")
    entry.sex("sex")
    assert not any("john" in r.reason.lower() for r in entry.rejected)


def test_rows_come_under_their_names_and_a_bad_row_costs_nothing_else(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        '\ufeffid, note ,,\r\n1,"two\r\nlines, one comma"\r\n2\r\n\r\n3,c,,,extra\r\n4,d,,\r\n1,again\r\n,e\r\n'.encode()
    )
    rows = list(read_rows(path, ["id", "note"], key="id"))
    assert [r.cells for r in rows if isinstance(r, Row)] == [
        {"id": "1", "note": "two\r\nlines, one comma"},
        {"id": "4", "note": "d"},
    ]
    assert {r.where: r.reason for r in rows if isinstance(r, Rejected)} == {
        "t.csv: row 3": "1 cells where the header names 2 columns",
        "t.csv: row 5": "5 cells where the header names 2 columns",
        "t.csv: row 7": "id repeats an earlier row's",
        "t.csv: row 8": "id is missing",
    }


def test_gzip_and_tabs_are_read_alike(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n1,2\n"))
    (tmp_path / "a.tsv").write_text("x\ty\n1\t2\n")
    for name in ("a.csv", "a.csv.gz", "a.tsv"):
        assert [r.cells for r in read_rows(tmp_path / name, ["x"])] == [{"x": "1", "y": "2"}]


def test_a_table_that_does_not_fit_names_file_column_and_columns_found(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,age\n1,2\n")
    with pytest.raises(TableError) as caught:
        list(read_rows(path, ["id", "sex"]))
    message = str(caught.value)
    assert all(fact in message for fact in (str(path), "sex", "id, age"))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no columns"), (b"x,x\n1,2\n", "twice"), (b"x\n\xff\xfe\n", "UTF-8"), (None, "no such file")],
)
def test_a_file_that_is_no_table_says_why(tmp_path, content, words: str) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=words):
        list(read_rows(path, ["x"]))


def test_a_cut_off_gzip_says_so(tmp_path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"".join(b"%d\n" % (i * i) for i in range(4000)))[:2000])
    with pytest.raises(TableError, match="cannot be read"):
        list(read_rows(path, ["x"]))


def test_files_are_found_by_name_before_stem(tmp_path) -> None:
    for name in ("a/1.png", "a/1.jpg", "b/2.jpg", "b/3.v1.jpg", "a/4.jpg", "b/4.jpg", "b/left.png", "b/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = Files([tmp_path / "a", tmp_path / "b"])
    assert files.find("1.png") == tmp_path / "a/1.png"
    assert files.find("2.png") == tmp_path / "b/2.jpg"
    assert files.find("3.v1") == tmp_path / "b/3.v1.jpg"
    assert (files.by_stem, len(files)) == (2, 8)
    with pytest.raises(InputError, match="not there"):
        files.find("5.png")
    with pytest.raises(InputError, match="2 image files"):
        files.find("4.jpg")
    assert sorted(path.name for path in files.left()) == ["1.jpg", "left.png"]


def test_the_first_table_that_fits_is_found(tmp_path) -> None:
    (tmp_path / "b_1.csv").touch()
    (tmp_path / "b_2.csv").touch()
    assert find_table(tmp_path, "a*.csv", "b*.csv") == tmp_path / "b_1.csv"
    assert find_table(tmp_path, "c*.csv") is None


def test_a_folder_that_is_none_says_what_was_expected(tmp_path) -> None:
    assert check_folder(tmp_path, "images") == tmp_path
    with pytest.raises(InputError, match=r"(?s)folder with images.*no such path"):
        check_folder(tmp_path / "none", "images")
