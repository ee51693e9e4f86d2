import pytest

from chiasm.summary.glossary import TERMS, explain, slug, term_of
from chiasm.summary.tables import TITLES


@pytest.mark.parametrize(
    "metric", ["auroc", "auprc", "f1", "brier", "ece", "calibration_slope", "c_index", "qwk", "coverage"]
)
def test_every_figure_of_a_target_is_explained(metric: str) -> None:
    assert term_of(TITLES[metric]) in TERMS


def test_the_longer_term_is_meant() -> None:
    assert term_of("AUROC pooled") == "AUROC pooled"
    assert term_of("MAE (lower is better)") == "MAE"
    assert term_of("image alone") is None


def test_a_glossary_holds_what_is_used_and_nothing_else() -> None:
    assert list(explain(["ECE uncalibrated", "over folds", "AUROC"], ["Interval"])) == ["AUROC", "ECE", "Interval"]
    assert explain([]) == {}


def test_anchors_are_one_for_each_term_and_sentences_end() -> None:
    assert len({slug(term) for term in TERMS}) == len(TERMS)
    assert all(sentence.endswith(".") and ". " not in sentence for sentence in TERMS.values())
