"""Files as studies: what a model of a plan takes of them, what it says it does not, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import dicom_object, save, slices
from PIL import Image as Pillow

from chiasm.cohort.preprocessing import Preprocessing
from chiasm.encoding.plan import Plan
from chiasm.errors import ImageError, InputError
from chiasm.prediction.read import name_of, read_study
from chiasm.study import Kind, View

PLAN = Plan(
    image_shape=(64, 64),
    numeric={"age_years": (50.0, 10.0), "crp_mg_l": (20.0, 5.0)},
    categories={"sex": ("f", "m")},
    text_sections=("history", "findings"),
    max_tokens=40,
    description_sections=(),
    description_max_tokens=0,
    targets={"findings": ("mass",)},
    kinds={"findings": Kind.BINARY},
    uncertain={},
    scaling={},
    localized=(),
    grid=(8, 8),
    findings=("findings",),
)
BLIND = replace(PLAN, image_shape=None, grid=None)
SOLID = replace(PLAN, image_shape=(8, 16, 16), grid=(1, 2, 2))
PIXELS = np.arange(600, dtype=np.uint8).reshape(20, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "case 7" / "images").mkdir(parents=True)
    return tmp_path / "case 7"


def _file(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_a_folder_is_one_study_of_all_its_parts(folder, draw):
    for name in ("images/b_lateral.png", "images/a-PA.png", "images/c.png"):
        draw(f"case 7/{name}")
    _file(folder / "images" / ".DS_Store", "of the file system")
    _file(folder / "report.txt", "\ufeffHISTORY: Cough.\nFINDINGS: Mass.\n")
    _file(folder / "record.json", '{"age_years": 63, "crp_mg_l": null, "sex": "f"}')
    study, unread = read_study(folder, PLAN)
    assert (study.study_id, study.patient_id, unread) == ("case 7", "case 7", ())
    assert [(i.image_id, i.view) for i in study.images] == [
        ("case 7/a-PA", View.PA), ("case 7/b_lateral", View.LATERAL), ("case 7/c", View.OTHER),
    ]  # fmt: skip
    assert all(i.pixels.shape == i.geometry.original_shape == (90, 140) for i in study.images)
    assert dict(study.report.sections) == {"history": "Cough.", "findings": "Mass."}
    assert dict(study.record.values) == {"age_years": 63.0, "crp_mg_l": None, "sex": "f"}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("scan.PNG", "scan"),
        ("brain.nii.gz", "brain"),
        ("1.2.840.113619", "1.2.840.113619"),  # a UID is no ending
        ("IM.0001.dcm", "IM.0001"),
        (".png", ".png"),
    ],
)
def test_an_input_is_named_by_its_file_or_folder(tmp_path, monkeypatch, file, name):
    _file(tmp_path / file, "")
    assert name_of(tmp_path / file) == name
    (tmp_path / "study.png").mkdir()
    assert name_of(tmp_path / "study.png") == "study.png"
    monkeypatch.chdir(tmp_path / "study.png")
    assert (name_of(Path()), name_of(Path(".."))) == ("study.png", tmp_path.name)


# --- the record --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[1]", "does not fit"),
        ('{"age_years": [63]}', "does not fit"),
        ('{"age_years": "sixty"}', "age_years is not a number"),
        ('{"age_years": true}', "age_years is not a number"),
        ('{"crp_mg_l": 1e300}', "crp_mg_l is no number of a chart"),
        ('{"crp_mg_l": "1e300"}', "crp_mg_l is no number of a chart"),
        ('{"age_years": 63, "age_years": 36}', "age_years comes twice"),
        ('{"age_years": 63, "age": 36}', "age_years comes twice, under two names"),
        ('{"sex": "woman?"}', "sex is none of the words f, m"),
        ('{"sex": true}', "sex is none of the words f, m"),
        ("[" * 100000, "cannot be read"),
        ('{"age_years": NaN}', "age_years is not a number"),
        ('{"age_years": Infinity}', "age_years is not a number"),
        ('{"sex": 1}', "sex is none of the words f, m"),
    ],
)
def test_a_record_that_would_be_read_as_missing_is_refused(draw, tmp_path, text, said):
    record = _file(tmp_path / "record.json", text)
    with pytest.raises(InputError) as caught:
        read_study(draw(), PLAN, record=record)
    assert said in str(caught.value)
    assert str(record) in str(caught.value)
    assert not {"63", "36", "sixty", "woman?"} & set(
        str(caught.value).replace('"', " ").split()
    )  # no value of the patient


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"sex": "F"}', {"sex": "f"}),
        ('{"sex": "Female"}', {"sex": "f"}),
        ('{"sex": " male "}', {"sex": "m"}),
        ('{"gender": "F", "age": 63}', {"sex": "f", "age_years": 63.0}),
        ('{"age_years": "63"}', {"age_years": 63.0}),
        ('{"age_years": "018M"}', {"age_years": 1.5}),
        ('{"crp_mg_l": "3.0"}', {"crp_mg_l": 3.0}),
        ('{"grade": 3}', {"grade": "3"}),
        ('{"grade": 3.0}', {"grade": "3"}),
        ('{"grade": "3.0"}', {"grade": "3"}),
        ('{"crp_mg_l": ""}', {"crp_mg_l": None}),
    ],
)
def test_what_has_one_meaning_is_taken(draw, tmp_path, text, expected):
    plan = replace(PLAN, categories={**PLAN.categories, "grade": ("1", "2", "3")})
    study, unread = read_study(draw(), plan, record=_file(tmp_path / "record.json", text))
    assert (dict(study.record.values) if study.record else {"crp_mg_l": None}) == expected
    assert not unread


def test_a_key_that_the_model_does_not_know_is_said_and_left_out(draw, tmp_path):
    text = '{"age_yaers": 63, "ward": "7B", "Mrs Doe of 7B": 1, "sex": "f"}'
    study, unread = read_study(draw(), PLAN, record=_file(tmp_path / "record.json", text))
    assert dict(study.record.values) == {"sex": "f"}
    assert unread == (
        "record: unknown column age_yaers, did you mean age_years?",
        "record: unknown column ward",
        "record: unknown column of 13 characters",
    )


def test_all_faults_of_a_record_come_at_once_and_a_missing_value_is_none(draw, tmp_path):
    record = _file(tmp_path / "record.json", '{"height": 1, "sex": "x", "crp_mg_l": null, "age_years": "x"}')
    with pytest.raises(InputError) as caught:
        read_study(draw(), PLAN, record=record)
    assert caught.value.got == "sex is none of the words f, m; age_years is not a number"


def test_a_model_without_record_says_that_it_reads_none(draw, tmp_path):
    plan = replace(PLAN, numeric={}, categories={})
    study, unread = read_study(draw(), plan, record=_file(tmp_path / "r.json", '{"age_years": 63}'))
    assert study.record is None
    assert unread == ("record: the model reads none",)


def test_the_own_record_goes_before_the_header(tmp_path):
    path = save(dicom_object(PIXELS, PatientAge="040Y", PatientSex="M"), tmp_path / "a.dcm")
    assert dict(read_study(path, PLAN)[0].record.values) == {"age_years": 40.0, "sex": "m"}
    study, _ = read_study(path, PLAN, record=_file(tmp_path / "r.json", '{"age_years": 41}'))
    assert dict(study.record.values) == {"age_years": 41.0, "sex": "m"}
    words = replace(PLAN, numeric={}, categories={"age_years": ("40-50",), "sex": ("man", "woman")})
    assert read_study(path, words)[0].record is None  # not of the model's kind, and nobody's mistake


# --- the report --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plan", "said"),
    [
        ("", PLAN, "report: it is empty"),
        ("TECHNIQUE: Two views.", PLAN, "report: technique; the model reads history, findings"),
        ("FINDINGS: Mass. IMPRESSION: Mass.", PLAN, "report: impression; the model reads history, findings"),
        ("FINDINGS: Mass.", replace(PLAN, text_sections=()), "report: the model reads none"),
    ],
)
def test_parts_of_a_report_that_are_not_read_are_said(draw, tmp_path, text, plan, said):
    _, unread = read_study(draw(), plan, _file(tmp_path / "r.txt", text))
    assert unread == (said,)


def test_a_report_in_another_encoding_is_refused(draw, tmp_path):
    (tmp_path / "r.txt").write_bytes("FINDINGS: Größe normal.".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_study(draw(), PLAN, tmp_path / "r.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_study(draw(), PLAN, tmp_path / "nothing.txt")


# --- images ------------------------------------------------------------------------------------------------------------


def test_slices_of_a_series_are_one_volume(folder):
    volume = np.random.default_rng(0).integers(0, 1000, (10, 12, 14)).astype(np.int16)
    for number, data in enumerate(slices(volume, np.diag([-1.0, -1.0, 2.0, 1.0])[:, [2, 1, 0, 3]], PatientAge="050Y")):
        save(data, folder / "images" / f"{number:02}.dcm")
    study, unread = read_study(folder, SOLID)
    assert ([i.pixels.shape for i in study.images], unread) == ([(10, 12, 14)], ())
    assert study.record.values["age_years"] == 50
    with pytest.raises(InputError, match="reads nothing of this study") as caught:
        read_study(folder, replace(PLAN, numeric={}, categories={}))
    assert "a volume, the model reads a single image" in caught.value.got


def test_images_of_one_name_stay_apart(folder, draw):
    draw("case 7/images/a.png")
    save(dicom_object(PIXELS), folder / "images" / "a.dcm")
    assert {image.image_id for image in read_study(folder, PLAN)[0].images} == {"case 7/a.png", "case 7/a.dcm"}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_mask_is_read_alike_whatever_its_numbers_are_stored_as(tmp_path, dtype):
    mask = np.zeros((16, 16, 8), dtype)
    mask[3:5, 4, 2] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "lesion.nii.gz")
    (image,) = read_study(tmp_path / "lesion.nii.gz", SOLID)[0].images
    stored = Preprocessing(volume_size=(8, 16, 16)).prepare(image).pixels
    assert sorted(np.unique(stored)) == [0, 255]
    assert (stored == 255).sum() == 2


def test_images_of_another_dimension_are_said_and_left_out(folder, draw, tmp_path):
    draw("case 7/images/a.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), folder / "images" / "b.nii.gz")
    flat, said = read_study(folder, PLAN)
    assert ([i.pixels.ndim for i in flat.images], said) == (
        [2],
        ("image b.nii.gz: a volume, the model reads a single image",),
    )
    solid, said = read_study(folder, SOLID)
    assert ([i.pixels.ndim for i in solid.images], said) == (
        [3],
        ("image a.png: a single image, the model reads a volume",),
    )
    _file(folder / "report.txt", "Mass.")
    blind, said = read_study(folder, BLIND)
    assert (blind.images, said) == (
        (),
        ("image a.png: the model reads no images", "image b.nii.gz: the model reads no images"),
    )


def test_two_patients_are_no_study(folder):
    for number, patient in enumerate(("one", "two")):
        save(dicom_object(PIXELS, PatientID=patient), folder / "images" / f"{number}.dcm")
    with pytest.raises(InputError, match="2 patients") as caught:
        read_study(folder, PLAN)
    assert "one," not in str(caught.value)
    for number, age in enumerate(("030Y", "031Y")):
        save(dicom_object(PIXELS, PatientAge=age), folder / "images" / f"{number}.dcm")
    with pytest.raises(InputError, match="different age_years"):
        read_study(folder, PLAN)


def test_one_unreadable_image_spoils_the_study(folder, draw):
    draw("case 7/images/a.png")
    _file(folder / "images" / "b.png", "no picture")
    with pytest.raises(ImageError):
        read_study(folder, PLAN)


@pytest.mark.parametrize(("name", "said"), [("nothing.png", "no such input"), ("empty", "folder is empty")])
def test_an_input_that_is_missing_or_empty_is_refused(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        read_study(tmp_path / name, PLAN)


def test_a_study_of_which_nothing_is_read_is_refused(folder):
    _file(folder / "report.txt", "TECHNIQUE: Two views.")
    _file(folder / "record.json", '{"age_years": null}')
    with pytest.raises(InputError, match="reads nothing") as caught:
        read_study(folder, PLAN)
    assert caught.value.expected == "an image, a report, a record"
    assert caught.value.got == "report: technique; the model reads history, findings"


# --- a folder of DICOM files -------------------------------------------------------------------------------------------


def test_a_folder_of_dicom_files_is_read_as_its_import_would_read_it(tmp_path: Path) -> None:
    """One patient, several series at any depth; what is no image is said."""
    folder, uid = tmp_path / "exam", "1.2.3"
    volume = np.zeros((4, 6, 5), np.uint16)
    affine = np.array([[0, 0, -1, 60], [0, -1, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])
    for series, modality in (("1.2.3.1", "CT"), ("1.2.3.2", "MR")):
        given = {"StudyInstanceUID": uid, "SeriesInstanceUID": series, "Modality": modality, "PatientAge": "063Y"}
        for n, data in enumerate(slices(volume, affine, RescaleSlope=1, RescaleIntercept=0, **given)):
            save(data, folder / modality / f"{n}")
    save(dicom_object(PIXELS, StudyInstanceUID=uid), folder / "film.dcm")
    (folder / "README").write_text("words\n" * 40)
    _file(folder / "report.txt", "FINDINGS: Clear.")
    three = replace(PLAN, image_shape=(8, 8, 8))
    study, unread = read_study(folder, three)
    assert [image.image_id for image in study.images] == ["exam/CT/0", "exam/MR/0"]
    assert [image.dicom_modality for image in study.images] == ["CT", "MR"]
    assert study.record is not None and study.record.values["age_years"] == 63
    assert study.report is not None
    assert any(text.startswith("README: The file is no DICOM file") for text in unread)
    assert any("film.dcm: a single image" in text for text in unread)
    two, unread = read_study(folder, PLAN)
    assert [image.image_id for image in two.images] == ["exam/film.dcm"]
    save(dicom_object(PIXELS, PatientID="other"), folder / "other.dcm")
    with pytest.raises(InputError, match="several studies") as caught:
        read_study(folder, PLAN)
    assert caught.value.got == "2 studies of 2 patients"


def test_what_was_left_out_of_a_series_is_said_of_its_prediction(tmp_path: Path) -> None:
    volume = np.zeros((5, 6, 5), np.uint16)
    affine = np.array([[0, 0, -1, 60], [0, -1, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])
    objects = slices(volume, affine, RescaleSlope=1, RescaleIntercept=0)
    objects[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    for n, data in enumerate(objects):
        save(data, tmp_path / "case" / "images" / f"{n}.dcm")
    study, unread = read_study(tmp_path / "case", replace(PLAN, image_shape=(8, 8, 8)))
    assert study.images[0].pixels.shape == (4, 6, 5)
    assert unread == ("0.dcm: left out of the series: a localizer",)


def test_the_words_of_other_charts_are_not_listed(draw, tmp_path):
    plan = replace(PLAN, categories={**PLAN.categories, "doctor": ("dr braun", "dr kowalski")})
    with pytest.raises(InputError) as caught:
        read_study(draw(), plan, record=_file(tmp_path / "record.json", '{"doctor": "dr smith"}'))
    assert caught.value.got == "doctor is none of the words, of which the model knows 2"


def test_a_sequence_is_told_by_the_name_of_its_file(tmp_path: Path) -> None:
    plan = replace(PLAN, sequences=("FLAIR", "T1", "T1 post"))
    folder = tmp_path / "case" / "images"
    folder.mkdir(parents=True)
    for name in ("ax_flair.png", "t1-post.png", "scan_T1.png", "other.png"):
        Pillow.fromarray(PIXELS.astype(np.uint8)).save(folder / name)
    study, unread = read_study(tmp_path / "case", plan)
    assert {Path(image.source).name: image.name for image in study.images} == {
        "ax_flair.png": "FLAIR",
        "t1-post.png": "T1 post",
        "scan_T1.png": "T1",
        "other.png": "",
    }
    assert unread == ("image other: which it is of FLAIR, T1, T1 post is not part of its name",)
