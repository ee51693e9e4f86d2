"""What is fitted on validation is fitted on the answers as they will be stated: at the temperature of the same fit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from asking import answer, fold_models_over
from scipy.special import expit

from chiasm.metrics.calibration import FEWEST_TO_CALIBRATE
from chiasm.recipe import Evaluate, read_recipe
from chiasm.run import calibrate as module
from chiasm.run.answers import read_calibration
from chiasm.run.calibrate import Judged, LabelAnswers, calibrate, tell_left_out
from chiasm.run.infer import infer
from chiasm.study import Kind
from chiasm.training.train import train

SURE = 6.0


@pytest.fixture
def fold_model(tiny_run, monkeypatch):
    """A model whose logits are six times too large, to be calibrated on every study of its cohort."""

    def overconfident(*arguments, **options):
        return [
            replace(said, logits={target: SURE * logits for target, logits in said.logits.items()})
            for said in infer(*arguments, **options)
        ]

    monkeypatch.setattr(module, "infer", overconfident)
    fold_model = fold_models_over(tiny_run)[0]
    return replace(fold_model, split={**fold_model.split, "validation": np.arange(len(fold_model.loader))})


@pytest.fixture(scope="module")
def folded(phantom, tmp_path_factory):
    """Logistic regression on the record, three folds."""
    run = tmp_path_factory.mktemp("folded") / "run"
    recipe = read_recipe("baseline-record", ["targets=[outcome]", "baseline.model=logistic"])
    train(recipe, [phantom.path], run, folds=3)
    return run


@pytest.fixture
def stated(fold_model):
    """target, label -> the fit, its known truths, the logits and the patients they belong to."""
    judged = module.judge(fold_model)
    fitted, rows = module.calibrate([judged], fold_model.recipe.evaluate), fold_model.split["validation"]
    logits = answer(fold_model, rows, maps=False).logits
    found = {}
    for target in ("findings", "outcome"):
        for k, label in enumerate(fold_model.plan.targets[target]):
            known = fold_model.loader.label_mask[target][rows, k]
            truth, z = fold_model.loader.labels[target][rows, k][known], SURE * logits[target][known, k].astype(float)
            patients = np.asarray(fold_model.loader.patient_ids)[rows][known]
            if min(len(set(patients[truth == value])) for value in (0, 1)) >= FEWEST_TO_CALIBRATE:
                found[target, label] = (fitted.fit(target, label), truth.astype(bool), z, patients)
    assert len(found) > 1
    assert all(fit.temperature > 2 for fit, *_ in found.values())
    return found


def _f1(truth, yes):
    return 2 * np.sum(truth & yes) / (truth.sum() + yes.sum())


def test_no_threshold_has_a_higher_f1_on_the_calibrated_probabilities(stated):
    for fit, truth, logits, _ in stated.values():
        p = expit(logits / fit.temperature)
        best = max(_f1(truth, p >= threshold) for threshold in p)
        assert _f1(truth, p >= fit.threshold) == pytest.approx(best)


def test_the_radius_is_reached_by_the_calibrated_probabilities_of_enough_patients(stated, fold_model):
    """At the quantile the weight of patients, one each and one more, reaches the coverage; just below it does not."""
    for fit, truth, logits, patients in stated.values():
        strange = np.abs(truth - expit(logits / fit.temperature))

        def share(reach, strange=strange, patients=patients):
            inside = [np.mean(strange[patients == patient] <= reach) for patient in np.unique(patients)]
            return sum(inside) / (len(inside) + 1)

        coverage = fold_model.recipe.evaluate.coverage
        assert share(fit.quantile + 1e-5) >= coverage - 1e-9
        assert share(fit.quantile - 1e-5) < coverage - 1e-9


# --- folds -------------------------------------------------------------------------------------------------------------


def _judged(rng, people, tested, kind=Kind.BINARY, levels=()):
    """A fold model's answers to one label of its validation patients, who are told apart with some noise."""
    labels = {"levels": {"t": [levels]}} if levels else {"levels": {}}
    plan = SimpleNamespace(targets={"t": ["y"]}, kinds={"t": kind}, localized=(), **labels)
    truth = (rng.random(len(people)) < 0.4).astype(np.float32)
    answers = LabelAnswers(truth, 3 * (truth + rng.normal(size=len(people))), np.array(people))
    return Judged(plan, frozenset(tested), {"": {("t", "y"): answers}, "image": {("t", "y"): answers}}, {})


