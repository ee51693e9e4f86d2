import csv
import re
import zipfile
from collections import Counter

import numpy as np
import pytest

from chiasm.errors import InputError, TableError
from chiasm.formats.pixels import read_image
from chiasm.sources.openi import read
from chiasm.study import State, View

GOLD = (
    "filename,Atelectasis,Cardiomegaly,Effusion,Infiltration,Mass,Nodule,Pneumonia,Pneumothorax,Consolidation,Edema,"
    "Emphysema,Fibrosis,Pleural_Thickening,Hernia,normal\n"
)


def xml(number: int, images: tuple[str, ...] = (), caption: str = "Xray Chest PA and Lateral", **sections: str) -> str:
    parts = {"COMPARISON": "", "INDICATION": "", "FINDINGS": "", "IMPRESSION": ""} | sections
    abstract = "\n".join(f'<AbstractText Label="{label}">{text}</AbstractText>' for label, text in parts.items())
    parents = "".join(f'<parentImage id="{image}"><caption>{caption}</caption></parentImage>' for image in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>'
        f"{abstract}</Abstract><Affiliation>Indiana</Affiliation></Article></MedlineCitation>"
        f"<MeSH><major>Secret/heading</major><automatic>secret word</automatic></MeSH>{parents}</eCitation>"
    )


@pytest.fixture
def tree(tmp_path):
    def make(**files: str):
        for name, text in files.items():
            path = tmp_path / f"{name.removeprefix('n')}.xml"
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return make


def states(study):
    return {finding.name: finding.state for finding in study.findings}


def test_the_abstract_alone_becomes_the_report(tree, sort_out, caplog) -> None:
    text = "  The heart\n is <b>large</b> &amp; round. XXXX. "
    folder = tree(n1=xml(1, FINDINGS=text, IMPRESSION="Normal.", NOTE="Odd."), n2=xml(2, INDICATION="Cough"))
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    assert studies["CXR1"].report.sections == {
        "findings": "The heart is large & round. XXXX.",
        "impression": "Normal.",
        "other": "Odd.",
    }
    assert studies["CXR2"].report.sections == {"indication": "Cough"}
    assert studies["CXR1"].patient_id == "CXR1"
    assert "secret" not in repr(studies).lower()
    assert "no images" in caplog.text


def test_zip_folder_of_a_zip_and_loose_files_read_alike(tree, tmp_path_factory, sort_out) -> None:
    folder = tree(n1=xml(1, FINDINGS="One."), n10=xml(10, FINDINGS="Ten."), n2=xml(2, FINDINGS="Two."))
    other = tmp_path_factory.mktemp("zipped")
    with zipfile.ZipFile(other / "reports.zip", "w") as archive:
        for file in folder.glob("*.xml"):
            archive.write(file, f"ecgen/{file.name}")
        archive.writestr("readme.txt", "no report")
    expected = [("CXR1", "One."), ("CXR2", "Two."), ("CXR10", "Ten.")]  # by number
    for path in (folder, other, other / "reports.zip"):
        studies, rejected = sort_out(read(path))
        assert [(i, s.report.text) for i, s in studies.items()] == expected
        assert rejected == {}


