"""What is said first, from estimates whose intervals are written down: each sentence with the figures that make it true."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chiasm.evaluation.evaluate import write_evaluation
from chiasm.evaluation.lead import tell_lead
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Question
from chiasm.metrics.bootstrap import Estimate, Resamples
from chiasm.metrics.name import parse_name
from chiasm.recipe import read_recipe
from chiasm.run.records import Compared, ComparedRun
from chiasm.study import Kind

ROWS = Resamples.draw([f"p{i}" for i in range(40)], 100)
WAVE = np.linspace(-1, 1, 100)


def around(middle: float, reach: float = 0.05, seed: int | None = None, protocol: str = "p") -> Estimate:
    """An estimate whose resamples vary by `reach`; those of one seed (None) go up and down together."""
    wave = WAVE if seed is None else np.random.default_rng(seed).permutation(WAVE)
    return ROWS.estimate(
        np.r_[middle, middle + reach * wave], protocol, classes=(np.arange(40) < 12, np.arange(40) >= 12)
    )


def tell(evidence: Evidence, figures: dict[str, Estimate], leads: tuple[str, ...] = ("",), **more: Any) -> list[str]:
    """The sentences of `outcome/event`, asked of the modalities that are named among the figures."""
    inputs = [m for m in ("image", "text", "record") if m in figures] or ["image"]
    question = replace(
        evidence.question, targets={"outcome": ["event"]}, kinds={"outcome": Kind.BINARY}, modalities=inputs
    )
    scores = {parse_name(f"{arm}:outcome/event/auroc".lstrip(":")): each for arm, each in figures.items()}
    arms = evidence.arms | {"record_column": Arm({}, details={"outcome/event": "nihss"})}
    (lead,) = tell_lead(replace(evidence, question=question, arms=arms), scores, leads, **more)
    return list(lead.sentences)


def test_one_input_that_answers(evidence: Evidence) -> None:
    question, answer = tell(evidence, {"": around(0.8)})
    assert question == "The question: event in 40 patients (12 with it), from image."
    assert answer == "The model reaches AUROC 0.800 (95% interval 0.753 to 0.848), above chance (0.5)."


@pytest.mark.parametrize(
    ("middle", "said"),
    [(0.52, "which cannot be told from chance (0.5)."), (0.3, "below chance (0.5): it ranks patients the")],
)
def test_the_lead_says_whether_an_interval_is_at_chance_or_below_it(
    evidence: Evidence, middle: float, said: str
) -> None:
    assert said in tell(evidence, {"": around(middle)})[1]


def test_an_answer_that_comes_from_the_text_alone(evidence: Evidence) -> None:
    """The image is at chance, and what it adds to the text is not told from nothing."""
    figures = {"": around(0.85, seed=1), "text": around(0.85), "image": around(0.48)}
    _, _, carries, chance = tell(evidence, figures)
    assert carries.startswith(
        "The text alone reaches AUROC 0.850 (95% interval 0.802 to 0.897): the answer comes from it, and"
    )
    assert "what the image adds cannot be told from nothing (difference +0.000, -0." in carries
    assert chance.startswith("The image alone cannot be told from chance: AUROC 0.480 (95% interval 0.432 to 0.527)")


def test_an_input_that_harms(evidence: Evidence) -> None:
    found = tell(evidence, {"": around(0.75), "text": around(0.85), "image": around(0.48)})
    assert "all inputs together do worse (difference -0.100, -0.100 to -0.100), so the image harms." in found[2]


def test_inputs_that_are_better_together_and_what_each_adds(evidence: Evidence) -> None:
    single = {"image": around(0.6), "text": around(0.7), "record": around(0.65)}
    pairs = {"text+record": around(0.8), "image+record": around(0.7), "image+text": around(0.85)}
    found = tell(evidence, {"": around(0.8), **single, **pairs})
    assert "with the image and record the model is better (difference +0.100" in found[2]
    assert found[3] == (
        "To all other inputs the image adds nothing that can be told from chance (difference +0.000, +0.000 to +0.000); the text "
        "adds (difference +0.100, +0.100 to +0.100); the record harms (difference -0.050, -0.050 to -0.050)."
    )


def test_no_input_above_chance(evidence: Evidence) -> None:
    found = tell(evidence, {"": around(0.52), "text": around(0.51), "image": around(0.48)})[2]
    assert found.startswith("No input alone is told from chance: the image AUROC 0.480 (95%")
    assert "All together are better than the text alone (difference +0.010" in found


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (around(0.9), "it beats the model (0.800; difference -0.100"),
        (around(0.78, seed=1), "it comes close to the model (0.800; difference +0.020"),
        (around(0.82, seed=1), "it lies above the model (0.800; difference -0.020"),
        (around(0.66, 0.2, seed=1), "it cannot be told apart from the model (0.800; difference +0.140"),
        (around(0.6), "it stays below the model (0.800; difference +0.200"),
        (around(0.5), "it cannot be told from chance."),
    ],
)
def test_a_control_beside_the_model(evidence: Evidence, control: Estimate, said: str) -> None:
    sentence = tell(evidence, {"": around(0.8), "record_column": control})[-1]
    assert sentence.startswith("The control that comes nearest is the best single record column (nihss), with AUROC 0.")
    assert said in sentence


def test_the_nearest_control_is_named_and_not_the_highest(evidence: Evidence) -> None:
    """A thumbnail of .62 is as good as an image of .63; a column of .65 is far below a model of .95."""
    figures = {
        "": around(0.95),
        "image": around(0.63, seed=1),
        "thumbnail": around(0.62),
        "record_column": around(0.65),
    }
    assert "is a 16 x 16 thumbnail, with AUROC 0.620" in tell(evidence, figures)[-1]


def test_a_column_that_is_the_label_is_said_after_the_answer(evidence: Evidence) -> None:
    leak = {"target": "outcome", "label": "event", "column": "flag", "auroc": 1.0, "patients": 40}
    found = tell(evidence, {"": around(0.99, 0.005)}, leaks=[leak, {**leak, "target": "findings"}])
    assert found[2:] == [
        "The record column flag alone tells event (AUROC 1.00 in the cohort): the answer may be the label under another name."
    ]


def test_each_leading_arm_has_its_answer(evidence: Evidence) -> None:
    figures = {"": around(0.9), "image": around(0.7), "text": around(0.9)}
    found = tell(evidence, figures, ("image", ""))
    assert found[0].endswith("from image.")
    assert found[1].startswith("Without the report the model reaches AUROC 0.700")
    assert found[2].startswith("With all inputs the model reaches AUROC 0.900")


def test_few_patients_have_no_answer(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chiasm.metrics.bootstrap.FEWEST", 5)
    one = replace(around(0.883), classes=(1, 39))
    assert tell(evidence, {"": one, "image": one})[1:] == [
        "It has no answer: 1 patient of a class; at least 5 are needed."
    ]


def test_the_strongest_baseline_of_a_comparison(evidence: Evidence) -> None:
    def run(name: str, baseline: bool) -> ComparedRun:
        return ComparedRun(name, "", f"recipe-{name}", baseline, ("image",), "", {})

    def raw(other: float, better: str) -> dict[str, Any]:
        return {"of": [0.8, other], "value": 0.8 - other, "low": -0.02, "high": 0.06, "better": better, "n": 40}

    against = {name: {"outcome/event/auroc": raw(*own)} for name, own in
               {"a": (0.78, "neither"), "b": (0.6, "first"), "c": (0.9, "other")}.items()}  # fmt: skip
    runs = (run("us", False), run("a", True), run("b", True), run("c", False))
    compared = Compared("", runs, (), 40, 40, 100, (), (), {}, against)
    assert tell(evidence, {"": around(0.8)}, compared=compared)[-1] == (
        "The strongest plain baseline is recipe-a, with AUROC 0.780 on the same patients: the model does not beat it "
        "(model minus baseline 0.020, -0.020 to 0.060)."
    )


def test_an_average_says_how_many_labels_it_is_of(evidence: Evidence) -> None:
    labels = ["a", "b", "c"]
    question = Question({"findings": labels}, {"findings": Kind.BINARY}, {})
    few = replace(around(0.9), classes=(2, 38))
    names = {f"findings/{label}/auroc": around(0.7) for label in labels} | {"findings/macro/auroc": around(0.7)}
    scores = {parse_name(name): each for name, each in names.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chiasm.metrics.bootstrap.FEWEST", 5)
        (lead,) = tell_lead(replace(evidence, question=question), scores | {parse_name("findings/b/auroc"): few}, ("",))
    assert lead.sentences[0] == "The question: 3 labels of findings in 40 patients, from image."
    assert "the mean over 2 of 3 labels (the others have too few patients), above chance" in lead.sentences[1]


def test_a_figure_of_one_positive_patient_is_never_printed(
    run, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edema is present in one tested patient: it would rank at .60; all pages and sentences say why there is no figure."""
    monkeypatch.setattr("chiasm.metrics.bootstrap.FEWEST", 5)
    written = write_evaluation(run, evidence, read_recipe(run / "recipe.yaml"), run / "evaluation")
    page = written.page.read_text("utf-8")
    rows = [row for row in page.split("<tr") if ">edema" in row]
    assert rows
    assert not [row for row in rows if "<b title" in row]
    assert any("1 patient of a class; at least 5 are needed" in row for row in rows)
    assert all(m.value is None for name, m in written.metrics.items() if "edema/auroc" in name)
