"""docs/dicom.md and docs/bids.md: what their examples say comes of them."""

import re
from pathlib import Path

import nibabel
import numpy as np
from dicom_files import dicom_object, save

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.skipped import read_skipped
from chiasm.formats.reading import LIMIT, most_bytes
from chiasm.sources.bids import SOURCE as BIDS

DOCS = Path(__file__).parents[1] / "docs"


def test_the_labels_of_the_page_are_joined_to_their_studies(tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", (DOCS / "dicom.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "labels.csv").write_text(table)
    for number in (1, 2, 3):
        given = {"AccessionNumber": f"A{number}", "PatientID": str(number), "PatientSex": "F"}
        save(dicom_object(np.full((20, 20), number, np.uint8), **given), tmp_path / "scans" / f"{number}")
    options = {"labels": tmp_path / "labels.csv"}
    cohort = import_cohort("dicom", tmp_path / "scans", tmp_path / "out", size=32, options=options)
    studies = {study.images[0].source: study for study in (cohort.study(row) for row in range(3))}
    assert [f.state.value for f in studies["1"].findings] == ["present"]
    assert [f.state.value for f in studies["2"].findings] == ["absent"]
    assert studies["3"].report is None
    records = [studies[n].record.values for n in "12" if studies[n].record]
    assert records == [{"age_years": 64, "sex": "f"}, {"age_years": 41, "sex": "f"}]
    assert [(item.where, item.taken) for item in read_skipped(cohort.path)] == [("3", True)]


def test_the_limit_of_the_page_is_the_one_that_holds(monkeypatch) -> None:
    page = (DOCS / "dicom.md").read_text("utf-8")
    monkeypatch.delenv(LIMIT, raising=False)
    assert f"more than {most_bytes() / 2**30:g} GB" in page and LIMIT in page


def test_the_participants_of_the_page_make_the_studies_that_it_says(tmp_path: Path) -> None:
    page = (DOCS / "bids.md").read_text("utf-8")
    (table,) = re.findall(r"```tsv\n(.*?)```", page, re.DOTALL)
    root = tmp_path / "dataset"
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"):
        path = root / name.replace("_", "/") / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(np.arange(27, dtype=np.int16).reshape(3, 3, 3), np.eye(4)), path)
    (root / "participants.tsv").write_text(table)
    options = {"suffix": "T1w", "outcomes": "score:regression"}
    cohort = import_cohort("bids", root, tmp_path / "out", volume_size=(4, 4, 4), options=options)
    studies = [cohort.study(row) for row in range(3)]
    assert {study.patient_id for study in studies} == {"sub-01", "sub-02"}
    assert [study.outcomes[0].value for study in studies] == [3, 6, 4]
    assert [study.record.values["age_years"] for study in studies if study.record] == [51, 52, None]
    (band,) = read_skipped(cohort.path)
    assert band.where == "participants.tsv: row 4, column age" and "band" in band.reason
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(BIDS.options)
