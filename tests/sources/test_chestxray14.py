import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.errors import InputError, TableError
from chiasm.formats.pixels import read_image
from chiasm.sources.chestxray14 import LABELS, read
from chiasm.splits import split_of
from chiasm.study import State, View

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
ROWS = [
    "00000001_000.png,Effusion|Pleural_Thickening,0,1,58,M,PA,2500,2048,.1,.1,",
    "00000001_001.png,No Finding,1,1,413,M,AP,2500,2048,.1,.1,",
    "00000002_000.png,Infiltration,0,2,006Y,F,PA,2500,2048,.1,.1,",
    "00000003_000.png,,0,3,n/a,X,LL,2500,2048,.1,.1,",
    "00000004_000.png,Mass|Wings,0,4,89+,F,PA,2500,2048,.1,.1,",
    "00000005_000.png,Nodule,0,5,40,F,PA,2500,2048,.1,.1,",
    "00000006_000.png,Nodule,0,6,40,F,PA,2500,2048,.1,.1,",
    "00000001_000.png,Mass,0,9,40,F,PA,2500,2048,.1,.1,",
    "00000007_000.png,Hernia,0,,40,F,PA,2500,2048,.1,.1,",
    "00000008_000.png,No Finding|Edema,0,8,40,F,PA,2500,2048,.1,.1,",
]


@pytest.fixture
def tree(tmp_path, picture):
    """A download as published, with every odd fact: two image folders, CRLF, ages, a stray file, a lost one."""
    (tmp_path / "Data_Entry_2017.csv").write_bytes("\r\n".join([HEADER, *ROWS]).encode())
    for number in (1, 2, 3, 4, 7, 8):
        picture(tmp_path / f"images_00{1 + number % 2}/images/0000000{number}_000.png", 512, 512)
    picture(tmp_path / "images_001/images/00000001_001.jpg", 256, 256)
    picture(tmp_path / "images_001/images/00000009_000.png")
    (tmp_path / "images_001/images/00000006_000.png").write_bytes(b"")
    return tmp_path


def states(study, target="findings"):
    return {finding.name: finding.state for finding in study.findings if finding.target == target}


def test_what_is_listed_is_present_and_the_rest_of_the_14_absent(tree, sort_out) -> None:
    studies, _ = sort_out(read(tree))
    assert len(LABELS) == 14
    assert "normal" not in LABELS
    expected = dict.fromkeys(LABELS, State.ABSENT)
    assert states(studies["00000001_001"]) == expected  # No Finding
    expected |= {"pleural_effusion": State.PRESENT, "pleural_thickening": State.PRESENT}
    assert states(studies["00000001_000"]) == expected
    assert states(studies["00000003_000"]) == {}  # nothing is said, so nothing is denied
    assert {finding.reader for study in studies.values() for finding in study.findings} == {"nih"}


def test_patient_record_view_and_files_come_from_the_table(tree, sort_out) -> None:
    studies, rejected = sort_out(read(tree))
    assert {i: s.patient_id for i, s in studies.items() if s.patient_id == "1"}.keys() == {
        "00000001_000",
        "00000001_001",
    }
    assert studies["00000001_000"].record.values == {"age_years": 58, "sex": "m", "follow_up_number": 0}
    assert studies["00000001_001"].record.values == {"age_years": None, "sex": "m", "follow_up_number": 1}
    assert studies["00000002_000"].record.values["age_years"] == 6
    assert studies["00000003_000"].record.values == {"age_years": None, "sex": None, "follow_up_number": 0}
    assert studies["00000004_000"].record.values["age_years"] == 89
    views = {i[-8:]: s.images[0].view for i, s in studies.items()}
    assert (views["0001_000"], views["0001_001"], views["0003_000"]) == (View.PA, View.AP, View.OTHER)
    image = studies["00000001_001"].images[0]
    assert (image.source, image.dicom_modality) == ("images_001/images/00000001_001.jpg", "DX")
    np.testing.assert_array_equal(image.pixels, read_image(tree / image.source))
    assert (
        rejected["Data_Entry_2017.csv: row 3, column Patient Age"]
        == "'413' is no age of a human being: treated as missing"
    )
    assert "kept as 89" in rejected["Data_Entry_2017.csv: row 6, column Patient Age"]


