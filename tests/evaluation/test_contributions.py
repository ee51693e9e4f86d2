"""Three modalities and answers that are written down: what each added can be computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scoring import by_name, score_all

from chiasm.evaluation.contributions import find_shares, score_shares, share_table
from chiasm.evaluation.score import Scores
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.attribution import subsets
from chiasm.metrics.bootstrap import Resamples
from chiasm.study import Kind

MODALITIES = ("image", "text", "record")
PARTS = {"image": 2.0, "text": -0.5, "record": 1.0}
EVENT = np.array([0.1, 0.2, 0.9, 0.8, 0.4, 0.3, 0.7, 0.6])


def _arm(odds: np.ndarray) -> Arm:
    """One probability for the event; log-odds of each study."""
    return Arm({"outcome": expit(odds)[:, None]}, shown=np.full((len(odds), 1), "image+text+record"))


@pytest.fixture(scope="module")
def added(evidence: Evidence) -> Evidence:
    """Log-odds are sums: of study i the image adds 2 i, the text -i/2, the record i, and image with record 3 more."""
    question = replace(
        evidence.question,
        targets={"outcome": ["event"]},
        kinds={"outcome": Kind.BINARY},
        findings=[],
        localized=[],
        description_sections=[],
    )
    scale = np.arange(8) / 8
    arms = {}
    for chosen in subsets(MODALITIES):
        both = 3.0 if {"image", "record"} <= set(chosen) else 0.0
        prefix = {(): "nothing", MODALITIES: ""}.get(chosen, "+".join(chosen))
        arms[prefix] = _arm(-1.0 + scale * (sum(PARTS[m] for m in chosen) + both))
    return replace(evidence, question=question, arms=arms, heads={})


@pytest.fixture(scope="module")
def scores(added: Evidence, truth: Truth, resamples: Resamples) -> Scores:
    return by_name(score_all(added, truth, resamples))


def test_every_answer_is_shared_out_to_the_last_digit(added: Evidence) -> None:
    shares = find_shares(added)
    assert shares is not None
    scale = np.arange(8) / 8
    own = {m: values[:, 0] for m, values in shares["outcome"].items()}
    np.testing.assert_allclose(own["image"], scale * (2 + 1.5), atol=1e-6)
    np.testing.assert_allclose(own["text"], scale * -0.5, atol=1e-6)
    np.testing.assert_allclose(own["record"], scale * (1 + 1.5), atol=1e-6)


def test_shares_stand_beside_each_study(added: Evidence) -> None:
    table = share_table(added)
    assert table is not None
    rows = table.to_pylist()
    assert list(rows[0]) == ["study_id", "patient_id", "number", "nothing", *MODALITIES, "answer"]
    assert [row["study_id"] for row in rows] == added.pool.keys.tolist()
    for row in rows:
        assert row["number"] == "outcome/event"
        assert row["nothing"] == pytest.approx(-1.0)
        assert row["nothing"] + sum(row[m] for m in MODALITIES) == pytest.approx(row["answer"])


def test_the_mean_size_of_a_share_forgets_its_sign(scores: Scores) -> None:
    mean = np.arange(8).mean() / 8
    found = {m: scores[f"outcome/event/shapley_{m}"].metric() for m in MODALITIES}
    assert [found[m].value for m in MODALITIES] == pytest.approx([3.5 * mean, 0.5 * mean, 2.5 * mean])
    assert "in log-odds" in found["text"].protocol
    low, high = found["image"].low, found["image"].high
    assert low is not None and high is not None and low < 3.5 * mean < high


def test_a_model_with_one_input_or_with_an_arm_unasked_shares_nothing(added: Evidence, resamples: Resamples) -> None:
    alone = replace(added, question=replace(added.question, modalities=["image"]))
    unasked = replace(added, arms={p: arm for p, arm in added.arms.items() if p != "nothing"})
    for evidence in (alone, unasked):
        assert find_shares(evidence) is None
        assert share_table(evidence) is None
        assert score_shares(evidence, resamples) == {}


def test_knowing_nothing_has_no_figures(scores: Scores) -> None:
    assert not [name for name in scores if name.startswith("nothing:")]


def test_what_a_modality_added_is_the_paired_difference(added: Evidence, truth: Truth, resamples: Resamples) -> None:
    said = EVENT.copy()
    worse = said.copy()
    worse[[0, 2]] = said[[2, 0]]  # two answers change places
    arms = {**added.arms, "": _arm(np.log(said / (1 - said))), "image+record": _arm(np.log(worse / (1 - worse)))}
    arms |= {"shuffled_text": arms[""], "without_opt_in": arms["image+record"]}
    scores = by_name(score_all(replace(added, arms=arms), truth, resamples))
    full, without = scores["outcome/event/auroc"], scores["image+record:outcome/event/auroc"]
    gain = scores["added_text:outcome/event/auroc"]
    np.testing.assert_array_equal(gain.draws, full.draws - without.draws)
    assert gain.draws[0] != 0
    assert not np.nan_to_num(scores["added_over_shuffled_text:outcome/event/auroc"].draws).any(), (
        "the own text is no better"
    )
    alone = scores["record:outcome/event/auroc"]
    np.testing.assert_array_equal(scores["added_over_record:outcome/event/auroc"].draws, full.draws - alone.draws)
    np.testing.assert_array_equal(scores["added_opt_in:outcome/event/auroc"].draws, gain.draws)
    brier = scores["added_text:outcome/event/brier"].draws[0]
    assert brier == pytest.approx(
        np.mean((said - truth.labels["outcome"][:, 0]) ** 2) - np.mean((worse - truth.labels["outcome"][:, 0]) ** 2)
    )
    assert not [name for name in scores if name.startswith("added_") and name.endswith(("ece", "net_benefit_0.1"))]
