"""Files and folders that appear whole, locks between processes, and pixel files that grow."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import chiasm
from chiasm.atomic import (
    locked,
    reserve,
    whole_file,
    whole_folder,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
from chiasm.errors import CohortError, RunError

WRITERS = {
    "bytes": (lambda path: write_bytes(path, b"\xc3\xa9\r\n"), b"\xc3\xa9\r\n"),
    "text": (lambda path: write_text(path, "é\r\n"), b"\xc3\xa9\r\n"),
    "json": (lambda path: write_json(path, {"é": [1, None]}), b'{\n "\xc3\xa9": [\n  1,\n  null\n ]\n}\n'),
    "csv": (lambda path: write_csv(path, [("a", "b"), ("é, x", 1)]), b'a,b\r\n"\xc3\xa9, x",1\r\n'),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_holds_what_was_written_in_place_of_what_was(tmp_path: Path, kind: str) -> None:
    write, content = WRITERS[kind]
    (tmp_path / "f").write_text("a longer text that was there before")
    for _ in range(2):
        write(tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    write_csv(tmp_path / "f", [("=1+1", "+49 30", "-no effusion", "@home", "\tx", "-1.5", -2, "a=b", "+3e4")])
    assert (tmp_path / "f").read_text() == "'=1+1,'+49 30,'-no effusion,'@home,'\tx,-1.5,-2,a=b,+3e4\n"


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")

    def rows() -> Iterator[tuple[str]]:
        yield ("new",)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_csv(tmp_path / "f", rows())
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "f", {"value": float("nan")})
    with pytest.raises(TypeError):
        write_json(tmp_path / "f", {"value": object()})
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "f"):
        pass  # nothing was written
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_appears_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool) -> None:
    order: list[str] = []
    replace, rename, sync = os.replace, Path.rename, os.fsync
    monkeypatch.setattr("os.replace", lambda *paths: (order.append("appears"), replace(*paths)))
    monkeypatch.setattr(Path, "rename", lambda *paths: (order.append("appears"), rename(*paths)))
    monkeypatch.setattr("os.fsync", lambda handle: (order.append("sync"), sync(handle)))
    if folder:
        with whole_folder(tmp_path / "a", RunError) as partial:
            (partial / "b").mkdir()
            (partial / "b" / "file").write_text("x")
        assert order == ["sync"] * (3 if os.name == "posix" else 1) + ["appears"]
    else:
        write_text(tmp_path / "a", "x")
        assert order == ["sync", "appears"]


WRITE = """
import sys
from pathlib import Path
from chiasm.atomic import whole_file
path = Path(sys.argv[1])
with whole_file(path) as partial, partial.open("w") as file:
    file.write("half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    command = [sys.executable, "-c", WRITE, str(tmp_path / "f")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()
    assert (tmp_path / "f").read_text() == "old"
    write_text(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "new"


def test_no_other_module_replaces_files_by_hand() -> None:
    root = Path(chiasm.__file__).parent
    hands = re.compile(r"os\.(replace|rename|fsync)\(")
    found = [file.name for file in sorted(root.rglob("*.py")) if hands.search(file.read_text("utf-8"))]
    assert found == ["atomic.py"]


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
        (tmp_path / name / ".chiasm-unfinished").touch()
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


# --- what is not ours --------------------------------------------------------------------------------------------------


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "f").symlink_to(tmp_path / "theirs")
    (tmp_path / f"f.partial-{os.getpid()}").symlink_to(tmp_path / "theirs")
    write_text(tmp_path / "f", "ours")
    assert (tmp_path / "f").read_text() == "ours" and not (tmp_path / "f").is_symlink()
    assert (tmp_path / "theirs").read_text() == "theirs"
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "empty")
    with pytest.raises(RunError, match="exists already"), whole_folder(tmp_path / "out", RunError):
        pass


def test_a_partial_folder_without_our_mark_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.partial", "a.partial-notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is none"), whole_folder(tmp_path / "a", RunError):
        pass
    assert (tmp_path / "a.partial" / "notes.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "a.partial")
    with whole_folder(tmp_path / "a", RunError) as partial:
        (partial / "x").touch()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x"]  # and no mark
    assert (tmp_path / "a.partial-notes" / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="processes cannot be asked for elsewhere")
def test_files_that_dead_processes_left_are_removed_and_no_others(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    names = {
        f"f.partial-{dead.pid}": True,
        f"f.partial-{os.getppid()}": False,  # alive
        f"g.partial-{dead.pid}": False,  # of another file
        "f.partial-notes": False,
        "f.partial-12x": False,
    }
    for name in names:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    young = tmp_path / f"f.partial-{dead.pid + 10**6}"
    young.write_text("x")  # of a moment ago: perhaps of another machine
    write_text(tmp_path / "f", "ours")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"f", young.name, *(name for name, gone in names.items() if not gone)}


def test_an_error_of_the_disk_says_what_was_being_written(tmp_path: Path) -> None:
    for manager, name in ((whole_file(tmp_path / "f"), "f"), (whole_folder(tmp_path / "d", RunError), "d")):
        with pytest.raises(OSError, match="No space") as caught, manager:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert caught.value.filename == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room")
def test_room_that_is_not_there_is_an_error_and_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(4096)
    reserve(file)
    assert file.stat().st_blocks * 512 >= 4096

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        reserve(file)


@pytest.mark.skipif(os.name != "posix", reason="no such signal elsewhere")
def test_a_terminated_command_removes_what_is_unfinished(tmp_path: Path) -> None:
    arguments = ["import", "phantom-chest", "--out", str(tmp_path / "c"), "--option", "studies=100000", "--size", "32"]
    with subprocess.Popen([sys.executable, "-c", "from chiasm.cli import main; main()", *arguments]) as child:
        for _ in range(6000):
            if (tmp_path / "c.partial" / "pixels_2d.npy").exists():
                break
            time.sleep(0.01)
        child.terminate()
        assert child.wait() == 130
    assert list(tmp_path.iterdir()) == []
