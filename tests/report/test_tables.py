"""The CSV of labels, column by column."""

import csv
from pathlib import Path

from chiasm.report.tables import write_labels
from chiasm.report.texts import Text
from chiasm.study import Report
from chiasm.vocabulary import FINDINGS

TEXTS = [
    Text("a", Report({"findings": "Small effusion. Possible pneumonia. No pneumothorax."})),
    Text("b", Report({"findings": "Ein Befund."})),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_states(tmp_path: Path) -> None:
    assert write_labels(TEXTS, tmp_path / "l.csv") == {"reports": 2, "silent": 1}
    first, second = rows(tmp_path / "l.csv")
    assert list(first) == ["id", *FINDINGS]
    assert (first["id"], first["pleural_effusion"], first["pneumonia"]) == ("a", "present", "uncertain")
    assert (first["pneumothorax"], first["mass"], first["normal"]) == ("absent", "not_mentioned", "absent")
    assert set(second.values()) == {"b", "not_mentioned"}


def test_chestxray14_has_the_columns_of_the_human_labels(tmp_path: Path, shared_data: Path) -> None:
    write_labels(TEXTS, tmp_path / "l.csv", "chestxray14")
    with (shared_data / "openi" / "gold-labels.csv").open(encoding="utf-8") as file:
        assert list(rows(tmp_path / "l.csv")[0]) == next(csv.reader(file))


def test_chestxray14_policy(tmp_path: Path) -> None:
    for policy, pneumonia in (("negative", "0"), ("positive", "1")):
        write_labels(TEXTS, tmp_path / "l.csv", "chestxray14", policy)  # type: ignore[arg-type]
        first, second = rows(tmp_path / "l.csv")
        assert (first["filename"], first["Effusion"], first["Pneumonia"], first["normal"]) == ("a", "1", pneumonia, "0")
        assert second["normal"] == "0"


def test_chexpert_tells_all_four_states(tmp_path: Path) -> None:
    write_labels(TEXTS, tmp_path / "l.csv", "chexpert")
    first, _ = rows(tmp_path / "l.csv")
    assert len(first) == 15
    shown = [first[name] for name in ("Pleural Effusion", "Pneumonia", "Pneumothorax", "Fracture")]
    assert shown == ["1.0", "-1.0", "0.0", ""]


def test_a_failure_leaves_no_half_file(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield TEXTS[0]
        raise ValueError

    try:
        write_labels(broken(), tmp_path / "l.csv")
    except ValueError:
        assert list(tmp_path.iterdir()) == []
    else:
        raise AssertionError
