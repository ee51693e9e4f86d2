"""What a header says is read against the headers of training; the document comes back as it was written."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from runs import UNSEALED

from chiasm.errors import RunError
from chiasm.metrics.novelty import fit_cloud
from chiasm.run.fold_model import load_fold_models
from chiasm.run.novelty import Novelty, PixelFit, check_header, headers_of, read_novelty, write_novelty
from chiasm.run.ranges import Range


def a_header(modality: str = "", body: str = "", view: str = "other") -> dict[str, str]:
    return {"image_id": "i", "dicom_modality": modality, "body_part": body, "view": view}


CHEST = headers_of([a_header("DX", "", "pa"), a_header("CR", "", "ap"), a_header("DX", "", "pa")])


def test_headers_of_training_name_what_they_say_once():
    assert CHEST == {"dicom_modality": ("CR", "DX"), "body_part": ("CHEST",), "view": ("ap", "pa")}
    assert headers_of([a_header("OT", "", "other"), a_header("", "DOE^JANE, 1950", "other")]) == {}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (a_header("CT"), ["the file says CT; the model was trained on CR, DX"]),
        (a_header("MR", "HEAD"), ["the file says MR; the model was trained on CR, DX", "the file says body part HEAD; the model was trained on CHEST"]),
        (a_header("NM"), ["the file says NM; the model was trained on CR, DX"]),
        (a_header("DX", "KNEE"), ["the file says body part KNEE; the model was trained on CHEST"]),
        (a_header("DX", "CHEST", "lateral"), ["the file says view lateral; the model was trained on AP, PA"]),
        (a_header("DX", "CHEST", "pa"), []),
        (a_header("DR"), []),
        (a_header("OT"), []),
        (a_header(), []),
        (a_header("DX", "DOE^JANE, 1950"), []),
    ],
)  # fmt: skip
def test_a_header_is_noted_where_it_says_what_no_training_says(header, said):
    assert check_header(header, [CHEST]) == said


def test_what_one_of_several_trainings_says_is_known():
    lateral = headers_of([a_header("DX", "CHEST", "lateral")])
    assert check_header(a_header("DX", "CHEST", "lateral"), [CHEST, lateral]) == []
    assert check_header(a_header("CT", "HEAD", "lateral"), [{}]) == [], "training says nothing"


def test_the_document_and_its_arrays_come_back(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 5))
    cloud = fit_cloud(values, np.zeros(5, np.int64))
    novelty = Novelty(CHEST, PixelFit(1.5, 0.98, 30, 30), {"age": Range(1, 2, 0.5, 2.5)}, {"findings": {"edema": 0.4}})
    write_novelty(tmp_path, novelty, cloud)
    again, arrays = read_novelty(tmp_path)
    assert again == novelty and arrays is not None
    np.testing.assert_array_equal(arrays.distance(values), cloud.distance(values))
    blind = tmp_path / "blind"
    blind.mkdir()
    write_novelty(blind, Novelty(), None)
    assert read_novelty(blind) == (Novelty(), None)
    assert read_novelty(tmp_path / "nowhere") == (None, None)


@pytest.mark.parametrize("damage", ["novelty.safetensors", "novelty.json", "schema"])
def test_a_damaged_document_is_one_error(tiny_run, tmp_path, damage):
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=UNSEALED)
    if damage == "schema":
        stored = json.loads((run / "novelty.json").read_text("utf-8"))
        (run / "novelty.json").write_text(json.dumps(stored | {"schema": 99}), "utf-8")
    else:
        (run / damage).write_bytes((run / damage).read_bytes()[:100])
    with pytest.raises(RunError, match="another schema" if damage == "schema" else "damaged"):
        load_fold_models(run)
