"""A text that a writer made as the input of a model: written, trained on, scored, and missed when it changes."""

import shutil

import pytest

from chiasm.cohort.compose import write_texts
from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError
from chiasm.evaluation.evaluate import evaluate
from chiasm.evaluation.verify import verify
from chiasm.recipe import read_recipe
from chiasm.report.writers import TemplateWriter
from chiasm.training.train import train

SETS = (
    *("inputs.image=null", "inputs.record=null", "heads.localization=null", "heads.description=null"),
    *("inputs.text.sections=[structured_report]", "inputs.text.max_tokens=64", "targets=[findings]", "fusion.dim=16"),
    *("fusion.heads=2", "fusion.modality_dropout=0", "train.epochs=1", "evaluate.resamples=100"),
)


def test_a_structured_report_as_input_is_told_apart_and_held_to(phantom, tmp_path):
    cohort = Cohort.open(shutil.copytree(phantom.path, tmp_path / "cohort"))
    recipe = read_recipe("report-fusion", SETS)
    with pytest.raises(CohortError, match="no structured_report"):
        train(recipe, [cohort.path], tmp_path / "run")
    write_texts(cohort, TemplateWriter(), "structured-report")
    info = train(recipe, [cohort.path], tmp_path / "run")
    assert list(info.cohorts[0].texts) == ["structured_report"]
    assert any("structured_report was written from labels" in note for note in info.notes)

    evaluation = evaluate(tmp_path / "run")
    assert any("structured_report" in warning for warning in evaluation.warnings)
    assert any("states 100% of the present findings" in warning for warning in evaluation.warnings)
    assert evaluation.record.cohorts[0].texts == info.cohorts[0].texts
    assert verify(tmp_path / "run") == []

    (cohort.path / "texts.parquet").unlink()
    with pytest.raises(CohortError, match="structured_report have changed"):
        evaluate(tmp_path / "run")
