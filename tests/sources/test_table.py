"""Each bad cell, row and file is said with its place, and costs nothing else."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dicom_files import dicom_object, slices
from dicom_files import save as save_dicom
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.errors import TableError
from chiasm.sources.registry import find_source
from chiasm.sources.table.read import read
from chiasm.study import Kind, Rejected, State, Study, View

BASE = {"patient": "pid", "images": {"columns": "file", "folder": "img"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a.png ... f.png, 40 high and 60 wide; their pixels tell them apart."""
    (tmp_path / "img").mkdir()
    for value, name in enumerate("abcdef"):
        save(tmp_path / "img" / f"{name}.png", np.full((40, 60), value * 10, np.uint8))
    return tmp_path


def save(path: Path, pixels: np.ndarray) -> None:
    Pillow.fromarray(pixels).save(path)


def load(
    folder: Path, rows: str | bytes, map_: Mapping[str, Any] | None = BASE, name: str = "t.csv"
) -> tuple[dict[str, Study], list[Rejected]]:
    """Studies by id and what was rejected, of a table written into the folder."""
    (folder / name).write_bytes(rows.encode() if isinstance(rows, str) else rows)
    found = list(read(folder / name, map=map_))
    studies = [item for item in found if isinstance(item, Study)]
    assert len({study.study_id for study in studies}) == len(studies)
    return {study.study_id: study for study in studies}, [item for item in found if isinstance(item, Rejected)]


def states(studies: dict[str, Study], label: str, target: str = "findings") -> list[str]:
    found = [[f.state.value for f in s.findings if (f.name, f.target) == (label, target)] for s in studies.values()]
    assert all(len(one) == 1 for one in found)
    return [one[0] for one in found]


def error(folder: Path, rows: str, map_: Mapping[str, Any] | None = BASE, name: str = "t.csv") -> str:
    with pytest.raises(TableError) as caught:
        load(folder, rows, map_, name)
    return str(caught.value)


def test_is_a_source_with_the_option_map() -> None:
    assert find_source("table").options == ("map",)


def test_a_whole_study(folder: Path) -> None:
    (folder / "masks").mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[5:9, 10:20] = 255
    save(folder / "masks" / "m.png", mask)
    rows = (
        "sid,pid,file,side,when,Text,Age,Sex,Temp,Effusion,dx,x,y,w,h,seg,died,score,grade\n"
        "s1,p1,a.png,b.png,val,IMPRESSION: Small effusion.,54,Male,36.6,1,Mass|Nodule,10,5,20,10,m.png,yes,2.5,3\n"
    )
    map_ = {
        "study": "sid",
        "patient": "pid",
        "split": "when",
        "images": {"columns": ["file", "side"], "folder": "img", "views": ["pa", "lateral"]},
        "report": "Text",
        "record": {"age_years": "Age", "sex": "Sex", "temperature_c": {"column": "Temp", "unknown_time": True}},
        "labels": [{"columns": ["Effusion"], "reader": "ann"}, {"column": "dx", "target": "second", "reader": "bob"}],
        "outcomes": [
            {"column": "died"},
            {"column": "score", "kind": "regression", "reader": "cid"},
            {"column": "grade", "name": "mRS", "kind": "ordinal", "target": "mrs"},
        ],
    }
    study = load(folder, rows, map_)[0]["s1"]
    assert (study.patient_id, study.split) == ("p1", "validation")
    assert [(i.image_id, i.view, i.source) for i in study.images] == [
        ("s1-0", View.PA, "img/a.png"),
        ("s1-1", View.LATERAL, "img/b.png"),
    ]
    np.testing.assert_array_equal(study.images[1].pixels, np.full((40, 60), 10))
    assert study.report is not None
    assert study.report.sections == {"impression": "Small effusion."}
    assert study.record is not None
    assert study.record.values == {"age_years": 54.0, "sex": "m", "temperature_c": 36.6}
    assert study.record.unknown_time == {"temperature_c"}
    assert [(f.name, f.state, f.target, f.reader) for f in study.findings] == [
        ("pleural_effusion", State.PRESENT, "findings", "ann"),
        ("mass", State.PRESENT, "second", "bob"),
        ("nodule", State.PRESENT, "second", "bob"),
    ]
    assert [(o.name, o.value, o.kind, o.target, o.reader) for o in study.outcomes] == [
        ("died", 1.0, Kind.BINARY, "outcome", ""),
        ("score", 2.5, Kind.REGRESSION, "severity", "cid"),
        ("mrs", 3.0, Kind.ORDINAL, "mrs", ""),
    ]

    map_ = {
        **BASE,
        "labels": {"columns": ["Effusion"]},
        "boxes": {"columns": ["x", "y", "w", "h"], "label": "Effusion", "reader": "eve"},
        "masks": {"column": "seg", "folder": "masks", "label": "lesion", "target": "lesions"},
    }
    study = load(folder, rows, map_)[0]["row-2"]
    box, drawn = study.regions
    assert (box.label, box.box, box.image_id, box.reader) == ("pleural_effusion", (10, 5, 30, 15), "row-2-0", "eve")
    np.testing.assert_array_equal(drawn.mask, mask > 0)
    assert [(f.name, f.state, f.target) for f in study.findings] == [
        ("pleural_effusion", State.PRESENT, "findings"),
        ("lesion", State.PRESENT, "lesions"),
    ]


def test_an_image_that_is_not_there_names_the_path_and_the_row(folder: Path) -> None:
    (folder / "img" / "cut.png").write_bytes((folder / "img" / "a.png").read_bytes()[:60])
    rows = "pid,file,age\n1,a.png,50\n2,gone.png,60\n3,cut.png,70\n"
    studies, rejected = load(folder, rows, {**BASE, "record": ["age"]})
    assert [len(s.images) for s in studies.values()] == [1, 0, 0]
    assert [s.record.values["age_years"] for s in studies.values() if s.record] == [50, 60, 70]
    assert [r.where for r in rejected] == ["t.csv: row 3", "t.csv: row 4"]
    assert "img/gone.png" in rejected[0].reason
    assert "img/cut.png" in rejected[1].reason
    assert "damaged" in rejected[1].reason


@pytest.mark.parametrize(
    ("images", "file", "advice"),
    [
        ({"columns": "file"}, "a.png", "`folder: img`"),
        ({"columns": "file", "folder": "img"}, "a", "`suffix: .png`"),
        ({"columns": "file", "folder": "img"}, "x/y/a.png", "in img: shorten"),
    ],
)
def test_no_image_at_all_is_an_error_with_the_way_out(folder: Path, images: Any, file: str, advice: str) -> None:
    message = error(folder, f"pid,file\n1,{file}\n2,{file}\n", {"patient": "pid", "images": images})
    assert "none of the 1 image files" in message
    assert advice in message


def test_several_folders_and_the_advice_for_them(folder: Path) -> None:
    (folder / "img2").mkdir()
    (folder / "img" / "b.png").rename(folder / "img2" / "b.png")
    rows = "pid,file\n1,a.png\n2,b.png\n"
    assert "`folder: ['img', 'img2']`" in error(folder, rows, {"patient": "pid", "images": "file"})
    studies, rejected = load(folder, rows, {"patient": "pid", "images": {"columns": "file", "folder": ["img", "img2"]}})
    assert [s.images[0].source for s in studies.values()] == ["img/a.png", "img2/b.png"]
    assert rejected == []


