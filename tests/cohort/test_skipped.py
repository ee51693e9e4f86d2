"""rejected.csv, and what the terminal makes of it."""

from pathlib import Path

from chiasm.cohort.skipped import read_skipped, sum_up, write_skipped
from chiasm.study import Rejected

SKIPPED = [
    Rejected("t.csv: row 3", "there is no image images/e1_pa.png: skipped"),
    Rejected("t.csv: row 9", "there is no image images/e7.png: skipped"),
    Rejected("t.csv: row 2", "rows 2, 3, 4 are one study"),
    Rejected("t.csv: row 4, column age", "'400' is no age of a human being: treated as missing"),
    Rejected("t.csv: row 5, column age", "'89+' is an open-ended age: kept as 89", taken=True),
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_skipped(tmp_path, SKIPPED)
    assert read_skipped(tmp_path) == SKIPPED
    assert (tmp_path / "rejected.csv").read_text("utf-8").splitlines()[0] == "where,reason,taken"


def test_reasons_are_summed_without_what_belongs_to_one_input() -> None:
    assert sum_up(SKIPPED) == [
        "  2  there is no image ..: skipped",
        "  1  rows .. are one study",
        "  1  .. is no age of a human being: treated as missing",
        "  1  .. is an open-ended age: kept as ..",
    ]


def test_of_many_reasons_the_most_frequent_are_told() -> None:
    many = [Rejected("x", f"reason {chr(97 + n)}") for n in range(12) for _ in range(n + 1)]
    lines = sum_up(many)
    assert lines[0] == "  12  reason l" and len(lines) == 9 and lines[-1] == "      and 4 more reasons"
    assert sum_up([]) == []
