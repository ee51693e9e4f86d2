"""A cohort counts the configurations that were evaluated on its patients, by digests alone, and the page says how many."""

import json
import shutil

import pytest
from charts import chart_cohort, chart_recipe

from chiasm.comparison.compare import compare
from chiasm.evaluation.evaluate import evaluate
from chiasm.evaluation.ledger import FILE, count_configurations
from chiasm.training.train import train


@pytest.fixture
def cohort(tmp_path):
    return chart_cohort(tmp_path / "cohort", n=60)


def run_of(cohort, out, *more):
    train(chart_recipe(*more), [cohort.path], out)
    return out


def lines(cohort):
    return (cohort.path / FILE).read_text("utf-8").splitlines()


def test_each_configuration_counts_once_and_the_pages_say_so(cohort, tmp_path):
    first = run_of(cohort, tmp_path / "first")
    found = evaluate(first)
    assert found.record.tried == 1 and "configurations were evaluated" not in found.page.read_text("utf-8")
    assert evaluate(first).record.tried == 1 and len(lines(cohort)) == 1, "the same again is the same"
    same = run_of(cohort, tmp_path / "same", "evaluate.coverage=0.8")
    assert evaluate(same).record.tried == 1, "how it is scored is no other configuration"
    other = run_of(cohort, tmp_path / "other", "inputs.record.columns=[sharp]")
    found = evaluate(other)
    assert found.record.tried == 2
    sentence = (
        "2 configurations were evaluated on these test patients; this is one of them; nothing corrects for the choice"
    )
    assert sentence in found.page.read_text("utf-8")
    compared = compare([other, first], tmp_path / "out")
    assert sum(sentence in note for note in compared.notes) == 2
    assert sentence in compared.page.read_text("utf-8")


def test_other_tested_patients_and_baselines_beside_a_run_do_not_count(cohort, tmp_path):
    first = run_of(cohort, tmp_path / "first")
    evaluate(first)
    folds = tmp_path / "folds"
    train(chart_recipe("inputs.record.columns=[sharp]"), [cohort.path], folds, folds=3)
    assert evaluate(folds).record.tried == 1
    beside = run_of(cohort, first / "baselines" / "baseline-record", "inputs.record.columns=[sharp]")
    assert evaluate(beside).record.tried == 0
    assert len(lines(cohort)) == 2


def test_another_cohort_has_a_ledger_of_its_own(cohort, tmp_path):
    elsewhere = chart_cohort(tmp_path / "elsewhere", n=50)
    first = run_of(cohort, tmp_path / "first")
    assert evaluate(first, elsewhere.path).record.tried == 1
    assert len(lines(elsewhere)) == 1 and not (cohort.path / FILE).exists()


def test_no_identifier_stands_in_it_and_the_cohort_stays_what_it_was(cohort, tmp_path):
    found = evaluate(run_of(cohort, tmp_path / "first"))
    (line,) = lines(cohort)
    entry = json.loads(line)
    assert sorted(entry) == ["configuration", "run", "tested"]
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in entry.values())
    assert found.record.cohorts[0].hash == cohort.hash
    cohort.verify()


def test_a_cohort_that_cannot_be_written_is_said_and_no_error(cohort, tmp_path):
    (cohort.path / FILE).mkdir()  # as if it were on a read-only disk
    found = evaluate(run_of(cohort, tmp_path / "first"))
    assert found.record.tried == 0
    assert any("cannot be written" in note for note in found.record.notes)
    shutil.rmtree(cohort.path / FILE)


def test_counting_needs_the_very_patients(cohort, tmp_path):
    from chiasm.evaluation.store import read_evidence

    run = run_of(cohort, tmp_path / "first")
    evaluate(run)
    pool = read_evidence(run / "evaluation" / "predictions", [cohort]).pool
    assert count_configurations(run, pool) == 1
    assert count_configurations(run, type(pool)(pool.cohorts, pool.cohort[1:], pool.row[1:], pool.fold_model[1:])) == 0