def test_missing_columns_come_in_one_message_with_the_nearest_name(folder: Path) -> None:
    map_ = {**BASE, "patient": "PID", "report": "Reprot", "labels": {"columns": ["Efusion"]}}
    message = error(folder, "pid,file,report,effusion\n1,a.png,x,1\n", map_)
    assert "3 problems" in message
    assert "patient: there is no column PID, did you mean pid?" in message
    assert "no column Reprot, did you mean report?" in message
    assert "no column Efusion, did you mean effusion?" in message
    assert "pid, file, report, effusion" in message


def test_no_patient_explains_leakage_and_the_way_to_do_without(folder: Path) -> None:
    message = error(folder, "pid,file\n1,a.png\n", {"images": "file"})
    assert "every score comes out too high" in message
    assert "`patient: study`" in message
    studies, _ = load(folder, "pid,file\n7,a.png\n7,b.png\n", {**BASE, "patient": "study"})
    assert [s.patient_id for s in studies.values()] == ["row-2", "row-3"]
    message = error(folder, "study,id,file\n1,2,a.png\n", {**BASE, "patient": "study", "study": "id"})
    assert "a column has that name" in message


def test_several_rows_of_a_study_are_its_images(folder: Path) -> None:
    rows = "sid,pid,file,view,mass\ns1,1,a.png,PA,1\ns2,2,b.png,AP,0\ns1,1,c.png,LL,\n"
    map_ = {
        "study": "sid",
        "patient": "pid",
        "images": {"columns": "file", "folder": "img", "view": "view"},
        "labels": {"columns": ["mass"]},
    }
    studies, rejected = load(folder, rows, map_)
    assert rejected == []
    assert [i.view for i in studies["s1"].images] == [View.PA, View.LATERAL]
    assert [int(i.pixels[0, 0]) for i in studies["s1"].images] == [0, 20]
    assert states(studies, "mass") == ["present", "absent"]


def test_several_paths_in_one_cell(folder: Path) -> None:
    map_ = {"patient": "pid", "images": {"columns": "file", "folder": "img", "separator": ";", "suffix": ".png"}}
    studies, rejected = load(folder, "pid,file\n1,a ;b;\n2,c\n", map_)
    assert rejected == []
    assert [[i.source for i in s.images] for s in studies.values()] == [["img/a.png", "img/b.png"], ["img/c.png"]]


def test_duplicate_ids_are_said_and_cost_nothing_else(folder: Path) -> None:
    rows = "sid,pid,file,age\ns1,1,a.png,50\ns1,1,a.png,50\ns2,2,b.png,60\ns3,3,c.png,70\ns3,4,d.png,70\n,5,e.png,5\n"
    studies, rejected = load(folder, rows, {**BASE, "study": "sid", "record": ["age"]})
    assert list(studies) == ["s1", "s2"]
    assert len(studies["s1"].images) == 1
    assert [(r.where, r.reason.split(":")[0]) for r in rejected] == [
        ("t.csv: row 7", "the study id is blank"),
        ("t.csv: row 3", "repeats the study of row 2 and adds nothing"),
        ("t.csv: row 5", "rows 5, 6 are one study of different patients"),
    ]


def test_rows_of_a_study_that_do_not_agree(folder: Path) -> None:
    rows = "sid,pid,file,age,mass\ns1,1,a.png,50,1\ns1,1,b.png,51,1\n"
    studies, rejected = load(folder, rows, {**BASE, "study": "sid", "record": ["age"], "labels": {"columns": ["mass"]}})
    assert studies["s1"].record is not None
    assert studies["s1"].record.values == {"age_years": None}
    assert states(studies, "mass") == ["present"]
    assert [(r.where, "rows 2, 3" in r.reason) for r in rejected] == [("t.csv: row 2, column age", True)]


def test_readers_of_one_study_that_disagree_are_masked_and_said(folder: Path) -> None:
    """A row a reader, of one image or of none: what they agree on is kept."""
    rows = (
        "sid,pid,file,reader,note,mass,nodule,grade,sex\n"
        "s1,1,a.png,ann,Clear.,1,0,2,F\ns1,1,a.png,bob,Clear.,0,0,3,f\ns1,1,a.png,cyd,,,0,,\n"
        "s2,2,,ann,Clear.,0,,1,M\ns2,2,,bob,Clear.,0,1,1,M\n"
    )
    map_ = {
        **BASE,
        "study": "sid",
        "report": "note",
        "record": ["sex"],
        "labels": {"columns": ["mass", "nodule"]},
        "outcomes": [{"column": "grade", "kind": "ordinal"}],
    }
    studies, rejected = load(folder, rows, map_)
    assert states(studies, "mass") == ["not_mentioned", "absent"]
    assert states(studies, "nodule") == ["absent", "present"]
    assert [study.outcomes[0].value for study in studies.values()] == [None, 1]
    assert [study.record.values["sex"] for study in studies.values() if study.record] == ["f", "m"]
    assert [(item.where, item.reason) for item in rejected if "agree" in item.reason] == [
        ("t.csv: row 2, column mass", "rows 2, 3 are one study and do not agree: all are skipped"),
        ("t.csv: row 2, column grade", "rows 2, 3 are one study and do not agree: all are skipped"),
    ]


@pytest.mark.parametrize(
    "spellings", [("7", "7.0"), ("7", "0007"), ("p007", "P007"), ("P-7", "p07"), ("case 12", "Case 12"), ("x", "X ")]
)
def test_spellings_of_one_patient_are_one_and_said(spellings: tuple[str, str], folder: Path) -> None:
    studies, rejected = load(folder, f"pid,file\n{spellings[0]},a.png\nother,b.png\n{spellings[1]},c.png\n")
    patients = [study.patient_id for study in studies.values()]
    assert patients[0] == patients[2] == spellings[0].strip() != patients[1]
    (note,) = rejected
    assert (
        note.where == "t.csv, column pid" and "rows 2 and 4 spell one patient differently" in note.reason and note.taken
    )


def test_patients_that_differ_by_letters_alone_are_warned_of(folder: Path) -> None:
    studies, (note,) = load(folder, "pid,file\n7,a.png\nP007,b.png\nB8,c.png\nA8,d.png\n")
    assert len({study.patient_id for study in studies.values()}) == 4
    assert "1 patients differ by letters before their number alone, as in rows 2 and 3" in note.reason and note.taken


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([f"2024-03-{n + 1:02}" for n in range(20)], "dates"),
        ([f"{n + 1}.3.24" for n in range(20)], "dates"),
        ([f"{n + 1}/3/2024 10:00" for n in range(20)], "dates"),
        ([f"ACC-{n}-x" for n in range(20)], "identifiers"),
        ([f"{n}a7f{n}" for n in range(20)], "identifiers"),
    ],
)
def test_dates_and_identifiers_are_no_categories(cells: list[str], what: str, folder: Path) -> None:
    rows = "pid,file,when\n" + "".join(f"{n},a.png,{cell}\n" for n, cell in enumerate(cells))
    message = error(folder, rows, {**BASE, "record": ["when"]})
    assert f"holds {what}" in message and cells[0] not in message


def test_numbers_that_number_things_are_no_values(folder: Path) -> None:
    rows = "pid,file,case_id,crp\n" + "".join(f"{n},a.png,{7000 + 3 * n},{n}\n" for n in range(20))
    assert "is an identifier" in error(folder, rows, {**BASE, "record": ["case_id"]})
    record = {"case_id": {"column": "case_id", "kind": "numeric"}, "crp": "crp"}
    studies, _ = load(folder, rows, {**BASE, "record": record})
    assert len(studies) == 20


def test_a_category_that_repeats_is_one_however_many_words_it_has(folder: Path) -> None:
    rows = "pid,file,ward\n" + "".join(f"{n},a.png,ward {n % 15}\n" for n in range(60))
    studies, _ = load(folder, rows, {**BASE, "record": ["ward"]})
    assert len({study.record.values["ward"] for study in studies.values() if study.record}) == 15