def test_gold_is_yes_and_no_and_silence_where_there_is_no_row(tree, sort_out) -> None:
    reports = {f"n{i}": xml(i, FINDINGS="Large pneumothorax.") for i in (1, 2, 3)}
    folder = tree(**reports, n4=xml(4))
    (folder / "gold-labels.csv").write_text(
        GOLD
        + "CXR1,0,1,1,0,0,0,0,0,0,0,0,0,0,0,0\nCXR2,0,0,0,0,0,0,7,,0,0,0,0,0,0,1\nCXR4"
        + ",0" * 15
        + "\nCXR9"
        + ",0" * 15
    )
    studies, rejected = sort_out(read(folder))
    assert states(studies["CXR1"]) == {
        **dict.fromkeys(("atelectasis", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"), State.ABSENT),
        **dict.fromkeys(
            ("consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia"), State.ABSENT
        ),
        **dict.fromkeys(("cardiomegaly", "pleural_effusion"), State.PRESENT),
    }
    assert {finding.reader for finding in studies["CXR1"].findings} == {"mesh"}
    assert len(states(studies["CXR2"])) == 12  # a bad cell and a blank one are missing
    assert states(studies["CXR3"]) == {}  # no row: masked, though its text names a finding
    assert rejected.keys() == {"gold-labels.csv: row 3, column Pneumonia", "gold-labels.csv: row 5", "4.xml"}
    assert "no report of this name" in rejected["gold-labels.csv: row 5"]
    assert "empty" in rejected["4.xml"]


def test_without_gold_the_report_itself_is_labelled(tree, sort_out) -> None:
    folder = tree(n1=xml(1, INDICATION="Pneumonia?", FINDINGS="Large pleural effusion. No pneumothorax."))
    for choice in ("auto", "report"):
        study = sort_out(read(folder, label_from=choice))[0]["CXR1"]
        assert states(study) == {"pleural_effusion": State.PRESENT, "pneumothorax": State.ABSENT}
        start, end = study.findings[0].span
        assert "effusion" in study.report.text[start:end]
    assert states(sort_out(read(folder, label_from="none"))[0]["CXR1"]) == {}
    with pytest.raises(InputError, match=r"gold-labels\.csv"):
        list(read(folder, label_from="gold"))
    with pytest.raises(InputError, match="auto, gold, report, none"):
        list(read(folder, label_from="mesh"))


def test_images_are_found_under_either_name_and_each_loss_said(tree, picture, sort_out) -> None:
    folder = tree(
        n1=xml(1, ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"), FINDINGS="One."),
        n2=xml(2, ("CXR2_IM-0652-1001", "CXR2_IM-0652-2001", "CXR2_IM-0652-3001")),
        n3=xml(3, ("CXR3_IM-1-1001",), FINDINGS="Three."),
        n4=xml(4, ("CXR4_IM-1-1001",)),
    )
    picture(folder / "NLMCXR_png/CXR1_1_IM-0001-3001.png", 9, 11)
    picture(folder / "NLMCXR_png/1_IM-0001-4001.dcm.png")
    picture(folder / "NLMCXR_png/CXR2_IM-0652-1001.jpg")
    (folder / "NLMCXR_png/CXR2_IM-0652-2001.png").write_bytes(b"no image")
    picture(folder / "NLMCXR_png/CXR99_IM-1-1001.png")
    studies, rejected = sort_out(read(folder))
    assert {i: [image.source for image in s.images] for i, s in studies.items()} == {
        "CXR1": ["NLMCXR_png/CXR1_1_IM-0001-3001.png", "NLMCXR_png/1_IM-0001-4001.dcm.png"],
        "CXR2": ["NLMCXR_png/CXR2_IM-0652-1001.jpg"],  # an empty report is kept for its image
        "CXR3": [],
    }
    image = studies["CXR1"].images[0]
    np.testing.assert_array_equal(image.pixels, read_image(folder / image.source))
    assert (image.geometry.original_shape, image.dicom_modality) == ((9, 11), "DX")
    assert studies["CXR2"].report is None
    assert rejected.keys() == {
        "NLMCXR_png/CXR2_IM-0652-2001.png",
        "2.xml, image CXR2_IM-0652-3001",
        "3.xml, image CXR3_IM-1-1001",
        "4.xml, image CXR4_IM-1-1001",
        "4.xml",
        "NLMCXR_png/CXR99_IM-1-1001.png",
    }


@pytest.mark.parametrize(
    ("caption", "projection", "images", "view"),
    [
        ("PA and lateral", "Frontal", 2, View.PA),
        ("PA and lateral", "Lateral", 2, View.LATERAL),
        ("AP and lateral", "Frontal", 2, View.AP),
        ("Chest XXXX and lateral", "Frontal", 2, View.OTHER),
        ("PA and lateral", None, 2, View.OTHER),
        ("PA and lateral", None, 1, View.OTHER),
        ("Portable AP chest", None, 1, View.AP),
        ("PA, PA", None, 2, View.OTHER),
        ("AP after PA", "Frontal", 1, View.OTHER),
        ("Chest", "Sideways", 1, View.OTHER),
    ],
)
def test_a_view_is_named_only_where_it_is_known(tree, picture, sort_out, caption, projection, images, view) -> None:
    ids = ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")[:images]
    folder = tree(n1=xml(1, ids, caption))
    for image in ids:
        picture(folder / f"{image}.png")
    if projection:
        (folder / "indiana_projections.csv").write_text(
            f"uid,filename,projection\n1,1_IM-0001-3001.dcm.png,{projection}\n"
        )
    studies, rejected = sort_out(read(folder))
    assert studies["CXR1"].images[0].view is view
    assert len(rejected) == (projection == "Sideways")


def test_damaged_and_hostile_xml_costs_nothing_else(tree, sort_out) -> None:
    secret = "<!DOCTYPE x [<!ENTITY s SYSTEM 'file:///etc/passwd'>]>"
    folder = tree(
        n1=xml(1, FINDINGS="One."),
        n2=xml(2, FINDINGS="Two.")[:-20],
        n3=xml(3, FINDINGS="&s;").replace("<eCitation>", f"{secret}<eCitation>"),
        n4=xml(1, FINDINGS="Once more."),
        n5="<eCitation/>",
        n6=xml(6, FINDINGS="x" * (1 << 20)),
    )
    (folder / "7.xml").write_bytes("ï¿".encode("utf-16"))
    (folder / "8.xml").write_bytes(b"")
    studies, rejected = sort_out(read(folder))
    assert list(studies) == ["CXR1"]
    assert studies["CXR1"].report.text == "One."
    assert rejected.keys() == {f"{i}.xml" for i in range(2, 9)}
    assert "document type" in rejected["3.xml"]
    assert "repeats" in rejected["4.xml"]
    assert "larger" in rejected["6.xml"]


def test_a_source_that_does_not_fit_says_what_is_lacking(tree, tmp_path) -> None:
    with pytest.raises(InputError, match=r"(?s)XML reports.*no such path"):
        list(read(tmp_path / "none"))
    with pytest.raises(InputError, match=r"(?s)no reports.*XML"):
        list(read(tmp_path))
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="zip cannot be read"):
        list(read(tmp_path / "a.zip"))
    folder = tree(n1=xml(1, FINDINGS="One."))
    (folder / "gold-labels.csv").write_text(GOLD.replace("Edema,", ""))
    with pytest.raises(TableError, match=r"(?s)lacks Edema.*filename, Atelectasis.*gold-labels\.csv"):
        list(read(folder))


def test_the_real_reports_are_read_whole(shared_data, sort_out) -> None:
    """Against counts found by searching the raw XML, and the rows of the gold."""
    folder = shared_data / "openi"
    studies, rejected = sort_out(read(folder))
    with (folder / "gold-labels.csv").open(newline="") as file:
        gold = {row["filename"]: row for row in csv.DictReader(file)}
    own = {"Effusion": "pleural_effusion"}
    texts, nothing = Counter(), set()
    with zipfile.ZipFile(folder / "ecgen-radiology.zip") as archive:
        assert len(archive.namelist()) == 3184
        for name in archive.namelist():
            raw = archive.read(name).decode()
            number = re.search(r"(\d+)\.xml", name)[1]
            sections = dict(re.findall(r'<AbstractText Label="(\w+)">([^<]*)</AbstractText>', raw))
            written = {key.lower() for key, value in sections.items() if value.strip()}
            texts.update(written)
            if not written:
                nothing.add(f"ecgen-radiology.zip: {name}")
                continue
            study = studies[f"CXR{number}"]
            assert study.report.sections.keys() == written
            found = {finding.name: finding.state for finding in study.findings}
            row = gold.get(f"CXR{number}")
            expected = [key for key in row or () if key not in ("filename", "normal")]
            assert found == {
                own.get(key, key.lower()): State.PRESENT if row[key] == "1" else State.ABSENT for key in expected
            }
    assert rejected.keys() == nothing
    assert (len(studies), len(nothing)) == (3160, 24)
    assert sum(not study.findings for study in studies.values()) == 101  # 104 reports have no gold row; 3 are empty
    assert texts == {"impression": 3156, "indication": 3109, "findings": 2775, "comparison": 2681}
