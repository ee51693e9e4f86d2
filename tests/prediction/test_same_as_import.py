"""A file that is predicted is read as its import read it, bit for bit, whatever the options of the import were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import dicom_object, save, slices
from pictures import with_footer
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.preprocessing import Preprocessing
from chiasm.cohort.store import Cohort, cohort_from_studies
from chiasm.encoding.images import Shown, join_preprocessing
from chiasm.encoding.plan import Plan
from chiasm.errors import InputError
from chiasm.prediction.read import read_study

RNG = np.random.default_rng(0)
AXIAL = np.array([[0, 0, -0.5, 60], [0, -0.75, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])
CUBES = np.array([[0, 0, -1, 60], [0, -1, 0, 80], [1, 0, 0, -100], [0, 0, 0, 1.0]])
SIZES = {"size": 40, "volume_size": (8, 24, 20)}
PLAN = Plan(
    image_shape=(40, 40), numeric={}, categories={}, text_sections=(), max_tokens=0, description_sections=(),
    description_max_tokens=0, targets={}, kinds={}, uncertain={}, scaling={}, localized=(), grid=None,
)  # fmt: skip


def eight(path: Path, top: int = 256) -> None:
    draw(path, RNG.integers(0, top, (50, 36)).astype(np.uint8))


def sixteen(path: Path) -> None:
    draw(path, RNG.integers(300, 4096, (50, 36)).astype(np.uint16))


def draw(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path)


def volume(path: Path, low: int, high: int, dtype: type = np.int16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.integers(low, high, (10, 12, 6)).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, 2, 3, 1])), path)


def table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


# --- a small folder of every layout ------------------------------------------------------------------------------------


def chestxray14(root: Path) -> None:
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    table(root / "Data_Entry_2017.csv", header, "a.png,Mass,0,1,50,M,PA", "b.png,No Finding,0,2,50,M,PA")
    draw(root / "images" / "a.png", RNG.integers(0, 256, (64, 64)).astype(np.uint8))
    draw(root / "images" / "b.png", RNG.integers(300, 4096, (64, 64)).astype(np.uint16))


def covid_chestxray(root: Path) -> None:
    names = (
        "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,needed_supplemental_O2"
    )
    names += (
        ",extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,view,modality,date"
    )
    names += ",location,folder,filename,doi,url,license,clinical_notes,other_notes"
    columns = names.split(",")
    rows = []
    for number, (name, modality) in enumerate({"a.png": "X-ray", "b.jpg": "CT", "c.png": "X-ray"}.items()):
        own = {"patientid": str(number), "finding": "Tuberculosis", "modality": modality, "filename": name}
        rows.append(",".join(own.get(column, "") for column in columns))
    table(root / "metadata.csv", ",".join(columns), *rows)
    eight(root / "images" / "a.png")
    eight(root / "images" / "b.jpg", 120)
    sixteen(root / "images" / "c.png")


def mimic_cxr(root: Path) -> None:
    eight(root / "files" / "p10" / "p10000001" / "s50001" / "aa.jpg")
    sixteen(root / "files" / "p10" / "p10000001" / "s50001" / "bb.png")


def openi(root: Path) -> None:
    image = '<parentImage id="CXR1_1_IM-0001"><caption>PA</caption></parentImage>'
    text = '<Abstract><AbstractText Label="FINDINGS">Clear.</AbstractText></Abstract>'
    article = f"<MedlineCitation><Article>{text}</Article></MedlineCitation>"
    root.mkdir(parents=True)
    (root / "1.xml").write_text(f'<eCitation><uId id="CXR1"/>{article}<MeSH/>{image}</eCitation>')
    eight(root / "images" / "CXR1_1_IM-0001.png")


def medpix(root: Path) -> None:
    common = {"U_id": "M1", "Location Category": "Head"}
    entries = [
        {**common, "Type": type_, "image": name, "Description": {"Caption": "A mass."}}
        for name, type_ in (("a", "CT"), ("b", "MR"))
    ]
    root.mkdir(parents=True)
    (root / "Descriptions.json").write_text(json.dumps(entries))
    for number, name in enumerate("ab", start=1):
        draw(root / "images" / f"{name}.png", with_footer(number))


def soop(root: Path) -> None:
    header = (
        "participant_id\tsex\tage\trace\tacuteischaemicstroke\tpriorstroke\tbmi\tnihss\tgs_rankin_6isdeath\tetiology"
    )
    table(
        root / "participants.tsv",
        header,
        "sub-1\tF\t60\tw\t1\t0\t22\t17\t3\tn/a",
        "sub-2\tM\t60\tw\t1\t0\t22\t1\t2\tn/a",
    )
    for number, top in ((1, 2), (2, 4)):  # the numbers of a drawn mask may be any
        folder = root / "derivatives" / "lesion_masks" / f"sub-{number}"
        volume(folder / f"sub-{number}_space-MNI152_desc-lesion_mask.nii.gz", 0, top)


def bids(root: Path) -> None:
    table(root / "participants.tsv", "participant_id\tage", "sub-1\t60", "sub-2\t50")
    volume(root / "sub-1" / "ct" / "sub-1_ct.nii.gz", -1024, 2000)
    volume(root / "sub-2" / "anat" / "sub-2_mr.nii.gz", 0, 900)
    volume(root / "sub-2" / "anat" / "sub-2_seg_mask.nii.gz", 0, 3, np.uint8)


def any_table(root: Path) -> None:
    table(root / "t.csv", "patient_id,image", "1,a_ct.nii.gz", "2,b_ct.nii", "3,c.dcm", "4,d.dcm")
    volume(root / "a_ct.nii.gz", -1024, 2000)
    volume(root / "b_ct.nii", -1024, 300, np.float32)
    hu = RNG.integers(0, 3000, (20, 24)).astype(np.uint16)
    save(
        dicom_object(hu, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=80),
        root / "c.dcm",
    )
    save(dicom_object((hu // 24).astype(np.uint8), Modality="CR", BitsStored=7), root / "d.dcm")


def dicom(root: Path) -> None:
    for number in range(2):
        stack = RNG.integers(0, 3000, (6, 12, 10)).astype(np.uint16)
        for place, data in enumerate(
            slices(stack, AXIAL, RescaleSlope=1, RescaleIntercept=-1024, PatientID=str(number))
        ):
            save(data, root / f"ct{number}-{place}.dcm")
    film = RNG.integers(0, 4096, (30, 20)).astype(np.uint16)
    save(dicom_object(film, Modality="DX", BitsStored=12, PatientID="8"), root / "film.dcm")
    save(
        dicom_object(film, Modality="CR", BitsStored=12, PhotometricInterpretation="MONOCHROME1"), root / "inverted.dcm"
    )
    save(dicom_object(film, Modality="CR", WindowCenter=2000, WindowWidth=3000), root / "shown.dcm")


MAP = {"patient": "patient_id", "images": {"columns": "image", "modality": "CT", "window": "40,80;-600,1500"}}
CASES: dict[str, tuple[str, Callable[[Path], None], dict, dict]] = {
    "chestxray14": ("chestxray14", chestxray14, {}, {}),
    "chestxray14 by bits": ("chestxray14", chestxray14, {}, {"DX": "bits"}),
    "covid-chestxray": ("covid-chestxray", covid_chestxray, {"modality": "all"}, {"DX": "bits"}),
    "mimic-cxr": ("mimic-cxr", mimic_cxr, {}, {"other": "stored"}),
    "openi": ("openi", openi, {}, {}),
    "medpix": ("medpix", medpix, {}, {"CT": "40,80"}),
    "medpix uncropped": ("medpix", medpix, {"crop_footer": False}, {}),
    "soop": ("soop", soop, {}, {}),
    "bids": ("bids", bids, {"suffix": "ct,mr,mask"}, {"CT": "40,80"}),
    "table": ("table", any_table, {"map": MAP}, {}),
    "dicom": ("dicom", dicom, {}, {}),
    "dicom windowed": ("dicom", dicom, {"window": "40,400"}, {}),
    "dicom of many windows": ("dicom", dicom, {}, {"CT": "40,400;-600,1500;400,1800", "DX": "2000,3000", "CR": "bits"}),
}


def predicted(cohort: Cohort, row: int, root: Path, scratch: Path, plan: Plan) -> Cohort:
    """The file of an image of a cohort, read for a model that was trained on it."""
    image = cohort.study(int(cohort.image_study[row])).images[row - cohort.image_rows(int(cohort.image_study[row]))[0]]
    path = root / image.source
    if " and " in image.source:  # a series is handed over as a study folder
        name = image.source.split("-")[0]
        (scratch / name / "images").mkdir(parents=True)
        for file in root.glob(f"{name}-*.dcm"):
            shutil.copy(file, scratch / name / "images")
        path = scratch / name
    study, _ = read_study(path, plan)
    return cohort_from_studies([study], strict=True, **Preprocessing.from_dict(plan.preprocessing).arguments())


@pytest.mark.parametrize("name", CASES)
def test_what_is_predicted_is_what_is_stored(name: str, tmp_path: Path) -> None:
    source, make, options, intensity = CASES[name]
    root = tmp_path / "in"
    make(root)
    cohort = import_cohort(source, root, tmp_path / "out", options=options, intensity=intensity, **SIZES)
    assert cohort.meta["counts"]["rejected"] == 0, (tmp_path / "out" / "rejected.csv").read_text()
    plan = replace(PLAN, preprocessing=json.loads(json.dumps(join_preprocessing([cohort]))))
    for row in range(len(cohort.images)):
        ndim = cohort.pixels(row).ndim
        own = replace(plan, image_shape=cohort.shape(ndim))
        found = predicted(cohort, row, root, tmp_path / "scratch", own)
        np.testing.assert_array_equal(found.stored(0), cohort.stored(row))
        assert found.images["scale"][0] == cohort.images["scale"][row]
        np.testing.assert_array_equal(found.pixels(0), cohort.pixels(row))
        index, channels = int(cohort.images["index"][row]), Shown(cohort, ndim, own.intensity).shape[1]
        shown = [Shown(c, ndim, own.intensity, channels)[i] for c, i in ((found, 0), (cohort, index))]
        np.testing.assert_array_equal(*shown)


def test_one_file_of_two_modalities_is_refused_until_its_name_says_which(tmp_path: Path) -> None:
    bids(tmp_path / "in")
    options = {"suffix": "ct,mr"}
    cohort = import_cohort("bids", tmp_path / "in", tmp_path / "out", options=options, **SIZES)
    plan = replace(PLAN, preprocessing=join_preprocessing([cohort]), image_shape=(8, 24, 20))
    volume(tmp_path / "scan.nii.gz", -1024, 2000)
    with pytest.raises(InputError, match="modality of the image is unknown") as caught:
        read_study(tmp_path / "scan.nii.gz", plan)
    assert caught.value.expected.startswith("one of CT, MR as a word of the file's name, as in scan_ct.nii.gz")
    (tmp_path / "scan.nii.gz").rename(tmp_path / "scan_ct.nii.gz")
    assert read_study(tmp_path / "scan_ct.nii.gz", plan)[0].images[0].dicom_modality == "CT"


def test_two_ct_scans_show_one_tissue_in_one_gray_whatever_else_they_hold(tmp_path: Path) -> None:
    """A soft window on one CT of much bone and one of little: stretched scan by scan, they would differ."""
    for number, bone in enumerate((2, 40)):
        hu = np.full((6, 12, 10), 40)
        hu.reshape(-1)[: bone * 10], hu[5] = 1500, -1000
        stack = (hu + 1024).astype(np.uint16)
        for place, data in enumerate(
            slices(stack, CUBES, RescaleSlope=1, RescaleIntercept=-1024, PatientID=str(number))
        ):
            save(data, tmp_path / "in" / f"{number}-{place}.dcm")
    cohort = import_cohort(
        "dicom", tmp_path / "in", tmp_path / "out", intensity={"CT": "40,400"}, volume_size=(6, 12, 12)
    )
    assert (cohort.array(3).dtype, cohort.array(3).shape) == (np.uint16, (2, 1, 6, 12, 12))
    shown = Shown(cohort, 3, cohort.preprocessing.intensity)[:]
    tissue = cohort.array(3) == 1064
    assert (tissue.sum(axis=(1, 2, 3, 4)) > 20).all()
    np.testing.assert_allclose(shown[tissue], ((40 - 39.5) / 399 + 0.5) * 255, rtol=1e-5)


@pytest.mark.parametrize("kind", ["channels", "folder", "pages"])
def test_pictures_that_are_parts_are_predicted_as_they_are_stored(kind: str, tmp_path: Path) -> None:
    """Colour channels with names of their own; slices of a volume, in a folder or as pages of one file."""
    root, scratch = tmp_path / "in", tmp_path / "scratch" / "case"
    stack = RNG.integers(0, 255, (11, 12, 10)).astype(np.uint8)
    images: dict[str, object] = {"columns": "image"}
    if kind == "channels":
        draw(root / "a.png", RNG.integers(0, 255, (50, 36, 3)).astype(np.uint8))
        images["channels"] = ["t1", "flair", "t1c"]
    else:
        images["volume"] = {"spacing_mm": [3, 1, 1]}
        for n, plane in enumerate(stack):
            draw(root / "a" / f"{n}.png", plane)
    if kind == "pages":
        pages = [Pillow.fromarray(plane) for plane in stack]
        pages[0].save(root / "a.tif", save_all=True, append_images=pages[1:])
    name = {"channels": "a.png", "folder": "a", "pages": "a.tif"}[kind]
    table(root / "t.csv", "patient_id,image", f"1,{name}")
    options = {"map": {"patient": "patient_id", "images": images}}
    cohort = import_cohort("table", root / "t.csv", tmp_path / "out", options=options, **SIZES)
    plan = replace(PLAN, preprocessing=json.loads(json.dumps(join_preprocessing([cohort]))))
    plan = replace(plan, image_shape=cohort.shape(2 if kind == "channels" else 3))
    if kind == "folder":
        shutil.copytree(root / "a", scratch / "images")
    study, _ = read_study(scratch if kind == "folder" else root / name, plan)
    found = cohort_from_studies([study], strict=True, **Preprocessing.from_dict(plan.preprocessing).arguments())
    np.testing.assert_array_equal(found.stored(0), cohort.stored(0))
