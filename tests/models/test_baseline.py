"""The baseline: answered by what a study shows, never by what it lacks; every kind of target as yes-or-no questions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import expit, logit, softmax

from chiasm.cohort.store import write_cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.errors import RecipeError, RunError
from chiasm.geometry import Geometry
from chiasm.models.baseline import Baseline, to_logits, to_questions
from chiasm.recipe import read_recipe
from chiasm.report.tokenizer import Tokenizer, build_tokenizer
from chiasm.runtime.torch import TorchFeatures
from chiasm.study import Image, Kind, Outcome, Study
from chiasm.tensors import Batch

SMALL = ("inputs.image.size=64", "targets=[outcome]", "baseline.model=logistic", "inputs.text.max_tokens=32")


@pytest.fixture(scope="module")
def made(phantom):
    """(fitted model, loader, training rows, what was fitted) of the three modalities of the phantom."""
    rows = phantom.rows("train")
    plan, recipe, _ = fit_plan(read_recipe("baseline-frozen", SMALL), [phantom], [rows])
    model = Baseline(recipe, plan).eval()
    loader = Loader([phantom], plan, build_tokenizer(recipe.inputs.text, Tokenizer.train([])))
    fits = model.fit([loader.batch(rows[:20]), loader.batch(rows[20:])], loader.patient_ids[rows], seed=0)
    return model, loader, rows, fits


@pytest.fixture
def batch(made) -> Batch:
    _, loader, rows, _ = made
    return loader.batch(rows[:12])


def _logits(model, batch):
    return model(batch).logits["outcome"].numpy()


def _hide(batch, *names):
    return batch.keep({name: torch.zeros(len(batch), dtype=torch.bool) for name in names})


@pytest.mark.parametrize("absent", ["image", "text", "record"])
def test_what_an_absent_modality_holds_changes_no_answer(made, batch, absent):
    model = made[0]
    hidden = _hide(batch, absent)
    garbage = {
        "image": {"images": 255 - hidden.images},
        "text": {"token_ids": hidden.token_ids.flip(1) + 5},
        "record": {"record_values": hidden.record_values + 1e6},
    }[absent]
    assert np.array_equal(_logits(model, hidden), _logits(model, replace(hidden, **garbage)))
    assert not np.allclose(_logits(model, hidden), _logits(model, batch))


def test_a_study_is_answered_by_the_classifier_of_exactly_what_it_shows(made, batch):
    """Some of a batch without image, some without record: each row is its own subset's linear function."""
    model = made[0]
    no_image, no_record = torch.arange(12) % 2 == 0, torch.arange(12) % 3 == 0
    shown = batch.keep({"image": ~no_image, "record": ~no_record})
    x, present, answers = model.features(shown), shown.present(), _logits(model, shown)
    assert len({tuple(bool(present[m][i]) for m in present) for i in range(12)}) > 3
    for i in range(12):
        subset = tuple(m for m in model.modalities if present[m][i])
        weights = model.classifiers["outcome/event"][subset][0].weights
        own = np.concatenate([np.zeros(0), *(x[m][i] for m in subset)])
        assert answers[i, 0] == pytest.approx(own @ weights[:-1] + weights[-1], abs=1e-4)


def test_a_study_that_shows_nothing_gets_the_training_share(made, batch):
    model, loader, rows, _ = made
    known = loader.label_mask["outcome"][rows, 0]
    positive, n = loader.labels["outcome"][rows, 0][known].sum(), known.sum()
    expected = np.log((positive + 0.5) / (n - positive + 0.5))
    assert np.allclose(_logits(model, _hide(batch, "image", "text", "record")), expected)


def test_where_too_few_showed_a_subset_the_largest_smaller_one_answers(made, batch):
    model = made[0]
    whole = model.classifiers["outcome/event"]
    model.classifiers = {"outcome/event": {s: c for s, c in whole.items() if len(s) < 2 and "text" not in s}}
    try:
        alone = _logits(model, _hide(batch, "text", "record"))
        images = batch.present()["image"].numpy()
        assert np.array_equal(_logits(model, batch)[images], alone[images])
    finally:
        model.classifiers = {"outcome/event": whole}


def test_few_studies_of_a_subset_make_no_classifier_and_the_log_says_how_many_there_were(made):
    model, loader, rows, fits = made
    present = loader.batch(rows).present()
    for fit in fits:
        shown = (
            np.all([present[m].numpy() for m in fit.inputs.split("+")], axis=0) if fit.inputs else np.ones(len(rows))
        )
        assert fit.studies == int((shown.astype(bool) & loader.label_mask["outcome"][rows, 0]).sum())
    assert {fit.inputs for fit in fits} == {"+".join(s) for s in model.subsets}
    few = Baseline(read_recipe("baseline-frozen", SMALL), loader.plan)
    few.fit([loader.batch(rows[:19])], loader.patient_ids[rows[:19]], seed=0)
    assert list(few.classifiers["outcome/event"]) == [()]


