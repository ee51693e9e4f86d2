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
    assert "1 studies have no row in participants.tsv" in caplog.text
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
        "code": "a",  # participants.json says what the code 1 means
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
    assert "column note is left out: identifiers or texts" in caplog.text
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
    (root / "T1w.json").write_text("{")  # costs what it would have said, and no image
    assert modality(plain) == "MR"
    notes = [note for s in studies_of(root, suffix="T1w").values() for i in s.images for note in i.notes]
    assert notes and {(note.where, note.taken) for note in notes} == {("T1w.json", True)}
    (root / "participants.json").write_text("{")  # may say that ages are months, so nothing can be read without it
    with pytest.raises(InputError, match="JSON"):
        studies_of(root, suffix="T1w")


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
    assert sum("cannot be read" in why or "several volumes" in why for why in rejected.values()) == 2


# --- charts by session --------------------------------------------------------------------------------------------------


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """Two participants with two sessions each."""
    for who in ("01", "02"):
        for session in ("1", "2"):
            name = f"sub-{who}_ses-{session}_T1w.nii.gz"
            volume(tmp_path / f"sub-{who}/ses-{session}/anat" / name, np.ones((3, 3, 3), np.int16))
    return tmp_path


def chart(root: Path, **options: object) -> dict[str, dict[str, object]]:
    found = studies_of(root, suffix="T1w", **options)
    return {
        key: dict(s.record.values if s.record else {}) | {o.name: o.value for o in s.outcomes}
        for key, s in found.items()
    }


def write(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row.replace(" ", "\t") for row in rows) + "\n")


WANTED = {f"sub-0{n}_ses-{s}": {"age_years": 40.0 + 10 * s + n, "score": 3.0 * s} for n in (1, 2) for s in (1, 2)}


@pytest.mark.parametrize("layout", ["participants", "prefixed", "zeros", "sessions", "phenotype", "mixed"])
def test_what_is_keyed_by_session_is_joined_by_session(layout: str, visits: Path) -> None:
    rows = [f"{key.replace('_', ' ')} {int(v['age_years'])} {int(v['score'])}" for key, v in WANTED.items()]
    if layout in ("participants", "prefixed", "zeros"):
        bare = [row if layout == "prefixed" else row.replace("sub-", "").replace("ses-", "") for row in rows]
        bare = [row.removeprefix("0") if layout == "zeros" else row for row in bare]  # a spreadsheet ate them
        named = "session" if layout == "zeros" else "session_id"
        write(visits / "participants.tsv", f"participant_id {named} age score", *bare[::-1])
    elif layout == "phenotype":
        write(visits / "participants.tsv", "participant_id", "sub-01", "sub-02")
        write(visits / "phenotype" / "moca.tsv", "participant_id session_id age score", *rows)
    else:
        write(visits / "participants.tsv", "participant_id age", "sub-01 99", "sub-02 99")
        for who in ("sub-01", "sub-02"):
            mine = [row.removeprefix(f"{who} ") for row in rows if row.startswith(who)]
            columns = "session_id age score" if layout == "sessions" else "session_id age"
            write(
                visits / who / f"{who}_sessions.tsv",
                columns,
                *(mine if layout == "sessions" else [row.rpartition(" ")[0] for row in mine]),
            )
        if layout == "mixed":
            scores = [f"{row.split()[0]} {row.split()[1]} {row.split()[3]}" for row in rows]
            write(visits / "phenotype" / "moca.tsv", "participant_id session_id score", *scores)
    found = chart(visits, outcomes="score:regression")
    assert found == WANTED
    assert list(found) == sorted(found) or layout in ("participants", "prefixed", "zeros")


def test_a_session_without_a_row_of_its_own_has_no_chart_of_another(
    visits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(visits / "participants.tsv", "participant_id session_id age", "sub-01 ses-1 51", "sub-02 ses-9 60")
    assert {key: v["age_years"] for key, v in chart(visits).items()} == {
        "sub-01_ses-1": 51,
        "sub-01_ses-2": None,
        "sub-02_ses-1": None,
        "sub-02_ses-2": None,
        "sub-02_ses-9": 60,
    }
    assert "3 studies have no row in participants.tsv" in caplog.text


def test_rows_of_one_session_that_disagree_are_skipped_and_said(visits: Path, sort_out: Callable) -> None:
    write(visits / "participants.tsv", "participant_id age sex", "sub-01 51 F", "sub-01 52 F", "sub-02 60 M")
    studies, rejected = sort_out(read(visits, suffix="T1w"))
    assert studies["sub-01_ses-1"].record.values == {"age_years": None, "sex": "f"}
    assert rejected == {"participants.tsv, column age": "rows 2, 3 are one session and do not agree: all are skipped"}


# --- what participants.json and the cells say of an age ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "cell", "years"),
    [
        ("months", "18", 1.5),
        ("month", "6", 0.5),
        ("Weeks", "52.178571", 1.0),
        ("days", "730.5", 2.0),
        ("years", "41", 41.0),
        ("", "41", 41.0),
        ("months", "3 years", 3.0),  # a cell that says its own unit
    ],
)
def test_the_unit_of_an_age_is_read(unit: str, cell: str, years: float, root: Path) -> None:
    (root / "participants.tsv").write_text(f"participant_id\tage\nsub-01\t{cell}\nsub-02\t{cell}\n")
    (root / "participants.json").write_text(json.dumps({"age": {"Units": unit} if unit else {}}))
    assert chart(root)["sub-02"]["age_years"] == pytest.approx(years)


