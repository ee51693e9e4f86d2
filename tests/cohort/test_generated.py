"""Texts beside a cohort: nothing that was written is lost, whatever ends the work."""

import multiprocessing
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from chiasm.cohort.generated import (
    FILE,
    JOURNAL,
    LOCK,
    GeneratedTexts,
    check_texts,
    count_sources,
    hash_texts,
    read_generated,
)
from chiasm.cohort.store import write_cohort
from chiasm.encoding.fit import fit_plan
from chiasm.errors import CohortError
from chiasm.recipe import read_recipe
from chiasm.run.cohorts import record_cohort
from chiasm.study import Finding, Outcome, Report, State, Study


def row(study, text, kind="structured-report", **parts):
    own = {
        "structure": None,
        "source": "report",
        "writer": "template",
        "model": "",
        "prompt_hash": "p",
        "input_hash": "i",
    }
    own |= {"seed": 0, "attempts": 0, "accepted": True, "answered": True, "reason": ""}
    return {"study_id": study, "kind": kind, "text": text, **own, **parts}


def test_rows_come_back_by_section(tmp_path):
    with GeneratedTexts(tmp_path) as texts:
        texts.add(row("b", "B\nü"))
        texts.add(row("a", "A", source="labels+measurements"))
        texts.add(row("a", "seen", kind="image-description"))
        texts.add(row("c", None, accepted=False))
    assert read_generated(tmp_path, "structured_report") == {"a": "A", "b": "B\nü"}
    assert read_generated(tmp_path, "image_description") == {"a": "seen"}
    assert count_sources(tmp_path, "structured_report") == {"labels": 1, "measurements": 1, "report": 1}
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    table = pq.read_table(tmp_path / FILE).to_pylist()
    assert table[2] == row("b", "B\nü")
    assert table[3]["text"] is None  # a study of which nothing is known leaves a trace


def test_a_new_text_takes_the_place_of_the_old_one(tmp_path):
    for text in ("old", "new"):
        with GeneratedTexts(tmp_path) as texts:
            texts.add(row("a", text))
    assert read_generated(tmp_path, "structured_report") == {"a": "new"}


def test_a_cohort_without_texts_has_none(tmp_path):
    assert read_generated(tmp_path, "structured_report") == {}
    assert count_sources(tmp_path, "structured_report") == {}


def test_the_hash_is_of_study_and_text(tmp_path):
    def written(folder, *rows):
        (tmp_path / folder).mkdir()
        with GeneratedTexts(tmp_path / folder) as texts:
            for one in rows:
                texts.add(one)
        return hash_texts(tmp_path / folder, "structured_report")

    base = written("1", row("a", "A"), row("b", "B"))
    assert written("2", row("b", "B", attempts=3), row("a", "A"), row("a", "x", kind="image-description")) == base
    assert len({base, written("3", row("a", "B"), row("b", "A")), written("4", row("a", "A"))}) == 3


def _write_and_die(folder):
    texts = GeneratedTexts(folder).__enter__()
    texts.add(row("a", "A"))
    texts.add(row("b", "B"))
    texts._journal.write('\n{"study_id": "c", "te')
    texts._journal.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_loses_only_the_line_it_cut(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK, JOURNAL]
    with GeneratedTexts(tmp_path) as texts:
        assert {study for study, _ in texts.rows} == {"a", "b"}
        texts.add(row("c", "C"))
    assert read_generated(tmp_path, "structured_report") == {"a": "A", "b": "B", "c": "C"}
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_what_was_written_stands_after_an_error(tmp_path):
    def interrupted():
        with GeneratedTexts(tmp_path) as texts:
            texts.add(row("a", "A"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_generated(tmp_path, "structured_report") == {"a": "A"}


def test_a_second_process_that_writes_texts_is_refused(tmp_path):
    with GeneratedTexts(tmp_path), pytest.raises(CohortError, match="another process"), GeneratedTexts(tmp_path):
        pass


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / FILE).write_bytes(b"PAR1 no")
    with pytest.raises(CohortError, match="damaged") as caught:
        read_generated(tmp_path, "structured_report")
    assert caught.value.where.endswith(FILE)


# --- as inputs of a recipe -----------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path):
    studies = [
        Study(
            f"s{i}",
            f"p{i}",
            report=Report({"history": f"History {i}."}),
            findings=(Finding("mass", State.ABSENT),),
            outcomes=(Outcome("event", float(i % 2)),),
        )
        for i in range(4)
    ]
    return write_cohort(studies, tmp_path / "cohort", source="made", options={}, size=32)


def recipe(*sections):
    off = ("inputs.image=null", "inputs.record=null", "heads.localization=null", "heads.description=null")
    return read_recipe("report-fusion", (*off, "targets=[outcome]", f"inputs.text.sections=[{', '.join(sections)}]"))


def plan(cohort, *sections):
    return fit_plan(recipe(*sections), [cohort], [np.arange(len(cohort))])


def test_texts_are_sections_like_others(cohort):
    with GeneratedTexts(cohort.path) as texts:
        texts.add(row("s1", "Written 1."))
        texts.add(row("s3", "Written 3."))
        texts.add(row("gone", "Of no study."))
    assert cohort.texts(["structured_report"]) == ["", "Written 1.", "", "Written 3."]
    assert cohort.texts(["structured_report", "history"])[:2] == ["History 0.", "Written 1.\nHistory 1."]
    assert cohort.texts(["history", "structured_report", "image_description"])[1] == "History 1.\nWritten 1."
    assert cohort.texts(["image_description"]) == [""] * 4


def test_a_recipe_of_texts_that_are_not_written_names_the_command(cohort):
    with pytest.raises(CohortError, match="no image_description in the cohort yet") as caught:
        plan(cohort, "image_description")
    assert caught.value.remedy == f"chiasm write {cohort.path} --kind image-description"
    _, _, notes = plan(cohort, "history", "image_description")
    assert (
        "4 training studies have no image_description; chiasm write makes it where there is something to write from."
        in notes
    )


def test_an_input_that_holds_the_answer_is_noted(cohort):
    with GeneratedTexts(cohort.path) as texts:
        for study in ("s0", "s1", "s2"):
            texts.add(row(study, "No mass.", source="labels"))
            texts.add(row(study, "12 ml.", kind="image-description", source="measurements"))
    fitted, _, notes = plan(cohort, "structured_report", "image_description")
    assert fitted.text_sections == ("structured_report", "image_description")
    assert notes[-1] == (
        "The input structured_report was written from labels (3): it holds the answer of what they say. "
        "Only figures without the text say what is seen."
    )
    assert (
        "1 training studies have no structured_report; chiasm write makes it where there is something to write from."
        in notes
    )
    assert not any("image_description was written" in note for note in notes)


def test_a_run_remembers_the_texts_it_read(cohort):
    with GeneratedTexts(cohort.path) as texts:
        texts.add(row("s0", "Old."))
    assert "texts" not in record_cohort(cohort, ["history"])
    entry = record_cohort(cohort, ["history", "structured_report"])
    assert entry["texts"] == {"structured_report": hash_texts(cohort.path, "structured_report")}
    check_texts(entry, cohort.path)
    with GeneratedTexts(cohort.path) as texts:
        texts.add(row("s0", "Old.", kind="image-description"))  # another section: nothing to the run
    check_texts(entry, cohort.path)
    with GeneratedTexts(cohort.path) as texts:
        texts.add(row("s0", "New."))
    with pytest.raises(CohortError, match="texts of structured_report have changed"):
        check_texts(entry, cohort.path)
