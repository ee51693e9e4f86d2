"""What fold models say together: sums, means, and places that return to the pixels of the original."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from asking import answer, fold_models_over
from fits import calibration_of
from scipy.special import expit, logit

from chiasm.cohort.store import write_cohort
from chiasm.geometry import Geometry
from chiasm.metrics.localization import box_iou
from chiasm.recipe import read_recipe
from chiasm.run import ensemble as combine
from chiasm.run.ensemble import predict_together
from chiasm.study import Finding, Image, Kind, Outcome, Region, State, Study
from chiasm.training.train import train


@pytest.fixture(scope="module")
def fold_model(tiny_run):
    return fold_models_over(tiny_run)[0]


@pytest.fixture(scope="module")
def indices(phantom):
    return phantom.rows("test")


@pytest.fixture(scope="module")
def predictions(fold_model, indices):
    return predict_together([fold_model], indices)


def _numbers(prediction):
    """ "target/label" -> probability or value."""
    found = {f"{f.target}/{f.name}": f.probability for f in prediction.findings}
    return found | {
        f"{o.target}/{o.name}": o.value if o.probability is None else o.probability for o in prediction.outcomes
    }


def test_contributions_lead_from_the_prevalence_of_training_to_the_answer(fold_model, indices, predictions):
    stated, train = fold_model.probabilities(answer(fold_model, indices)), fold_model.split["train"]
    for target, labels in fold_model.plan.targets.items():
        truth, mask = fold_model.loader.labels[target][train], fold_model.loader.label_mask[target][train]
        for k, label in enumerate(labels):
            positive, known = truth[mask[:, k], k].sum(), mask[:, k].sum()
            prevalence = (positive + 0.5) / (known + 1)  # half a patient of each class, so that no share is 0 or 1
            added = [sum(p.contributions[m][f"{target}/{label}"] for m in p.contributions) for p in predictions]
            np.testing.assert_allclose(added, (logit(stated[target]) - logit(prevalence))[:, k], atol=1e-4)


def test_the_records_share_is_shared_out_to_its_columns(fold_model, indices, predictions):
    columns = (*fold_model.plan.numeric, *fold_model.plan.categories)
    observed = fold_model.loader.batch(indices).record_observed.numpy()
    for i, p in enumerate(predictions):
        assert set(p.record_contributions) == set(columns)
        for name, whole in p.contributions["record"].items():
            parts = {column: own[name] for column, own in p.record_contributions.items()}
            slack = 4 * sum(own[name] for own in p.record_errors.values())
            assert sum(parts.values()) == pytest.approx(whole, abs=1e-4 + slack)
            for place, column in enumerate(fold_model.plan.numeric):
                if not observed[i, place]:
                    assert parts[column] == pytest.approx(0, abs=1e-5), "what is missing has no part"


def test_an_absent_modality_adds_nothing(fold_model, indices, predictions):
    present = fold_model.loader.batch(indices).present()
    lacking = [(i, m) for m, here in present.items() for i in np.flatnonzero(~here.numpy())]
    assert lacking
    for i, modality in lacking:
        assert modality not in predictions[i].used
        assert max(map(abs, predictions[i].contributions[modality].values())) < 1e-6


def test_without_report_is_the_answer_to_image_and_record(fold_model, indices, predictions):
    hidden = fold_model.probabilities(answer(fold_model, indices, subset=("image", "record")))
    place = {f"{t}/{label}": (t, k) for t, labels in fold_model.plan.targets.items() for k, label in enumerate(labels)}
    for i, prediction in enumerate(predictions):
        assert (
            (prediction.arm == "report-conditioned") == ("text" in prediction.used) == bool(prediction.without_report)
        )
        for name, value in prediction.without_report.items():
            target, k = place[name]
            assert value == pytest.approx(hidden[target][i, k], abs=1e-6)
    assert {bool(p.without_report) for p in predictions} == {True, False}
    assert any(_numbers(p)[n] != v for p in predictions for n, v in p.without_report.items())


def test_states_follow_the_threshold_of_validation(fold_model, indices):
    label = fold_model.plan.targets["findings"][0]
    value = [_numbers(p)[f"findings/{label}"] for p in predict_together([fold_model], indices[:3])]
    for threshold, state in ((min(value), State.PRESENT), (max(value) + 1e-6, State.ABSENT)):
        fit = {"threshold": threshold, "temperature": fold_model.calibration.fit("findings", label).temperature or 1.0}
        moved = replace(fold_model, calibration=calibration_of({"findings": {label: fit}}))
        said = [f.state for p in predict_together([moved], indices[:3]) for f in p.findings if f.name == label]
        assert said == [state] * 3


# --- places ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(tiny_run, tmp_path):
    """A fold model over one study whose image is 90 high and 140 wide; every finding counts as present."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 140)).astype(np.uint8)
    study = Study("s", "p", images=(Image("i", pixels, Geometry.identity((90, 140))),))
    cohort = write_cohort([study], tmp_path / "cohort", source="test", options={}, size=64)
    fold_model = fold_models_over(tiny_run, [cohort])[0]
    keen = {t: {label: {"threshold": 0.0} for label in labels} for t, labels in fold_model.plan.targets.items()}
    return replace(fold_model, calibration=calibration_of(keen))


