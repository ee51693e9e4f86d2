import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chiasm.heads.head import Picture, Section, Text
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.calibration import reliability
from chiasm.metrics.classification import pr_curve, roc_curve
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.summary.cases import Case, Glass
from chiasm.summary.figures import Confusion, Curves, overlay
from chiasm.summary.page import Summary, render, write_page
from chiasm.summary.tables import Row

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def metric(value: float | None, protocol: str = "p", reason: str | None = None) -> Metric:
    if value is None:
        return Metric(None, None, None, 40, protocol, reason)
    return Metric(value, value - 0.031, value + 0.029, 40, protocol)


def curves(name: str) -> Curves:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 60), rng.random(60)
    rows = Resamples.draw(np.arange(60), 100)
    roc, pr = roc_curve(y, p, rows), pr_curve(y, p, rows)
    assert roc is not None
    assert pr is not None
    table = reliability(y, p, rows, bins=5)
    return Curves(name, roc, pr, float(y.mean()), table, table, np.histogram(p, 25, (0, 1))[0])


@pytest.fixture(scope="module")
def summary() -> Summary:
    jpeg = overlay(np.zeros((8, 8), np.uint8), np.zeros((0, 4)), np.zeros((0, 4)), format="JPEG")
    black, nothing = np.zeros((8, 8), np.uint8), np.zeros((0, 4))
    picture = Picture("pneumonia", "best", f"IoU .9 {ATTACK}", black, nothing, nothing)
    text = Text("worst", "CIDEr 0.0", {"the model": ATTACK, "reference": "Heart <b>normal</b>."}, black)
    metrics = {
        "findings/macro/auroc": metric(0.8113, "area; average"),
        "findings/pneumonia/auroc": metric(0.8217, "area"),
        "findings/rare/auroc": metric(None, "area", "one class only: 0 positive of 40"),
        "image:findings/macro/auroc": metric(0.7313),
        "image:findings/pneumonia/auroc": metric(0.7417),
        "image+record:findings/pneumonia/auroc": metric(0.6517),
        "image+text+record:findings/macro/auroc": metric(0.8113),
        "thumbnail:findings/pneumonia/auroc": metric(0.5617),
        "localization/pneumonia/box_iou": metric(0.4617),
        "description/all/cider": metric(0.3617),
        "constant:description/all/cider": metric(0.2617),
        "findings/pneumonia/auroc@sex=f": metric(0.8517),
    }
    return Summary(
        title="a & b",
        facts={"Cohort": "phantom · 0123"},
        metrics={parse_name(name): own for name, own in metrics.items()},
        warnings=[f"Careful {ATTACK}"],
        notes=["Target x is switched off."],
        commands=["chiasm evaluate run"],
        data_notes=[f"Drawn by an expert {ATTACK}"],
        cases=[
            Case(
                f"right {ATTACK}",
                f"study {ATTACK}",
                {"outcome": "0.9"},
                {"image": 1.5, "text": -0.5},
                {f"by {ATTACK}": f"A lesion {ATTACK}"},
                [("axial", jpeg)],
            )
        ],
        cases_chosen="By rule.",
        glass=Glass({"axial": jpeg}, "Of 3 patients."),
        curves=[curves("findings/pneumonia"), curves("outcome/event"), curves("outcome/other")],
        sections=[
            Section("Localization", "image only", "localization", ("box_iou",), pictures=[picture]),
            Section("Generated descriptions", "no report", "description", ("cider",), texts=[text]),
        ],
    )


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    return render(summary)


