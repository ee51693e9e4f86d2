import json
from collections import Counter

import numpy as np
import pytest
from pictures import with_footer
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.errors import InputError, TableError
from chiasm.formats.crop import find_footer
from chiasm.sources.medpix import read
from chiasm.study import State


def entry(image, case="MPX1", type_="CT", place="Head", **description):
    usual = {"Caption": "A mass.", "Age": "73", "Sex": "male", "Modality": "CT", "Plane": "Axial", "Figure Part": None}
    return {
        "Type": type_,
        "U_id": case,
        "image": image,
        "Location Category": place,
        "Description": {**usual, **description},
    }


def case(name="MPX1", **fields):
    usual = {
        "History": "Headache",
        "Findings": "A mass in the pons.",
        "Case Diagnosis": "Ependymoma",
        "Title": "Ependymoma",
    }
    return {"U_id": name, "Case": {**usual, **fields}, "Topic": {"Title": "Ependymoma"}}


@pytest.fixture
def tree(tmp_path, picture):
    def make(entries, cases, lost=()):
        (tmp_path / "Descriptions.json").write_text(json.dumps(entries))
        if cases is not None:
            (tmp_path / "Case_topic.json").write_text(json.dumps(cases))
        for one in entries:
            if isinstance(one, dict) and one.get("image") not in (None, *lost):
                picture(tmp_path / "images" / f"{one['image']}.jpg", 60, 50)
        return tmp_path

    return make


def test_caption_history_and_findings_are_sections_and_the_diagnosis_is_nowhere(tree, sort_out) -> None:
    folder = tree([entry("a"), entry("b", Caption="A cyst.")], [case()])
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    assert {i: (s.patient_id, s.report.image_id, dict(s.report.sections)) for i, s in studies.items()} == {
        "a": ("MPX1", "a", {"history": "Headache", "findings": "A mass in the pons.", "caption": "A mass."}),
        "b": ("MPX1", "b", {"history": "Headache", "findings": "A mass in the pons.", "caption": "A cyst."}),
    }
    assert "ependymoma" not in repr(studies).lower()
    image = studies["a"].images[0]
    assert (image.image_id, image.source, image.dicom_modality) == ("a", "images/a.jpg", "CT")


def test_what_says_nothing_is_missing(tree, sort_out, caplog) -> None:
    entries = [
        entry("a", Age="N/A", Sex="N/A", Caption="N/A"),
        entry("b", "MPX2", Age="0", Caption="IN PROGRESS.", place=None),
        entry("c", "MPX3", Age=45, Sex="female", Caption=None),
        entry("d", "MPX4", Age="old", Sex="x", Caption="Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS."),
    ]
    form = "History (can include gestational age, or age in days, weeks, months):77 y/o woman"
    cases = [case(History=form, Findings=None), case("MPX2", History="N/A", Findings=""), case("MPX3")]
    studies, rejected = sort_out(read(tree(entries, cases)))
    assert {i: s.report and s.report.sections for i, s in studies.items()} == {
        "a": {"history": "77 y/o woman"},
        "b": None,
        "c": {"history": "Headache", "findings": "A mass in the pons."},
        "d": None,
    }
    assert {i: tuple(s.record.values.values()) for i, s in studies.items()} == {
        "a": (None, None),
        "b": (None, "m"),
        "c": (45, "f"),
        "d": (None, None),
    }
    assert studies["b"].findings == ()
    assert rejected.keys() == {f"Descriptions.json: entry 4, column {column}" for column in ("Age", "Sex")}
    assert '1 ages of "0"' in caplog.text


def test_location_is_one_present_among_the_categories(tree, sort_out) -> None:
    entries = [entry("a"), entry("b", place="Spine and Muscles"), entry("c", place="Thorax", type_="MR")]
    studies, _ = sort_out(read(tree(entries, [case()])))
    names = ("head", "spine_and_muscles", "thorax")
    for own, study in zip(names, studies.values(), strict=True):
        assert {f.name: f.state is State.PRESENT for f in study.findings} == {name: name == own for name in names}
        assert {(f.target, f.reader) for f in study.findings} == {("location", "medpix")}
    assert studies["c"].images[0].dicom_modality == "MR"


def test_a_bad_entry_costs_nothing_else(tree, sort_out) -> None:
    entries = [
        entry("a"),
        entry("a"),
        entry(None),
        entry("lost"),
        "text",
        entry("b", "MPX9"),
        entry("broken"),
        {"image": "d"},
    ]
    folder = tree(entries, [case(), case(), {"Case": {}}], lost=["lost"])
    (folder / "images/broken.jpg").write_bytes(b"x")
    (folder / "images/stray.jpg").write_bytes(b"x")
    studies, rejected = sort_out(read(folder))
    assert list(studies) == ["a", "b"]
    assert studies["b"].report.sections == {"caption": "A mass."}  # a case that is not there
    assert rejected.keys() == {
        *(f"Descriptions.json: entry {number}" for number in (2, 3, 4, 5, 7, 8)),
        *(f"Case_topic.json: entry {number}" for number in (2, 3)),
        "images/stray.jpg",
    }


