import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import CohortError, RunError
from chiasm.evaluation import evaluate as room
from chiasm.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Pool, Question
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.recipe import read_recipe
from chiasm.study import Kind


def test_what_is_written_is_what_is_returned(evaluated: Evaluation) -> None:
    document = json.loads((evaluated.out / "evaluation.json").read_text("utf-8"))
    assert document == json.loads(json.dumps(evaluated.document()))
    assert document["schema"] == 4
    assert {name: Metric.from_json(raw) for name, raw in document["metrics"].items()} == dict(evaluated.metrics)
    assert all(parse_name(name) for name in document["metrics"])
    assert document["metrics"]["findings/pneumonia/auroc"]["value"] == pytest.approx(15 / 16)
    assert (document["studies"], document["patients"], document["fold_models"]) == (8, 7, 1)
    assert document["leads"] == ["image+record", ""], "the reports state the findings"
    assert set(document["predictions"]) == {
        str(path.relative_to(evaluated.out / "predictions")) for path in (evaluated.out / "predictions").rglob("*.*")
    }


def test_no_report_text_and_no_identifier_in_the_figures(evaluated: Evaluation) -> None:
    text = (evaluated.out / "evaluation.json").read_text("utf-8")
    for secret in ("Featherstonehaugh", "lower zone", "Clear lungs", "s03", "p03", "p14", "i03"):
        assert secret not in text


def test_the_page_tells_the_arms_apart_and_puts_the_one_without_report_first(evaluated: Evaluation) -> None:
    page = evaluated.page.read_text("utf-8")
    first, second = page.index("<h2>Performance"), page.index("with the report as an input<span")
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
    unknown = replace(evidence, question=other, arms={"": Arm({"grade": np.zeros((8, 1))})}, heads={})
    with pytest.raises(CohortError, match="findings, outcome, severity") as caught:
        write_evaluation(run, unknown, recipe, tmp_path / "out")
    assert "grade (tumour)" in str(caught.value)
    assert not (tmp_path / "out").exists(), "an evaluation that failed leaves nothing"


def test_the_same_evidence_gives_the_same_figures(run: Path, evidence: Evidence, tmp_path: Path) -> None:
    recipe = read_recipe(run / "recipe.yaml")
    a, b = (write_evaluation(run, evidence, recipe, tmp_path / name).document() for name in "ab")
    assert a == b


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, evidence: Evidence, run: Path) -> list[list[str] | None]:
    """The cohorts that `evaluate` loads the fold models over, None for the run's own; the answers are the hand-made ones."""
    asked: list[list[str] | None] = []

    class Loaded:
        def over(self, cohorts: list[Cohort] | None) -> SimpleNamespace:
            asked.append(None if cohorts is None else [cohort.source for cohort in cohorts])
            loader = SimpleNamespace(truncated_reports=np.array([True, False, True]))
            recipe = read_recipe(run / "recipe.yaml")
            return SimpleNamespace(recipe=recipe, loader=loader, plan=SimpleNamespace(max_tokens=160))

    monkeypatch.setattr(room, "load_fold_models", lambda _: [Loaded()])
    monkeypatch.setattr(room, "_explain_cases", lambda _, evidence, recipe: evidence)
    monkeypatch.setattr(room, "few_in_training", lambda *_: [])
    monkeypatch.setattr(room, "record_evaluation", lambda *_: "")
    monkeypatch.setattr(room, "find_shift", lambda *_: ())
    monkeypatch.setattr(room, "over_own_cohorts", lambda _, loaded: [each.over(None) for each in loaded])
    monkeypatch.setattr(room, "collect", lambda fold_models, taught: (evidence, ["Shared."] if taught else []))
    return asked


def test_a_cohort_of_the_training_is_taken_by_its_test_split(run: Path, cohort: Cohort, asked: list[object]) -> None:
    evaluation = evaluate(run, cohort.path)
    assert asked == [None], "its training studies are never scored"
    assert evaluation.out == run / "evaluation"
    assert evaluation.warnings[0] == "Shared."
    said = "2 reports are read only up to their word or sign 160."
    assert evaluation.record.notes == ("Target grade is switched off.", said)


def test_another_cohort_is_external_and_has_a_folder_of_its_own(
    run: Path, cohort: Cohort, asked: list[object], tmp_path: Path
) -> None:
    other = write_cohort([cohort.study(3)], tmp_path / "clinic", source="elsewhere", options={}, size=32)
    assert evaluate(run, other.path).out == run / "evaluation-clinic"
    assert asked == [["elsewhere"], None], "and the run's own for the controls"
    assert evaluate(run, other.path, tmp_path / "here").page == tmp_path / "here" / "summary.html"


def test_a_training_cohort_that_is_gone_costs_the_controls_and_says_so(
    run: Path, cohort: Cohort, asked: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_cohort([cohort.study(3)], tmp_path / "clinic", source="elsewhere", options={}, size=32)

    def gone(*_: object) -> object:
        raise CohortError("this is no cohort")

    monkeypatch.setattr(room, "over_own_cohorts", gone)
    evaluation = evaluate(run, other.path)
    assert "The cohort of the training is gone" in evaluation.record.notes[-1]
    with pytest.raises(CohortError):
        evaluate(run)


def test_the_page_names_the_folder_that_can_be_verified(run: Path, evidence: Evidence, tmp_path: Path) -> None:
    recipe = read_recipe(run / "recipe.yaml")
    inside = write_evaluation(run, evidence, recipe, run / "evaluation")
    assert f"chiasm verify {run}<" in inside.page.read_text("utf-8")
    elsewhere = write_evaluation(run, evidence, recipe, tmp_path / "beside")
    assert f"chiasm verify {tmp_path / 'beside'}<" in elsewhere.page.read_text("utf-8")