def test_an_age_in_a_unit_that_is_none_is_a_plain_number_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\nsub-02\t4\n")
    (root / "participants.json").write_text(json.dumps({"age": {"Units": "decile of the cohort"}}))
    assert chart(root)["sub-02"] == {"age_in_other_unit": 4}
    assert "in a unit that is no age" in caplog.text


@pytest.mark.parametrize("band", ["35-40", "35 - 40", "35–40", "[35,40)", "35 to 40", "35-40 years", "<35", "30s"])
def test_bands_of_age_are_missing_and_said_and_do_not_end_the_import(band: str, root: Path, sort_out: Callable) -> None:
    (root / "participants.tsv").write_text(f"participant_id\tsex\tage\nsub-01\tM\t{band}\nsub-02\tF\t{band}\n")
    studies, rejected = sort_out(read(root, suffix="T1w"))
    assert studies["sub-02"].record.values == {"age_years": None, "sex": "f"}
    assert [where for where, why in rejected.items() if "band of ages" in why] == [
        "participants.tsv: row 2, column age",
        "participants.tsv: row 3, column age",
    ]


# --- files --------------------------------------------------------------------------------------------------------------


def test_linked_folders_and_files_are_followed_and_a_lost_link_is_said(tmp_path: Path, sort_out: Callable) -> None:
    """A dataset of datalad: a subject that is another dataset, files that are links into an annex."""
    root, store = tmp_path / "b", tmp_path / "store"
    write(root / "participants.tsv", "participant_id age", "sub-01 50", "sub-02 51", "sub-03 52")
    volume(store / "sub-01/anat/sub-01_T1w.nii.gz", np.ones((3, 3, 3), np.int16))
    (root / "sub-01").symlink_to(store / "sub-01")
    volume(root / ".git/annex/objects/ab/key.nii.gz", np.ones((3, 3, 3), np.int16))
    for who, key in (("sub-02", "key"), ("sub-03", "lost")):
        (root / who / "anat").mkdir(parents=True)
        (root / who / "anat" / f"{who}_T1w.nii.gz").symlink_to(root / f".git/annex/objects/ab/{key}.nii.gz")
    (root / "sub-02" / "loop").symlink_to(root / "sub-02")
    studies, rejected = sort_out(read(root, suffix="T1w"))
    assert {key: len(study.images) for key, study in studies.items()} == {"sub-01": 1, "sub-02": 1, "sub-03": 0}
    (why,) = rejected.values()
    assert "sub-03_T1w.nii.gz" in why and "datalad get" in why


def test_runs_parts_and_spaces_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "participants.tsv", "participant_id age", "sub-01 50", "sub-02 51")
    for name in (
        "sub-01/anat/sub-01_acq-fast_run-1_T1w",
        "sub-01/anat/sub-01_acq-fast_run-2_T1w",
        "sub-02/anat/sub-02_run-1_T1w",
        "sub-01/anat/sub-01_part-mag_T2starw",
        "sub-01/anat/sub-01_part-phase_T2starw",
        "derivatives/p/sub-01/anat/sub-01_space-MNI_desc-preproc_FLAIR",
        "derivatives/p/sub-01/anat/sub-01_space-T1w_desc-preproc_FLAIR",
        "sub-02/anat/sub-02_part-phase_bold",
    ):
        volume(tmp_path / f"{name}.nii.gz", np.ones((3, 3, 3), np.int16))
    studies = studies_of(tmp_path, suffix="T1w,T2starw,FLAIR,bold")
    names = {key: [image.name for image in study.images] for key, study in studies.items()}
    assert names == {
        "sub-01": ["run-1_T1w", "run-2_T1w", "T2starw", "part-phase_T2starw", "space-MNI_FLAIR", "space-T1w_FLAIR"],
        "sub-02": ["run-1_T1w", "part-phase_bold"],
    }


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


def test_dates_and_identifiers_of_a_chart_are_left_out_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"sub-x{i}\t{i % 80}\t2020-01-{i % 28 + 1:02}\tAC{i}-{i}" for i in range(60)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tscanned\taccession", *rows]) + "\n")
    study = next(s for s in studies_of(root, suffix="T1w").values())
    assert study.record is not None and list(study.record.values) == ["age_years"]
    assert "column scanned is left out: dates" in caplog.text
    assert "column accession is left out: identifiers" in caplog.text