def _paint(monkeypatch, fold_model, logits):
    """Let the first channel of every map be `logits` [8, 8], the others -8."""
    real = combine.infer

    def painted(*arguments, **options):
        asked = real(*arguments, **options)
        for said in asked:
            if "localization" in said.heads:
                said.heads["localization"].values[:] = -8
                said.heads["localization"].values[:, 0] = logits
        return asked

    monkeypatch.setattr(combine, "infer", painted)
    return predict_together([fold_model], np.arange(1))[0]


def test_a_map_painted_at_a_place_returns_to_it(wide, monkeypatch):
    # 140 pixels became 64: 16/35 each; 90 became 41, and 11 rows of zeros above them. Cells are 8 pixels.
    logits = np.full((8, 8), -8.0)
    logits[3:5, 2:5] = 8
    truth = [16 * 140 / 64, (24 - 11) * 90 / 41, 40 * 140 / 64, (40 - 11) * 90 / 41]
    found = _paint(monkeypatch, wide, logits)
    (region,) = found.regions
    assert (region.target, region.label, region.image_id) == (*wide.plan.localized[0], "i")
    np.testing.assert_allclose(region.box, truth, atol=1)
    assert region.score == pytest.approx(expit(8), abs=1e-3)
    grid = found.maps["i", "/".join(wide.plan.localized[0])]
    again = found.geometries["i"].map_to_original(grid)
    assert again.shape == (90, 140)
    x0, y0, x1, y1 = np.round(truth).astype(int)
    assert again[y0 + 9 : y1 - 9, x0 + 9 : x1 - 9].min() > 0.99  # half a cell inside
    assert np.delete(again, np.s_[y0 - 1 : y1 + 1], axis=0).max() < 0.5


def test_two_places_are_two_boxes_the_surer_first(wide, monkeypatch):
    logits = np.full((8, 8), -8.0)
    logits[3, 1], logits[5, 6] = 1, 3
    first, second = _paint(monkeypatch, wide, logits).regions
    assert first.score == pytest.approx(expit(3), abs=2e-2)
    assert first.score > second.score
    assert first.box[0] > second.box[0]


def test_what_lies_in_the_padding_is_no_place(wide, monkeypatch):
    logits = np.full((8, 8), -8.0)
    logits[0] = logits[7] = 8
    assert not _paint(monkeypatch, wide, logits).regions
    x0, y0, x1, y1 = _paint(monkeypatch, wide, np.full((8, 8), 8.0)).regions[0].box
    assert (x0, y0, x1, y1) == (0, 0, 140, 90)


def test_a_finding_said_absent_has_no_box(wide, monkeypatch):
    doubtful = replace(
        wide, calibration=calibration_of({"findings": {n: {"threshold": 1.1} for n in wide.plan.targets["findings"]}})
    )
    found = _paint(monkeypatch, doubtful, np.full((8, 8), 8.0))
    assert not found.regions
    assert found.maps


