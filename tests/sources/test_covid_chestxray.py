import csv
from collections import Counter, defaultdict

import numpy as np
import pytest

from chiasm.errors import InputError, TableError
from chiasm.formats.pixels import read_image
from chiasm.sources.covid_chestxray import read
from chiasm.study import Kind, State, View

COLUMNS = [
    "patientid",
    "offset",
    "sex",
    "age",
    "finding",
    "survival",
    "intubated",
    "intubation_present",
    "went_icu",
    "in_icu",
    "needed_supplemental_O2",
    "extubated",
    "temperature",
    "pO2_saturation",
    "leukocyte_count",
    "neutrophil_count",
    "lymphocyte_count",
    "view",
    "modality",
    "date",
    "location",
    "folder",
    "filename",
    "doi",
    "url",
    "license",
    "clinical_notes",
    "other_notes",
]
P, A = State.PRESENT, State.ABSENT


def entry(filename: str, **cells: str) -> dict[str, str]:
    usual = {"patientid": "1", "finding": "Pneumonia/Viral/COVID-19", "view": "PA", "modality": "X-ray"}
    return {**dict.fromkeys(COLUMNS, ""), **usual, "filename": filename, **cells}


def write(path, entries, columns=COLUMNS):
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(entries)


@pytest.fixture
def tree(tmp_path, picture):
    """Write metadata.csv and a picture for each row but the lost ones."""

    def make(*entries, lost=()):
        write(tmp_path / "metadata.csv", entries)
        for cells in entries:
            if cells["filename"] not in (*lost, ""):
                picture(tmp_path / "images" / cells["filename"], 20, 30)
        return tmp_path

    return make


def states(study):
    return {finding.name: finding.state for finding in study.findings}


def test_a_diagnosis_says_yes_on_its_way_no_beside_it_and_nothing_below_it(tree, sort_out) -> None:
    diagnoses = {
        "covid": "Pneumonia/Viral/COVID-19",
        "old_covid": "COVID-19",
        "both": "COVID-19, ARDS",
        "ards": "ARDS",
        "bacterial": "Bacterial",
        "pneumonia": "Pneumonia",
        "coli": "E.Coli",
        "none": "No Finding",
        "todo": "todo",
        "unknown": "Unknown",
        "blank": "",
    }
    studies, rejected = sort_out(read(tree(*(entry(f"{name}.png", finding=text) for name, text in diagnoses.items()))))
    assert rejected == {}
    found = {name[:-4]: states(study) for name, study in studies.items()}
    names = ("pneumonia", "viral_pneumonia", "covid_19", "bacterial_pneumonia", "e_coli")
    assert found["covid"] == found["old_covid"] == dict(zip(names, (P, P, P, A, A), strict=True))
    assert found["both"] == {**found["covid"], "ards": P}
    assert found["ards"] == {"ards": P}
    assert found["bacterial"] == {"pneumonia": P, "viral_pneumonia": A, "covid_19": A, "bacterial_pneumonia": P}
    assert found["pneumonia"] == {"pneumonia": P}
    assert found["coli"] == dict(zip(names, (P, A, A, P, P), strict=True))
    assert found["none"] == dict.fromkeys((*names, "ards"), A)
    assert found["todo"] == found["unknown"] == found["blank"] == {}  # masked, never negative


def test_chart_note_view_and_pixels_come_over(tree, sort_out) -> None:
    cells = {
        "offset": "-5",
        "sex": "F",
        "age": "65",
        "temperature": "38.2",
        "pO2_saturation": "340",
        "view": "AP Supine",
    }
    folder = tree(
        entry("a.b.jpg", clinical_notes=' He said "well", and\nleft. ', other_notes="Credit to X", **cells),
        entry("b.png", patientid="1", view="L"),
        entry("c.png", patientid="2", view="Axial", lymphocyte_count="0.9"),
    )
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    study = studies["a.b.jpg"]
    assert study.report.sections == {"history": 'He said "well", and\nleft.'}
    assert studies["b.png"].report is None
    assert study.record.values == {
        "age_years": 65,
        "sex": "f",
        "offset_days": -5,
        "temperature_c": 38.2,
        "po2_saturation_mixed_units": 340,
        "leukocytes_1e9_per_l": None,
        "neutrophils_1e9_per_l": None,
        "lymphocytes_1e9_per_l": None,
    }
    assert study.record.unknown_time == study.record.values.keys() - {"age_years", "sex", "offset_days"}
    assert [s.images[0].view for s in studies.values()] == [View.AP, View.LATERAL, View.OTHER]
    assert [s.patient_id for s in studies.values()] == ["1", "1", "2"]
    image = study.images[0]
    assert (image.source, image.dicom_modality, image.geometry.original_shape) == ("images/a.b.jpg", "DX", (20, 30))
    np.testing.assert_array_equal(image.pixels, read_image(folder / "images/a.b.jpg"))