@pytest.mark.parametrize(
    ("code", "others"), [("-9", "12"), ("999", "12"), ("99", "3"), ("-99", "0.5"), ("9999", "700")]
)
def test_codes_for_no_value_are_asked_about_and_may_be_named(code: str, others: str, folder: Path) -> None:
    cells = [str(float(others) + n / 10) for n in range(8)] + [code, code]
    rows = "pid,file,crp\n" + "".join(f"{n},a.png,{cell}\n" for n, cell in enumerate(cells))
    studies, (note,) = load(folder, rows, {**BASE, "record": ["crp"]})
    assert [s.record.values["crp"] for s in studies.values() if s.record][-1] == float(code)
    assert f"2 of {code}, far from all other values" in note.reason and note.taken
    assert "`record: {crp: {column: crp, missing: [CODE]}}`" in note.reason
    studies, rejected = load(folder, rows, {**BASE, "record": {"crp": {"column": "crp", "missing": [code]}}})
    assert [s.record.values["crp"] for s in studies.values() if s.record][-1] is None and not rejected
    outcome = {"column": "crp", "kind": "regression"}
    assert len(load(folder, rows, {**BASE, "outcomes": [outcome]})[1]) == 1
    assert not load(folder, rows, {**BASE, "outcomes": [{**outcome, "missing": code}]})[1]


def test_numbers_near_the_others_are_no_codes(folder: Path) -> None:
    rows = "pid,file,crp\n" + "".join(f"{n},a.png,{90 + n}\n" for n in range(12))  # 99 among them
    assert not load(folder, rows, {**BASE, "record": ["crp"]})[1]


def test_thousands_alone_say_what_to_write(folder: Path) -> None:
    rows = "pid,file,crp\n" + "".join(f'{n},a.png,"1,{n}37"\n' for n in range(5))
    assert 'write `decimal: "."` under `table`' in error(folder, rows, {**BASE, "record": ["crp"]})
    studies, _ = load(folder, rows, {**BASE, "record": ["crp"], "table": {"decimal": "."}})
    assert [s.record.values["crp"] for s in studies.values() if s.record] == [1037, 1137, 1237, 1337, 1437]


def test_codes_become_the_words_that_they_stand_for(folder: Path) -> None:
    rows = "pid,file,hand,type\np,a.png,1,2\nq,b.png,2.0,1\nr,c.png,-9,\ns,d.png,3,2\n"
    map_: dict[str, Any] = {
        **BASE,
        "record": {"hand": {"column": "hand", "words": {"1": "Right", "2": "left"}, "missing": "-9"}},
    }
    map_["outcomes"] = {"column": "type", "kind": "multiclass", "words": {"1": "large artery", "2": "small vessel"}}
    studies, _ = load(folder, rows, map_)
    assert [s.record.values["hand"] for s in studies.values() if s.record] == ["right", "left", None, "3"]
    assert [s.outcomes[0].value for s in studies.values()] == ["small vessel", "large artery", None, "small vessel"]
    record = {"hand": {"column": "hand", "kind": "numeric", "words": {"1": "x"}}}
    assert "make a column categorical" in error(folder, rows, {**BASE, "record": record})
    outcome = {"column": "type", "kind": "ordinal", "words": {"1": "x"}}
    assert "multiclass" in error(folder, rows, {**BASE, "outcomes": outcome})


def test_a_renamed_column_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    studies, _ = load(folder, "pid,file,gender\np,a.png,Female\n", {**BASE, "record": ["gender"]})
    assert [dict(study.record.values) for study in studies.values() if study.record] == [{"sex": "f"}]
    assert "column gender becomes the record column sex" in caplog.text


def test_a_blank_patient_cannot_be_placed(folder: Path) -> None:
    studies, rejected = load(folder, "pid,file\n1,a.png\n ,b.png\n3,c.png\n")
    assert list(studies) == ["row-2", "row-4"]
    assert rejected[0].where == "t.csv: row 3"
    assert "split" in rejected[0].reason


def test_ages(folder: Path) -> None:
    rows = "pid,file,age\n1,a.png,89+\n2,b.png,058Y\n3,c.png,old\n4,d.png,\n5,e.png,18 months\n6,f.png,nan\n"
    studies, rejected = load(folder, rows, {**BASE, "record": ["age"]})
    assert [s.record.values["age_years"] for s in studies.values() if s.record] == [89, 58, None, None, 1.5, None]
    assert [r.where for r in rejected] == ["t.csv: row 2, column age", "t.csv: row 4, column age"]
    assert "89" in rejected[0].reason


def test_labels_of_all_spellings(folder: Path) -> None:
    rows = "pid,file,Mass,Edema\n1,a.png,1,yes\n2,b.png,0.0,No\n3,c.png,-1,\n4,d.png,,todo\n5,e.png,TRUE,uncertain\n"
    studies, rejected = load(folder, rows, {**BASE, "labels": {"columns": ["Mass", "Edema"]}})
    assert states(studies, "mass") == ["present", "absent", "uncertain", "not_mentioned", "present"]
    assert states(studies, "edema") == ["present", "absent", "not_mentioned", "not_mentioned", "uncertain"]
    assert rejected == []


def test_a_third_value_is_masked_and_said_and_can_be_given_a_meaning(folder: Path) -> None:
    rows = "pid,file,mass,edema\n1,a.png,1,1\n2,b.png,0,0\n3,c.png,2,1\n4,d.png,,0\n"
    labels = {"columns": ["mass", "edema"]}
    studies, rejected = load(folder, rows, {**BASE, "labels": labels})
    assert states(studies, "mass") == ["present", "absent", "not_mentioned", "not_mentioned"]
    assert states(studies, "edema") == ["present", "absent", "present", "absent"]
    assert [r.where for r in rejected] == ["t.csv: row 4, column mass"]
    assert "'2' is none of 1/0/-1" in rejected[0].reason
    assert "`values`" in rejected[0].reason
    studies, rejected = load(folder, rows, {**BASE, "labels": {**labels, "values": {2: "uncertain", "": "absent"}}})
    assert states(studies, "mass") == ["present", "absent", "uncertain", "absent"]
    assert rejected == []


def test_a_column_of_names_is_no_label_and_is_not_quoted(folder: Path) -> None:
    rows = "pid,file,name\n1,a.png,Smith\n2,b.png,Jones\n3,c.png,0\n"
    message = error(folder, rows, {**BASE, "labels": {"columns": ["name"]}})
    assert "2 of 3 cells" in message
    assert "rows 2, 3" in message
    assert "mith" not in message.lower()
    assert "jones" not in message.lower()


def test_a_list_of_labels(folder: Path) -> None:
    rows = "pid,file,dx\n1,a.png,Mass| Effusion\n2,b.png,No Finding\n3,c.png,\n4,d.png,todo\n5,e.png,none\n"
    studies, rejected = load(folder, rows, {**BASE, "labels": {"column": "dx"}})
    assert rejected == []
    assert {f.name for f in studies["row-2"].findings} == {"mass", "normal", "pleural_effusion"}
    silent = ["not_mentioned", "not_mentioned"]
    assert states(studies, "mass") == ["present", "absent", *silent, "absent"]
    assert states(studies, "normal") == ["absent", "present", *silent, "absent"]
    studies, _ = load(folder, rows, {**BASE, "labels": {"column": "dx", "others": "not_mentioned"}})
    assert states(studies, "mass") == ["present", "not_mentioned", *silent, "not_mentioned"]