def _decided(fold_model, study, fit):
    """Findings present, and labels with boxes, of one study; `fit`: label -> what validation gave, maps cut at 0."""
    fitted = {label: {"map_threshold": 0.0, **fit(label)} for label in fold_model.plan.targets["findings"]}
    (found,) = predict_together(
        [replace(fold_model, calibration=calibration_of({"findings": fitted}))], np.array([study])
    )
    present = {f.name for f in found.findings if f.target == "findings" and f.state is State.PRESENT}
    return found, present, {region.label for region in found.regions}


@pytest.fixture(scope="module")
def complete(fold_model, indices):
    """A study with image, report and record."""
    shown = answer(fold_model, indices, maps=False).shown
    return int(indices[shown == "image+text+record"][0])


@pytest.mark.parametrize(("with_report", "without"), [(0.0, 1.1), (1.1, 0.0)])
def test_a_box_follows_the_threshold_of_what_is_seen_without_the_report(fold_model, complete, with_report, without):
    """Each set of inputs has its own threshold; a report moves the finding, and no box with it."""

    def fit(label):
        thresholds = {"image+text+record": with_report, "image+record": without}
        return {"threshold": 0.5, "shown": {shown: {"threshold": threshold} for shown, threshold in thresholds.items()}}

    labels = {label for target, label in fold_model.plan.localized if target == "findings"}
    _, present, boxed = _decided(fold_model, complete, fit)
    assert present == (set(fold_model.plan.targets["findings"]) if with_report == 0.0 else set())
    assert boxed == (labels if without == 0.0 else set())


def test_a_box_follows_the_answer_without_the_report(fold_model, complete):
    """Every label has its threshold halfway between its answers with and without the report."""
    found, *_ = _decided(fold_model, complete, lambda label: {"threshold": 0.5})
    seen = {f.name: (f.probability, found.without_report[f"findings/{f.name}"]) for f in found.findings}
    _, present, boxed = _decided(fold_model, complete, lambda label: {"threshold": sum(seen[label]) / 2})
    labels = {label for target, label in fold_model.plan.localized if target == "findings"}
    assert present == {label for label, (read, unread) in seen.items() if read > unread}
    assert boxed == {label for label, (read, unread) in seen.items() if unread > read} & labels
    assert boxed
    assert present & labels


# --- ensembles ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(small, tmp_path_factory):
    """Two folds of 40 studies; one study alone has a hernia, so the fold that tests it does not know the word."""

    def studies():
        for i in range(40):
            pixels = np.random.default_rng(i).integers(0, 256, (64, 64)).astype(np.uint8)
            findings = [Finding("edema", State.PRESENT if i % 2 else State.ABSENT, reader="a")]
            regions = [Region("edema", f"i{i}", (8.0, 8.0, 40.0, 40.0), reader="a")] if i % 2 else []
            if i in (7, 8):
                findings.append(Finding("hernia", State.PRESENT if i == 7 else State.ABSENT, reader="a"))
            image = Image(f"i{i}", pixels, Geometry.identity((64, 64)))
            score = Outcome("score", 100.0 + 10 * (i % 7), Kind.REGRESSION, "severity")
            yield Study(
                f"s{i:02}", f"p{i}", (image,), findings=tuple(findings), regions=tuple(regions), outcomes=(score,)
            )

    folder = tmp_path_factory.mktemp("ensemble")
    cohort = write_cohort(studies(), folder / "cohort", source="test", options={}, size=64)
    overrides = [*small, "heads.description=null", "targets=[findings, severity]", "train.epochs=1"]
    overrides = [o for o in overrides if not o.startswith("heads.description.")]
    train(read_recipe("report-fusion", overrides), [cohort.path], folder / "run", folds=2)
    return fold_models_over(folder / "run", [cohort])


