"""The CSV of labels, column by column."""

import csv
from pathlib import Path

import pytest

from chiasm.errors import InputError
from chiasm.report.attributes import ATTRIBUTES
from chiasm.report.files import NamedReport, read_report_files
from chiasm.report.tables import write_labels
from chiasm.study import Rejected, Report
from chiasm.vocabulary import FINDINGS

TEXTS = [
    NamedReport("a", Report({"findings": "Small effusion. Possible pneumonia. No pneumothorax."})),
    NamedReport("b", Report({"findings": "A dog."})),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_scheme_states_has_a_column_for_each_finding(tmp_path: Path) -> None:
    assert write_labels(TEXTS, tmp_path / "l.csv") == {"reports": 2, "silent": 1, "repeated": 0, "rejected": 0}
    first, second = rows(tmp_path / "l.csv")
    assert list(first) == ["id", *FINDINGS]
    assert (first["id"], first["pleural_effusion"], first["pneumonia"]) == ("a", "present", "uncertain")
    assert (first["pneumothorax"], first["mass"], first["normal"]) == ("absent", "not_mentioned", "absent")
    assert set(second.values()) == {"b", "not_mentioned"}


def test_chestxray14_has_the_columns_of_the_human_labels(tmp_path: Path, shared_data: Path) -> None:
    write_labels(TEXTS, tmp_path / "l.csv", "chestxray14")
    with (shared_data / "openi" / "gold-labels.csv").open(encoding="utf-8") as file:
        assert list(rows(tmp_path / "l.csv")[0]) == next(csv.reader(file))


def test_an_uncertain_finding_counts_as_asked_in_chestxray14(tmp_path: Path) -> None:
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


def test_what_has_no_row_or_says_nothing_is_noted(tmp_path: Path) -> None:
    texts = [
        NamedReport("good", Report({"findings": "No effusion."})),
        NamedReport("empty", Report({})),
        NamedReport("asked", Report({"indication": "Effusion?"})),
        NamedReport("german", Report({"findings": "Kein Pneumothorax. Der Herzschatten ist nicht vergrößert."})),
        NamedReport("russian", Report({"findings": "Пневмоторакс не выявлен."})),
    ]
    lost = [Rejected("folder/bad.txt", "the file is not UTF-8 text")]
    counts = write_labels(texts, tmp_path / "l.csv", "chestxray14", rejected=lost)
    assert counts == {"reports": 3, "silent": 2, "repeated": 0, "rejected": 3}
    assert [row["filename"] for row in rows(tmp_path / "l.csv")] == ["good", "empty", "asked"]
    notes = {row["report"]: (row["labelled"], row["reason"]) for row in rows(tmp_path / "l.notes.csv")}
    assert set(notes) == {"empty", "asked", "german", "russian", "folder/bad.txt"}
    assert notes["empty"] == ("yes", "the report is empty")
    assert notes["asked"][1].startswith("the report has no section that is labelled")
    assert notes["german"] == ("no", "the report is not in English, judging by its words: German")
    assert "script" in notes["russian"][1] and notes["folder/bad.txt"][0] == "no"
    write_labels(texts[:1], tmp_path / "l.csv")
    assert not (tmp_path / "l.notes.csv").exists(), "a note of another run does not stay"


def test_nothing_that_can_be_labelled_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    texts = [NamedReport("x", Report({"findings": "Pas de pneumothorax dans le champ."}))]
    with pytest.raises(InputError, match="French"):
        write_labels(texts, tmp_path / "l.csv", details=tmp_path / "d.csv")
    with pytest.raises(InputError, match=r"2 inputs; the first: .*French"):
        write_labels(texts * 2, tmp_path / "l.csv")
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_comes_again_is_noted(tmp_path: Path) -> None:
    again = [
        NamedReport("a", Report({"findings": "Small effusion."})),
        TEXTS[1],
        NamedReport("a", Report({"findings": "No effusion."})),
    ]
    assert write_labels(again, tmp_path / "l.csv") == {"reports": 3, "silent": 1, "repeated": 1, "rejected": 0}
    assert [(row["id"], row["pleural_effusion"]) for row in rows(tmp_path / "l.csv")][::2] == [
        ("a", "present"),
        ("a", "absent"),
    ]
    notes = {row["report"]: row["reason"] for row in rows(tmp_path / "l.notes.csv")}
    assert notes["a"] == "another row above has the same id"


def test_a_report_is_never_written_over(tmp_path: Path) -> None:
    report = tmp_path / "r.txt"
    report.write_text("Mass.", "utf-8")
    for out, details, what in (
        ("r.txt", None, "labels are written as CSV"),
        ("l.csv", "r.txt", "labels are written as CSV"),
        ("no/l.csv", None, "the folder does not exist"),
        ("l.csv", "l.csv", "the details would overwrite"),
        ("l.csv", "l.notes.csv", "the details would overwrite"),
    ):
        with pytest.raises(InputError, match=what):
            write_labels(read_report_files(report), tmp_path / out, details=tmp_path / details if details else None)
    assert report.read_text("utf-8") == "Mass."
    assert list(tmp_path.iterdir()) == [report]


def test_one_bad_file_of_a_folder_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "a.txt").write_text("Small effusion.", "utf-8")
    (folder / "b.txt").write_bytes("Erguß".encode("utf-16"))
    (folder / "c.txt").write_bytes(b"No effusion caf\xe9")
    (folder / "d.xml").write_bytes(b"<x")
    (folder / "e.txt").write_text("No effusion.", "utf-8")
    rejected: list[Rejected] = []
    counts = write_labels(read_report_files(folder, rejected), tmp_path / "l.csv", rejected=rejected)
    assert counts == {"reports": 2, "silent": 0, "repeated": 0, "rejected": 3}
    assert [row["pleural_effusion"] for row in rows(tmp_path / "l.csv")] == ["present", "absent"]
    assert [Path(row["report"]).name for row in rows(tmp_path / "l.notes.csv")] == ["b.txt", "c.txt", "d.xml"]


def test_a_report_of_a_megabyte_is_labelled(tmp_path: Path) -> None:
    sentence = "No effusion, pneumothorax or mass is seen, and the heart is normal "
    text = "FINDINGS: " + sentence * 16_000 + ". IMPRESSION: Small mass."
    assert len(text) > 1 << 20
    (tmp_path / "long.txt").write_text(text, "utf-8")
    write_labels(read_report_files(tmp_path / "long.txt"), tmp_path / "l.csv", details=tmp_path / "d.csv")
    assert max(len(row["sentence"]) for row in rows(tmp_path / "d.csv")) < 1100, (
        "one sentence of a megabyte is not written whole"
    )
    (row,) = rows(tmp_path / "l.csv")
    assert (row["pleural_effusion"], row["cardiomegaly"], row["mass"]) == ("absent", "absent", "present")


def test_details_say_where_and_how(tmp_path: Path) -> None:
    report = Report({"indication": "Mass.", "findings": "Clear. Possible small left effusion."})
    write_labels([NamedReport("a", report)], tmp_path / "l.csv", details=tmp_path / "d.csv")
    (row,) = [r for r in rows(tmp_path / "d.csv") if r["finding"] == "pleural_effusion"]
    assert (row["id"], row["state"], row["cue"], row["section"]) == ("a", "uncertain", "uncertain", "findings")
    assert report.sections["findings"][int(row["start"]) : int(row["end"])] == row["words"] == "effusion"
    assert row["sentence"] == "Possible small left effusion"
    assert {kind: row[kind] for kind in ATTRIBUTES if row[kind]} == {"side": "left", "extent": "small"}