def test_answers_depend_neither_on_the_order_nor_on_the_others_of_a_batch(made):
    model, loader, rows, _ = made
    whole = _logits(model, loader.batch(rows[:12]))
    assert np.allclose(_logits(model, loader.batch(rows[:12][::-1])), whole[::-1], atol=1e-4)
    assert np.allclose(_logits(model, loader.batch(rows[3:4])), whole[3:4], atol=1e-4)


def test_a_text_is_the_mean_of_its_states_at_length_one(made, batch):
    model = made[0]
    vectors = model.features(batch)["text"]
    i = int(batch.present()["text"].nonzero()[0])
    ids = batch.token_ids[i][batch.token_mask[i]][None]
    states = model.encoders["text"].backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert np.allclose(vectors[i], F.normalize(states.mean(dim=1), dim=1)[0].numpy(), atol=1e-5)


def test_images_are_the_mean_of_their_pooled_maps_cached_or_not(made, batch, phantom):
    model, loader, rows, _ = made
    fresh = model.features(batch)["image"]
    i = int((batch.image_mask.sum(dim=1) > 1).nonzero()[0])
    maps = [model.image_encoder.extract(image[None])[-1][0] for image in batch.images[i][batch.image_mask[i]]]
    assert np.allclose(fresh[i], torch.stack([m.mean(dim=(1, 2)) for m in maps]).mean(dim=0).numpy(), atol=1e-4)
    cached = Loader(
        [phantom],
        loader.plan,
        build_tokenizer(read_recipe("baseline-frozen").inputs.text, Tokenizer.train([])),
        features=[TorchFeatures(dict(model.encoders.items()))],
    ).batch(rows[:12])
    assert cached.images is None
    assert cached.token_states is not None
    assert np.allclose(model.features(cached)["image"], fresh, atol=5e-3 * np.abs(fresh).max())
    assert np.allclose(model.features(cached)["text"], model.features(batch)["text"], atol=1e-3)