class Reader(HTMLParser):
    """Which tags there are, and what they would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br", "link", "input", "path", "line", "circle", "rect", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()


def test_text_of_a_report_is_text(page: str) -> None:
    read = Reader(page)
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert read.tags.count("img") == 4, "the pictures of the summary and none of the attack's"
    assert "&lt;script&gt;" in page
    assert "Heart &lt;b&gt;normal&lt;/b&gt;." in page
    assert "a &amp; b" in page


def test_every_tag_is_closed(page: str) -> None:
    assert Reader(page).open == []
    assert page.startswith("<!DOCTYPE html>")


def test_the_page_loads_nothing(page: str) -> None:
    loading = [
        v for name, v in Reader(page).attributes if name in ("src", "href", "xlink:href", "data", "srcset", "action")
    ]
    assert loading
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loading)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_every_reference_inside_a_figure_is_found_once(page: str) -> None:
    read = Reader(page)
    ids = [value for name, value in read.attributes if name == "id"]
    used = {v[1:] for name, v in read.attributes if name == "xlink:href"} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert used <= set(ids)
    assert all(ids.count(name) == 1 for name in used)


def test_it_says_what_it_is(page: str) -> None:
    assert page.count("Not for clinical use") >= 2
    assert "Holds patient data" in page


def test_every_leading_figure_stands_there_with_its_interval(page: str) -> None:
    for number in ("0.811", "0.780–0.840", "0.822", "0.742", "0.562", "0.462", "0.362", "0.262", "0.852"):
        assert number in page
    assert "one class only: 0 positive of 40" in page
    assert 'title="area"' in page, "each figure carries its protocol"


def test_the_trustworthy_arm_leads(summary: Summary) -> None:
    swapped = render(replace(summary, leads=("image+record", "")))
    first = swapped[swapped.index('id="scores-1"') : swapped.index('id="scores-2"')]
    assert "0.652" in first
    assert "0.822" not in first


def test_warnings_come_before_figures_and_their_absence_is_said(summary: Summary, page: str) -> None:
    assert page.index("Careful") < page.index("Performance")
    assert "No warning" in render(replace(summary, warnings=()))


def test_sections_without_content_are_left_out(summary: Summary) -> None:
    bare = Summary("t", {}, {parse_name("outcome/event/auroc"): metric(0.7)})
    text = render(bare)
    for heading in (
        "What each modality adds",
        "Shortcut controls",
        "Localization",
        "Generated descriptions",
        "Subgroups",
    ):
        assert heading not in text
        assert heading in render(summary)


def test_further_labels_are_folded(page: str) -> None:
    folded = page[page.index("1 more labels") :]
    assert "outcome · other" in folded
    assert "outcome · event" not in folded[: folded.index("</details>")]


def test_a_page_is_written_as_utf_8(summary: Summary, tmp_path: Path) -> None:
    path = write_page(Summary("Grüße", {}, {}), tmp_path / "summary.html")
    assert "Grüße" in path.read_text("utf-8")


def test_levels_stand_in_a_table_shaded_by_row(summary: Summary) -> None:
    table = Confusion("mrs/all", ["0", "<3>"], np.array([[3, 1], [0, 0]]))
    page = render(replace(summary, confusions=[table], coverage=0.925))
    assert "--share: 75%" in page
    assert "--share: 25%" in page
    assert "&lt;3&gt;" in page
    assert "92.5% of patients" in page
    assert "Confusion matrices" not in render(summary)


def test_single_patients_show_bars_from_the_middle(page: str) -> None:
    part = page[page.index('id="patients"') : page.index('id="glass"')]
    assert "By rule." in part
    bars = re.findall(r'<i class="(\w+)" style="left: ([\d.]+)%; width: ([\d.]+)%"></i></span><b>([-+.\d]+)</b>', part)
    assert bars == [("up", "50.0", "50.0", "+1.50"), ("down", "33.3", "16.7", "-0.50")]
    assert part.count("<img") == 1


def test_what_users_must_know_of_the_data_stands_before_the_figures(page: str) -> None:
    assert page.index("Drawn by an expert") < page.index('id="scores-1"')


def test_columns_that_were_opted_in_are_named_and_stand_apart(summary: Summary) -> None:
    figures = {parse_name(f"{arm}outcome/event/auroc"): metric(0.7) for arm in ("", "without_opt_in:", "image+record:")}
    apart = render(replace(summary, metrics=figures, leads=("without_opt_in", ""), opted_in=["etiology"]))
    assert apart.index("all inputs without etiology") < apart.index("The same, with etiology as an input")


def test_record_alone_is_drawn_beside_the_model(summary: Summary) -> None:
    from chiasm.summary.figures import roc_svg

    (own, *_) = summary.curves
    assert "record only" not in roc_svg(own)
    both = roc_svg(replace(own, others={"record only": own.pr}))
    assert "record only" in both
    assert "model" in both


def test_the_page_begins_with_the_answer(summary: Summary, page: str) -> None:
    lead = {parse_name("findings/macro/auroc"): ["The question: x.", f"The answer {ATTACK}."]}
    row = Row("nearest control: metadata", [metric(0.6617)], quiet=True)
    told = render(replace(summary, lead=lead, beside={parse_name("findings/macro/auroc"): [row]}))
    first = told[told.index('id="answer"') : told.index('id="warnings"')]
    assert "<b>The question: x.</b> The answer &lt;script&gt;" in first
    for number in ("0.811", "0.731", "0.662"):
        assert number in first
    assert told.index('id="warnings"') < told.index("<nav") < told.index('id="data"')
    assert 'id="answer"' in page, "an answer without sentences still stands there"


def test_the_contents_lead_to_every_section_and_to_nothing_else(page: str) -> None:
    nav = page[page.index("<nav") : page.index("</nav>")]
    linked = re.findall(r'href="#([\w-]+)"', nav)
    assert linked == [
        "answer",
        *[s for s in re.findall(r'<section[^>]* id="([\w-]+)"', page) if s not in ("answer", "warnings")],
    ]
    assert "position: sticky" in page


def test_the_glossary_explains_what_occurs_and_headings_lead_there(summary: Summary, page: str) -> None:
    terms = re.findall(r'<div id="term-([\w-]+)">', page)
    assert {"auroc", "interval"} <= set(terms)
    assert not {"c-index", "ece", "quadratic-kappa", "shapley-share", "within-folds"} & set(terms)
    assert set(re.findall(r'<th><a href="#term-([\w-]+)">', page)) <= set(terms)
    more = {
        parse_name(n): metric(0.5) for n in ("mrs/all/qwk", "mrs/all/mae", "mrs/all/shapley_image", "mrs/all/r_pooled")
    }
    told = render(replace(summary, metrics={**summary.metrics, **more}))
    assert {"quadratic-kappa", "mae", "shapley-share", "within-folds"} <= set(
        re.findall(r'<div id="term-([\w-]+)">', told)
    )


def test_a_cell_of_other_patients_says_how_many(summary: Summary) -> None:
    few = replace(metric(0.4413), n=23)
    found = {"outcome/event/auroc": metric(0.7713), "outcome/event/f1": few, "outcome/event/brier": metric(0.2113)}
    page = render(replace(summary, metrics={parse_name(name): own for name, own in found.items()}, sections=()))
    row = page[page.index('id="scores-1"') :]
    assert row.count("n = 40") == 1
    assert re.search(r"0\.441.*?n = 23", row)


def test_a_row_without_figures_says_why_once(summary: Summary) -> None:
    why = "3 patients of a class; at least 5 are needed"
    found = {f"outcome/event/{m}": metric(None, reason=why) for m in ("auroc", "auprc", "f1")}
    page = render(replace(summary, metrics={parse_name(name): own for name, own in found.items()}, sections=()))
    row = page[page.index('id="scores-1"') : page.index('id="curves"')]
    assert row.count(why) == 1
    assert 'colspan="3"' in row


def test_metadata_say_what_is_in_them(summary: Summary) -> None:
    assert "metadata (view, age)" in render(replace(summary, metadata="view, age"))
