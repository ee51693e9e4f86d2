"""docs/cohort.md: its example runs on a cohort as it stands, without chiasm, and finds what chiasm finds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.geometry import Geometry
from chiasm.study import Finding, Image, Outcome, Record, Region, Report, State, Study, View

PAGE = (Path(__file__).parents[1] / "docs" / "cohort.md").read_text("utf-8")
AFTER = """
import sys
assert not any(name.split(".")[0] == "chiasm" for name in sys.modules)
found = {"sum": int(pixels.sum()), "corners": corners, "masks": [m.astype(int).tolist() for m in masks]}
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    random = np.random.default_rng(0)
    mask = np.zeros((40, 60), bool)
    mask[3:9, 10:14] = True
    mask[-1, -1] = True
    studies = [
        Study(
            f"s{i}",
            f"p{i}",
            (Image(f"s{i}-0", random.integers(0, 255, (40, 60), np.uint8), Geometry.identity((40, 60)), View.PA),),
            Report({"findings": "Text."}),
            Record({"age_years": 50.0, "sex": "f"}),
            (Finding("pleural_effusion", State.PRESENT if i % 2 else State.ABSENT, reader="ann"),),
            (
                Region("pleural_effusion", f"s{i}-0", (5, 10, 25, 40), reader="ann"),
                Region("pleural_effusion", f"s{i}-0", None, mask, reader="ann"),
            )
            if i == 1
            else (),
            (Outcome("died", i % 2),),
            split="test" if i > 3 else "train",
            facts={"volume_ml": 1.0},
        )
        for i in range(6)
    ]
    return write_cohort(studies, tmp_path_factory.mktemp("docs") / "cohort", source="s", options={}, size=30)


def test_the_example_of_the_page_runs_and_reads_the_right_pixels(cohort: Cohort) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    folder = cohort.path.parent
    done = subprocess.run([sys.executable, "-c", code + AFTER], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"test\s+absent\s+1\s+present\s+1", done.stdout)
    found = json.loads((folder / "found.json").read_text())
    assert found["sum"] == sum(int(cohort.pixels(row).sum()) for row in (4, 5))
    # 40 x 60 becomes 20 x 30, with 5 rows of padding above
    np.testing.assert_allclose(found["corners"], [[2.5, 10, 12.5, 25]])
    np.testing.assert_allclose(
        found["corners"], cohort.geometry(1).boxes_to_stored(cohort.boxes(1, "findings", "pleural_effusion")[:1])
    )
    mask = cohort.study(1).regions[1].mask
    assert mask is not None
    np.testing.assert_array_equal(np.array(found["masks"][0], bool), mask)


def test_every_file_and_column_is_on_the_page(cohort: Cohort) -> None:
    assert {path.name for path in cohort.path.iterdir()} | {"pixels_3d.npy"} == set(
        re.findall(r"`(\w+\.(?:json|parquet|npy|csv))`", PAGE.partition("## Tables")[0])
    )
    for table in (cohort.images, cohort.regions):
        for column in table.columns:
            assert f"`{column}`" in PAGE
    for column in cohort.studies.columns:
        prefix, _, name = str(column).partition(".")
        assert f"`{column}`" in PAGE if not name else prefix in ("report", "record", "fact", *cohort.targets)
    for prefix in ("report", "record", "fact", "bayes"):
        assert f"`{prefix}." in PAGE
