"""Cells: numbers are read in one way or not at all."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.sources.table.cells import (
    MISSING,
    STATES,
    Cells,
    looks_like,
    numeric_share,
    parse_numbers,
    parse_states,
)
from chiasm.study import State


def column(*cells: str) -> "pd.Series[str]":
    return pd.Series(list(cells), dtype=object)


def numbers(*cells: str, decimal: str | None = None, percent: bool = False) -> list[float | None]:
    return list(parse_numbers(column(*cells), MISSING, decimal, percent).values)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1.5", "1.234"), [1.5, 1.234]),
        (("1,5", "1,234"), [1.5, 1.234]),
        (("1.5", "1,234"), [1.5, 1234]),
        (("1,234.5", "2,000"), [1234.5, 2000]),
        (("1.234,5", "2.000"), [1234.5, 2000]),
        (("1,5", "1.5", "1,234", "1.234"), [1.5, 1.5, None, None]),
        (("1,234", "7"), [None, 7]),
        (("1.234", "7"), [1.234, 7]),
        (("−3", "+4", "1e3", "2.5E-1"), [-3, 4, 1000, 0.25]),
        (("inf", "nan", "1e999", "0x10", "1_000", "<5", "5-6", "e5", "."), [None] * 9),
        (("50%", "60 %"), [50, 60]),
        (("50%", "60"), [None, 60]),
    ],
)
def test_numbers(cells: tuple[str, ...], values: list[float | None]) -> None:
    assert numbers(*cells) == values


def test_a_given_decimal_sign_decides() -> None:
    assert numbers("1,234", "1.234", "1.2", decimal=",") == [1.234, 1234, None]
    assert numbers("1,234", "1.234", "1,2", decimal=".") == [1234, 1.234, None]
    assert numbers("50%", "60", percent=True) == [50, 60]


@given(st.lists(st.decimals(-99999, 99999, places=2), min_size=1, max_size=20))
def test_every_way_of_writing_two_places_reads_alike(values: list[object]) -> None:
    wanted = [float(str(value)) for value in values]
    english = [f"{value:,}" for value in values]
    german = [cell.replace(",", " ").replace(".", ",").replace(" ", ".") for cell in english]
    assert numbers(*english) == wanted
    assert numbers(*german) == wanted
    assert numbers(*[str(value) for value in values]) == wanted


@given(st.lists(st.sampled_from(["1", "7,5", "7.5", "1,234", "1.234", "x", "", "5%", "-"]), max_size=12))
def test_a_cell_is_a_number_missing_or_a_problem(cells: list[str]) -> None:
    found = parse_numbers(column(*cells), MISSING)
    for i, cell in enumerate(cells):
        blank = cell in ("", "-")
        assert (found.values[i] is None) == (blank or i in found.problems)
        assert not (blank and i in found.problems)


def test_only_numbers_gone_wrong_are_shown() -> None:
    found = parse_numbers(column("<5", "John Smith", "1", "2"), MISSING)
    assert found.problems[0].startswith("'<5'")
    assert "a text of 10 characters" in found.problems[1]


def test_states_of_the_map_go_first() -> None:
    words = {"2": State.UNCERTAIN, "": State.ABSENT, "u": State.ABSENT, "na": State.PRESENT}
    found: Cells = parse_states(column("1", "2.0", "", "U", "NA", "?", "3"), MISSING, words)
    present, absent, uncertain = State.PRESENT, State.ABSENT, State.UNCERTAIN
    assert list(found.values) == [present, uncertain, absent, absent, present, None, None]
    assert list(found.problems) == [6]


def test_looks() -> None:
    assert looks_like(column("1", "0.0", "", "-1"), STATES)
    assert not looks_like(column("1", "2"), STATES)
    assert not looks_like(column("", "na"), STATES)
    assert numeric_share(column("1", "<5", "a", ""), MISSING) == pytest.approx(2 / 3)
    assert numeric_share(column("", "na"), MISSING) is None
    assert np.isclose(numeric_share(column("89+", "97%", "36,6", "-1.5e3"), MISSING) or 0, 1)