def test_texts_and_names_do_not_become_labels(folder: Path) -> None:
    rows = "pid,file,note\n1,a.png,A heart that is larger than it should be by most of the usual measures\n"
    message = error(folder, rows, {**BASE, "labels": {"column": "note"}})
    assert "may not be the column that was meant" in message
    assert "heart" not in message
    rows = "pid,file,who,x,y,w,h\n" + "".join(f"{i},a.png,person {i},1,1,5,5\n" for i in range(120))
    boxes = {"columns": list("xywh"), "label_column": "who"}
    message = error(folder, rows, {**BASE, "boxes": boxes})
    assert "120 different labels" in message
    assert "person" not in message
    studies, rejected = load(folder, "pid,file,dx\n1,a.png,Mass|??\n", {**BASE, "labels": {"column": "dx"}})
    assert states(studies, "mass") == ["present"]
    assert [r.where for r in rejected] == ["t.csv: row 2, column dx"]


def test_paths_of_windows(folder: Path) -> None:
    studies, rejected = load(folder, "pid,file\n1,img\\a.png\n", {"patient": "pid", "images": "file"})
    assert [s.images[0].source for s in studies.values()] == ["img/a.png"]
    assert rejected == []


def test_numbers_with_percent_signs_and_decimal_commas(folder: Path) -> None:
    header = "pid;file;temp;o2;crp;spo2\n"
    rows = "1;a.png;36,6;97%;1,234;97\n2;b.png;37,0;98 %;12;96%\n3;c.png;38;95%;14;95\n4;d.png;n/a;;<5;\n"
    map_ = {**BASE, "record": {"temp_c": "temp", "o2": "o2", "crp": "crp", "spo2": "spo2"}}
    studies, rejected = load(folder, header + rows, map_)
    values = [s.record.values for s in studies.values() if s.record]
    assert [v["temp_c"] for v in values] == [36.6, 37.0, 38.0, None]
    assert [v["o2"] for v in values] == [97, 98, 95, None]
    assert [v["crp"] for v in values] == [None, 12, 14, None]
    assert [v["spo2"] for v in values] == [97, None, 95, None]
    assert [r.where.removeprefix("t.csv: ") for r in rejected] == [
        "row 2, column crp",
        "row 5, column crp",
        "row 3, column spo2",
    ]
    assert "table.decimal" in rejected[0].reason
    assert "percent" in rejected[2].reason
    map_["table"] = {"decimal": ","}
    map_["record"] = {"crp": "crp", "spo2_percent": "spo2"}
    studies, rejected = load(folder, header + rows, map_)
    assert [s.record.values["crp"] for s in studies.values() if s.record] == [1.234, 12, 14, None]
    assert [s.record.values["spo2_percent"] for s in studies.values() if s.record] == [97, 96, 95, None]
    assert [r.where for r in rejected] == ["t.csv: row 5, column crp"]


def test_record_columns_find_their_kind(folder: Path) -> None:
    rows = "pid,file,ward,code,mix,none\n1,a.png,ICU,1,5,\n2,b.png,icu,2,x,\n3,c.png,None,1,7,\n4,d.png,unknown,3,y,\n"
    map_ = {**BASE, "record": {"ward": "ward", "code": {"column": "code", "kind": "categorical"}, "none": "none"}}
    studies, rejected = load(folder, rows, map_)
    values = [s.record.values for s in studies.values() if s.record]
    assert [v["ward"] for v in values] == ["icu", "icu", "none", None]
    assert [v["code"] for v in values] == ["1", "2", "1", "3"]
    assert rejected == []
    message = error(folder, rows, {**BASE, "record": ["mix"]})
    assert "50% of the cells of column mix are numbers" in message
    studies, rejected = load(folder, rows, {**BASE, "record": {"mix": {"column": "mix", "kind": "numeric"}}})
    assert [s.record.values["mix"] for s in studies.values() if s.record] == [5, None, 7, None]
    assert [r.where for r in rejected] == ["t.csv: row 3, column mix", "t.csv: row 5, column mix"]
    assert all("'x'" not in r.reason for r in rejected)


def test_a_record_column_of_names_or_texts_is_refused(folder: Path) -> None:
    rows = "pid,file,who\n" + "".join(f"{i},a.png,person {chr(65 + i % 26)}{i}\n" for i in range(120))
    message = error(folder, rows, {**BASE, "record": ["who"]})
    assert "identifiers or texts" in message
    assert "person" not in message


def test_outcomes_that_are_no_outcomes(folder: Path) -> None:
    rows = "pid,file,died,mrs,vol\n1,a.png,Y,3,1.5\n2,b.png,maybe,2.5,x\n3,c.png,n,0,2\n4,d.png,,,\n5,e.png,1,6,0\n"
    map_ = {
        **BASE,
        "outcomes": [
            {"column": "died"},
            {"column": "mrs", "kind": "ordinal"},
            {"column": "vol", "name": "volume_ml", "kind": "regression"},
        ],
    }
    studies, rejected = load(folder, rows, map_)
    assert [[o.value for o in s.outcomes] for s in studies.values()] == [
        [1, 3, 1.5],
        [None, None, None],
        [0, 0, 2],
        [None, None, None],
        [1, 6, 0],
    ]
    assert {(o.name, o.target) for s in studies.values() for o in s.outcomes} == {
        ("died", "outcome"),
        ("mrs", "grade"),
        ("volume_ml", "severity"),
    }
    assert [r.where for r in rejected] == [f"t.csv: row 3, column {c}" for c in ("died", "mrs", "vol")]


def test_classes_and_times(folder: Path) -> None:
    rows = (
        "pid,file,cause,days,dead\n1,a.png,Cardioembolic,120,1\n2,b.png,none,90.5,no\n3,c.png,,30,\n4,d.png,other,,1\n5,e.png,other,0,0\n"
        "6,a.png,other,-4,1\n"
    )
    outcomes = [
        {"column": "cause", "kind": "multiclass"},
        {"column": "days", "name": "death", "kind": "survival", "event": "dead"},
    ]
    studies, rejected = load(folder, rows, {**BASE, "outcomes": outcomes})
    first = next(iter(studies.values()))
    assert [(o.target, o.name, o.kind) for o in first.outcomes] == [
        ("category", "cause", Kind.MULTICLASS),
        ("survival", "death", Kind.SURVIVAL),
    ]
    assert [s.outcomes[0].value for s in studies.values()] == ["cardioembolic", "none", None, "other", "other", "other"]
    times = [(s.outcomes[1].value, s.outcomes[1].event) for s in studies.values()]
    assert times == [(120, True), (90.5, False), (None, None), (None, None), (0, False), (-4, True)]
    assert [r.where for r in rejected] == ["t.csv: row 4, column days", "t.csv: row 5, column days"]
    cohort = import_cohort("table", folder, folder / "cohort", size=32, options={"map": {**BASE, "outcomes": outcomes}})
    kept = [(o.value, o.event) for row in range(6) for o in cohort.study(row).outcomes if o.name == "death"]
    assert kept == [(120, True), (90.5, False), *[(None, None)] * 4]
    reasons = (cohort.path / "rejected.csv").read_text("utf-8")
    assert reasons.count("survival/death is not a time from 0 on") == 2, "lost at once, or before the beginning"
    assert cohort.targets["category"].classes == (("cardioembolic", "none", "other"),)


