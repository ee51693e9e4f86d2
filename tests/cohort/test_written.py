"""Texts beside a cohort: nothing that was written is lost, whatever ends the work."""

import multiprocessing
import os
import signal

import pyarrow.parquet as pq
import pytest

from chiasm.cohort.written import FILE, JOURNAL, TextFile, read_texts, sources, texts_hash
from chiasm.errors import CohortError


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
    with TextFile(tmp_path) as texts:
        texts.add(row("b", "B\nü"))
        texts.add(row("a", "A", source="labels+measurements"))
        texts.add(row("a", "seen", kind="image-description"))
        texts.add(row("c", None, accepted=False))
    assert read_texts(tmp_path, "structured_report") == {"a": "A", "b": "B\nü"}
    assert read_texts(tmp_path, "image_description") == {"a": "seen"}
    assert sources(tmp_path, "structured_report") == {"labels": 1, "measurements": 1, "report": 1}
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    table = pq.read_table(tmp_path / FILE).to_pylist()
    assert table[2] == row("b", "B\nü")
    assert table[3]["text"] is None  # a study of which nothing is known leaves a trace


def test_a_new_text_takes_the_place_of_the_old_one(tmp_path):
    for text in ("old", "new"):
        with TextFile(tmp_path) as texts:
            texts.add(row("a", text))
    assert read_texts(tmp_path, "structured_report") == {"a": "new"}


def test_no_texts_yet(tmp_path):
    assert read_texts(tmp_path, "structured_report") == {}
    assert sources(tmp_path, "structured_report") == {}


def test_the_hash_is_of_study_and_text(tmp_path):
    def written(folder, *rows):
        (tmp_path / folder).mkdir()
        with TextFile(tmp_path / folder) as texts:
            for one in rows:
                texts.add(one)
        return texts_hash(tmp_path / folder, "structured_report")

    base = written("1", row("a", "A"), row("b", "B"))
    assert written("2", row("b", "B", attempts=3), row("a", "A"), row("a", "x", kind="image-description")) == base
    assert len({base, written("3", row("a", "B"), row("b", "A")), written("4", row("a", "A"))}) == 3


def _write_and_die(folder):
    texts = TextFile(folder).__enter__()
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
    assert [p.name for p in tmp_path.iterdir()] == [JOURNAL]
    with TextFile(tmp_path) as texts:
        assert {study for study, _ in texts.rows} == {"a", "b"}
        texts.add(row("c", "C"))
    assert read_texts(tmp_path, "structured_report") == {"a": "A", "b": "B", "c": "C"}
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_what_was_written_stands_after_an_error(tmp_path):
    def interrupted():
        with TextFile(tmp_path) as texts:
            texts.add(row("a", "A"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_texts(tmp_path, "structured_report") == {"a": "A"}


def test_one_process_at_a_time(tmp_path):
    with TextFile(tmp_path), pytest.raises(CohortError, match="another process"), TextFile(tmp_path):
        pass


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / FILE).write_bytes(b"PAR1 no")
    with pytest.raises(CohortError, match="damaged") as caught:
        read_texts(tmp_path, "structured_report")
    assert caught.value.where.endswith(FILE)
