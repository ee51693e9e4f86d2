"""MS-CXR beside MIMIC-CXR, on a tree of two patients."""

import json

import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import InputError, TableError
from chiasm.sources.ms_cxr import read

HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
ROWS = [
    ("aa", "Pneumothorax", "small right apical pneumothorax", 100, 40, 200, 80),
    ("aa", "Pneumothorax", "small right apical pneumothorax", 500, 40, 100, 80),
    ("bb", "Lung Opacity", "opacity, left base", 0, 600, 1000, 600),
    ("lost", "Edema", "edema", 0, 0, 10, 10),
]
SIZE = (1200, 1000)  # width and height of the frame; the files are 12 x 10


@pytest.fixture
def tree(tmp_path, picture):
    for patient, study, image in (
        ("10000001", "50001", "aa"),
        ("11000002", "50002", "bb"),
        ("11000002", "50003", "cc"),
    ):
        home = tmp_path / "files" / f"p{patient[:2]}" / f"p{patient}"
        picture(home / f"s{study}" / f"{image}.jpg", 10, 12)
        (home / f"s{study}.txt").write_text("FINDINGS: Small right apical pneumothorax.")
    return tmp_path


def as_table(tree, rows=ROWS, header=HEADER):
    lines = [
        f'{i},{c},"{text}",files/{i}.jpg,{x},{y},{w},{h},{SIZE[0]},{SIZE[1]},test' for i, c, text, x, y, w, h in rows
    ]
    (tree / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text("\n".join([header, *lines]))


def as_coco(tree):
    names, ids = sorted({row[1] for row in ROWS}), sorted({row[0] for row in ROWS})
    content = {
        "images": [{"id": n, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]} for n, i in enumerate(ids)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {"image_id": ids.index(i), "category_id": names.index(c), "label_text": text, "bbox": box}
            for i, c, text, *box in ROWS
        ],
    }
    (tree / "MS_CXR_Local_Alignment_v1.1.0.json").write_text(json.dumps(content))


@pytest.mark.parametrize("write", [as_table, as_coco])
def test_a_box_is_a_region_with_its_phrase_in_pixels_of_the_file(tree, sort_out, write):
    write(tree)
    studies, rejected = sort_out(read(tree, label_from="none"))
    first, second = studies["50001"].regions
    assert (first.label, first.phrase, first.image_id, first.reader) == ("pneumothorax", ROWS[0][2], "aa", "ms-cxr")
    assert first.box == pytest.approx((1, 0.4, 3, 1.2))
    assert second.box == pytest.approx((5, 0.4, 6, 1.2))
    (opacity,) = studies["50002"].regions
    assert opacity.label == "lung_opacity"
    assert opacity.box == pytest.approx((0, 6, 10, 10)), "cut where the image ends"
    assert studies["50003"].regions == ()
    assert list(rejected.values()) == ["the image of the box is not there"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("aa", "", "text", 1, 1, 1, 1), "the image, the category or the phrase is missing"),
        (("aa", "Edema", "text", "x", 1, 1, 1), "the box or the size of its image is no number"),
        (("aa", "Edema", "text", 1, 1, 0, 1), "the box lies outside the image or has no area"),
        (("aa", "Edema", "text", 5000, 1, 9, 1), "the box lies outside the image or has no area"),
    ],
)
def test_a_row_that_cannot_be_used_is_said_and_costs_nothing_else(tree, sort_out, row, reason):
    as_table(tree, [*ROWS[:3], row])
    studies, rejected = sort_out(read(tree, label_from="none"))
    assert sum(len(study.regions) for study in studies.values()) == 3
    assert list(rejected.values()) == [reason]


def test_without_a_file_of_it_or_with_one_that_is_none_the_import_stops(tree):
    with pytest.raises(InputError, match="no file of MS-CXR"):
        list(read(tree))
    (tree / "MS_CXR_Local_Alignment_v1.0.0.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        list(read(tree))
    as_table(tree, header=HEADER.replace("label_text", "text"))
    with pytest.raises(TableError, match="label_text"):
        list(read(tree))


def test_a_cohort_keeps_the_phrases(tree, tmp_path):
    as_table(tree)
    studies = [study for study in read(tree, label_from="none") if hasattr(study, "regions")]
    cohort = write_cohort(studies, tmp_path / "cohort", source="ms-cxr", options={}, size=32)
    opened = Cohort.open(cohort.path)
    phrases = {region.phrase for i in range(3) for region in opened.regions_of(i)}
    assert phrases == {ROWS[0][2], ROWS[2][2]}