def test_reports(folder: Path) -> None:
    (folder / "txt").mkdir()
    (folder / "txt" / "1.txt").write_text("HISTORY: Cough.\n\nFINDINGS: Clear lungs.", "utf-8")
    (folder / "txt" / "2.txt").write_bytes("Kardiomegalie, Erguß.".encode("latin-1"))
    (folder / "txt" / "3.txt").write_text("  \n")
    rows = (
        "pid,file,f,i,t\n1,a.png,Clear lungs.,Normal.,1.txt\n2,b.png,,Normal.,2.txt\n3,c.png,,,3.txt\n4,d.png,,,4.txt\n"
    )
    sections = {"findings": "f", "impression": "i"}
    studies, rejected = load(folder, rows, {**BASE, "report": {"sections": sections}})
    assert [s.report and dict(s.report.sections) for s in studies.values()] == [
        {"findings": "Clear lungs.", "impression": "Normal."},
        {"impression": "Normal."},
        None,
        None,
    ]
    assert rejected == []
    studies, rejected = load(folder, rows, {**BASE, "report": {"file": "t", "folder": "txt"}})
    assert [s.report and dict(s.report.sections) for s in studies.values()] == [
        {"history": "Cough.", "findings": "Clear lungs."},
        {"findings": "Kardiomegalie, Erguß."},
        None,
        None,
    ]
    assert [(r.where, "txt/4.txt" in r.reason) for r in rejected] == [("t.csv: row 5", True)]


def test_boxes_of_the_table_itself(folder: Path) -> None:
    rows = (
        "sid,pid,file,x0,y0,x1,y1,what\n"
        "s1,1,a.png,5,5,20,30,Mass\ns1,1,a.png,30,10,50,20,Nodule\n"
        "s2,2,b.png,50,30,70,45,Mass\ns3,3,c.png,100,5,120,9,Mass\ns4,4,d.png,,,,,\n"
        "s5,5,e.png,5,,9,9,Mass\ns6,6,f.png,9,9,5,12,Mass\n"
    )
    boxes = {"columns": ["x0", "y0", "x1", "y1"], "corners": "true", "label_column": "what", "reader": "ann"}
    studies, rejected = load(folder, rows, {**BASE, "study": "sid", "boxes": boxes})
    assert [(r.label, r.box) for r in studies["s1"].regions] == [("mass", (5, 5, 20, 30)), ("nodule", (30, 10, 50, 20))]
    assert [(f.name, f.state) for f in studies["s1"].findings] == [("mass", State.PRESENT), ("nodule", State.PRESENT)]
    assert [r.box for r in studies["s2"].regions] == [(50, 30, 60, 40)]
    assert [len(studies[s].regions) for s in ("s3", "s4", "s5", "s6")] == [0] * 4
    assert all(len(s.images) == 1 for s in studies.values())
    said = {r.where: r.reason for r in rejected}
    assert set(said) == {f"t.csv: row {n}" for n in (4, 5, 7, 8)}
    assert "beyond the picture of 60 x 40" in said["t.csv: row 4"]
    assert "outside the picture of 60 x 40" in said["t.csv: row 5"]
    assert "`frame: [width, height]`" in said["t.csv: row 5"]
    assert "column y0: no number" in said["t.csv: row 7"]
    assert "no width or height" in said["t.csv: row 8"]


def test_a_box_carries_the_phrase_that_it_shows(folder: Path) -> None:
    """Of the table or of a file; a missing cell is no phrase, and a column that is not there is said."""
    (folder / "boxes.csv").write_text(
        'image,x,y,w,h,words\na.png,5,5,10,10,"small mass, left base"\na.png,20,5,10,10,\nb.png,1,1,5,5,n/a\n'
    )
    boxes = {"file": "boxes.csv", "image": "image", "columns": list("xywh"), "label": "mass", "phrase": "words"}
    studies, rejected = load(folder, "pid,file\n1,a.png\n2,b.png\n", {**BASE, "boxes": boxes})
    assert [[r.phrase for r in s.regions] for s in studies.values()] == [["small mass, left base", ""], [""]]
    assert not rejected
    own = {"columns": list("xywh"), "label": "mass", "phrase": "said"}
    studies, _ = load(folder, "pid,file,x,y,w,h,said\n1,a.png,5,5,10,10,a mass\n", {**BASE, "boxes": own})
    assert [r.phrase for s in studies.values() for r in s.regions] == ["a mass"]
    with pytest.raises(TableError, match="there is no column wrods, did you mean words"):
        load(folder, "pid,file\n1,a.png\n", {**BASE, "boxes": {**boxes, "phrase": "wrods"}})


def test_boxes_of_a_file_in_another_frame(folder: Path) -> None:
    (folder / "boxes.csv").write_text(
        "image,x,y,w,h\na,120,80,60,80\nimg/b.png,0,0,600,400\nc.png,,,,\nzzz,1,1,2,2\nd.png,a,b,1,1\n"
    )
    boxes = {"file": "boxes.csv", "image": "image", "columns": list("xywh"), "label": "opacity", "target": "rsna"}
    rows = "pid,file\n1,a.png\n2,b.png\n3,c.png\n4,d.png\n"
    map_ = {**BASE, "boxes": {**boxes, "frame": [600, 400]}}
    studies, rejected = load(folder, rows, map_)
    a, b, c, d = studies.values()
    assert a.images[0].geometry.original_shape == (400, 600)
    assert a.images[0].geometry.scale == (0.1, 0.1)
    assert [r.box for r in (*a.regions, *b.regions)] == [(120, 80, 180, 160), (0, 0, 600, 400)]
    assert (len(c.regions), len(d.regions)) == (0, 0)
    assert states({"c": c}, "lung_opacity", "rsna") == ["absent"]
    assert d.findings == ()
    assert [r.where for r in rejected] == ["boxes.csv: row 6", "boxes.csv: row 5"]
    assert "belongs to no image" in rejected[1].reason
    assert "zzz" not in rejected[1].reason

    (folder / "t.csv").unlink()
    (folder / "table.csv").write_text(rows)
    assert len([s for s in read(folder, map=map_) if isinstance(s, Study)]) == 4  # the box file is not the table


def test_boxes_in_two_frames_are_brought_to_the_pixels_of_the_file(folder: Path) -> None:
    (folder / "one.csv").write_text("image,x,y,w,h\na.png,120,80,60,80\n")
    (folder / "two.csv").write_text("image,x,y,w,h\na.png,12,8,6,8\n")
    part = {"image": "image", "columns": list("xywh"), "label": "mass"}
    map_ = {
        **BASE,
        "boxes": [
            {**part, "file": "one.csv", "frame": [600, 400], "reader": "r"},
            {**part, "file": "two.csv", "reader": "s"},
        ],
    }
    study = load(folder, "pid,file\n1,a.png\n", map_)[0]["row-2"]
    assert study.images[0].geometry.original_shape == (40, 60)
    np.testing.assert_allclose([r.box for r in study.regions], [(12, 8, 18, 16)] * 2)


def test_boxes_by_study_need_one_image(folder: Path) -> None:
    (folder / "boxes.csv").write_text("s,x,y,w,h\ns1,1,1,5,5\ns2,2,2,5,5\n")
    boxes = {"file": "boxes.csv", "study": "s", "columns": list("xywh"), "label": "mass"}
    rows = "sid,pid,file\ns1,1,a.png\ns2,2,b.png\ns2,2,c.png\n"
    studies, rejected = load(folder, rows, {**BASE, "study": "sid", "boxes": boxes})
    assert [len(s.regions) for s in studies.values()] == [1, 0]
    assert [(r.where, "2 images" in r.reason) for r in rejected] == [("boxes.csv: row 3", True)]
    message = error(folder, rows.replace("s1", "q1").replace("s2", "q2"), {**BASE, "study": "sid", "boxes": boxes})
    assert "not one cell of its column s names a study" in message


