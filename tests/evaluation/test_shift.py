"""The shift of an external cohort: each difference against a hand computation, and in words on the page."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from runs import UNSEALED

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.evaluation.evaluate import evaluate
from chiasm.evaluation.shift import _images, _mean, _share, _words, find_shift, tell_shift
from chiasm.metrics.metric import Metric
from chiasm.run.fold_model import load_fold_models, over_own_cohorts
from chiasm.run.records import Difference, read_evaluated
from chiasm.study import Record


def test_a_share_a_mean_and_words_by_hand():
    assert _share("labels", "a", np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0])) == Difference(
        "labels", "a", "25%", "67%", "share", pytest.approx(2 / 3 - 1 / 4), (4, 3)
    )
    # means 2 and 5, variances 1 and 4: 3 / sqrt(2.5)
    found = _mean("record", "b", np.array([1.0, 3]), np.array([3.0, 7]))
    assert (found.training, found.tested, found.size) == ("2 ± 1", "5 ± 2", pytest.approx(3 / np.sqrt(2.5)))
    # f .5 .25, m .5 .5, u 0 .25: half of .25 + .25
    found = _words("record", "sex", ["f", "m"], ["f", "m", "m", "u"])
    assert (found.training, found.tested, found.size) == ("f 50%, m 50%", "m 50%, f 25%, u 25%", pytest.approx(0.25))


def test_constant_sides_that_differ_are_one_apart():
    assert _mean("record", "b", np.ones(3), np.full(3, 2.0)).size == 1.0
    assert _mean("record", "b", np.ones(3), np.ones(3)).size == 0.0


@pytest.fixture(scope="module")
def other(phantom, tmp_path_factory) -> Cohort:
    """The phantoms again: brighter, older, without a column, some without a report."""
    studies = []
    for row in range(40):
        study = phantom.study(row)
        values = dict(study.record.values) if study.record else {}
        values = {
            k: v + 20.0 if k == "age_years" and v is not None else v for k, v in values.items() if k != "crp_mg_l"
        }
        bright = tuple(
            replace(i, pixels=np.clip(i.pixels.astype(int) + 40, 0, 255).astype(np.uint8)) for i in study.images
        )
        studies.append(
            replace(
                study,
                images=bright,
                record=Record(values) if values else None,
                report=study.report if row % 2 else None,
            )
        )
    out = tmp_path_factory.mktemp("shift") / "other"
    return write_cohort(studies, out, source="test", options={}, size=64)


@pytest.fixture(scope="module")
def differences(tiny_run, other) -> dict[tuple[str, str], Difference]:
    loaded = load_fold_models(tiny_run)
    found = find_shift([each.over([other]) for each in loaded], over_own_cohorts(tiny_run, loaded))
    return {(d.group, d.name): d for d in found}


def test_what_was_changed_is_found_and_what_was_not_is_small(differences, other, phantom):
    assert differences["record", "age_years"].size > 0.5
    assert differences["images", "mean gray value of an image"].size > 0.5
    assert differences["images", "histogram of gray values, 32 bins"].size > 0.1
    assert differences["missing", "crp_mg_l"].tested == "100%"
    assert differences["missing", "the whole report"].size > 0.3
    assert differences["images", "view"].size < 0.25
    train = phantom.rows("train")
    labels, mask = phantom.labels("findings", ["mass"])
    assert differences["labels", "findings · mass"].training == f"{100 * labels[train][mask[train]].mean():.0f}%"
    assert differences["labels", "findings · mass"].n == (int(mask[train].sum()), 40)


def test_a_cohort_against_itself_has_no_shift(tiny_run):
    (fold_model,) = over_own_cohorts(tiny_run, load_fold_models(tiny_run))
    alone = SimpleNamespace(loader=fold_model.loader)
    rows = fold_model.split["train"]
    side = (alone.loader, rows)
    assert [d.size for d in _images(fold_model.plan, side, side)] == [0.0] * 5


def test_large_differences_are_said_in_sentences():
    rows = [
        Difference("labels", "findings · mass", "10%", "30%", "share", 0.2, (10, 10)),
        Difference("labels", "findings · nodule", "10%", "12%", "share", 0.02, (10, 10)),
        Difference("missing", "crp_mg_l", "0%", "100%", "share", 1.0, (10, 10)),
        Difference("record", "age_years", "50 ± 9", "60 ± 9", "mean", 1.1, (10, 10)),
    ]
    internal = {"outcome/event/auroc": Metric(0.8, 0.7, 0.9, 100, "p")}
    shift = tell_shift(rows, internal, {"outcome/event/auroc": Metric(0.6, 0.5, 0.7, 80, "p")})
    assert shift is not None and shift.said == [
        "findings · mass is present in 30% of the tested studies and in 10% of the training studies.",
        "age years is 60 ± 9 in the tested studies and 50 ± 9 in training: 1.10 standard deviations apart.",
        "Missing in so many of the tested studies (of training): crp mg l 100% (0%).",
    ]
    (table,) = shift.figures
    assert [(row.name, row.cells[0].value, row.note) for row in table.rows] == [
        ("internal", 0.8, "n = 100"),
        ("external", 0.6, "n = 80"),
    ]
    assert tell_shift([], {}, {}) is None


def test_external_figures_stand_beside_the_internal_ones_and_are_stored(tiny_run, other, tmp_path):
    import shutil

    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    own = evaluate(run)
    assert own.record.shift == () and own.record.internal == {}
    assert 'id="shift"' not in own.page.read_text("utf-8")
    found = evaluate(run, other.path)
    stored = read_evaluated(found.out)
    assert stored.shift == found.record.shift != ()
    assert stored.internal and all(own.metrics[name] == metric for name, metric in stored.internal.items())
    page = found.page.read_text("utf-8")
    assert page.count('id="shift"') == 1 and "crp mg l 100% (" in page
