import gzip

import numpy as np
import pytest

from chiasm.errors import InputError, TableError
from chiasm.formats.pixels import read_image
from chiasm.sources.mimic_cxr import read
from chiasm.study import State, View

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with pneumonia?  // eval

 COMPARISON:  ___

 FINDINGS:

 There is a large pleural effusion.  There is no pneumothorax.

 IMPRESSION:

 Effusion.
"""
CHEXPERT = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"
)
IMAGES = {"50001": ("aa", "bb"), "50002": ("cc",), "50003": ("dd",), "50004": ("ee", "ff"), "50005": ()}
PATIENTS = {"50001": "10000001", "50002": "10000001", "50003": "11000002", "50004": "12000003", "50005": "12000003"}


def place(study: str) -> str:
    return f"p{PATIENTS[study][:2]}/p{PATIENTS[study]}/s{study}"


@pytest.fixture
def tree(tmp_path, picture):
    """The published layout: three patients; 50003 lacks its report, 50005 its images, and ff is lost."""
    for study, images in IMAGES.items():
        for image in images:
            if image != "ff":
                picture(tmp_path / "files" / place(study) / f"{image}.jpg", 10, 12)
        if study != "50003":
            file = tmp_path / "files" / f"{place(study)}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(REPORT)
    rows = [(image, study) for study, images in IMAGES.items() for image in images]
    views = dict(zip(("aa", "bb", "cc", "dd", "ee"), ("PA", "LATERAL", "AP", "LL", "SWIMMERS"), strict=True))
    metadata = [f"{image},{PATIENTS[study]},{study},CHEST,{views.get(image, '')},3056,2544" for image, study in rows]
    header = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns"
    write(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz", "\n".join([header, *metadata]))
    parts = {"10000001": "train", "11000002": "validate", "12000003": "test"}
    split = [f"{image},{study},{PATIENTS[study]},{parts[PATIENTS[study]]}" for image, study in rows]
    write(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", "\n".join(["dicom_id,study_id,subject_id,split", *split]))
    labels = (
        "10000001,50001,1.0,0.0,-1.0,,,,,,,1.0,,,,\n11000002,50003,,,,,,,,,1.0,,,,,\n12000003,59999,1.0,,,,,,,,,,,,,\n"
    )
    write(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", CHEXPERT + labels)
    return tmp_path


def write(path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def states(study):
    return {finding.name: finding.state for finding in study.findings}


def test_a_study_is_all_its_images_and_its_report(tree, sort_out, caplog) -> None:
    studies, rejected = sort_out(read(tree))
    assert {
        i: (s.patient_id, [image.image_id for image in s.images], s.report is not None) for i, s in studies.items()
    } == {
        "50001": ("10000001", ["aa", "bb"], True),
        "50002": ("10000001", ["cc"], True),
        "50003": ("11000002", ["dd"], False),
        "50004": ("12000003", ["ee"], True),
        "50005": ("12000003", [], True),
    }
    assert rejected == {"p12000003/s50004/ff": "the image file is not there"}
    views = {image.image_id: image.view for study in studies.values() for image in study.images}
    assert views == dict(
        zip(("aa", "bb", "cc", "dd", "ee"), (View.PA, View.LATERAL, View.AP, View.LATERAL, View.OTHER))
    )
    image = studies["50001"].images[0]
    assert (image.source, image.dicom_modality) == ("files/p10/p10000001/s50001/aa.jpg", "DX")
    assert image.geometry.original_shape == (10, 12)
    np.testing.assert_array_equal(image.pixels, read_image(tree / image.source))
    assert "1 rows of mimic-cxr-2.0.0-chexpert.csv.gz" in caplog.text


def test_the_report_is_cut_into_sections(tree, sort_out) -> None:
    sections = sort_out(read(tree))[0]["50001"].report.sections
    assert sections["findings"] == "There is a large pleural effusion.  There is no pneumothorax."
    assert sections["impression"] == "Effusion."
    assert "pneumonia?" in sections["indication"]


def test_labels_are_four_states_and_no_finding_is_none(tree, sort_out) -> None:
    studies, _ = sort_out(read(tree))
    assert states(studies["50001"]) == {
        "atelectasis": State.PRESENT,
        "cardiomegaly": State.ABSENT,
        "consolidation": State.UNCERTAIN,
        "pleural_effusion": State.PRESENT,
    }
    assert {finding.reader for finding in studies["50001"].findings} == {"chexpert"}
    assert states(studies["50003"]) == {}
    assert states(studies["50002"]) == {}  # no row


def test_labels_come_from_where_they_are_asked_for(tree, sort_out) -> None:
    write(tree / "mimic-cxr-2.0.0-negbio.csv", CHEXPERT + "10000001,50001,0.0,,,,,,,,,,,,,\n")
    negbio = sort_out(read(tree, label_from="negbio"))[0]["50001"].findings
    assert [(f.name, f.state, f.reader) for f in negbio] == [("atelectasis", State.ABSENT, "negbio")]
    said = {"pleural_effusion": State.PRESENT, "pneumothorax": State.ABSENT}  # the indication's question is no answer
    assert states(sort_out(read(tree, label_from="report"))[0]["50001"]) == said
    assert states(sort_out(read(tree, label_from="none"))[0]["50001"]) == {}
    (tree / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    assert states(sort_out(read(tree))[0]["50001"]) == said
    with pytest.raises(InputError, match="chexpert"):
        list(read(tree, label_from="chexpert"))
    with pytest.raises(InputError, match="auto, chexpert, negbio, report, none"):
        list(read(tree, label_from="gold"))


def test_the_published_split_is_by_patient_and_holds_for_studies_without_images(tree, sort_out) -> None:
    studies, _ = sort_out(read(tree))
    assert {i: s.split for i, s in studies.items()} == {
        "50001": "train",
        "50002": "train",
        "50003": "validation",
        "50004": "test",
        "50005": "test",
    }
    write(
        tree / "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split\naa,50001,10000001,train\ncc,50002,10000001,test\nee,50004,12000003,later\n"
        "dd,50003,11000002,train\n",
    )
    studies, rejected = sort_out(read(tree))
    assert {i: s.split for i, s in studies.items()} == {"50003": "train"}
    assert "2 parts" in rejected["p10000001/s50001"]
    assert "0 parts" in rejected["p12000003/s50004"]
    assert "mimic-cxr-2.0.0-split.csv.gz: row 4" in rejected


def test_reports_in_a_tree_of_their_own_and_no_tables(tree, sort_out, caplog) -> None:
    for file in tree.glob("*.gz"):
        file.unlink()
    (tree / "mimic-cxr-reports").mkdir()
    for file in tree.glob("files/*/*/*.txt"):
        target = tree / "mimic-cxr-reports" / file.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    studies, rejected = sort_out(read(tree))
    assert rejected == {}
    assert [len(s.images) for s in studies.values()] == [2, 1, 1, 1, 0]
    assert [s.report is not None for s in studies.values()] == [True, True, False, True, True]
    assert {s.split for s in studies.values()} == {None}
    assert {image.view for s in studies.values() for image in s.images} == {View.OTHER}
    assert "views are unknown" in caplog.text


def test_the_split_lists_images_where_there_is_no_metadata(tree, sort_out) -> None:
    (tree / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    studies, rejected = sort_out(read(tree))
    assert len(studies) == 5
    assert rejected == {"p12000003/s50004/ff": "the image file is not there"}


def test_text_alone_and_images_alone_say_so_once(tree, sort_out, caplog) -> None:
    for file in tree.glob("files/*/*/*/*.jpg"):
        file.unlink()
    studies, rejected = sort_out(read(tree))
    assert sorted(studies) == ["50001", "50002", "50004", "50005"]
    assert rejected == {"p11000002/s50003": "neither an image nor a report is there"}
    assert "text alone" in caplog.text
    for file in tree.glob("files/*/*/*.txt"):
        file.unlink()
    assert sort_out(read(tree))[0] == {}
    assert "images alone" in caplog.text


def test_each_loss_has_its_reason_and_costs_nothing_else(tree, sort_out, picture) -> None:
    (tree / "files" / place("50001") / "aa.jpg").write_bytes(b"")
    picture(tree / "files" / place("50002") / "zz.jpg")
    (tree / "files" / f"{place('50002')}.txt").write_text("  \n FINDINGS:  \n")
    (tree / "files" / f"{place('50004')}.txt").write_bytes(b"\xff\xfe\xfa")
    write(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", CHEXPERT + "10000001,50001,2.0,0.5,x,,1.0,,,,,,,,,\n")
    metadata = tree / "mimic-cxr-2.0.0-metadata.csv.gz"
    rows = gzip.decompress(metadata.read_bytes()).decode()
    write(metadata, rows + "\naa,10000001,50001,CHEST,AP,1,1\ngg,,50001,CHEST,AP,1,1\nhh,19999999,50003,CHEST,AP,1,1\n")
    studies, rejected = sort_out(read(tree))
    assert {i: [image.image_id for image in s.images] for i, s in studies.items()} == {
        "50001": ["bb"],
        "50002": ["cc"],
        "50004": ["ee"],
        "50005": [],
    }
    assert states(studies["50001"]) == {"enlarged_cardiomediastinum": State.PRESENT}
    assert studies["50002"].report is None
    assert rejected.keys() == {
        "mimic-cxr-2.0.0-metadata.csv.gz: row 8",
        "mimic-cxr-2.0.0-metadata.csv.gz: row 9",
        *(
            f"mimic-cxr-2.0.0-chexpert.csv.gz: row 2, column {name}"
            for name in ("Atelectasis", "Cardiomegaly", "Consolidation")
        ),
        "files/p10/p10000001/s50001/aa.jpg",
        "files/p10/p10000001/s50002/zz.jpg",
        "files/p10/p10000001/s50002.txt",
        "files/p12/p12000003/s50004.txt",
        "p12000003/s50004/ff",
        "p11000002/s50003",
    }
    assert "several patients" in rejected["p11000002/s50003"]
    assert "empty" in rejected["files/p10/p10000001/s50002.txt"]


def test_a_folder_that_does_not_fit_says_what_is_lacking(tree, tmp_path_factory) -> None:
    with pytest.raises(InputError, match="files/p10"):
        list(read(tree / "none"))
    with pytest.raises(InputError, match=r"(?s)no studies.*files/p10"):
        list(read(tmp_path_factory.mktemp("empty")))
    write(tree / "mimic-cxr-2.0.0-metadata.csv.gz", "dicom_id,subject_id\n")
    with pytest.raises(TableError, match=r"(?s)lacks study_id, ViewPosition.*dicom_id, subject_id.*metadata\.csv\.gz"):
        list(read(tree))