def test_a_box_never_lands_in_the_image_of_another_folder(folder: Path) -> None:
    for name in ("p1", "p2"):
        (folder / name).mkdir()
        save(folder / name / "001.png", np.zeros((40, 60), np.uint8))
    (folder / "boxes.csv").write_text("i,x,y,w,h\np1/001.png,1,1,5,5\np3/001.png,1,1,5,5\n001.png,2,2,5,5\n")
    boxes = {"file": "boxes.csv", "image": "i", "columns": list("xywh"), "label": "mass"}
    map_ = {"patient": "pid", "images": "file", "boxes": boxes}
    studies, rejected = load(folder, "pid,file\n1,p1/001.png\n2,p2/001.png\n", map_)
    assert [len(s.regions) for s in studies.values()] == [1, 0]
    assert [r.where for r in rejected] == ["boxes.csv: row 3", "boxes.csv: row 4"]
    assert "several images" in rejected[1].reason


def test_a_box_of_a_finding_that_the_labels_call_absent(folder: Path) -> None:
    rows = "pid,file,mass,x,y,w,h\n1,a.png,0,1,1,5,5\n2,b.png,-1,1,1,5,5\n3,c.png,,1,1,5,5\n4,d.png,1,1,1,5,5\n"
    map_ = {
        **BASE,
        "labels": {"columns": ["mass"], "reader": "nih"},
        "boxes": {"columns": list("xywh"), "label": "mass", "reader": "ann"},
    }
    studies, rejected = load(folder, rows, map_)
    assert [len(s.regions) for s in studies.values()] == [0, 1, 1, 1]
    assert states(studies, "mass") == ["absent", "uncertain", "present", "present"]
    assert {f.reader for s in studies.values() for f in s.findings} == {"nih"}
    assert [(r.where, "call absent" in r.reason) for r in rejected] == [("t.csv: row 2", True)]


def test_organs_are_no_findings(folder: Path) -> None:
    boxes = {"columns": list("xywh"), "label": "left lung", "target": "anatomy"}
    studies, _ = load(folder, "pid,file,x,y,w,h\n1,a.png,1,1,5,5\n", {**BASE, "boxes": boxes})
    assert [(r.label, r.target) for r in studies["row-2"].regions] == [("left_lung", "anatomy")]
    assert studies["row-2"].findings == ()


def test_masks(folder: Path) -> None:
    full = np.zeros((40, 60), np.uint8)
    full[:4] = 1
    full[8:] = 2
    for name, pixels in {"two": full, "none": full * 0, "one": (full == 1) * 255, "small": full[:9]}.items():
        save(folder / f"{name}.png", pixels.astype(np.uint8))
    rows = "pid,file,m\n1,a.png,two.png\n2,b.png,none.png\n3,c.png,one.png\n4,d.png,small.png\n5,e.png,gone.png\n6,f.png,\n"
    part = {"column": "m", "label": "mass", "reader": "ann"}
    studies, rejected = load(folder, rows, {**BASE, "masks": part})
    assert [len(s.regions) for s in studies.values()] == [0, 0, 1, 0, 0, 0]
    np.testing.assert_array_equal(studies["row-4"].regions[0].mask, full == 1)
    assert [[f.state.value for f in s.findings] for s in studies.values()] == [[], ["absent"], ["present"], [], [], []]
    assert [r.where for r in rejected] == [f"t.csv: row {n}, column m" for n in (2, 5, 6)]
    assert "`value` under masks" in rejected[0].reason
    assert "9 x 60" in rejected[1].reason
    assert "gone.png" in rejected[2].reason
    studies, _ = load(folder, rows, {**BASE, "masks": {**part, "value": 2}})
    np.testing.assert_array_equal(studies["row-2"].regions[0].mask, full == 2)


def test_splits(folder: Path) -> None:
    rows = "pid,file,s\n1,a.png,Train\n2,b.png,val\n3,c.png,\n4,d.png,extra\n5,e.png,test\n"
    studies, rejected = load(folder, rows, {**BASE, "split": "s"})
    assert [s.split for s in studies.values()] == ["train", "validation", "test"]
    assert {r.where for r in rejected} == {"t.csv: row 4", "t.csv: row 5", "t.csv: row 5, column s"}


def test_parquet_and_tsv_and_delimiters_say_the_same(folder: Path) -> None:
    rows = "pid,file,mass\n01,a.png,1\n02,b.png,\n03,c.png,0\n"
    map_ = {**BASE, "labels": {"columns": ["mass"]}}
    wanted = [(s.patient_id, s.findings) for s in load(folder, rows, map_)[0].values()]
    table = pd.DataFrame({"pid": ["01", "02", "03"], "file": ["a.png", "b.png", "c.png"], "mass": [1.0, None, 0.0]})
    table.to_parquet(folder / "t.parquet")
    found = [s for s in read(folder / "t.parquet", map=map_) if isinstance(s, Study)]
    assert [(s.patient_id, s.findings) for s in found] == wanted
    for delimiter, name in (("\t", "t.tsv"), (";", "t2.csv"), ("|", "t3.csv"), ("\t", "t4.csv")):
        studies, rejected = load(folder, rows.replace(",", delimiter), map_, name)
        assert [(s.patient_id, s.findings) for s in studies.values()] == wanted
        assert rejected == []


def test_images_of_every_kind(folder: Path) -> None:
    import nibabel

    volume = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 2.0, 3.0, 1.0])), folder / "img" / "v.nii.gz")
    mask = (volume > 20).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([1.0, 2.0, 3.0, 1.0])), folder / "m.nii.gz")
    map_ = {**BASE, "masks": {"column": "m", "label": "lesion"}}
    studies, rejected = load(folder, "pid,file,m\n1,v.nii.gz,m.nii.gz\n2,a.png,\n", map_)
    assert rejected == []
    image = studies["row-2"].images[0]
    assert image.pixels.shape == (4, 3, 2)
    assert (image.image_id, image.source) == ("row-2-0", "img/v.nii.gz")
    mask_ = studies["row-2"].regions[0].mask
    assert mask_ is not None
    np.testing.assert_array_equal(mask_, image.pixels > 20)


def test_dicom_files_and_folders_of_slices(folder: Path) -> None:
    picture = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    data = dicom_object(picture, Modality="DX", PixelSpacing=[0.2, 0.3], ViewPosition="LL", BodyPartExamined="CHEST")
    save_dicom(data, folder / "img" / "with.dcm")
    save_dicom(data, folder / "img" / "without")
    volume = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    for n, one in enumerate(slices(volume, affine)):
        save_dicom(one, folder / "img" / "series" / f"{n}.dcm")
    (folder / "img" / "nothing").mkdir()
    rows = "pid,file\n1,with.dcm\n2,without\n3,series\n4,nothing\n5,a.png\n"
    studies, rejected = load(folder, rows)
    one, two, three, four, five = (study.images for study in studies.values())
    assert (one[0].view, one[0].dicom_modality, one[0].image_id) == (View.LATERAL, "DX", "row-2-0")
    assert one[0].geometry.spacing_mm == (0.2, 0.3)
    np.testing.assert_array_equal(one[0].pixels, picture)
    np.testing.assert_array_equal(two[0].pixels, picture)
    assert (three[0].pixels.shape, three[0].source) == ((3, 4, 5), "img/series")
    assert (four, len(five)) == ((), 1)
    assert [(r.where, "holds no files" in r.reason) for r in rejected] == [("t.csv: row 5", True)]

    boxes = {"columns": list("xywh"), "label": "mass", "frame": [600, 400]}
    studies, _ = load(folder, "pid,file,x,y,w,h\n1,with.dcm,1,1,5,5\n", {**BASE, "boxes": boxes})
    geometry = studies["row-2"].images[0].geometry
    assert (geometry.original_shape, geometry.shape) == ((400, 600), (40, 60))
    np.testing.assert_allclose(geometry.spacing_mm, (0.02, 0.03))