def test_fold_models_answer_by_their_mean(ensemble):
    indices = np.arange(5)
    labels = [fold_model.plan.targets["findings"] for fold_model in ensemble]
    assert sorted(labels, key=len) == [("edema",), ("edema", "hernia")]
    each = [m.probabilities(answer(m, indices))["findings"] for m in ensemble]
    knowing = labels.index(("edema", "hernia"))
    for i, prediction in enumerate(predict_together(ensemble, indices)):
        edema, hernia = (f.probability for f in prediction.findings)
        assert edema == pytest.approx((each[0][i, 0] + each[1][i, 0]) / 2, abs=1e-6)
        assert hernia == pytest.approx(each[knowing][i, 1], abs=1e-6)
    assert np.abs(each[0][:, 0] - each[1][:, 0]).max() > 1e-3


def test_the_order_of_fold_models_changes_no_number(ensemble):
    a, b = (predict_together(fold_models, np.arange(3)) for fold_models in (ensemble, ensemble[::-1]))
    for first, second in zip(a, b, strict=True):
        assert _numbers(first) == pytest.approx(_numbers(second))
        assert {r.box for r in first.regions} == {r.box for r in second.regions}


def test_maps_and_contributions_are_means_too(ensemble):
    indices = np.arange(2)
    found = predict_together(ensemble, indices)
    said = [answer(fold_model, indices) for fold_model in ensemble]
    for i, prediction in enumerate(found):
        mean = np.mean([expit(s.heads["localization"].values[i, 0].astype(float)) for s in said], axis=0)
        np.testing.assert_allclose(prediction.maps[f"i{i}", "findings/edema"], mean, atol=1e-6)
        stated = np.mean([m.probabilities(s)["findings"][i, 0] for m, s in zip(ensemble, said, strict=True)])
        full = logit(stated) - logit(np.mean([m.plan.prior("findings")[0] for m in ensemble]))
        assert prediction.contributions["image"]["findings/edema"] == pytest.approx(full, abs=1e-5)


def test_a_regression_is_answered_and_explained_in_its_own_units(ensemble):
    indices = np.arange(3)
    full = np.mean([m.probabilities(answer(m, indices))["severity"] for m in ensemble], axis=0)
    nothing = np.mean([m.plan.prior("severity") for m in ensemble])
    for i, prediction in enumerate(predict_together(ensemble, indices)):
        (score,) = prediction.outcomes
        assert (score.kind, score.probability) == (Kind.REGRESSION, None)
        assert score.value == pytest.approx(full[i, 0])
        assert 80 < score.value < 180
        added = sum(by_name["severity/score"] for by_name in prediction.contributions.values())
        assert added == pytest.approx(full[i, 0] - nothing, abs=1e-3)


def test_fold_models_decide_and_cut_at_their_mean_threshold(ensemble):
    indices = np.arange(4)
    value = [p.findings[0].probability for p in predict_together(ensemble, indices)]
    temperatures = [m.calibration.fit("findings", "edema").temperature or 1.0 for m in ensemble]
    low = min(value)

    def with_thresholds(thresholds, map_thresholds):
        fitted = [
            {"temperature": t, "threshold": threshold, "map_threshold": map_threshold}
            for t, threshold, map_threshold in zip(temperatures, thresholds, map_thresholds, strict=True)
        ]
        moved = [
            replace(m, calibration=calibration_of({"findings": {"edema": f}}))
            for m, f in zip(ensemble, fitted, strict=True)
        ]
        return predict_together(moved, indices)

    assert all(p.findings[0].state is State.PRESENT for p in with_thresholds((0.0, 2 * low - 1e-9), (0.5, 0.5)))
    assert all(p.findings[0].state is State.ABSENT for p in with_thresholds((0.0, 2.0), (0.5, 0.5)))
    whole = [r.box for p in with_thresholds((0.0, 0.0), (0.0, 1e-9)) for r in p.regions if r.label == "edema"]
    assert box_iou(np.array(whole), np.array([[0, 0, 64, 64]])).min() == 1
    assert not [r for p in with_thresholds((0.0, 0.0), (1.0, 1.1)) for r in p.regions if r.label == "edema"]