def test_without_cases_the_captions_remain(tree, sort_out, caplog) -> None:
    studies, _ = sort_out(read(tree([entry("a")], None)))
    assert studies["a"].report.sections == {"caption": "A mass."}
    assert "no Case_topic.json" in caplog.text


def test_a_folder_that_does_not_fit_says_what_is_lacking(tmp_path) -> None:
    with pytest.raises(InputError, match=r"Descriptions\.json"):
        list(read(tmp_path / "none"))
    file = tmp_path / "Descriptions.json"
    with pytest.raises(TableError, match="no such file"):
        list(read(tmp_path))
    file.write_text("[1,")
    with pytest.raises(TableError, match="JSONDecodeError"):
        list(read(tmp_path))
    file.write_text("{}")
    with pytest.raises(TableError, match=r"(?s)JSON list.*dict"):
        list(read(tmp_path))
    file.write_text('[{"image": "a", "U_id": "b", "Description": {"Text": ""}}]')
    with pytest.raises(TableError, match=r"(?s)No entry has Caption.*Description, Text, U_id, image"):
        list(read(tmp_path))


@pytest.mark.parametrize("lines", [1, 2])
def test_a_footer_is_cropped_when_a_picture_is_stored_unless_told_otherwise(tree, tmp_path, lines: int) -> None:
    folder, pixels = tree([entry("a")], [case()]), with_footer(lines)
    (folder / "images/a.jpg").unlink()
    Pillow.fromarray(pixels).save(folder / "images/a.png")
    cohort = import_cohort("medpix", folder, tmp_path / "out" / "cropped", size=300)
    geometry, stored = cohort.geometry(0), cohort.pixels(0)
    assert geometry.original_shape == pixels.shape
    assert geometry.scale == (1, 1)
    top = int(geometry.offset[0])
    np.testing.assert_array_equal(stored[top : top + 200], pixels[:200])
    assert not (stored[top + 200 :] > 16).any()
    whole = import_cohort("medpix", folder, tmp_path / "out" / "whole", size=300, options={"crop_footer": False})
    top = int(whole.geometry(0).offset[0])
    np.testing.assert_array_equal(whole.pixels(0)[top : top + len(pixels)], pixels)
    assert [c.meta["preprocessing"]["crop"] for c in (cohort, whole)] == ["footer", ""]
    assert whole.meta["options"] == {"crop_footer": False}


def test_the_cohort_says_that_pictures_of_ct_carry_no_hounsfield_units(tree, tmp_path) -> None:
    folder = tree([entry("a"), entry("b", type_="MR")], [case()])
    cohort = import_cohort("medpix", folder, tmp_path / "out", size=64)
    (note,) = cohort.notes
    assert note.startswith("1 CT images carry no values that a window could be applied to")
    np.testing.assert_array_equal(cohort.stored(0)[0], cohort.pixels(0))
    assert cohort.images["scale"].tolist() == ["uint8", "uint8"]


def test_the_real_subset_is_read_whole(shared_data, sort_out) -> None:
    """Against the JSON files, and against footers measured by eye in the enlarged pictures."""
    folder = shared_data / "medpix"
    entries = {one["image"]: one for one in json.loads((folder / "Descriptions.json").read_text())}
    cases = {one["U_id"]: one["Case"] for one in json.loads((folder / "Case_topic.json").read_text())}
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    assert studies.keys() == entries.keys()
    assert (len(studies), len({study.patient_id for study in studies.values()})) == (1425, 477)
    assert Counter(s.images[0].dicom_modality for s in studies.values()) == {"CT": 722, "MR": 703}
    for name, study in studies.items():
        own, sections = cases[entries[name]["U_id"]], study.report.sections if study.report else {}
        assert sections.get("findings") == (own["Findings"].strip() if "Findings" in own else None)
        caption = entries[name]["Description"]["Caption"]
        assert sections.get("caption") == (None if caption.startswith(("Replace", "IN PROGRESS")) else caption.strip())
        age = int(entries[name]["Description"]["Age"])
        assert study.record.values["age_years"] == (age or None)
        present = [f.name for f in study.findings if f.state is State.PRESENT]
        assert present == [entries[name]["Location Category"].lower().replace(" ", "_")]
    chart = Counter(
        key for study in studies.values() for key, value in study.record.values.items() if value is not None
    )
    assert chart == {"age_years": 1375, "sex": 1377}
    assert sum("caption" in s.report.sections for s in studies.values() if s.report) == 1425 - 9
    assert sum("Findings" not in one for one in cases.values()) == 12
    for name, first_row in {
        "MPX1506_synpic37594": 364,
        "MPX1962_synpic25757": 368,
        "MPX2563_synpic41817": 378,
        "MPX1735_synpic16735": 377,
    }.items():
        pixels = studies[name].images[0].pixels
        assert abs(len(pixels) - find_footer(pixels) - first_row) <= 2
    for name in ("MPX2501_synpic43623", "MPX2344_synpic39231", "MPX2527_synpic20894"):
        assert find_footer(studies[name].images[0].pixels) == 0