def test_each_loss_has_its_reason_and_costs_nothing_else(tree, sort_out) -> None:
    studies, rejected = sort_out(read(tree))
    assert sorted(studies) == [f"0000000{i}" for i in ("1_000", "1_001", "2_000", "3_000", "4_000", "8_000")]
    table = "Data_Entry_2017.csv: row"
    assert rejected.keys() == {
        f"{table} 3, column Patient Age",
        f"{table} 5, column Patient Gender",
        f"{table} 6, column Patient Age",
        f"{table} 6, column Finding Labels",
        f"{table} 7",
        f"{table} 8",
        f"{table} 9",
        f"{table} 10",
        f"{table} 11, column Finding Labels",
        "images_001/images/00000009_000.png",
    }
    assert "not there" in rejected[f"{table} 7"]
    assert "empty" in rejected[f"{table} 8"]
    assert "repeats" in rejected[f"{table} 9"]
    assert "Patient ID" in rejected[f"{table} 10"]
    assert states(studies["00000004_000"])["mass"] is State.PRESENT  # beside an unknown word
    assert states(studies["00000008_000"])["edema"] is State.PRESENT  # beside "No Finding"


def test_another_extension_than_the_table_gives_is_found_and_said(tree, sort_out, caplog) -> None:
    studies, _ = sort_out(read(tree))
    assert "00000001_001" in studies
    assert "1 images were found under another extension" in caplog.text


def test_a_table_of_jpg_finds_png(tmp_path, picture, sort_out) -> None:
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(f"{HEADER}\n{ROWS[0].replace('.png', '.jpg')}\n")
    picture(tmp_path / "images/00000001_000.png")
    studies, rejected = sort_out(read(tmp_path))
    assert (list(studies), rejected) == (["00000001_000"], {})


def test_boxes_of_both_readers_stay_in_the_frame_of_1024(tree, sort_out) -> None:
    (tree / "BBox_List_2017.csv").write_bytes(
        b"Image Index,Finding Label,Bbox [x,y,w,h],,,\r\n"
        b"00000002_000.png,Infiltrate,100,200,300.5,400\r\n"
        b"00000002_000.png,Infiltrate,100,200,0,400\r\n"
        b"00000002_000.png,Wings,100,200,3,400\r\n"
        b"00000077_000.png,Mass,100,200,3,400\r\n"
    )
    (tree / "rsna_boxes.csv").write_text(
        "Image Index,patientId,x,y,width,height,Target,class\n"
        "00000002_000.png,a,512,0,512,1024,1,Lung Opacity\n"
        "00000001_000.png,b,,,,,0,Normal\n"
        "00000001_001.png,c,,,,,0,Normal\n00000001_001.png,c,1,2,3,4,1,Lung Opacity\n"
        "00000004_000.png,d,,,,,1,Lung Opacity\n"
        "00000008_000.png,e,,,,,2,Lung Opacity\n"
    )
    studies, rejected = sort_out(read(tree))
    nih, rsna = studies["00000002_000"].regions
    assert (nih.label, nih.target, nih.reader, nih.box) == ("infiltration", "findings", "nih", (100, 200, 400.5, 600))
    assert (rsna.label, rsna.target, rsna.reader, rsna.box) == (*["lung_opacity"] * 2, "rsna", (512, 0, 1024, 1024))
    geometry = studies["00000002_000"].images[0].geometry  # 512 x 512 pixels
    np.testing.assert_allclose(
        geometry.boxes_to_stored(np.array([nih.box, rsna.box])), [[50, 100, 200.25, 300], [256, 0, 512, 512]]
    )
    assert {i: s for i, study in studies.items() if (s := states(study, "lung_opacity"))} == {
        "00000001_000": {"lung_opacity": State.ABSENT},  # reviewed, and free of it
        "00000002_000": {"lung_opacity": State.PRESENT},
        "00000004_000": {"lung_opacity": State.PRESENT},  # a verdict whose box is lost
    }
    assert studies["00000001_001"].regions == ()
    said = {where: why for where, why in rejected.items() if "Data_Entry" not in where and "images_" not in where}
    assert said.keys() == {
        "BBox_List_2017.csv: row 3",
        "BBox_List_2017.csv: row 4",
        "00000077_000 in the box tables",
        "00000001_001 in rsna_boxes.csv",
        "rsna_boxes.csv: row 6",
        "rsna_boxes.csv: row 7, column Target",
    }


