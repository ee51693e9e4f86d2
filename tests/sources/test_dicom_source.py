"""Folders of DICOM files as studies."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom_object, save, slices
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from chiasm.cohort.imports import import_cohort
from chiasm.errors import ImageError, InputError
from chiasm.sources.dicom import read, read_study
from chiasm.study import Rejected, Study, Values, View

AXIAL = np.array([[0, 0, -0.5, 60], [0, -0.75, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])


def split(path: Path, **options: object) -> tuple[list[Study], list[Rejected]]:
    items = list(read(path, **options))
    return [x for x in items if isinstance(x, Study)], [x for x in items if isinstance(x, Rejected)]


def radiograph(seed: int = 0, **elements: object) -> Dataset:
    pixels = np.random.default_rng(seed).integers(0, 4096, (12, 10)).astype(np.uint16)
    given = {"ViewPosition": "PA", "PatientAge": "045Y", "PatientSex": "F", **elements}
    return dicom_object(pixels, BitsStored=12, WindowCenter=2048, WindowWidth=4096, **given)


def scan(seed: int = 0, **elements: object) -> list[Dataset]:
    volume = np.random.default_rng(seed).integers(0, 4096, (4, 6, 5)).astype(np.uint16)
    return slices(volume, AXIAL, RescaleSlope=1, RescaleIntercept=-1024, **elements)


def test_two_views_are_one_study(tmp_path: Path) -> None:
    study = generate_uid()
    front = radiograph(1, StudyInstanceUID=study)
    side = radiograph(2, StudyInstanceUID=study, ViewPosition="LL")
    save(front, tmp_path / "a" / "b" / "one.dcm")
    save(side, tmp_path / "z" / "no_suffix")
    (found,), rejected = split(tmp_path)
    assert not rejected
    assert found.study_id == study
    assert [image.view for image in found.images] == [View.PA, View.LATERAL]
    assert [image.source for image in found.images] == ["a/b/one.dcm", "z/no_suffix"]
    assert [image.image_id for image in found.images] == [front.SOPInstanceUID, side.SOPInstanceUID]
    assert found.record is not None
    assert found.record.values == {"age_years": 45.0, "sex": "f"}
    stored = np.frombuffer(front.PixelData, np.uint16).reshape(12, 10)
    np.testing.assert_array_equal(found.images[0].pixels, np.rint(stored / 4095 * 255))


def test_series_become_volumes_and_single_slices_images(tmp_path: Path) -> None:
    study = generate_uid()
    for number, data in enumerate(scan(StudyInstanceUID=study)):
        save(data, tmp_path / f"slice{9 - number}.dcm")
    save(dicom_object(np.zeros((4, 4), np.uint16), Modality="CT", StudyInstanceUID=study), tmp_path / "scout.dcm")
    frames = dicom_object(np.zeros((3, 4, 4), np.uint8), Modality="MR", StudyInstanceUID=study, NumberOfFrames=3)
    save(frames, tmp_path / "stack.dcm")
    (found,), (rejected,) = split(tmp_path)
    assert rejected.where == "stack.dcm" and "without their places: 3 frames of MR" in rejected.reason
    assert [image.pixels.shape for image in found.images] == [(4, 4), (4, 6, 5)]
    volume = found.images[1]
    assert volume.source == "slice9.dcm and 3 more"
    assert volume.pixels.dtype == np.int16
    assert volume.geometry.spacing_mm == pytest.approx((3, 0.75, 0.5))
    assert [image.values for image in found.images] == [Values.GRAY, Values.MODALITY]


def test_a_bad_series_costs_nothing_else(tmp_path: Path) -> None:
    study = generate_uid()
    for number, data in enumerate(scan(1, StudyInstanceUID=study)):
        save(data, tmp_path / f"good{number}")
    for number, data in enumerate(scan(2, StudyInstanceUID=study)):
        if number != 1:
            save(data, tmp_path / f"gap{number}")
    (found,), (rejected,) = split(tmp_path)
    assert len(found.images) == 1
    assert rejected.where == "gap0 and 2 more"
    assert "6 mm between slices 1 and 2 of 3" in rejected.reason


def test_what_is_not_taken_is_said(tmp_path: Path) -> None:
    save(radiograph(), tmp_path / "good.dcm")
    (tmp_path / "notes.txt").write_text("nothing here\n" * 30)
    (tmp_path / "empty.dcm").write_bytes(b"")
    for name in ("reportsi.dcm", "rtdose.dcm", "liver_1frame.dcm"):
        shutil.copy(str(get_testdata_file(name, download=False)), tmp_path / name)
    shutil.copy(Path(str(get_testdata_file("MR_small.dcm"))).parent / "dicomdirtests" / "DICOMDIR", tmp_path)
    cut = save(radiograph(3), tmp_path / "cut.dcm")
    cut.write_bytes(cut.read_bytes()[:-7])
    lost = radiograph(4)
    del lost.StudyInstanceUID
    save(lost, tmp_path / "lost.dcm")
    shutil.copy(tmp_path / "good.dcm", tmp_path / "good_again.dcm")
    studies, rejected = split(tmp_path)
    assert [study.images[0].source for study in studies] == ["good.dcm"]
    reasons = {item.where: item.reason for item in rejected}
    assert reasons.keys() == {path.name for path in tmp_path.iterdir()} - {"good.dcm"} | {"liver_1frame.dcm"}
    assert "no DICOM file" in reasons["notes.txt"]
    assert "no DICOM file" in reasons["empty.dcm"]
    assert reasons["reportsi.dcm"] == "The DICOM object has no pixels: Basic Text SR Storage"
    assert reasons["DICOMDIR"] == "The DICOM object has no pixels: Media Storage Directory Storage"
    assert reasons["rtdose.dcm"] == "The DICOM object is no image: RT Dose Storage"
    assert "Segmentation" in reasons["liver_1frame.dcm"]
    assert "240 bytes announced, 233 in the file" in reasons["cut.dcm"]
    assert "cannot be grouped" in reasons["lost.dcm"]
    assert reasons["good_again.dcm"] == "the same object as good.dcm (one SOPInstanceUID)"
    assert not [text for text in reasons.values() if str(tmp_path) in text]


def test_patients(tmp_path: Path) -> None:
    save(radiograph(1, PatientID=" 0815 "), tmp_path / "a.dcm")
    save(radiograph(2, PatientID="0815"), tmp_path / "b.dcm")
    save(radiograph(3, PatientID=""), tmp_path / "c.dcm")
    mixed = generate_uid()
    save(radiograph(4, PatientID="1", StudyInstanceUID=mixed), tmp_path / "d.dcm")
    save(radiograph(5, PatientID="2", StudyInstanceUID=mixed), tmp_path / "e.dcm")
    studies, rejected = split(tmp_path)
    assert studies[0].patient_id == studies[1].patient_id == hashlib.sha256(b"0815").hexdigest()[:16]
    assert studies[2].patient_id == f"unknown-{studies[2].study_id}"
    assert len(studies) == 3
    assert [item.where for item in rejected] == ["c.dcm", "d.dcm"]
    assert "no PatientID" in rejected[0].reason
    assert "2 patients" in rejected[1].reason
    studies, _ = split(tmp_path, pseudonymize=False)
    assert studies[0].patient_id == "0815"
    assert "Jane" not in repr(studies)


@pytest.mark.parametrize(
    ("elements", "age", "said"),
    [
        ({"PatientAge": "006M"}, 0.5, None),
        ({"PatientAge": "089+"}, 89.0, "open-ended"),
        ({"PatientAge": "", "PatientBirthDate": "19800615", "StudyDate": "20200614"}, 39.0, None),
        ({"PatientAge": "", "PatientBirthDate": "20190615", "StudyDate": "20200915"}, 1.25, None),
        ({"PatientAge": ""}, None, None),
        ({"PatientAge": "", "PatientBirthDate": "20300615", "StudyDate": "20200915"}, None, "PatientAge"),
        ({"PatientAge": "", "PatientBirthDate": "1930", "StudyDate": "20200915"}, None, "PatientAge"),
        ({"PatientAge": "old"}, None, "PatientAge"),
        ({"PatientAge": "400Y"}, None, "PatientAge"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_ages(tmp_path: Path, elements: dict[str, str], age: float | None, said: str | None) -> None:
    save(radiograph(**elements), tmp_path / "a.dcm")
    (study,), rejected = split(tmp_path)
    assert study.record is not None
    assert study.record.values["age_years"] == age
    assert len(rejected) == bool(said)
    assert all(said in item.reason for item in rejected if said)
    assert not any(elements.get("PatientBirthDate", "none") in item.reason for item in rejected)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_sex_and_contradictions(tmp_path: Path) -> None:
    study = generate_uid()
    save(radiograph(1, StudyInstanceUID=study, PatientSex="M", PatientAge="040Y"), tmp_path / "a.dcm")
    save(radiograph(2, StudyInstanceUID=study, PatientSex="F", PatientAge=""), tmp_path / "b.dcm")
    (found,), (rejected,) = split(tmp_path)
    assert found.record is not None
    assert found.record.values == {"age_years": 40.0, "sex": None}
    assert rejected.reason == "PatientSex: 2 different values in one study: treated as missing"
    save(radiograph(3, PatientSex="X"), tmp_path / "c" / "c.dcm")
    (other,), (rejected,) = split(tmp_path / "c")
    assert other.record is not None
    assert other.record.values["sex"] is None
    assert "PatientSex" in rejected.reason


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    save(radiograph(1), tmp_path / "real" / "a.dcm")
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to(tmp_path / "real")
    (source / "self").symlink_to(source)
    studies, rejected = split(source)
    assert [study.images[0].source for study in studies] == ["link/a.dcm"]
    assert not rejected


def test_one_file(tmp_path: Path) -> None:
    data = radiograph(1)
    path = save(data, tmp_path / "a.dcm")
    study = read_study(path)
    (same,), _ = split(path)
    assert study.study_id == same.study_id == data.StudyInstanceUID
    assert study.patient_id == same.patient_id
    assert study.record == same.record
    np.testing.assert_array_equal(study.images[0].pixels, same.images[0].pixels)
    del data.StudyInstanceUID, data.SeriesInstanceUID
    data.PatientID = ""
    bare = read_study(save(data, tmp_path / "bare.dcm"))
    assert (bare.study_id, bare.patient_id) == ("bare", "unknown-bare")
    (tmp_path / "text.dcm").write_text("no image " * 30)
    with pytest.raises(ImageError, match="no DICOM file"):
        read_study(tmp_path / "text.dcm")


@pytest.mark.parametrize("window", ["40", "a,b", "40,0", (1, 2, 3), 5])
def test_a_window_that_is_none(tmp_path: Path, window: object) -> None:
    with pytest.raises(InputError, match="window"):
        import_cohort("dicom", tmp_path, tmp_path / "out", options={"window": window})


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        list(read(tmp_path / "missing"))


def test_a_folder_becomes_a_cohort(tmp_path: Path) -> None:
    for number in range(3):
        save(radiograph(number, PatientID=str(number)), tmp_path / "in" / f"{number}.dcm")
    for number, data in enumerate(scan(PatientID="9")):
        save(data, tmp_path / "in" / f"slice{number}")
    (tmp_path / "in" / "readme").write_text("text " * 60)
    cohort = import_cohort("dicom", tmp_path / "in", tmp_path / "out", size=16, volume_size=(8, 8, 8))
    assert len(cohort) == 4
    assert sorted(cohort.images["array"]) == ["pixels_2d"] * 3 + ["pixels_3d"]
    assert "readme" in (tmp_path / "out" / "rejected.csv").read_text()
    again = import_cohort("dicom", tmp_path / "in", tmp_path / "again", size=16, volume_size=(8, 8, 8))
    assert again.hash == cohort.hash


# --- labels from a table ------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two studies of patient 0815 and one of patient 7."""
    for number, patient in enumerate(("0815", "0815", "7")):
        given = {"PatientID": patient, "AccessionNumber": f"A{number}", "StudyInstanceUID": f"1.2.{number}"}
        save(radiograph(number, **given), tmp_path / "scans" / f"{number}.dcm")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "cells"),
    [
        ("StudyInstanceUID", ["1.2.0", "1.2.1", "1.2.2"]),
        ("accession_number", ["A0", "a1", "A2"]),
        ("PatientID", ["815", "", "7.0"]),  # a spreadsheet ate the zero, and made a fraction of the other
    ],
)
def test_labels_report_and_record_are_joined_by_what_a_table_has(key: str, cells: list[str], labelled: Path) -> None:
    rows = [(c, n) for n, c in enumerate(cells) if c]
    table = labelled / "labels.csv"
    lines = [f"{cell},{n % 2},Findings: Heart {n}.,{60 + n},1" for cell, n in rows]
    table.write_text("\n".join([f"{key},label_pneumonia,report,age,outcome_died", *lines]) + "\n")
    studies, rejected = split(labelled / "scans", labels=table)
    by_patient = key == "PatientID"
    assert [study.study_id for study in studies] == ["1.2.0", "1.2.1", "1.2.2"]
    assert [len(study.images) for study in studies] == [1, 1, 1]
    numbers = [0, 0, 2] if by_patient else [0, 1, 2]
    assert [study.report.sections["findings"] for study in studies if study.report] == [f"Heart {n}." for n in numbers]
    assert [study.findings[0].state.value for study in studies] == [["absent", "present"][n % 2] for n in numbers]
    assert [study.record.values for study in studies if study.record] == [
        {"age_years": 60.0 + n, "sex": "f"} for n in numbers
    ]
    assert [study.outcomes[0].value for study in studies] == [1, 1, 1]
    assert studies[0].patient_id == hashlib.sha256(b"0815").hexdigest()[:16]
    assert {item.reason for item in rejected} == {
        "labels.csv and the files do not agree on age_years: the table's value is taken"
    }
    assert all(item.taken for item in rejected)


