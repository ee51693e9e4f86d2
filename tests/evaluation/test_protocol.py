from dataclasses import fields
from typing import Any

from scoring import score_all

from chiasm.evaluation.protocol import to_metrics, who_answered
from chiasm.evaluation.spec import Evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.run.records import Evaluated


def recorded(**more: Any) -> Evaluated:
    """An evaluation of which no more is known than who answered."""
    known = {field.name: None for field in fields(Evaluated)} | {"external": False, "fold_models": 1, "repeats": 1}
    return Evaluated(**(known | more))  # type: ignore[arg-type]


def test_every_figure_names_its_arm(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    metrics = to_metrics(score_all(evidence, truth, resamples), evidence, recorded())
    said = {str(name): metric.protocol for name, metric in metrics.items()}
    full = "image + text + record; report-conditioned (sections history, findings); test split; uncertain findings left out; "
    assert said["findings/pneumonia/auroc"].startswith(full)
    assert said["image:findings/pneumonia/auroc"].startswith("image only; test split; ")
    assert said["image+record:outcome/event/auroc"].startswith("image + record; test split; area under")
    assert "each report replaced by another patient's" in said["shuffled_text:findings/pneumonia/auroc"]
    assert "the same fold's training patients" in said["thumbnail:findings/pneumonia/auroc"]
    assert said["bayes:image:outcome/event/auroc"].startswith("best reachable from image")
    assert said["localization/pneumonia/miou"].startswith("image only; ")
    assert said["description/all/bleu4"].startswith("the report is hidden; written from image and record; ")
    assert "(by hand)" in said["nearest:description/all/bleu4"]
    assert said["added_text:outcome/event/auroc"].startswith(
        "what the text adds to all other inputs; report-conditioned"
    )
    assert "paired difference of area under" in said["added_over_shuffled_text:outcome/event/auroc"]
    for name, protocol in said.items():
        assert ("report-conditioned" in protocol) == (
            "text" in name.split(":")[0]
            or name.startswith("added_")
            or (":" not in name and not name.startswith(("localization", "description")))
        ), name


def test_who_answered_is_said() -> None:
    def who(**more: Any) -> str:
        return who_answered(recorded(**more))

    assert who() == "test split"
    assert who(fold_models=5, folds=5) == "5 patient folds pooled"
    each = "each answer, threshold and quantile of a prediction set the mean of"
    assert who(fold_models=10, folds=5, repeats=2) == f"5 patient folds pooled, {each} 2 models (one a repeat)"
    assert who(fold_models=5, folds=5, external=True) == f"external cohort, {each} 5 models"
    assert who(external=True) == "external cohort"
    within = who_answered(recorded(fold_models=10, folds=5, repeats=2), within=True)
    assert within == "5 patient folds, 2 times", "no answers are put together"
