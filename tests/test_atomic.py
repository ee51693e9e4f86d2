from pathlib import Path

import pytest

from chiasm.atomic import whole_or_nothing
from chiasm.errors import CohortError


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    with whole_or_nothing(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(tmp_path / "c") as folder:
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_names_with_wildcards_are_names(tmp_path: Path) -> None:
    (tmp_path / "cohort1.partial-x").mkdir()
    with whole_or_nothing(tmp_path / "cohort[1]"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort1.partial-x", "cohort[1]"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CohortError, match="cannot be written") as caught, whole_or_nothing(tmp_path / "file" / "c"):
        pass
    assert caught.value.where == str(tmp_path / "file" / "c")
