import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError, RunError
from chiasm.evaluate import Evaluation
from chiasm.evaluate.evaluation import write_evaluation
from chiasm.evaluate.evidence import Arm, Evidence, Pool, Question
from chiasm.metrics.metric import Metric, parse_name
from chiasm.recipe import read_recipe
from chiasm.study import Kind


def test_what_is_written_is_what_is_returned(evaluated: Evaluation) -> None:
    document = json.loads((evaluated.out / "evaluation.json").read_text("utf-8"))
    assert document == json.loads(evaluated.to_json())
    assert document["schema"] == 1
    assert {name: Metric.from_json(raw) for name, raw in document["metrics"].items()} == dict(evaluated.metrics)
    assert all(parse_name(name) for name in document["metrics"])
    assert document["metrics"]["findings/pneumonia/auroc"]["value"] == pytest.approx(15 / 16)
    assert (document["studies"], document["patients"], document["members"]) == (8, 7, 1)
    assert document["leads"] == ["image+record", ""], "the reports state the findings"
    assert set(document["predictions"]) == {path.name for path in (evaluated.out / "predictions").iterdir()}


def test_no_report_text_and_no_identifier_in_the_figures(evaluated: Evaluation) -> None:
    text = (evaluated.out / "evaluation.json").read_text("utf-8")
    for secret in ("Featherstonehaugh", "lower zone", "Clear lungs", "s03", "p03", "p14", "i03"):
        assert secret not in text


def test_the_page_tells_the_arms_apart_and_puts_the_one_without_report_first(evaluated: Evaluation) -> None:
    page = evaluated.page.read_text("utf-8")
    first, second = page.index("What it answers"), page.index("with the report as an input")
    assert first < second
    assert page.index("image + record</span>") < second
    assert "The report is an input and states 80% of the present findings" in page
    assert "For &lt;tests&gt;." in page
    assert "Nothing else." in page
    assert "Pneumonia of the left lower zone, case" in page, "descriptions stand beside their references"
    assert "Featherstonehaugh" not in page, "the history is no reference"


def test_nothing_to_score_is_an_error(run: Path, evidence: Evidence, cohort: Cohort, tmp_path: Path) -> None:
    recipe = read_recipe(run / "recipe.yaml")
    nobody = replace(evidence, pool=Pool.find([cohort], [], np.zeros((0, 1), np.int64)))
    with pytest.raises(RunError, match="no study to evaluate"):
        write_evaluation(run, nobody, recipe, tmp_path / "out")
    other = Question({"grade": ["tumour"]}, {"grade": Kind.BINARY}, {})
    unknown = replace(evidence, question=other, arms={"": Arm({"grade": np.zeros((8, 1))})}, maps=None, descriptions={})
    with pytest.raises(CohortError, match="findings, outcome, severity") as caught:
        write_evaluation(run, unknown, recipe, tmp_path / "out")
    assert "grade (tumour)" in str(caught.value)
    assert not (tmp_path / "out").exists(), "an evaluation that failed leaves nothing"


def test_the_same_evidence_gives_the_same_figures(run: Path, evidence: Evidence, tmp_path: Path) -> None:
    recipe = read_recipe(run / "recipe.yaml")
    a, b = (write_evaluation(run, evidence, recipe, tmp_path / name).to_json() for name in "ab")
    assert a == b