def test_what_happened_is_an_outcome_and_a_non_answer_is_missing(tree, sort_out) -> None:
    folder = tree(
        entry("a.png", survival="N", went_icu="Y", intubated="Not visible", in_icu="Would have been stated"),
        entry("b.png", survival="Y", needed_supplemental_O2="N", extubated="perhaps"),
    )
    studies, rejected = sort_out(read(folder))
    outcomes = {key: {o.name: o.value for o in study.outcomes} for key, study in studies.items()}
    assert outcomes == {"a.png": {"death": 1, "went_icu": 1}, "b.png": {"death": 0, "needed_supplemental_o2": 0}}
    assert {(o.target, o.kind) for s in studies.values() for o in s.outcomes} == {("outcome", Kind.BINARY)}
    assert rejected.keys() == {"metadata.csv: row 3, column extubated"}


def test_a_bad_cell_or_file_costs_nothing_else(tree, sort_out) -> None:
    folder = tree(
        entry("a.png", age="n/a", sex="?", temperature="98.6", offset="NaN"),
        entry("b.png", age="89+", leukocyte_count="many"),
        entry("lost.png"),
        entry("a.png"),
        entry("c.png", patientid=""),
        entry(""),
        entry("broken.png"),
        lost=["lost.png"],
    )
    (folder / "images/broken.png").write_bytes(b"no image")
    (folder / "images/stray.png").write_bytes(b"x")
    studies, rejected = sort_out(read(folder))
    assert list(studies) == ["a.png", "b.png"]
    chart = studies["a.png"].record.values
    assert (chart["age_years"], chart["sex"], chart["temperature_c"], chart["offset_days"]) == (None, None, None, None)
    assert studies["b.png"].record.values["age_years"] == 89
    assert rejected.keys() == {
        "metadata.csv: row 2, column temperature",  # Fahrenheit
        "metadata.csv: row 3, column age",
        "metadata.csv: row 3, column leukocyte_count",
        *(f"metadata.csv: row {number}" for number in (4, 5, 6, 7, 8)),
        "images/stray.png",
    }
    assert "not there" in rejected["metadata.csv: row 4"]
    assert "repeats" in rejected["metadata.csv: row 5"]


def test_ct_is_taken_when_asked_for(tree, sort_out) -> None:
    folder = tree(entry("a.png"), entry("b.png", modality="CT", view="Axial"))
    studies, rejected = sort_out(read(folder))
    assert list(studies) == ["a.png"]
    assert "not X-ray: CT" in rejected["metadata.csv: row 3"]
    studies, _ = sort_out(read(folder, modality="CT"))
    assert [(i, s.images[0].dicom_modality) for i, s in studies.items()] == [("b.png", "CT")]
    assert len(sort_out(read(folder, modality="all"))[0]) == 2
    with pytest.raises(InputError, match=r"X-ray, CT, all(?s:.*)MR"):
        list(read(folder, modality="MR"))


def test_boxes_and_scores_keep_their_readers(tree, sort_out) -> None:
    folder = tree(entry("a.png"), entry("b.png"))
    (folder / "lung-boxes.csv").write_text(
        "filename,lung,x,y,w,h\na.png,Right Lung,1.5,2,3,4\na.png,Left Lung,10,2,3,4\nb.png,Left Lung,1,2,-3,4\n"
        "b.png,Left Lung,1,x,3,4\nz.png,Left Lung,1,2,3,4\n"
    )
    (folder / "covid-severity-scores.csv").write_text("filename,geographic_mean,opacity_mean\nb.png,2.3,9\n")
    zones = ",".join(f"{reader}-{zone}" for reader in "SJ" for zone in (*"ABCDEF", "Global"))
    (folder / "brixia-scores.csv").write_text(f"filename,{zones}\na.png,1,3,2,1,2,3,12,0,0,0,0,0,,0\n")
    studies, rejected = sort_out(read(folder))
    assert [(r.label, r.target, r.box, r.image_id) for r in studies["a.png"].regions] == [
        ("right_lung", "anatomy", (1.5, 2, 4.5, 6), "a.png"),
        ("left_lung", "anatomy", (10, 2, 13, 6), "a.png"),
    ]
    assert studies["b.png"].regions == ()
    scores = {(o.name, o.reader): o.value for o in studies["a.png"].outcomes}
    assert scores == {
        **{(f"brixia_s_{zone}", "S"): value for zone, value in zip("abcdef", (1, 3, 2, 1, 2, 3), strict=True)},
        **{(f"brixia_j_{zone}", "J"): 0 for zone in "abcde"},
        ("brixia_s", "S"): 12,
        ("brixia_j", "J"): 0,
    }
    assert {(o.target, o.kind) for s in studies.values() for o in s.outcomes} == {("severity", Kind.REGRESSION)}
    assert [(o.name, o.value) for o in studies["b.png"].outcomes] == [("geographic", 2.3)]
    assert rejected.keys() == {
        "lung-boxes.csv: row 4",
        "lung-boxes.csv: row 5, column y",
        "z.png in the tables of boxes and scores",
        "covid-severity-scores.csv: row 2, column opacity_mean",
    }