def test_what_a_fold_tests_has_no_part_in_its_calibration():
    """Each of 60 patients validates one fold model and is tested by another: its truth is turned round, its fold's fit stands."""
    rng = np.random.default_rng(0)
    parts = [[f"s/p{i}" for i in range(k, 60, 3)] for k in range(3)]
    judged = [_judged(rng, parts[(k + 1) % 3], parts[k]) for k in range(3)]
    for k, own in enumerate(judged):
        turned = []
        for each in judged:
            answers = each.answers[""]["t", "y"]
            mine = np.isin(answers.people, list(own.tested))
            other = replace(answers, truth=np.where(mine, 1 - answers.truth, answers.truth))
            turned.append(replace(each, answers={"": {("t", "y"): other}, "image": {("t", "y"): other}}))
        assert calibrate(turned, Evaluate(), own.tested) == calibrate(judged, Evaluate(), own.tested), k
        assert calibrate(turned, Evaluate()) != calibrate(judged, Evaluate()), (
            "new patients are calibrated by all of them"
        )
        alone = calibrate([each for each in judged if each is not judged[k - 1]], Evaluate())
        assert calibrate(judged, Evaluate(), own.tested) == alone, "the model that they validate is the one before"


def test_levels_that_a_fold_lacks_are_left_out_of_the_others_temperature():
    rng = np.random.default_rng(1)
    two, three = ("a", "b"), ("a", "b", "c")
    people = [f"s/p{i}" for i in range(40)]

    def of(levels):
        plan = SimpleNamespace(targets={"t": ["y"]}, kinds={"t": Kind.MULTICLASS}, localized=(), levels={"t": [levels]})
        truth = rng.integers(len(levels), size=40).astype(np.float32)
        logits = rng.normal(size=(40, len(levels))) + 2 * np.eye(len(levels))[truth.astype(int)]
        return Judged(plan, frozenset(), {"": {("t", "y"): LabelAnswers(truth, logits, np.array(people))}}, {})

    common = [of(three), of(three)]
    assert calibrate([of(two), *common], Evaluate()) == calibrate(common, Evaluate())


def test_a_run_of_folds_is_calibrated_for_each_fold_and_for_new_patients(folded):
    fold_models = fold_models_over(folded)
    judged = [module.judge(fold_model) for fold_model in fold_models]
    tested = [set(each.tested) for each in judged]
    validating = [set(each.answers[""]["outcome", "event"].people.tolist()) for each in judged]
    assert not set.intersection(*tested)
    for k in range(len(judged)):
        assert validating[k] <= tested[(k + 1) % len(judged)]
        assert read_calibration(folded / f"fold-0-{k}" / "calibration.json") == calibrate(
            judged, Evaluate(), judged[k].tested
        )
    assert read_calibration(folded / "calibration.json") == calibrate(judged, Evaluate())
    assert max(map(len, validating)) - min(map(len, validating)) <= 1


def test_the_threshold_is_where_the_recipe_wants_it():
    rng = np.random.default_rng(2)
    judged = [_judged(rng, [f"s/p{i}" for i in range(80)], [])]
    answers = judged[0].answers[""]["t", "y"]
    for name, share in (("sensitivity", 0.95), ("specificity", 0.9)):
        fit = calibrate(judged, Evaluate(operating_point={name: share})).fit("t", "y")
        yes = expit(answers.logits / fit.temperature) >= fit.threshold
        which = answers.truth == (1 if name == "sensitivity" else 0)
        reached = (yes == (name == "sensitivity"))[which].mean()
        assert share <= reached < share + 0.06
    assert calibrate(judged, Evaluate(operating_point={"probability": 0.2})).fit("t", "y").threshold == 0.2
    with pytest.raises(ValueError, match="one of sensitivity, specificity and probability"):
        Evaluate(operating_point={"sensitivity": 0.9, "specificity": 0.9})


@pytest.mark.parametrize(
    ("positive", "temperature", "threshold"), [(4, False, False), (5, False, True), (9, False, True), (10, True, True)]
)
def test_too_few_patients_of_a_class_decide_nothing_and_it_is_said(positive, temperature, threshold):
    """Each patient has two studies: patients count."""
    people = np.repeat([f"s/p{i}" for i in range(40)], 2)
    truth = np.repeat(np.arange(40) < positive, 2).astype(np.float32)
    logits = truth + np.random.default_rng(3).normal(size=80)
    plan = SimpleNamespace(targets={"t": ["y"]}, kinds={"t": Kind.BINARY}, localized=(), levels={})
    judged = [Judged(plan, frozenset(), {"": {("t", "y"): LabelAnswers(truth, logits, people)}}, {})]
    calibration = calibrate(judged, Evaluate())
    fit = calibration.fit("t", "y")
    assert (fit.temperature is not None, fit.threshold is not None) == (temperature, threshold)
    said = tell_left_out(judged, calibration)
    assert len(said) == (not temperature) + (not threshold)
    assert all(f"y ({positive})." in sentence for sentence in said)
    kept = calibrate(judged, Evaluate(operating_point={"probability": 0.3})).fit("t", "y").threshold
    assert kept == 0.3, "what the user says is not for validation to decide"
