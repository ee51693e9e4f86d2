"""Files that have changed since they were written are told: by size and time at once, by content where these differ or when asked."""

import os
from pathlib import Path

import pytest

from chiasm.seals import FILE, changed, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(100))
    seal(tmp_path, ["a", "b"])
    return tmp_path


def rewrite(file: Path, content: bytes, *, keep_time: bool = False) -> None:
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 10**9)))


def test_what_is_as_it_was_is_not_told(folder: Path) -> None:
    assert changed(folder) == changed(folder, full=True) == []
    rewrite(folder / "a", bytes(100))  # a copy: another time, the same content
    assert changed(folder) == []


@pytest.mark.parametrize("content", [b"", bytes(99), bytes(99) + b"x"])
def test_a_file_of_another_size_or_content_is_told(folder: Path, content: bytes) -> None:
    rewrite(folder / "b", content)
    assert changed(folder) == ["b"]
    (folder / "a").unlink()
    assert changed(folder) == ["a", "b"]


def test_the_same_size_and_time_are_seen_through_when_all_is_compared(folder: Path) -> None:
    rewrite(folder / "b", bytes(99) + b"x", keep_time=True)
    assert changed(folder) == []
    assert changed(folder, full=True) == ["b"]


def test_a_folder_without_hashes_cannot_tell_and_damaged_hashes_are_a_change(folder: Path) -> None:
    for text in ("{", "[]", "[" * 10_000, '{"a": 1}', '{"a": {"size": 100}}'):
        (folder / FILE).write_text(text)
        assert changed(folder) in ([FILE], ["a"])
    (folder / FILE).unlink()
    assert changed(folder) is None