def test_patients_that_disagree_with_themselves_are_kept_and_counted(tree, sort_out, caplog) -> None:
    folder = tree(entry("a.png", finding="No Finding"), entry("b.png"), entry("c.png", patientid="2"))
    studies, rejected = sort_out(read(folder))
    assert (len(studies), rejected) == (3, {})
    assert states(studies["a.png"])["pneumonia"] is A
    assert states(studies["b.png"])["pneumonia"] is P
    assert "1 patients have images of different finding" in caplog.text


def test_a_folder_that_does_not_fit_says_what_is_lacking(tmp_path) -> None:
    with pytest.raises(InputError, match=r"metadata\.csv"):
        list(read(tmp_path / "none"))
    with pytest.raises(TableError, match="no such file"):
        list(read(tmp_path))
    write(tmp_path / "metadata.csv", [entry("a.png")], [c for c in COLUMNS if c != "finding"])
    with pytest.raises(TableError, match=r"(?s)lacks finding.*patientid, offset, sex.*metadata\.csv"):
        list(read(tmp_path))


def test_the_real_subset_is_read_whole(shared_data, sort_out, caplog) -> None:
    """Against counts taken straight from the CSV files."""
    folder = shared_data / "covid-chestxray"

    def table(name):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    rows = {row["filename"]: row for row in table("metadata.csv")}
    studies, rejected = sort_out(read(folder))
    assert rejected == {}
    assert len(studies) == 400
    assert studies.keys() == rows.keys()
    assert "5 patients have images of different finding" in caplog.text
    assert sum(not study.findings for study in studies.values()) == 64  # 63 todo and one Unknown
    for name, row in rows.items():
        study = studies[name]
        assert (states(study).get("covid_19") is P) == ("COVID-19" in row["finding"])
        assert (study.report.sections["history"] if study.report else "") == row["clinical_notes"].strip()
        assert study.patient_id == row["patientid"]
        happened = {o.name: o.value for o in study.outcomes if o.target == "outcome"}
        assert happened.get("death") == {"Y": 0, "N": 1, "": None}[row["survival"]]
        assert happened.get("went_icu") == {"Y": 1, "N": 0}.get(row["went_icu"])
    assert sum(study.report is not None for study in studies.values()) == 306
    chart = Counter(
        name for study in studies.values() for name, value in study.record.values.items() if value is not None
    )
    assert chart == {
        "age_years": 291,
        "sex": 363,
        "offset_days": 314,
        "temperature_c": 39,
        "po2_saturation_mixed_units": 63,
        "leukocytes_1e9_per_l": 8,
        "neutrophils_1e9_per_l": 19,
        "lymphocytes_1e9_per_l": 24,
    }
    assert Counter(study.images[0].view for study in studies.values()) == {View.PA: 196, View.AP: 175, View.OTHER: 29}
    lungs = defaultdict(list)
    for row in table("lung-boxes.csv"):
        lungs[row["filename"]].append(row["lung"].lower().replace(" ", "_"))
    assert {name: [r.label for r in study.regions] for name, study in studies.items()} == lungs
    assert Counter(map(len, lungs.values())) == {2: 399, 1: 1}
    for study in studies.values():  # to half a pixel, the boxes lie in the pixels of these images
        height, width = study.images[0].pixels.shape
        assert all(r.box[2] <= width + 0.6 and r.box[3] <= height + 0.6 for r in study.regions)
    brixia = {row["filename"]: row for row in table("brixia-scores.csv")}
    assert len(brixia) == 102
    for name, row in brixia.items():
        scores = {o.name: o.value for o in studies[name].outcomes if o.name.startswith("brixia")}
        assert len(scores) == 14
        for reader in "SJ":
            zones = [scores[f"brixia_{reader}_{zone}".lower()] for zone in "ABCDEF"]
            assert sum(zones) == scores[f"brixia_{reader}".lower()] == int(row[f"{reader}-Global"])
    means = {o.reader for s in studies.values() for o in s.outcomes if o.name == "geographic"}
    assert means == {"mean"}
    assert sum(o.name == "opacity" for s in studies.values() for o in s.outcomes) == 59