def test_a_row_of_another_length_costs_only_itself(folder: Path) -> None:
    rows = "pid,file,note\n1,a.png,fine\n2,b.png,one, two\n3,c.png\n\n4,d.png,\n"
    studies, rejected = load(folder, rows)
    assert list(studies) == ["row-2", "row-6"]
    assert [r.where for r in rejected] == ["t.csv: row 3", "t.csv: row 4"]
    assert "two" not in rejected[0].reason


def test_the_guess_is_said_and_reads_like_the_map(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = (
        "patient_id,image,report,age,sex,label_mass,remark\n1,a.png,FINDINGS: Clear.,50,F,0,x\n2,b.png,Mass.,60,M,1,y\n"
    )
    with caplog.at_level(logging.WARNING):
        studies, rejected = load(folder, rows, None)
    assert rejected == []
    said = caplog.messages[0]
    assert "patient: patient_id" in said
    assert "folder: [img]" in said
    assert "not used: remark" in said
    map_ = {
        "patient": "patient_id",
        "images": {"columns": "image", "folder": "img"},
        "report": "report",
        "record": ["age", "sex"],
        "labels": {"columns": ["label_mass"]},
    }
    by_map, _ = load(folder, rows, map_)
    for key, study in studies.items():
        assert (study.report, study.record, study.findings) == (
            by_map[key].report,
            by_map[key].record,
            by_map[key].findings,
        )


def test_no_message_holds_text_of_a_report_or_name(folder: Path) -> None:
    secret = "XYZZY"
    rows = (
        f"sid,pid,file,age,mass,temp,rep\n{secret}1,{secret},a.png,{secret},{secret} q,{secret},{secret} text\n"
        f"{secret}1,{secret}b,b.png,5,1,36.5,{secret} other\n{secret}2,{secret}c,c.png,5,1,36.5,{secret}\n"
        f"{secret}2,{secret}c,c.png,5,1,36.5,{secret}\n{secret}3,{secret}d,d.png,7,0,37.5,{secret} a, {secret}\n"
        f"{secret}4,{secret}e,e.png,7,0,37.5,{secret}\n"
    )
    map_ = {
        **BASE,
        "study": "sid",
        "report": "rep",
        "record": {"age_years": "age", "temp_c": {"column": "temp", "kind": "numeric"}},
        "labels": {"columns": ["mass"]},
    }
    studies, rejected = load(folder, rows, map_)
    assert len(studies) == 2
    assert len(rejected) == 6
    assert not any(secret.lower() in f"{r.where} {r.reason}".lower() for r in rejected)


def test_a_published_table_reads_as_its_own_source_does(shared_data: Path) -> None:
    boxes = {"image": "Image Index", "frame": [1024, 1024]}
    nih = {"file": "BBox_List_2017.csv", "columns": ["Bbox [x", "y", "w", "h]"], "label_column": "Finding Label"}
    rsna = {"file": "rsna_pneumonia_boxes.csv", "columns": ["x", "y", "width", "height"], "label": "lung_opacity"}
    map_ = {
        "patient": "Patient ID",
        "images": {"columns": "Image Index", "folder": "images", "view": "View Position"},
        "record": ["Patient Age", "Patient Gender"],
        "labels": {"column": "Finding Labels", "reader": "nih"},
        "boxes": [{**boxes, **nih, "reader": "nih"}, {**boxes, **rsna, "target": "lung_opacity", "reader": "rsna"}],
    }
    folder = shared_data / "nih-chestxray14"

    def facts(items: list[Study | Rejected]) -> dict[str, Any]:
        return {
            item.images[0].source: (
                item.patient_id,
                item.images[0].view,
                item.images[0].geometry,
                item.record and {name: item.record.values[name] for name in ("age_years", "sex")},
                {
                    (f.target, f.name, f.state)
                    for f in item.findings
                    if f.state is State.PRESENT or f.target != "findings"
                },
                sorted((r.target, r.label, r.reader, np.round(r.box or (), 6).tolist()) for r in item.regions),
            )
            for item in items
            if isinstance(item, Study)
        }

    mine = list(read(folder, map=map_))
    assert [item for item in mine if isinstance(item, Rejected)] == []
    published = facts(list(find_source("chestxray14").read(folder)))
    table = facts(mine)
    assert len(table) == len(published) == 743
    for source, study in table.items():
        *same, findings, regions = study
        *wanted, findings_, regions_ = published[source]
        assert same == wanted
        assert {f for f in findings if f[1] != "normal"} == findings_
        assert regions == regions_


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        (["-1.2", "0.5", "0.7", "-0.3"], ("age", [-1.2, 0.5, 0.7, -0.3])),  # standardized
        (["-12", "5", "", "21"], ("age", [-12.0, 5.0, None, 21.0])),  # centred
        (
            ["54", "18 months", "89+", "-3"] + ["60"] * 16,
            ("age_years", [54.0, 1.5, 89.0, None] + [60.0] * 16),
        ),  # a slip
    ],
)
def test_ages_that_are_no_years_are_plain_numbers_and_are_said_to_be(
    folder: Path, caplog: pytest.LogCaptureFixture, ages: list[str], expected: tuple[str, list[float | None]]
) -> None:
    rows = "pid,a,age\n" + "".join(f"{i},x,{age}\n" for i, age in enumerate(ages))
    map_ = {"patient": "pid", "record": {"a": "a", "age": {"column": "age", "unknown_time": "true"}}}
    studies, rejected = load(folder, rows, map_)
    name, values = expected
    assert [s.record.values[name] for s in studies.values() if s.record] == values
    assert all(s.record.unknown_time == {name} for s in studies.values() if s.record), "the opt-in follows the name"
    assert ("no ages in years" in caplog.text) is (name == "age")
    assert len(rejected) == (2 if name == "age_years" else 0), "89+ is said, and the slip"


# --- nothing of a patient in what is said ------------------------------------------------------------------------------

SECRETS = ("Kowalski", "ZZ1", "effusion", "normal", "12.03.1956", "19560312", "5551234", "AB-771")


