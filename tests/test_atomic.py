"""Locks between processes, folders that appear whole, and pixel files that grow."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from chiasm.atomic import GrowingArray, locked, whole_folder
from chiasm.errors import CohortError, RunError


def test_a_growing_array_is_a_plain_npy_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 3)).astype(np.uint8)
    array = GrowingArray(tmp_path / "a.npy", (5, 3))
    assert [array.append(image) for image in images] == list(range(12))
    array.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), images)


def test_the_header_keeps_its_length_however_long_the_array_grows(tmp_path: Path) -> None:
    lengths = set()
    for count in (0, 9, 10, 10**6, 10**12):
        array = GrowingArray(tmp_path / "a.npy", (224, 224))
        array.count = count
        array.close()
        lengths.add((tmp_path / "a.npy").stat().st_size)
    assert len(lengths) == 1


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a", CohortError) as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "file").read_text() == "x"
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "c", CohortError) as folder:
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_takes_the_place_of_an_empty_one_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with whole_folder(tmp_path / "a", RunError) as folder:
        (folder / "file").write_text("x")
    with pytest.raises(RunError, match="exists already"), whole_folder(tmp_path / "a", RunError):
        pytest.fail("the folder is not empty")
    assert (tmp_path / "a" / "file").read_text() == "x"


def test_what_a_killed_process_left_is_removed_and_names_with_wildcards_are_names(tmp_path: Path) -> None:
    for name in ("cohort[1].partial", "cohort1.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    with whole_folder(tmp_path / "cohort[1]", CohortError):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort1.partial", "cohort[1]"]
    assert list((tmp_path / "cohort[1]").iterdir()) == []


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "x.lock"
    with locked(file, RunError, "another run"):
        assert file.is_file()
        with pytest.raises(RunError, match="another run") as caught, locked(file, RunError, "another run"):
            pytest.fail("it was held")
        assert caught.value.where == str(file.parent)
    assert list(file.parent.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), locked(file, RunError):
        raise KeyboardInterrupt
    assert list(file.parent.iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from chiasm.atomic import locked
from chiasm.errors import RunError
with locked(Path(sys.argv[1]), RunError):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Starts another process that holds `tmp_path / "x.lock"` for some seconds."""
    started = []

    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "x.lock"), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_kill_frees_the_lock(tmp_path: Path, holder: Callable[[float], subprocess.Popen[str]]) -> None:
    process = holder(600)
    with pytest.raises(RunError, match="busy"), locked(tmp_path / "x.lock", RunError, "busy"):
        pytest.fail("it was held")
    process.kill()
    process.wait()
    with locked(tmp_path / "x.lock", RunError, "busy"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_message_a_lock_is_waited_for(
    tmp_path: Path, holder: Callable[[float], subprocess.Popen[str]]
) -> None:
    process = holder(0.5)
    with locked(tmp_path / "x.lock", RunError):
        process.wait()
        assert (tmp_path / "x.lock").is_file(), "who lets go of a lock removes its own file, not that of the next"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_of_the_callers_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CohortError, match="cannot be written") as caught,
        locked(tmp_path / "file" / "c.lock", CohortError, "busy"),
    ):
        pytest.fail("there is no such folder")
    assert caught.value.where == str(tmp_path / "file")
