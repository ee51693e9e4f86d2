"""docs/table.md: its example is imported as it stands, and every key of the map is on the page."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.sources.table import schema
from chiasm.sources.table.schema import TableMap

PAGE = (Path(__file__).parents[1] / "docs" / "table.md").read_text("utf-8")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("docs")
    blocks = re.findall(r"`([\w.]+)`[^`]*:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    blocks = [(name, text) for name, text in blocks if "." in name]
    assert [name for name, _ in blocks] == ["exams.csv", "boxes.csv", "map.yaml"]
    for name, text in blocks:
        (folder / name).write_text(text, "utf-8")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for name in ("e1_pa", "e1_lat", "e2", "e3"):
        Pillow.fromarray(random.integers(0, 255, (400, 400), np.uint8)).save(folder / "images" / f"{name}.png")
    return import_cohort("table", folder, folder / "cohort", size=64, options={"map": folder / "map.yaml"})


def test_the_example_becomes_what_the_page_says(cohort: Cohort) -> None:
    e1, e2, e3 = (cohort.study(row) for row in range(3))
    assert [(s.study_id, s.patient_id, len(s.images)) for s in (e1, e2, e3)] == [
        ("e1", "p1", 2),
        ("e2", "p2", 1),
        ("e3", "p3", 1),
    ]
    assert [i.view.value for i in e1.images] == ["pa", "lateral"]
    assert [{f.name: f.state.value for f in s.findings} for s in (e1, e2, e3)] == [
        {"pleural_effusion": "present", "cardiomegaly": "absent"},
        {"pleural_effusion": "absent", "cardiomegaly": "present"},
        {"cardiomegaly": "uncertain"},
    ]
    records = [s.record.values for s in (e1, e2, e3) if s.record]
    assert [r["age_years"] for r in records] == [64, 89, 41]
    assert [r["temperature_c"] for r in records] == [36.9, 38.4, None]
    assert cohort.record["temperature_c"].unknown_time
    assert [[o.value for o in s.outcomes] for s in (e1, e2, e3)] == [[0], [1], [None]]
    assert e3.report is None
    assert e1.report is not None
    assert dict(e1.report.sections) == {"findings": "Small left effusion.", "impression": "Effusion."}
    assert [(r.label, r.box) for s in (e1, e2, e3) for r in s.regions] == [
        ("pleural_effusion", (80, 480, 240, 720)),
        ("cardiomegaly", (240, 320, 640, 640)),
    ]
    assert e1.images[0].geometry.original_shape == (800, 800)
    rejected = (cohort.path / "rejected.csv").read_text("utf-8").splitlines()
    assert len(rejected) == 2
    assert rejected[1].startswith('"exams.csv: row 4, column age"')


def test_every_key_is_on_the_page() -> None:
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
    assert set(rows) == set(TableMap.model_fields)
    parts = {"images": schema.Images, "report": schema.ReportText, "record": schema.RecordColumn}
    parts |= {"labels": schema.Labels, "boxes": schema.Boxes, "masks": schema.Masks, "outcomes": schema.OutcomeColumn}
    for name, part in {**parts, "table": schema.Format}.items():
        for key in part.model_fields:
            assert re.search(rf"\b{key}\b", rows[name]), (name, key)


def test_the_example_of_sequences_is_a_map() -> None:
    (text,) = re.findall(r"So would say a map:\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    map_ = schema.read_map(yaml.safe_load(text))
    assert map_.images is not None
    assert dict(zip(map_.images.columns, map_.images.names, strict=True)) == {"t1": "T1", "flair": "FLAIR"}
    assert [part.image for part in map_.masks] == ["FLAIR"]
