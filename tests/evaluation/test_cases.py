"""Example cases are chosen by rule, and what stands beside them is theirs."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from chiasm.cohort.generated import GeneratedTexts
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.evaluation.cases import SIDE, choose_binary, choose_cases, choose_ordered, draw_cases
from chiasm.evaluation.spec import Arm, Evidence, read_truth
from chiasm.formats.atlas import Atlas
from chiasm.geometry import Geometry
from chiasm.heads.spec import Pool, Question, Truth
from chiasm.study import Image, Kind, Outcome, Record, Region, Study

SHAPE = (16, 16, 16)
SAID = np.array([0.9, 0.6, 0.2, 0.1, 0.3, 0.8])  # truth: 1 1 1 0 0 0


def _study(i: int) -> Study:
    place = Geometry.identity(SHAPE, (1.0, 1.0, 1.0), (1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0))
    pixels = np.full(SHAPE, 60, np.uint8)
    pixels[4 + i, 3:6, 9:12] = 250
    lesion = np.zeros(SHAPE, bool)
    lesion[10, 3:6, 9:12] = True
    drawn = (Region("lesion", f"v{i}", mask=lesion, target="outcome"),) if i in (0, 3) else ()
    flat = Image(f"f{i}", np.full((20, 20), 99, np.uint8), Geometry.identity((20, 20)), name="FLAIR axial")
    return Study(
        f"s{i}",
        f"p{i}",
        images=(Image(f"v{i}", pixels, place, name="FLAIR", dicom_modality="SEG" if i == 3 else "MR"), flat),
        record=Record({"age_years": 50.0}),
        outcomes=(Outcome("event", float(i < 3)), Outcome("mrs", float(i), Kind.ORDINAL, "mrs")),
        regions=drawn,
        split="test",
    )


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    place = _study(0).images[0].geometry
    out = tmp_path_factory.mktemp("cases") / "cohort"
    atlas = Atlas(np.ones(SHAPE, np.uint8), place)
    cohort = write_cohort(
        [_study(i) for i in range(6)], out, source="hand", options={}, size=20, volume_size=SHAPE, atlas=atlas
    )
    row: dict[str, Any] = dict.fromkeys(("structure", "source", "prompt_hash", "input_hash", "reason"), "")
    row |= {"kind": "image-description", "seed": 0, "attempts": 1, "accepted": True, "answered": True}
    with GeneratedTexts(cohort.path) as texts:
        for i in range(6):
            texts.add(
                {**row, "study_id": f"s{i}", "text": f"A <lesion> of s{i}.", "writer": "server", "model": "a-model"}
            )
    return cohort


@pytest.fixture(scope="module")
def asked(brains: Cohort) -> Evidence:
    question = Question(
        targets={"outcome": ["event"], "mrs": ["mrs"]},
        kinds={"outcome": Kind.BINARY, "mrs": Kind.ORDINAL},
        uncertain={},
        modalities=["image", "text"],
        text_sections=["history", "image_description"],
        levels={"mrs": [tuple(map(float, range(6)))]},
    )
    sure = np.eye(6)[[0, 4, 2, 3, 1, 5]][:, None]  # says 4 of who is 1, and 1 of who is 4

    def arm(p: np.ndarray, shown: str) -> Arm:
        thresholds = {"outcome": np.full((6, 1), 0.5), "mrs": np.full((6, 1), np.nan)}
        return Arm({"outcome": p[:, None], "mrs": sure}, thresholds=thresholds, shown=np.full((6, 1), shown))

    arms = {"": arm(SAID, "image+text"), "image": arm(np.full(6, 0.5), "image"), "text": arm(SAID, "text")}
    arms["nothing"] = arm(np.full(6, 0.25), "")
    return Evidence(question, Pool.find([brains], [f"0/s{i}" for i in range(6)], np.zeros((6, 1), np.int64)), arms)


@pytest.fixture(scope="module")
def known(asked: Evidence) -> Truth:
    return read_truth(asked.question, asked.pool, ())


def test_each_outcome_shows_its_most_certain_right_and_wrong_answer() -> None:
    labels, everybody, threshold = np.array([1, 1, 1, 0, 0, 0], np.float32), np.ones(6, bool), np.full(6, 0.5)
    assert choose_binary(SAID, labels, everybody, threshold) == {
        "right, with the outcome": 0,
        "wrong, with the outcome": 2,
        "right, without it": 3,
        "wrong, without it": 5,
    }
    some = np.array([False, True, True, True, True, False])
    assert choose_binary(SAID, labels, some, threshold) == {
        "right, with the outcome": 1,
        "wrong, with the outcome": 2,
        "right, without it": 3,
    }, "nobody without the outcome was answered wrongly"
    assert choose_binary(SAID, labels, some, np.full(6, 0.1))["wrong, without it"] == 4, "at .1 a chance of .3 is a yes"


def test_a_number_shows_its_nearest_and_its_farthest_answers() -> None:
    said, truth = np.array([1.0, 5.0, 2.0, 4.0]), np.array([1.5, 1.0, 6.0, 4.0], np.float32)
    assert choose_ordered(said, truth, np.ones(4, bool)) == {"nearest": 3, "farthest above": 1, "farthest below": 2}
    assert choose_ordered(said, truth, np.array([True, False, False, False])) == {"nearest": 0}
    assert choose_ordered(said, truth, np.zeros(4, bool)) == {}


def test_a_patient_stands_with_shares_text_and_planes(asked: Evidence, known: Truth) -> None:
    cases, rule = draw_cases(asked, known)
    assert rule.startswith("Of the patients with all inputs: for each outcome the most certain")
    assert [case.caption for case in cases] == ["study s0", "study s2", "study s3", "study s5"]
    first = cases[0]
    assert first.facts == {"outcome · event": "0.900 (0.250 of all training patients)", "truth": "1"}
    # log-odds: nothing -log 3, image 0, text and both log 9
    image = (np.log(3) + 0) / 2
    assert first.shares == pytest.approx({"image": image, "text": (2 * np.log(9) + np.log(3)) / 2})
    assert first.texts == {"image description, written by server a-model": "A <lesion> of s0."}
    assert [caption for caption, _ in first.pictures] == [
        "FLAIR, axial",
        "FLAIR, sagittal",
        "FLAIR, coronal",
        "FLAIR axial",
    ]


def _rgb(jpeg: bytes) -> np.ndarray:
    with Picture.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"), float)


def test_a_drawn_lesion_is_outlined_and_a_bright_one_is_shown(asked: Evidence, known: Truth) -> None:
    drawn, bright, *_ = draw_cases(asked, known)[0]
    outlined, plain = (_rgb(dict(case.pictures)["FLAIR, axial"]) for case in (drawn, bright))
    assert np.ptp(outlined, axis=2).max() > 60, "an outline has a colour"
    assert np.ptp(plain, axis=2).max() < 20
    rows, columns = np.nonzero(plain[..., 0] > 200)
    found = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / (SIDE / 16)
    assert found.tolist() == pytest.approx([10, 13, 9, 12], abs=0.4), "front up"


def test_a_mask_stands_on_the_brain_of_the_atlas_also_where_its_lesion_is_drawn(asked: Evidence, known: Truth) -> None:
    _, volume, mask, _ = draw_cases(asked, known)[0]
    on_volume, on_brain = (np.median(_rgb(dict(case.pictures)["FLAIR, axial"])) for case in (volume, mask))
    assert on_volume == pytest.approx(60, abs=2) and on_brain == pytest.approx(90, abs=2)


def test_without_a_binary_label_the_first_with_an_order_is_shown(asked: Evidence, known: Truth) -> None:
    question = replace(asked.question, targets={"mrs": ["mrs"]}, kinds={"mrs": Kind.ORDINAL})
    arms = {name: replace(arm, values={"mrs": arm.values["mrs"]}) for name, arm in asked.arms.items()}
    cases, rule = draw_cases(replace(asked, question=question, arms=arms), known)
    assert [(case.which, case.caption) for case in cases] == [
        ("nearest", "study s0"),
        ("farthest above", "study s1"),
        ("farthest below", "study s4"),
    ]
    assert cases[1].facts == {"mrs": "4.000 (4.000 of all training patients)", "truth": "1"}
    assert "in the target's own units" in rule


def test_a_report_is_never_quoted_and_one_modality_has_no_cases(asked: Evidence, known: Truth) -> None:
    read = replace(asked, question=replace(asked.question, text_sections=["history"]))
    assert all(not case.texts for case in draw_cases(read, known)[0])
    alone = replace(asked, question=replace(asked.question, modalities=["image"]))
    assert draw_cases(alone, known) == ([], "")


def test_columns_of_the_record_stand_with_their_value_and_part(asked: Evidence, known: Truth) -> None:
    number, places = choose_cases(asked, known)
    assert (number, places) == ("outcome/event", [0, 2, 3, 5]), "those that are drawn"
    told = replace(asked, columns={0: [("age_years", 0.7, 0.0), ("crp_mg_l", -0.2, 0.05)]})
    cases, rule = draw_cases(told, known)
    assert cases[0].columns == {"age_years 50": (0.7, 0.0), "crp_mg_l missing": (-0.2, 0.05)}
    assert not cases[1].columns
    assert "each of its columns" in rule
    assert "each of its columns" not in draw_cases(asked, known)[1]