def test_a_study_without_a_row_and_a_row_without_a_study_are_said(labelled: Path) -> None:
    table = labelled / "labels.csv"
    table.write_text("accession_number,label_mass\nA0,1\nA9,1\n,1\n")
    studies, rejected = split(labelled / "scans", labels=table)
    assert len(studies) == 3 and not studies[1].findings
    assert [(item.where, item.taken) for item in rejected] == [
        ("labels.csv: row 4", False),
        ("1.dcm", True),
        ("2.dcm", True),
        ("labels.csv: row 3", False),
    ]
    assert "no study has this AccessionNumber" in rejected[-1].reason
    assert not [item for item in rejected if "A9" in item.reason]


def test_a_table_of_labels_may_have_a_map(labelled: Path) -> None:
    table = labelled / "labels.csv"
    table.write_text("who,acc,dx\np,A0,Mass|Nodule\n")
    map_ = {"patient": "who", "labels": {"column": "dx"}}
    with pytest.raises(InputError, match="no column"):
        split(labelled / "scans", labels=table, map={**map_, "labels": {"column": "dy"}})
    table.write_text("who,accession,dx\np,A0,Mass|Nodule\n")
    studies, _ = split(labelled / "scans", labels=table, map=map_)
    assert {finding.name for finding in studies[0].findings} == {"mass", "nodule"}
    with pytest.raises(InputError, match="come from elsewhere"):
        split(labelled / "scans", labels=table, map={**map_, "images": "dx"})
    with pytest.raises(InputError, match="a map without a table"):
        split(labelled / "scans", map=map_)
    table.write_text("name,dx\nx,Mass\n")
    with pytest.raises(InputError, match="which study or patient") as caught:
        split(labelled / "scans", labels=table)
    assert "AccessionNumber" in caught.value.expected
