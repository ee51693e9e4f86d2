"""SOOP on a tree as it is published, small in people but not in voxels; and on the real one."""

import gzip
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.errors import ImageError, InputError, TableError
from chiasm.sources.soop import NOTES, cut_planes, read
from chiasm.study import Kind, Study

AFFINE = np.array([[-1.0, 0, 0, 78], [0, 1, 0, -112], [0, 0, 1, -50], [0, 0, 0, 1]])  # index 0 is the patient's right
HEADER = "participant_id\tsex\tage\trace\tacuteischaemicstroke\tpriorstroke\tbmi\tnihss\tgs_rankin_6isdeath\tetiology"
PEOPLE = (
    'sub-1\tF\t89+\tw\t1\t0\t22.5\t17\t3\t"5: Cryptogenic Stroke"',
    "sub-2\tM\t60\tb\t1\t1\tn/a\t2\t2\tn/a",
    "sub-3\t" + "\t".join(["n/a"] * 9),
    "sub-4\t" + "\t".join(["n/a"] * 9),
    "sub-5\tM\t50\tn/a\t1\t0\t30\t5\t6\t4: Stroke of other determined etiology",
)
LEFT, RIGHT = slice(110, 120), slice(30, 40)  # along the first axis of the file


def write_nifti(path: Path, values: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(values, AFFINE).to_bytes(), 1))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sub-1: 10 x 20 x 30 mm on the left, bright on FLAIR; sub-2: one voxel on the right, int16; sub-3: only a mask."""
    root = tmp_path_factory.mktemp("soop")
    (root / "participants.tsv").write_text("\n".join([HEADER, *PEOPLE]) + "\n")
    brain = np.zeros((157, 189, 136), np.int16)
    brain[79:150, 20:170, 10:130], brain[5:79, 20:170, 10:130] = 7, 8
    write_nifti(root / "atlas" / "Atlas.nii.gz", brain)
    names = [f"{n}|X|some branches {('right', 'left')[n % 2]}|1" for n in range(1, 31)]
    names += ["31|LV|lateral ventricle left|9", "32|LV|lateral ventricle right|9"]
    (root / "atlas" / "Atlas.txt").write_text("\n".join(names) + "\n")
    wide, tiny, third = (np.zeros(brain.shape, kind) for kind in (np.uint8, np.int16, np.uint8))
    wide[LEFT, 85:105, 60:90] = 1
    tiny[35, 50, 100] = 1
    third[RIGHT, 85:105, 60:90] = 1
    for number, mask in enumerate((wide, tiny, third), start=1):
        name = f"sub-{number}"
        write_nifti(root / "derivatives" / "lesion_masks" / name / f"{name}_space-MNI152_desc-lesion_mask.nii.gz", mask)
        picture = np.random.default_rng(number).integers(95, 105, (189, 497)).astype(np.uint8)
        if number == 1:  # x = -41 .. -32 is 37 .. 46 from the left; y from behind, z from below, top down
            picture[189 - 105 : 189 - 85, 37:47] = 200
            picture[189 - 90 : 189 - 60, 346 + 37 : 346 + 47] = 200
            picture[189 - 90 : 189 - 60, 157 + 85 : 157 + 105] = 200
        file = root / "derivatives" / "flair_slices" / name / f"{name}_space-MNI152_desc-triplanar_FLAIR.png"
        file.parent.mkdir(parents=True)
        Pillow.fromarray(picture).save(file)
    return root


@pytest.fixture(scope="module")
def studies(root: Path) -> dict[str, Study]:
    return {item.study_id: item for item in read(root) if isinstance(item, Study)}


def test_who_is_taken_and_who_is_not(root: Path, sort_out: Callable) -> None:
    studies, rejected = sort_out(read(root))
    assert list(studies) == ["sub-1", "sub-2", "sub-3", "sub-5"]
    assert [len(study.images) for study in studies.values()] == [4, 4, 4, 0]
    assert rejected == {
        "participants.tsv: row 2, column age": "'89+' is an open-ended age: kept as 89",
        "participants.tsv: row 5": "neither a lesion mask nor a value in any column",
    }


def test_chart_and_outcomes(studies: dict[str, Study]) -> None:
    record = studies["sub-1"].record
    assert record is not None
    assert record.values == {
        "age_years": 89.0,
        "sex": "f",
        "race": "w",
        "acute_ischaemic_stroke": 1.0,
        "prior_stroke": 0.0,
        "bmi_kg_m2": 22.5,
        "nihss": 17.0,
        "etiology": "5: Cryptogenic Stroke",
    }
    assert record.unknown_time == {"etiology"}
    said = {name: {o.name: (o.target, o.kind, o.value) for o in study.outcomes} for name, study in studies.items()}
    assert said["sub-1"] == {
        "mrs_gt_2": ("outcome", Kind.BINARY, 1.0),
        "mrs": ("mrs", Kind.ORDINAL, 3.0),
        "nihss": ("nihss", Kind.REGRESSION, 17.0),
    }
    assert said["sub-2"]["mrs_gt_2"][2] == 0  # 2 is not above 2
    assert said["sub-5"]["mrs_gt_2"][2] == 1  # 6 is death
    assert {value for *_, value in said["sub-3"].values()} == {None}
    assert studies["sub-3"].record is None


def test_left_is_left_in_facts_and_pictures(studies: dict[str, Study]) -> None:
    facts = studies["sub-1"].facts
    assert facts["hemisphere"] == "left"
    assert facts["lesion_volume_ml"] == pytest.approx(6.0)
    assert facts["territory_7_share"] == 1
    assert facts["midline_distance_mm"] == 32  # index 110 of the file is x = -32
    assert facts["flair_visible"] == "axial, sagittal, coronal"
    assert facts["flair_contrast"] > 20  # type: ignore[operator]
    assert studies["sub-2"].facts["hemisphere"] == studies["sub-3"].facts["hemisphere"] == "right"
    assert studies["sub-2"].facts["flair_visible"] == "not visible"
    assert studies["sub-2"].facts["foci"] == 1
    assert abs(studies["sub-3"].facts["flair_contrast"]) < 1  # type: ignore[arg-type]


def test_the_mask_comes_first_and_the_planes_are_its_neighbours(studies: dict[str, Study], root: Path) -> None:
    images = studies["sub-1"].images
    assert [image.name for image in images] == ["lesion-mask", "FLAIR axial", "FLAIR sagittal", "FLAIR coronal"]
    assert [image.dicom_modality for image in images] == ["SEG", "MR", "MR", "MR"]
    assert images[0].pixels.shape == (136, 189, 157)
    assert set(np.unique(images[0].pixels)) == {0, 1}
    inside = np.argwhere(images[0].pixels)  # superior, anterior, right: the first column is the patient's left
    assert inside.min(axis=0).tolist() == [60, 85, 37]
    corner = np.reshape(images[0].geometry.affine, (4, 4)) @ [60, 85, 37, 1]
    np.testing.assert_allclose(corner[:3], AFFINE[:3] @ [119, 85, 60, 1])
    for image in images[1:]:
        assert (
            np.sum(image.pixels > 150) == {"FLAIR axial": 200, "FLAIR sagittal": 600, "FLAIR coronal": 300}[image.name]
        )
    assert [len(study.images) for study in read(root, flair=False) if isinstance(study, Study)] == [1, 1, 1, 0]


def test_even_one_voxel_survives_the_store(root: Path, tmp_path: Path) -> None:
    cohort = import_cohort("soop", root, tmp_path / "c", size=32, volume_size=(48, 64, 56))
    assert cohort.notes == NOTES and "lesion-mask" in cohort.notes[0]
    masks = cohort.images[cohort.images["name"] == "lesion-mask"]
    stored = cohort.array(3)[masks["index"]]
    geometry = cohort.geometry(int(masks.index[0]))
    cell_ml = 1e-3 / np.prod(geometry.scale)
    volumes_ml = stored.astype(float).sum(axis=(1, 2, 3, 4)) / 255 * cell_ml
    np.testing.assert_allclose(volumes_ml[[0, 2]], 6.0, rtol=0.01)  # a cell holds its share of the lesion
    assert 0.0005 < volumes_ml[1] < 0.0015  # one voxel of 1 mm3, rounded to 1/255 a cell
    assert cohort.study(0).facts["lesion_volume_ml"] == pytest.approx(6.0)


def test_without_an_atlas_the_rest_is_measured(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "participants.tsv").write_text("\n".join([HEADER, PEOPLE[0]]) + "\n")
    (tmp_path / "derivatives").symlink_to(root / "derivatives")
    (study,) = (item for item in read(tmp_path) if isinstance(item, Study))
    assert "no atlas" in caplog.text
    assert study.facts["hemisphere"] == "left"
    assert study.facts["flair_contrast"] is None
    assert "territory_7_share" not in study.facts


def test_an_atlas_that_counts_otherwise_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("\n".join([HEADER, PEOPLE[0]]) + "\n")
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "Atlas.nii.gz").symlink_to(root / "atlas" / "Atlas.nii.gz")
    for line in ("7|X|frontal branches right|1", "40|X|somewhere left|1", "x"):
        (tmp_path / "atlas" / "Atlas.txt").write_text(line + "\n")
        with pytest.raises(TableError, match="another way"):
            list(read(tmp_path))
    (tmp_path / "atlas" / "Atlas.txt").unlink()
    (tmp_path / "atlas" / "Atlas.nii.gz").unlink()
    write_nifti(tmp_path / "atlas" / "Atlas.nii.gz", np.full((4, 4, 4), 77, np.int16))
    with pytest.raises(ImageError, match="no atlas"):
        list(read(tmp_path))


def test_damage_costs_one_image(root: Path, tmp_path: Path, sort_out: Callable) -> None:
    (tmp_path / "participants.tsv").write_text("\n".join([HEADER, PEOPLE[1], PEOPLE[2]]) + "\n")
    for name, values in (("sub-2", None), ("sub-3", np.zeros((9, 9, 9), np.uint8))):
        file = tmp_path / "derivatives" / "lesion_masks" / name / f"{name}_desc-lesion_mask.nii.gz"
        file.parent.mkdir(parents=True)
        if values is None:
            file.write_bytes(b"not a volume")
        else:
            write_nifti(file, values)
    studies, rejected = sort_out(read(tmp_path))
    assert [len(study.images) for study in studies.values()] == [0]  # sub-2 keeps its chart
    assert any("cannot be read" in reason for reason in rejected.values())
    assert any("empty" in reason for reason in rejected.values())
    Pillow.new("L", (100, 100)).save(tmp_path / "small_FLAIR.png")
    with pytest.raises(ImageError, match="usual size"):
        cut_planes(tmp_path / "small_FLAIR.png")
    with pytest.raises(InputError, match="not there"):
        list(read(tmp_path / "nowhere"))


def test_the_real_one(shared_data: Path) -> None:
    root = shared_data / "soop"
    items = list(islice(read(root), 40))
    studies = [item for item in items if isinstance(item, Study)]
    measured = [study.facts for study in studies if study.images]
    assert len(measured) > 20
    for facts in measured:
        territories = sum(facts[f"territory_{n}_share"] for n in range(1, 31))  # type: ignore[misc]
        shares = [facts[f"{name}_share"] for name in ("cortical", "subcortical", "infratentorial")]
        assert sum(shares) == pytest.approx(territories)  # type: ignore[arg-type]
        left = sum(facts[f"territory_{n}_share"] for n in range(1, 31, 2))  # type: ignore[misc]
        side = {"left": left > 0.8 * territories, "right": left < 0.2 * territories, "both": True}
        assert side[str(facts["hemisphere"])]  # the atlas and the sign of x agree on what is left
    hidden = ["axial" not in str(facts["flair_visible"]) for facts in measured]
    assert 0.2 < np.mean(hidden) < 0.6  # of all 942 lesions, .40 meet no axial plane
    nowhere = [facts for facts in measured if facts["flair_visible"] == "not visible"]
    assert nowhere and all(facts["flair_contrast"] is None for facts in nowhere)
    bright = [facts["flair_contrast"] for facts in measured if facts["flair_contrast"] is not None]
    assert np.median(bright) > 0.7  # the lesion lies where FLAIR is bright: picture and mask are aligned
