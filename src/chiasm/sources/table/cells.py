"""The meaning of the cells of a column: numbers, states of a finding, words. A bad cell is named and costs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from chiasm.formats import cells as parse
from chiasm.study import State, View
from chiasm.vocabulary import snake_case

MISSING = parse.MISSING | {"<na>", "missing", "tbd", "--", "."}
STATES: Mapping[str, State] = {
    **dict.fromkeys(["1", "yes", "y", "true", "t", "positive", "pos", "present"], State.PRESENT),
    **dict.fromkeys(["0", "no", "n", "false", "f", "negative", "neg", "absent"], State.ABSENT),
    **dict.fromkeys(["-1", "uncertain", "u"], State.UNCERTAIN),
    "not_mentioned": State.NOT_MENTIONED,
}
SPLITS: Mapping[str, str] = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["validation", "validate", "valid", "val", "dev", "tune"], "validation"),
    **dict.fromkeys(["test", "testing", "holdout"], "test"),
}
VIEWS: Mapping[str, View] = {
    **dict.fromkeys(["pa"], View.PA),
    **dict.fromkeys(["ap", "ap supine", "ap erect", "portable"], View.AP),
    **dict.fromkeys(["lateral", "lat", "l", "ll", "rl", "left lateral", "right lateral"], View.LATERAL),
}
SEXES: Mapping[str, str] = {
    **dict.fromkeys(["m", "male", "man"], "m"),
    **dict.fromkeys(["f", "female", "woman"], "f"),
    **dict.fromkeys(["o", "other"], "o"),
}
MOST_WORDS = 100
"""A column of more different words than this is text or an identifier, not a category."""
LONGEST_LABEL = 60
DATES = "dates"
_AMBIGUOUS = "may be a decimal fraction or thousands (write `table.decimal` in the map)"
_CODES = (-9.0, -99.0, -999.0, -9999.0, 9.0, 99.0, 999.0, 9999.0, 88.0, 888.0, 8888.0, -1.0)
_DATE = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}([ t].*)?|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2})( .*)?|(19|20)\d{6}")
_IDENTIFIER = re.compile(r"(?:^|_)(?:id|ids|mrn|uid|accession|case_?no|number|nr|no)(?:_|$)")
_FEW = 12  # different words that may well all be different
_POINT_ZERO = re.compile(r"\.0+$")
_NUMBER = {
    sign: re.compile(rf"[+-]?(\d+|\d{{1,3}}(\{group}\d{{3}})+)?(\{sign}\d+)?(e[+-]?\d+)?")
    for sign, group in (".,", ",.")
}


@dataclass
class Cells:
    """One column: [n] values, None where missing; what it should hold; why a cell, by position, cannot be used as it stands.

    `remedy` is what to do where most cells are so. `understood` are cells whose meaning is plain, though no value can be made of it.
    """

    values: NDArray[np.object_]
    wanted: str
    problems: dict[int, str] = field(default_factory=dict)
    remedy: str = ""
    understood: set[int] = field(default_factory=set)


def is_missing(cells: pd.Series[Any], missing: Collection[str] = MISSING) -> NDArray[np.bool_]:
    """[n] whether a cell says that there is nothing to know."""
    return np.asarray(cells.str.lower().isin(list(missing)), bool)


def parse_numbers(
    cells: pd.Series[Any], missing: Collection[str], decimal: str | None = None, percent: bool = False
) -> Cells:
    """Numbers with decimal point or comma. What could be read either way is a problem, never a guess.

    Args:
        decimal: "." or ","; None to find out from those cells of the column that can be read in one way only.
        percent: the column is meant in percent, so a percent sign says nothing new; else the sign is taken only where
            every cell has it.
    """
    known = np.flatnonzero(~is_missing(cells, missing))
    text = {int(i): str(cells.iloc[i]).lower().replace("−", "-") for i in known}
    signed = {i for i, cell in text.items() if cell.endswith("%")}
    mixed = 0 < len(signed) < len(text) and not percent
    readings = {i: {sign: _number(cell.rstrip("% "), sign) for sign in ".,"} for i, cell in text.items()}
    sure = {sign for reading in readings.values() if (sign := _only(reading)) is not None}
    numbers = Cells(np.full(len(cells), None, object), "numbers")
    for i, reading in readings.items():
        value, why = _choose(reading, decimal, sure, "," in text[i])
        if mixed and i in signed:
            value, why = None, "has a percent sign where others have none, so its scale is unknown"
        if value is None:
            numbers.problems[i] = f"{parse.quoted(text[i])} {why}: treated as missing"
            if why == _AMBIGUOUS:
                numbers.remedy = (
                    'which may be decimal fractions or thousands: write `decimal: "."` under `table` in the map if '
                )
                numbers.remedy += '1,000 is a thousand, `decimal: ","` if it is one'
        numbers.values[i] = value
    return numbers


def _only(reading: Mapping[str, float | None]) -> str | None:
    """The decimal sign of a cell that can be read in one way only."""
    signs = [sign for sign, value in reading.items() if value is not None]
    return signs[0] if len(signs) == 1 else None


def _choose(
    reading: Mapping[str, float | None], decimal: str | None, sure: set[str], comma: bool
) -> tuple[float | None, str]:
    """The value of a cell that may have two readings, or why it has none."""
    if decimal is not None:
        return reading[decimal], f"is no number with the decimal sign {decimal}"
    values = {value for value in reading.values() if value is not None}
    if len(values) < 2:
        return next(iter(values), None), "is no number"
    if len(sure) == 1:
        return reading[next(iter(sure))], ""
    if not sure and not comma:
        return reading["."], ""
    return None, _AMBIGUOUS


def _number(text: str, decimal: str) -> float | None:
    """
    >>> _number("1,234.5", "."), _number("36,6", ","), _number("36,6", "."), _number("<5", ".")
    (1234.5, 36.6, None, None)
    """
    if not _NUMBER[decimal].fullmatch(text) or not any(c.isdigit() for c in text.partition("e")[0]):
        return None
    value = float(text.replace("," if decimal == "." else ".", "").replace(decimal, "."))
    return value if np.isfinite(value) else None


def centred(cells: pd.Series[Any], missing: Collection[str], decimal: str | None = None) -> bool:
    """Whether more than a tenth of the numbers of a column are below 0: a scale about its mean, not slips of the pen."""
    numbers = [value for value in parse_numbers(cells, missing, decimal).values if value is not None]
    return bool(sum(value < 0 for value in numbers) > len(numbers) / 10)


def parse_ages(cells: pd.Series[Any], missing: Collection[str], unit: str = "years") -> Cells:
    """Ages in years, of "58", "058Y", "18 months"; "89+" carries 89, and says so. `unit` is that of ages without one."""
    ages = Cells(np.full(len(cells), None, object), "ages")
    for i in np.flatnonzero(~is_missing(cells, missing)).tolist():
        try:
            text = str(cells.iloc[i])
            band = text.startswith(("[", "("))  # whose comma is no decimal sign
            ages.values[i] = parse.parse_age_years(text if band else text.replace(",", "."), unit)
        except parse.CellError as error:
            ages.values[i], ages.problems[i] = error.value, str(error)
            ages.understood |= {i} if error.understood else set()
    return ages


def parse_states(cells: pd.Series[Any], missing: Collection[str], words: Mapping[str, State]) -> Cells:
    """States of a finding. `words` (lower case; "" for a blank cell) go before the usual ones and before missing."""
    usual = {**dict.fromkeys(missing, State.NOT_MENTIONED), **STATES, **words}
    wanted = ", ".join([*filter(None, words), "1/0/-1", "yes/no", "positive/negative/uncertain", "blank"])
    advice = f"none of {wanted}: masked (`values` in the map gives further words a meaning)"

    def read(cell: str) -> State | None:
        return usual.get(cell, usual.get(_POINT_ZERO.sub("", cell)))

    return _look_up(cells, read, State.NOT_MENTIONED, wanted, lambda cell: f"{parse.quoted(cell)} is {advice}")


def parse_words(cells: pd.Series[Any], missing: Collection[str], words: Mapping[str, Any]) -> Cells:
    """Cells that must be one of a few words."""
    known, wanted = {**dict.fromkeys(missing, ""), **words}, ", ".join(words)
    return _look_up(cells, known.get, "", wanted, lambda _: f"the cell is none of {wanted}: treated as missing")


def _look_up(
    cells: pd.Series[Any],
    read: Callable[[str], Any | None],
    nothing: Any,
    wanted: str,
    complain: Callable[[str], str],
) -> Cells:
    codes, different = pd.factorize(cells.str.lower())
    once = [read(str(word)) for word in different]
    values = np.array([None if value == nothing else value for value in once] + [None], object)
    bad = {code: complain(str(different[code])) for code, value in enumerate(once) if value is None}
    return Cells(values[codes], wanted, {i: bad[code] for i, code in enumerate(codes.tolist()) if code in bad})


def parse_categories(cells: pd.Series[Any], missing: Collection[str], words: Mapping[str, str]) -> Cells:
    """Words in lower case, synonyms made one and codes replaced by what they mean; "1.0" is the code "1"."""
    known = {word.strip().lower(): meaning.strip().lower() for word, meaning in words.items()}
    lower = [str(word) for word in cells.str.lower()]
    found = [known.get(word, known.get(_POINT_ZERO.sub("", word), word)) for word in lower]
    values = np.array([None if word in missing else word for word in found] + [None], object)[:-1]
    values[is_missing(cells, missing)] = None
    return Cells(values, "words")


def find_codes(values: NDArray[np.object_]) -> dict[float, int]:
    """Code -> how often it stands in a column of numbers, of those that are used for no value and lie far from all others.

    Far is beyond the others by more than their whole range, or below 0 where no other is.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    found: dict[float, int] = {}
    for code in _CODES:
        others = known[~np.isin(known, _CODES)] if len(known) else known
        count = int((known == code).sum())
        if count and len(others) >= 5:
            low, high = others.min(), others.max()
            if code > high + (high - low) or code < low - (high - low) or code < 0 <= low:
                found[code] = count
    return dict(sorted(found.items()))


