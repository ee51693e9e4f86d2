"""The page of a comparison: a forest whose numbers are those of the document, every text escaped."""

import re

import pytest

from chiasm.metrics.name import parse_name
from chiasm.summary.comparison import difference_table, p_value, render_comparison

AUROC = "outcome/event/auroc"


def a_difference(value, low, high, **more):
    folds = {"value": value, "low": low - 0.1, "high": high + 0.1, "t": 1.0, "df": 9, "p": 0.2, "p_adjusted": 0.4}
    own = {"value": value, "low": low, "high": high, "n": 90, "protocol": "paired", "of": [0.8, 0.7]}
    return own | {"p": 0.03, "p_adjusted": 0.06, "better": "neither", "folds": folds} | more


@pytest.fixture
def document():
    metric = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 90, "protocol": "x"}
    run = {"recipe": "report-fusion", "modalities": ["image", "record"], "baseline": False}
    names = (AUROC, f"image:{AUROC}", f"image+record:{AUROC}", "outcome/event/brier", "outcome/event/coverage")
    none = {"reason": "the runs were not trained on the same folds"}
    return {
        "runs": [run | {"name": "net<1>"}, run | {"name": "plain"}, run | {"name": "third"}],
        "cohorts": [{"source": "table", "hash": "0123456789abcdef"}],
        "patients": 90, "studies": 100, "resamples": 1000, "made": "2026-11-22",
        "notes": ["A <note>."], "warnings": ["It does not beat plain."],
        "metrics": dict.fromkeys(names, metric),
        "comparisons": {
            "plain": {name: a_difference(0.1, -0.02, 0.2) for name in names},
            "third": {AUROC: a_difference(-0.05, -0.3, 0.1, folds=none)},
        },
    }  # fmt: skip


def test_a_row_for_each_other_run_on_a_scale_even_about_zero(document):
    table = difference_table(document["comparisons"], parse_name(AUROC))
    assert [row.name for row in table.rows] == ["− plain", "− third"]
    assert (table.low, table.high, table.chance) == (pytest.approx(-0.33), pytest.approx(0.33), 0.0)
    assert table.at(0) == 50
    assert "0.800 against 0.700; p = .030 (Holm .060); n = 90" in table.rows[0].note
    assert "9 degrees of freedom: p = .200 (Holm .400)" in table.rows[0].cells[1].protocol
    assert table.rows[1].cells[1].reason == "the runs were not trained on the same folds"
    brier = difference_table(document["comparisons"], parse_name("outcome/event/brier"))
    assert len(brier.rows) == 1 and "lower is better" in brier.title
    assert difference_table(document["comparisons"], parse_name("outcome/event/f1")) is None


def test_the_page_leads_with_the_target_and_folds_the_rest(document):
    page = render_comparison(document)
    assert "net&lt;1&gt;" in page and "A &lt;note&gt;." in page and "<1>" not in page
    assert page.index("It does not beat plain.") < page.index("Is it better?")
    assert page.index("outcome · event · AUROC") < page.index("<details>") < page.index("image only")
    titles = re.findall(r"<caption>(.*?)</caption>", page)
    assert titles == [
        "outcome · event · AUROC",
        "outcome · event · AUROC, image only",
        "outcome · event · Brier (lower is better)",
    ]
    assert "-0.020 to 0.200" in page
    assert "adjusted by Holm over the 2 other runs" in page
    assert "http" not in page.replace("http-equiv", "")


def test_of_one_other_run_nothing_is_adjusted(document):
    document["runs"].pop()
    assert "Holm over" not in render_comparison(document)


def test_small_p_values_are_not_written_as_zero():
    assert (p_value(0.0004), p_value(0.05), p_value(1.0)) == ("< .001", ".050", "1.000")