def test_the_published_split_gets_a_validation_set_by_patient(tmp_path, picture, sort_out, caplog) -> None:
    names = [f"{patient:08d}_00{i}.png" for patient in range(1, 41) for i in range(2)]
    rows = [f"{name},No Finding,0,{int(name[:8])},40,F,PA,1,1,.1,.1," for name in names]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([HEADER, *rows]))
    for name in names:
        picture(tmp_path / "images" / name)
    assert {study.split for study in sort_out(read(tmp_path))[0].values()} == {None}
    (tmp_path / "train_val_list.txt").write_text("\n".join(names[:60]))
    assert {study.split for study in sort_out(read(tmp_path))[0].values()} == {None}  # half a split is none
    assert "test_list.txt" not in caplog.text
    assert "train_val_list.txt" in caplog.text
    (tmp_path / "test_list.txt").write_text("\n".join(names[60:78]))
    studies, _ = sort_out(read(tmp_path, seed=3))
    for study in studies.values():
        number = int(study.patient_id)
        trained = "validation" if split_of(study.patient_id, 3) == "validation" else "train"
        assert study.split == (trained if number <= 30 else "test" if number <= 39 else None)
    assert Counter(s.split for s in studies.values())["validation"] > 0
    assert "2 images are in neither list" in caplog.text
    (tmp_path / "test_list.txt").write_text("\n".join(names[59:]))
    with pytest.raises(TableError, match="share an image"):
        list(read(tmp_path))


def test_a_folder_that_does_not_fit_says_what_is_lacking(tmp_path) -> None:
    with pytest.raises(InputError, match="Data_Entry_2017"):
        list(read(tmp_path / "none"))
    with pytest.raises(InputError, match=r"Data_Entry_2017\*\.csv"):
        list(read(tmp_path))
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index,Patient ID\n")
    with pytest.raises(TableError, match=r"(?s)Finding Labels.*Image Index, Patient ID.*Data_Entry_2017\.csv"):
        list(read(tmp_path))


def test_the_real_subset_is_read_whole(shared_data, sort_out) -> None:
    """Against counts taken straight from the CSV files."""
    folder = shared_data / "nih-chestxray14"

    def table(name):
        with (folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    rows = {row["Image Index"][:-4]: row for row in table("Data_Entry_2017_v2020.csv")}
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    assert studies.keys() == rows.keys()
    assert len(studies) == 743
    assert len({study.patient_id for study in studies.values()}) == 486
    own = {"Effusion": "pleural_effusion"}
    for key, study in studies.items():
        listed = {own.get(name, name.lower()) for name in rows[key]["Finding Labels"].split("|")} - {"no finding"}
        assert {name for name, state in states(study).items() if state is State.PRESENT} == listed
        assert study.record.values["age_years"] == int(rows[key]["Patient Age"])
        assert study.images[0].pixels.shape == (512, 512)
        assert study.images[0].geometry.original_shape == (1024, 1024)
    assert sum(study.record.values["age_years"] < 18 for study in studies.values()) == 73
    verdict: dict[str, int] = {}
    for row in table("rsna_pneumonia_boxes.csv"):
        verdict[row["Image Index"][:-4]] = int(row["Target"])
    ours = {key: states(study, "lung_opacity").get("lung_opacity") for key, study in studies.items()}
    assert {k: int(v is State.PRESENT) for k, v in ours.items() if v} == verdict
    assert Counter(verdict.values()) == {0: 155, 1: 98}
    regions = Counter((r.label, r.reader) for study in studies.values() for r in study.regions)
    assert regions == {
        ("lung_opacity", "rsna"): 155,
        ("pneumonia", "nih"): 27,
        ("cardiomegaly", "nih"): 1,
        ("infiltration", "nih"): 1,
    }
    assert all(max(r.box) <= 1024 for study in studies.values() for r in study.regions)


def test_a_box_is_found_again_on_the_stored_pixels(tree, tmp_path_factory) -> None:
    """Through the store: a lit rectangle at 512 px, its box published at 1024, and 64 stored pixels."""
    pixels = np.zeros((512, 512), np.uint8)
    pixels[64:192, 256:320] = 255
    Pillow.fromarray(pixels).save(tree / "images_001/images/00000002_000.png")
    (tree / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000002_000.png,Infiltrate,512,128,128,256\n"
    )
    cohort = import_cohort("chestxray14", tree, tmp_path_factory.mktemp("out") / "cohort", size=64)
    assert (cohort.meta["counts"]["rejected"], cohort.meta["counts"]["noted"]) == (9, 1)
    (image,) = cohort.image_rows(list(cohort.studies.study_id).index("00000002_000"))
    boxes = cohort.boxes(image, "findings", "infiltration")
    np.testing.assert_allclose(boxes, [[512, 128, 640, 384]])
    x_min, y_min, x_max, y_max = cohort.geometry(image).boxes_to_stored(boxes)[0].astype(int)
    stored = np.asarray(cohort.pixels(image), float)
    assert (x_min, y_min, x_max, y_max) == (32, 8, 40, 24)
    assert stored[y_min:y_max, x_min:x_max].mean() > 200
    assert stored.sum() == pytest.approx(stored[y_min - 1 : y_max + 1, x_min - 1 : x_max + 1].sum())