def are_identifiers(column: str, values: NDArray[np.object_]) -> bool:
    """Whether numbers of a column number things: whole, none twice, and called so."""
    known = [value for value in values if value is not None]
    named = _IDENTIFIER.search(snake_case(column)) is not None
    return named and len(known) > _FEW and len(set(known)) == len(known) and all(float(v).is_integer() for v in known)


def no_category(cells: pd.Series[Any], missing: Collection[str]) -> str:
    """What a column of words holds, where these are no categories: "dates", or "identifiers" that hardly ever repeat; else ""."""
    given = cells[~is_missing(cells, missing)].str.lower()
    if len(given) and float(given.str.fullmatch(_DATE).mean()) > 0.9:
        return DATES
    words = given.nunique()
    return "identifiers or texts, nearly every one another" if words > max(_FEW, 0.8 * len(given)) else ""


def numeric_share(cells: pd.Series[Any], missing: Collection[str]) -> float | None:
    """Share of the cells with a value that look like a number; None for a column without any value."""
    given = cells[~is_missing(cells, missing)]
    number = r"[-+−<>=~ ]*[\d.,]+(e[+-]?\d+)?\s*[%+]?"
    return float(given.str.fullmatch(number, case=False).mean()) if len(given) else None


def looks_like(cells: pd.Series[Any], words: Collection[str], missing: Collection[str] = MISSING) -> bool:
    """Whether every cell with a value is one of `words`, and there is such a cell."""
    given = cells.str.lower()[~is_missing(cells, missing)].str.replace(_POINT_ZERO, "", regex=True)
    return len(given) > 0 and bool(given.isin(list(words)).all())


def split_lists(cells: pd.Series[Any], separator: str, missing: Collection[str]) -> list[Sequence[str] | None]:
    """The words of each list cell; None for a cell that says nothing."""
    blank = is_missing(cells, missing)
    return [
        None if b else [word.strip() for word in str(cell).split(separator) if word.strip()]
        for cell, b in zip(cells, blank, strict=True)
    ]