@pytest.mark.parametrize(
    "map_",
    [
        {"images": "note"},
        {"images": {"columns": "note", "separator": " "}},
        {"images": {"columns": "file", "folder": "img", "suffix": [".png", ".jpg"]}, "report": {"file": "note"}},
        {"images": BASE["images"], "masks": {"column": "note", "label": "mass"}},
        {"images": BASE["images"], "record": {"age": "note"}},
        {"images": BASE["images"], "record": {"age": "born"}},
        {"images": BASE["images"], "record": {"crp": {"column": "note", "kind": "numeric"}}},
        {"images": BASE["images"], "record": {"crp": {"column": "phone", "kind": "numeric"}, "x": "born"}},
        {"images": BASE["images"], "record": ["note"]},
        {
            "images": BASE["images"],
            "record": {"sex": {"column": "id", "kind": "categorical"}},
            "labels": {"columns": ["note"]},
        },
        {"images": BASE["images"], "labels": {"columns": ["born", "id", "name"]}},
        {"images": BASE["images"], "labels": {"column": "note"}},
        {"images": BASE["images"], "split": "note"},
        {"images": BASE["images"], "outcomes": {"column": "note"}},
        {"images": BASE["images"], "outcomes": {"column": "born", "kind": "ordinal"}},
        {"images": {**BASE["images"], "view": "note"}, "report": "id"},
        {"images": BASE["images"], "boxes": {"columns": ["born", "phone", "id", "note"], "label_column": "note"}},
        {"images": {**BASE["images"], "volume": {"spacing_mm": [1, 1, 1]}, "separator": ","}, "study": "note"},
        None,
    ],
)
def test_a_map_that_names_the_wrong_column_quotes_no_cell(
    map_: dict[str, Any] | None, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "Mrs Kowalski ZZ1: small effusion, else normal. " * 8
    rows = "pid,file,note,born,phone,id,name\n" + "".join(
        f'{n},a.png,"{long if n % 2 else "Kowalski normal"}",{born},555123{n},AB-77{n},Kowalski\n'
        for n, born in enumerate(["12.03.1956", "19560312", "12/03/1956", "1956"] * 3)
    )
    said = caplog.text
    try:
        if map_ is None:  # a table without a header, whose first row becomes one
            found = list(read(write_table(folder, rows.partition("\n")[2])))
        else:
            found = list(read(write_table(folder, rows), map={"patient": "pid", **map_}))
    except TableError as fault:
        said += str(fault)
    else:
        said += "".join(f"{item.where} {item.reason}" for item in found if isinstance(item, Rejected))
        notes = [note for item in found if isinstance(item, Study) for image in item.images for note in image.notes]
        said += "".join(f"{note.where} {note.reason}" for note in notes)
    said += caplog.text
    assert not [secret for secret in SECRETS if secret in said], said


def write_table(folder: Path, rows: str) -> Path:
    (folder / "t.csv").write_text(rows)
    return folder / "t.csv"


# --- colour, sequences, volumes of pictures ----------------------------------------------------------------------------


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def test_colour_is_said_or_kept_as_channels_with_names(folder: Path) -> None:
    save(folder / "img" / "rgb.png", colours())
    rows = "pid,file\np,rgb.png\nq,a.png\n"
    studies, rejected = load(folder, rows)
    (image,) = studies["row-2"].images
    assert image.pixels.shape == (40, 60) and not rejected
    assert [(note.where, note.taken) for note in image.notes] == [("img/rgb.png", True)]
    assert "channels: [NAME, NAME, NAME]" in image.notes[0].reason
    assert not studies["row-3"].images[0].notes

    named = {**BASE, "images": {**BASE["images"], "channels": ["t1", "flair", "t1c"]}}
    studies, (gray,) = load(folder, rows, named)
    np.testing.assert_array_equal(studies["row-2"].images[0].pixels, colours().transpose(2, 0, 1))
    assert gray.where == "t.csv: row 3" and "3 channels" not in gray.reason and "1 channel" in gray.reason
    cohort = import_cohort("table", folder / "t.csv", folder / "out", size=32, options={"map": named})
    assert cohort.meta["channels"] == {"pixels_2d": ["t1", "flair", "t1c"]}
    assert cohort.array(2).shape == (1, 3, 32, 32)


def test_sequences_have_names_and_a_mask_lies_in_the_one_that_is_named(folder: Path) -> None:
    (folder / "masks").mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[5:9, 10:20] = 255
    save(folder / "masks" / "m.png", mask)
    rows = "pid,t1,flair,seg\np,a.png,b.png,m.png\nq,c.png,,m.png\n"
    images = {"columns": ["t1", "flair"], "folder": "img", "names": ["T1", "FLAIR"]}
    map_ = {"patient": "pid", "images": images, "masks": {"column": "seg", "label": "lesion", "folder": "masks"}}
    studies, rejected = load(folder, rows, map_)
    assert [[image.name for image in study.images] for study in studies.values()] == [["T1", "FLAIR"], ["T1"]]
    assert "one of 2 images" in rejected[0].reason and "`image` under masks" in rejected[0].reason
    studies, rejected = load(folder, rows, {**map_, "masks": {**map_["masks"], "image": "FLAIR"}})
    first, second = studies.values()
    assert [region.image_id for region in first.regions] == [first.images[1].image_id]
    assert not second.regions and not rejected  # the row has no such image
    cohort = import_cohort("table", folder / "t.csv", folder / "out", size=32, options={"map": map_})
    assert cohort.images["name"].tolist() == ["T1", "FLAIR", "T1"]
    assert "no image is called t2" in error(folder, rows, {**map_, "masks": {**map_["masks"], "image": "t2"}})
    assert "one name for each" in error(folder, rows, {**map_, "images": {**images, "names": ["T1"]}})


VOLUME = {"patient": "pid", "images": {"columns": "file", "folder": "img", "volume": {"spacing_mm": [5, 0.5, 0.25]}}}
STACK = np.stack([np.full((4, 6), 20 * n + 5, np.uint8) for n in range(12)])


@pytest.mark.parametrize("form", ["folder", "list", "pages"])
def test_pictures_may_be_the_slices_of_a_volume(form: str, folder: Path) -> None:
    """By their numbers (2 before 10), in the order of a list, or as pages of one file."""
    map_, cell = VOLUME, "s"
    (folder / "img" / "s").mkdir()
    for n, plane in enumerate(STACK):
        save(folder / "img" / "s" / f"slice{n}.png", plane)
    (folder / "img" / "s" / "notes.txt").write_text("words")
    if form == "list":
        cell = "|".join(f"s/slice{n}.png" for n in range(12))
        map_ = {**VOLUME, "images": {**VOLUME["images"], "separator": "|"}}
    elif form == "pages":
        cell = "s.tif"
        pages = [Pillow.fromarray(plane) for plane in STACK]
        pages[0].save(folder / "img" / cell, save_all=True, append_images=pages[1:])
    studies, rejected = load(folder, f"pid,file\np,{cell}\n", map_)
    (image,) = studies["row-2"].images
    np.testing.assert_array_equal(image.pixels, STACK)
    assert image.geometry.spacing_mm == (5, 0.5, 0.25)
    assert not rejected
    cohort = import_cohort("table", folder / "t.csv", folder / "out", volume_size=(12, 4, 4), options={"map": map_})
    assert cohort.array(3).shape == (1, 1, 12, 4, 4)


def test_of_several_suffixes_each_name_takes_the_one_of_its_file(folder: Path) -> None:
    Pillow.fromarray(np.full((40, 60), 99, np.uint8)).save(folder / "img" / "x.jpg")
    (folder / "boxes.csv").write_text("image,x,y,w,h\nx.jpg,1,2,10,12\na,3,4,10,12\n")
    map_: dict[str, Any] = {**BASE, "images": {**BASE["images"], "suffix": [".jpg", ".png"]}}
    map_["boxes"] = {"file": "boxes.csv", "image": "image", "columns": ["x", "y", "w", "h"], "label": "mass"}
    studies, rejected = load(folder, "pid,file\np,x\nq,a\nr,nix\n", map_)
    assert [[image.source for image in study.images] for study in studies.values()] == [
        ["img/x.jpg"],
        ["img/a.png"],
        [],
    ]
    assert [len(study.regions) for study in studies.values()] == [1, 1, 0]
    assert [item.where for item in rejected] == ["t.csv: row 4"]


def test_slices_that_make_no_volume_are_refused(folder: Path) -> None:
    for name, change in {"gap": [0, 1, 3, 4], "size": [0, 1, 2]}.items():
        (folder / "img" / name).mkdir()
        for n in change:
            save(folder / "img" / name / f"{n}.png", STACK[n] if (name, n) != ("size", 2) else STACK[n][:2])
    _, rejected = load(folder, "pid,file\np,gap\nq,size\n", VOLUME)
    assert "not numbered evenly" in rejected[0].reason and "not of one size" in rejected[1].reason
