from collections.abc import Iterator
from pathlib import Path

import pytest

from chiasm import sources
from chiasm.cohort.imports import import_cohort
from chiasm.errors import InputError
from chiasm.registry import SOURCES
from chiasm.sources.registry import Source
from chiasm.splits import split_of
from chiasm.study import Rejected, Report, Study


@pytest.fixture
def toy() -> Iterator[None]:
    """Two sources, `toy` of a file with a study id a line, and `dream`, which makes its studies itself."""

    def read(path: Path, *, suffix: str = "", where: Path | None = None) -> Iterator[Study | Rejected]:
        for line in path.read_text().split():
            yield (
                Study(line, line + suffix, report=Report({"findings": "x"}))
                if line != "bad"
                else Rejected("1", "is bad")
            )

    def dream(*, seed: int = 7, studies: int = 2) -> Iterator[Study]:
        for i in range(studies):
            yield Study(f"{seed}-{i}", f"p{i}", report=Report({"findings": "x"}))

    for name, function in (("toy", read), ("dream", dream)):
        SOURCES.add(name, Source(name, f"a {name}", function))
    yield
    for name in ("toy", "dream"):
        SOURCES.remove(name)


def test_every_source_is_listed_and_reads() -> None:
    files = {file.stem.replace("_", "-") for file in Path(sources.__file__).parent.glob("*.py")}
    assert files - {"--init--", "registry"} | {"table"} == set(SOURCES)
    for name, source in SOURCES.items():
        assert (source.name, bool(source.about)) == (name, True)
        assert "\n" not in source.about
        assert source.takes_path == (not name.startswith("phantom-"))
    with pytest.raises(KeyError):
        SOURCES["nowhere"]


def test_an_import_records_its_options_without_paths(toy: None, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a b bad c")
    seen: list[int] = []
    cohort = import_cohort(
        "toy",
        tmp_path / "list.txt",
        tmp_path / "c",
        seed=3,
        options={"suffix": "!", "where": tmp_path},
        progress=seen.append,
    )
    assert cohort.studies["patient_id"].tolist() == ["a!", "b!", "c!"]
    assert cohort.studies["split"].tolist() == [split_of(patient, 3) for patient in ("a!", "b!", "c!")]
    assert cohort.meta["options"]["suffix"] == "!"
    assert cohort.meta["options"]["where"] == tmp_path.name
    assert (cohort.source, cohort.meta["seed"], seen) == ("toy", 3, [1, 2, 3, 4])
    with pytest.raises(InputError, match="is bad"):
        import_cohort("toy", tmp_path / "list.txt", tmp_path / "d", strict=True)


def test_a_source_without_path_takes_the_seed_of_the_import(toy: None, tmp_path: Path) -> None:
    assert import_cohort("dream", None, tmp_path / "a", seed=5).studies["study_id"].tolist() == ["5-0", "5-1"]
    own = import_cohort("dream", None, tmp_path / "b", seed=5, options={"seed": 6, "studies": 1})
    assert own.studies["study_id"].tolist() == ["6-0"]
    with pytest.raises(InputError, match="takes no path"):
        import_cohort("dream", tmp_path, tmp_path / "c")


def test_wrong_names_and_paths_say_what_is_right(toy: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such source") as caught:
        import_cohort("chestxray-14", tmp_path, tmp_path / "c")
    assert caught.value.remedy == "did you mean chestxray14?"
    with pytest.raises(InputError, match="has no option sufix") as caught:
        import_cohort("toy", tmp_path, tmp_path / "c", options={"sufix": "x"})
    assert caught.value.expected == "one of suffix, where"
    assert caught.value.remedy == "did you mean suffix?"
    with pytest.raises(InputError, match="not there") as caught:
        import_cohort("toy", tmp_path / "nowhere", tmp_path / "c")
    assert caught.value.where == str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="needs a path"):
        import_cohort("toy", None, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
