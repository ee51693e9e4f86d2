"""What is fitted on validation is fitted on the answers as they will be stated: at the temperature of the same fit."""

from dataclasses import replace

import numpy as np
import pytest
from asking import answer, fold_models_over
from scipy.special import expit

from chiasm.run import calibrate as module
from chiasm.run.infer import infer

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


@pytest.fixture
def stated(fold_model):
    """target, label -> the fit, its known truths, the logits and the patients they belong to."""
    fitted, rows = module.calibrate(fold_model), fold_model.split["validation"]
    logits = answer(fold_model, rows, maps=False).logits
    found = {}
    for target in ("findings", "outcome"):
        for k, label in enumerate(fold_model.plan.targets[target]):
            known = fold_model.loader.label_mask[target][rows, k]
            truth, z = fold_model.loader.labels[target][rows, k][known], SURE * logits[target][known, k].astype(float)
            if 0 < truth.sum() < len(truth):
                patients = np.asarray(fold_model.loader.patient_ids)[rows][known]
                found[target, label] = (fitted.fit(target, label), truth.astype(bool), z, patients)
    assert len(found) > 3
    assert all(fit.temperature > 2 for fit, *_ in found.values())
    return found


def _f1(truth, yes):
    return 2 * np.sum(truth & yes) / (truth.sum() + yes.sum())


def test_no_threshold_has_a_higher_f1_on_the_calibrated_probabilities(stated):
    for fit, truth, logits, _ in stated.values():
        p = expit(logits / fit.temperature)
        best = max(_f1(truth, p >= cut) for cut in p)
        assert _f1(truth, p >= fit.threshold) == pytest.approx(best)


def test_the_radius_is_reached_by_the_calibrated_probabilities_of_enough_patients(stated, fold_model):
    """At the radius the weight of patients, one each and one more, reaches the coverage; just below it does not."""
    for fit, truth, logits, patients in stated.values():
        strange = np.abs(truth - expit(logits / fit.temperature))

        def share(reach, strange=strange, patients=patients):
            inside = [np.mean(strange[patients == patient] <= reach) for patient in np.unique(patients)]
            return sum(inside) / (len(inside) + 1)

        coverage = fold_model.recipe.evaluate.coverage
        assert share(fit.radius + 1e-5) >= coverage - 1e-9
        assert share(fit.radius - 1e-5) < coverage - 1e-9