def test_what_was_fitted_comes_back_and_other_encoders_are_refused(made, batch):
    model, loader, *_ = made
    other = Baseline(read_recipe("baseline-frozen", SMALL), loader.plan).eval()
    other.restore(model.state())
    assert np.array_equal(_logits(other, batch), _logits(model, batch))
    with torch.no_grad():
        next(other.encoders["text"].parameters()).add_(1e-3)
    with pytest.raises(RunError, match="not those that the baseline was fitted with"):
        other.restore(model.state())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inputs.image.encoder=small-cnn", "a pretrained inputs.image.encoder"),
        ("inputs.image.freeze=false", "a pretrained inputs.image.encoder"),
        ("inputs.image.tokens=territories", "tokens must be grid"),
        ("inputs.text.encoder=bilstm", "a pretrained inputs.text.encoder"),
        ("inputs.text.freeze=false", "learns no encoder"),
        ("heads.localization.stride=16", "heads.localization to null"),
        ("baseline.model=forest", "baseline.model"),
    ],
)
def test_what_a_baseline_cannot_do_is_a_problem_of_the_recipe(override, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe("baseline-frozen", [override])


# --- facts and volumes -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """60 volumes; what was measured on them (of every third not the volume) tells the outcome."""
    rng, studies = np.random.default_rng(0), []
    for i in range(60):
        volume = float(rng.uniform(1, 9))
        facts = {"volume_ml": volume if i % 3 else None, "side": "left" if i % 2 else "right"}
        image = Image(f"i{i}", rng.integers(0, 255, (8, 8, 8)).astype(np.uint8), Geometry.identity((8, 8, 8)))
        event = Outcome("event", float(volume > 5))
        studies.append(Study(f"s{i}", f"p{i}", images=(image,), outcomes=(event,), facts=facts, split="train"))
    out = tmp_path_factory.mktemp("measured") / "cohort"
    return write_cohort(studies, out, source="hand", options={}, volume_size=(8, 8, 8))


def _fit_on(cohort, *overrides):
    options = ("targets=[outcome]", "baseline.model=logistic", "inputs.text=null", "inputs.record=null")
    plan, recipe, notes = fit_plan(
        read_recipe("baseline-frozen", [*options, *overrides]), [cohort], [np.arange(len(cohort))]
    )
    model, loader = Baseline(recipe, plan).eval(), Loader([cohort], plan, None)
    batch = loader.batch(np.arange(len(cohort)))
    model.fit([batch], loader.patient_ids, seed=0)
    return model, batch, plan, notes


def test_facts_of_an_image_are_the_image_of_a_baseline_and_are_hidden_with_it(measured):
    model, batch, plan, _ = _fit_on(measured)
    mean, std = plan.facts["volume_ml"]
    known = measured.studies["fact.volume_ml"].to_numpy()
    expected = np.where(np.isnan(known), 0, (known - mean) / std)
    left = (measured.studies["fact.side"] == "left").to_numpy()
    assert np.allclose(
        model.features(batch)["image"], np.stack([expected, ~np.isnan(known), left, ~left], axis=1), atol=1e-5
    )
    answers, hidden = _logits(model, batch)[:, 0], _logits(model, _hide(batch, "image"))[:, 0]
    told = ~np.isnan(known)
    assert ((answers > 0) == (known > 5))[told].mean() > 0.9
    assert len(set(hidden)) == 1
    assert _hide(batch, "image").facts.abs().sum() == 0


def test_volumes_without_facts_are_means_over_blocks(measured):
    model, batch, plan, _ = _fit_on(measured, "baseline.facts=false")
    assert plan.facts == {} and batch.facts is None
    blocks = batch.images[3, 0].numpy().reshape(4, 2, 4, 2, 4, 2).mean(axis=(1, 3, 5)).ravel() / 255
    assert np.allclose(model.features(batch)["image"][3], blocks, atol=1e-5)


def test_no_network_is_given_facts_and_what_is_not_there_is_said(measured, phantom, small):
    network = read_recipe("report-fusion", [*small, "targets=[outcome]", "heads.localization=null"])
    plan, *_ = fit_plan(network, [measured], [np.arange(60)])
    assert (plan.facts, plan.fact_words) == ({}, {})
    assert Loader([measured], plan, None).batch(np.arange(4)).facts is None
    *_, notes = fit_plan(read_recipe("baseline-frozen", SMALL), [phantom], [phantom.rows("train")])
    assert any(note.startswith("Facts are switched off") for note in notes)


# --- questions ---------------------------------------------------------------------------------------------------------


def test_an_ordinal_scale_is_asked_level_by_level_and_answered_by_differences():
    low, high = to_questions(np.array([0, 1, 2, 2]), Kind.ORDINAL, 3)
    assert (low.tolist(), high.tolist()) == ([0, 1, 1, 1], [0, 0, 1, 1])
    asked = logit(np.array([[0.7, 0.2], [0.3, 0.6]]))  # the second says "above 1" more often than "above 0"
    answers = softmax(to_logits(asked, Kind.ORDINAL, (4,)), axis=1)
    assert np.allclose(answers, [[0.3, 0.5, 0.2, 0], [0.7, 0, 0.3, 0]], atol=1e-5)


def test_classes_are_asked_one_by_one_and_share_what_they_were_given():
    asked = to_questions(np.array([0, 2, 1]), Kind.MULTICLASS, 3)
    assert [y.tolist() for y in asked] == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    answers = softmax(to_logits(logit(np.array([[0.5, 0.3, 0.2], [0.4, 0.8, 0.4]])), Kind.MULTICLASS, (3,)), axis=1)
    assert np.allclose(answers, [[0.5, 0.3, 0.2], [0.25, 0.5, 0.25]])


def _survival(made, truth, values, model):
    """A baseline fitted on times in three intervals, with one record column; and its batch."""
    n = len(truth)
    plan = replace(
        made[1].plan, targets={"t": ("a",)}, kinds={"t": Kind.SURVIVAL}, levels={"t": ((1.0, 2.0, 3.0),)},
        rates={"t": ((0.1,) * 3,)}, numeric={"x": (0.0, 1.0)}, categories={},
    )  # fmt: skip
    batch = Batch(
        torch.arange(n),
        record_values=torch.tensor(values, dtype=torch.float32)[:, None],
        record_observed=torch.ones(n, 1, dtype=torch.bool),
        record_codes=torch.zeros(n, 0, dtype=torch.long),
        labels={"t": torch.tensor(truth, dtype=torch.float32)[:, None]},
        label_mask={"t": torch.ones(n, 1, dtype=torch.bool)},
    )
    baseline = Baseline(_recipe(model), plan)
    return baseline, batch, baseline.fit([batch], np.array([f"p{i}" for i in range(n)]), seed=0)


@pytest.fixture
def times():
    """Hazards of 3 intervals that rise with a column, logit -1.5 + x in each; the column and codes as a loss takes them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    events = rng.random((300, 3)) < expit(x - 1.5)[:, None]
    first = np.where(events.any(axis=1), events.argmax(axis=1), 3)
    return np.where(first < 3, first, -3).astype(np.float64), x


def test_without_inputs_an_interval_is_answered_by_the_share_of_those_who_came_to_it(made, times):
    """An event in interval 1, one in interval 0, censored after one whole interval, through all three; thirty of each."""
    truth = np.repeat([1.0, 0.0, -1.0, -3.0], 30)
    baseline, batch, _ = _survival(made, truth, np.zeros(120), "logistic")
    said = _logits_of(baseline, batch.keep({"record": torch.zeros(120, dtype=torch.bool)}))
    shares = np.array([30.5 / 121, 30.5 / 61, 0.5 / 31])
    assert np.allclose(said, logit(shares), atol=1e-5)


@pytest.mark.parametrize("model", ["logistic", "lightgbm", "blend"])
def test_a_hazard_is_learned_from_all_intervals_at_once_and_comes_back(made, times, model):
    truth, x = times
    baseline, batch, fits = _survival(made, truth, x, model)
    assert [(fit.inputs, fit.question, fit.studies) for fit in fits] == [("", 0, 300), ("record", 0, 300)]
    said = _logits_of(baseline, batch)
    assert said.shape == (300, 3)
    assert all(np.corrcoef(said[:, q], x)[0, 1] > 0.85 for q in range(3))
    assert np.abs(said.mean(axis=1) - (x - 1.5)).mean() < 0.4, "near the hazards that the times were drawn from"
    again = Baseline(_recipe(model), baseline.plan)
    again.restore(baseline.state())
    assert np.array_equal(_logits_of(again, batch), said)


def _recipe(model):
    return read_recipe("baseline-record", ["targets=[t]", f"baseline.model={model}"])


def _logits_of(baseline, batch):
    return baseline(batch).logits["t"][:, 0].numpy()


def test_a_number_is_one_question_and_a_yes_or_no_too():
    for kind in (Kind.REGRESSION, Kind.BINARY):
        (y,) = to_questions(np.array([0.0, 1.0]), kind, 1)
        assert y.tolist() == [0.0, 1.0]
        assert to_logits(np.array([[0.5], [2.0]]), kind, ()).tolist() == [0.5, 2.0]


@pytest.mark.parametrize(("kind", "levels"), [(Kind.ORDINAL, 4), (Kind.MULTICLASS, 3), (Kind.SURVIVAL, 3)])
def test_every_leveled_kind_is_learned_from_numbers_that_tell_it(made, kind, levels):
    """A record column that is the answer itself, with noise: the right level is the likeliest."""
    loader = made[1]
    rng = np.random.default_rng(0)
    truth = rng.integers(0, levels, 200).astype(np.float64)
    own = tuple(float(k) for k in range(levels))
    plan = replace(
        loader.plan, targets={"t": ("a",)}, kinds={"t": kind}, levels={"t": (own,)}, rates={"t": ((0.1,) * levels,)},
        numeric={"x": (0.0, 1.0), "y": (0.0, 1.0)}, categories={},
    )  # fmt: skip
    recipe = read_recipe("baseline-record", ["targets=[t]", "baseline.model=logistic"])
    values = np.stack([truth, (truth - 1) ** 2], axis=1) + rng.normal(size=(200, 2)) * 0.1
    batch = Batch(
        torch.arange(200),
        record_values=torch.tensor(values, dtype=torch.float32),
        record_observed=torch.ones(200, 2, dtype=torch.bool),
        record_codes=torch.zeros(200, 0, dtype=torch.long),
        labels={"t": torch.tensor(truth, dtype=torch.float32)[:, None]},
        label_mask={"t": torch.ones(200, 1, dtype=torch.bool)},
    )
    baseline = Baseline(recipe, plan)
    baseline.fit([batch], np.arange(200).astype(str), seed=0)
    answers = baseline(batch).logits["t"][:, 0].numpy()
    if kind is Kind.SURVIVAL:  # of those who came to an interval, who has the event in it?
        for k in range(levels - 1):
            here = truth >= k
            assert ((answers[here, k] > 0) == (truth[here] == k)).mean() > 0.95
        assert np.all(expit(answers[:, -1]) > 0.9)  # whoever comes to the last has it there
    else:
        assert (answers.argmax(axis=1) == truth).mean() > 0.95
