"""Any BIDS folder: sessions, suffixes, sidecars, a chart whose columns are guessed and whose time is unknown."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from chiasm.cohort.imports import import_cohort
from chiasm.errors import InputError, TableError
from chiasm.sources.bids import read
from chiasm.study import Kind, Study

TABLE = """participant_id\tage\tsex\thand\tscore\tcode\tcomment\tdied\tgrade
sub-01\t61\tF\tright\t3.5\t1\tfirst words of it\tyes\t2
sub-02\t89+\tM\tn/a\t4\t2\tsecond words of it\tno\tn/a
sub-03\t45\tF\tleft\tn/a\t1\tn/a\tn/a\t3
"""


def volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, 2, 2, 1])), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """sub-01 has two sessions, one with two suffixes; sub-02 one image without session; sub-03 none; sub-04 no row."""
    random = np.random.default_rng(0)
    (tmp_path / "participants.tsv").write_text(TABLE)
    (tmp_path / "participants.json").write_text(json.dumps({"code": {"Levels": {"1": "a", "2": "b"}}, "age": {}}))
    for name in (
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-x_FLAIR.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "sub-04/pet/sub-04_T1w.nii.gz",
        "derivatives/tool/sub-01/ses-a/sub-01_ses-a_space-MNI_T1w.nii.gz",
    ):
        volume(tmp_path / name, random.integers(0, 900, (5, 6, 7)).astype(np.int16))
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[0] = 1
    volume(tmp_path / "derivatives/tool/sub-01/ses-a/sub-01_ses-a_desc-lesion_mask.nii.gz", mask)
    volume(tmp_path / "derivatives/tool/sub-02/sub-02_desc-brain_mask.nii.gz", mask)
    return tmp_path


def studies_of(root: Path, **options: object) -> dict[str, Study]:
    return {item.study_id: item for item in read(root, **options) if isinstance(item, Study)}  # type: ignore[arg-type]


def test_a_session_is_a_study_of_its_participant(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    studies = studies_of(root, suffix="T1w,FLAIR")
    assert list(studies) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02", "sub-03", "sub-04"]
    assert [study.patient_id for study in studies.values()] == ["sub-01", "sub-01", "sub-02", "sub-03", "sub-04"]
    names = {key: [image.name for image in study.images] for key, study in studies.items()}
    assert list(names.values()) == [["T1w", "FLAIR"], ["T1w"], ["T1w"], [], ["T1w"]]
    first = studies["sub-01_ses-a"].images[0]
    assert first.source == "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"  # raw, not the derived one
    assert (first.pixels.shape, first.geometry.spacing_mm) == ((7, 6, 5), (2.0, 2.0, 2.0))
    assert "1 participants have images and no row" in caplog.text
    assert studies["sub-01_ses-b"].record == studies["sub-01_ses-a"].record
    record = studies["sub-04"].record
    assert record is not None and set(record.values.values()) == {None}


def test_the_chart_is_typed_and_of_unknown_time_unless_named(root: Path, sort_out: Callable) -> None:
    studies, rejected = sort_out(read(root, suffix="T1w", outcomes="died:binary,grade:ordinal:scale", record=["score"]))
    record = studies["sub-01_ses-a"].record
    assert record.values == {
        "age_years": 61.0,
        "sex": "f",
        "hand": "right",
        "score": 3.5,
        "code": "1",  # participants.json says that it is a code
        "comment": "first words of it",
    }
    assert record.unknown_time == {"hand", "code", "comment"}
    assert studies["sub-02"].record.values["age_years"] == 89
    assert studies["sub-02"].record.values["hand"] is None
    assert rejected == {"participants.tsv: row 3, column age": "'89+' is an open-ended age: kept as 89"}
    outcomes = {o.name: (o.target, o.kind, o.value) for o in studies["sub-01_ses-b"].outcomes}
    assert outcomes == {"died": ("outcome", Kind.BINARY, 1.0), "grade": ("scale", Kind.ORDINAL, 2.0)}
    assert {o.name: o.value for o in studies["sub-03"].outcomes} == {"died": None, "grade": 3.0}


def test_a_column_of_many_words_is_left_out_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"sub-x{i}\t{i % 80}\tsome note number {i}\tn/a" for i in range(120)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tnote\tempty", *rows]) + "\n")
    study = next(s for s in studies_of(root, suffix="T1w").values())
    assert study.record is not None and list(study.record.values) == ["age_years"]
    assert "column note is left out: a text" in caplog.text
    assert "column empty is left out: no value" in caplog.text
    assert "number 7" not in caplog.text


def test_a_suffix_may_name_entities_and_a_mask_is_full_scale(root: Path, tmp_path: Path) -> None:
    studies = studies_of(root, suffix="desc-lesion_mask")
    assert {key: len(study.images) for key, study in studies.items()}["sub-02"] == 0
    (image,) = studies["sub-01_ses-a"].images
    assert (image.name, image.dicom_modality) == ("mask", "SEG")
    assert (image.pixels != 0).mean() == 1 / 5
    cohort = import_cohort("bids", root, tmp_path / "c", volume_size=(8, 8, 8), options={"suffix": "mask"})
    assert cohort.images["name"].tolist() == ["mask", "mask"]
    assert cohort.array(3).max() == 255
    assert cohort.meta["options"]["suffix"] == "mask"


def test_sidecars_are_inherited_and_the_nearest_wins(root: Path) -> None:
    def modality(name: str) -> str:
        return {i.source: i.dicom_modality for s in studies_of(root, suffix="T1w").values() for i in s.images}[name]

    plain, other = "sub-02/anat/sub-02_T1w.nii", "sub-04/pet/sub-04_T1w.nii.gz"
    assert (modality(plain), modality(other)) == ("MR", "PT")
    (root / "T1w.json").write_text('{"Modality": "XA"}')
    assert (modality(plain), modality(other)) == ("XA", "XA")
    (root / "ses-b_T1w.json").write_text('{"Modality": "OT"}')  # not of these images
    (root / "sub-02" / "anat" / "sub-02_T1w.json").write_text('{"Modality": "US"}')
    assert (modality(plain), modality(other)) == ("US", "XA")
    (root / "T1w.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        modality(plain)


def test_without_participants_the_folders_tell_who_there_is(root: Path) -> None:
    (root / "participants.tsv").unlink()
    studies = studies_of(root, suffix="T1w")
    assert list(studies) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02", "sub-04"]
    assert all(study.record is None for study in studies.values())


def test_an_id_without_its_prefix_is_the_same_participant(root: Path) -> None:
    (root / "participants.tsv").write_text(TABLE.replace("sub-", ""))
    assert [len(study.images) for study in studies_of(root, suffix="T1w").values()] == [1, 1, 1, 0, 1]


def test_wrong_options_say_what_there_is(root: Path) -> None:
    for suffix in ("bold", ""):
        with pytest.raises(InputError, match="no image has the suffix") as caught:
            list(read(root, suffix=suffix))
        assert "T1w (5 files)" in caught.value.expected
    with pytest.raises(TableError, match="there is no column dead"):
        list(read(root, suffix="T1w", outcomes="dead:binary"))
    with pytest.raises(TableError, match="kind"):
        list(read(root, suffix="T1w", outcomes="died:yesno"))
    with pytest.raises(TableError, match="nowhere"):
        list(read(root, suffix="T1w", record="nowhere"))
    (root / "participants.tsv").write_text("person\tage\na\t1\n")
    with pytest.raises(InputError, match="participant"):
        list(read(root, suffix="T1w"))
    with pytest.raises(InputError, match="not there"):
        list(read(root / "none", suffix="T1w"))


def test_a_bad_volume_costs_one_image(root: Path, sort_out: Callable) -> None:
    (root / "sub-02/anat/sub-02_T1w.nii").write_bytes(b"x")
    volume(root / "sub-04/pet/sub-04_T1w.nii.gz", np.zeros((3, 3, 3, 5), np.int16))
    studies, rejected = sort_out(read(root, suffix="T1w"))
    assert not studies["sub-02"].images and not studies["sub-04"].images
    assert sum("cannot be read" in why or "no single volume" in why for why in rejected.values()) == 2


def test_the_real_one(shared_data: Path) -> None:
    from itertools import islice

    items = islice(
        read(shared_data / "soop", suffix="desc-triplanar_FLAIR", outcomes="gs_rankin_6isdeath:ordinal:mrs"), 80
    )
    studies = [item for item in items if isinstance(item, Study)]
    pictured = [study for study in studies if study.images]
    assert pictured and all(study.images[0].pixels.shape == (189, 497) for study in pictured)
    assert {study.images[0].name for study in pictured} == {"FLAIR"}
    assert {o.target for study in studies for o in study.outcomes} == {"mrs"}
    assert all(study.record is not None and "nihss" in study.record.unknown_time for study in studies)
