"""Counts of a small cohort, by hand."""

from pathlib import Path

import numpy as np
import pytest

from chiasm.audit.counts import (
    count_images,
    count_missing,
    count_splits,
    count_truth,
    count_unknown,
    describe_facts,
    describe_record,
)
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.geometry import Geometry
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Report, State, Study, View


def image(name: str, value: int, view: View, modality: str = "") -> Image:
    return Image(name, np.full((8, 8), value, np.uint8), Geometry.identity((8, 8)), view, modality)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    present, absent, uncertain = State.PRESENT, State.ABSENT, State.UNCERTAIN
    states = {"1": present, "2": absent, "3": uncertain, "4": State.NOT_MENTIONED, "5": present}
    splits = {"1": "train", "2": "train", "3": "train", "4": "validation", "5": "test"}
    patients = {"1": "p", "2": "p", "3": "q", "4": "r", "5": "s"}
    studies = [
        Study(
            key,
            patients[key],
            images={"1": (image("1a", 1, View.PA, "CR"), image("1b", 2, View.LATERAL, "CR")), "4": (image("4a", 3, View.AP),)}.get(key, ()),
            report=Report({"findings": "Text."}) if key in "15" else None,
            record=Record(
                {"age_years": {"1": 30.0, "2": 50.0, "3": 40.0, "5": 80.0}.get(key), "sex": {"2": "f", "3": "m", "5": "f"}.get(key)},
                frozenset({"sex"}),
            ),
            findings=(Finding("mass", state, reader="ann"),),
            regions=(Region("mass", "1a", (1, 1, 3, 3)),) if key == "1" else (),
            outcomes=(
                Outcome("died", {"1": 1, "2": 0, "3": None, "4": 0, "5": 1}[key]),
                Outcome("score", {"1": 1.0, "2": 3.0, "5": 7.0}.get(key), Kind.REGRESSION, "severity"),
            ),
            split=splits[key],
        )
        for key, state in states.items()
    ]  # fmt: skip
    return write_cohort(studies, tmp_path_factory.mktemp("counts") / "c", source="s", options={}, size=8)


def test_studies_patients_and_inputs_are_counted_by_split(cohort: Cohort) -> None:
    names = ("studies", "patients", "images", "with_image", "with_report", "with_record", "with_region")
    wanted = {
        "train": (3, 2, 2, 1, 1, 3, 1),
        "validation": (1, 1, 1, 1, 0, 0, 0),
        "test": (1, 1, 0, 0, 1, 1, 0),
        "all": (5, 4, 3, 2, 2, 4, 1),
    }
    assert count_splits(cohort) == {split: dict(zip(names, row, strict=True)) for split, row in wanted.items()}


def test_images_are_counted_by_what_they_are(cohort: Cohort) -> None:
    assert count_images(cohort) == {
        "name": {},
        "view": {"pa": 1, "ap": 1, "lateral": 1},
        "dicom_modality": {"CR": 2, "not said": 1},
        "array": {"pixels_2d": 3},
        "images_per_study": {"0": 3, "2": 1, "1": 1},
    }


def test_labels_are_counted_with_their_reader_and_states(cohort: Cohort) -> None:
    truth = count_truth(cohort)
    assert {name: (info["kind"], info["of"]) for name, info in truth.items()} == {
        "findings": ("binary", "findings"),
        "outcome": ("binary", "outcomes"),
        "severity": ("regression", "outcomes"),
    }
    mass = truth["findings"]["labels"]["mass"]
    assert mass["reader"] == "ann"
    states = ("present", "absent", "uncertain", "not_mentioned", "prevalence")
    assert {split: tuple(facts[s] for s in states) for split, facts in mass["splits"].items()} == {
        "train": (1, 1, 1, 0, 0.5),
        "validation": (0, 0, 0, 1, None),
        "test": (1, 0, 0, 0, 1.0),
        "all": (2, 1, 1, 1, pytest.approx(2 / 3, abs=1e-6)),
    }
    died = truth["outcome"]["labels"]["died"]["splits"]
    assert died["train"] == {"known": 2, "missing": 1, "positive": 1, "prevalence": 0.5}
    score = truth["severity"]["labels"]["score"]["splits"]
    assert score["all"] == {
        "known": 3, "missing": 2, "min": 1.0, "q25": 2.0, "median": 3.0, "q75": 5.0, "max": 7.0,
        "mean": pytest.approx(11 / 3),
    }  # fmt: skip
    assert score["validation"]["known"] == 0
    assert score["validation"]["median"] is None


def test_missing_inputs_are_shares_of_each_split(cohort: Cohort) -> None:
    assert count_missing(cohort) == {
        "image": {"train": pytest.approx(2 / 3, abs=1e-6), "validation": 0.0, "test": 1.0, "all": 0.6},
        "report": {"findings": {"train": pytest.approx(2 / 3, abs=1e-6), "validation": 1.0, "test": 0.0, "all": 0.6}},
        "record": {
            "age_years": {"train": 0.0, "validation": 1.0, "test": 0.0, "all": 0.2},
            "sex": {"train": pytest.approx(1 / 3, abs=1e-6), "validation": 1.0, "test": 0.0, "all": 0.4},
        },
    }


def test_record_columns_are_described_by_their_values(cohort: Cohort) -> None:
    described = describe_record(cohort)
    age = described["age_years"]
    assert (age["known"], age["missing"], age["min"], age["median"], age["max"]) == (4, 1, 30, 45, 80)
    assert described["sex"] == {
        "kind": "categorical",
        "unknown_time": True,
        "known": 3,
        "missing": 2,
        "words": {"f": 2, "m": 1},
        "further_words": 0,
    }


def test_an_empty_split_has_no_share(tmp_path: Path) -> None:
    record = Record({"age_years": 1.0})
    cohort = write_cohort(
        [Study("s", "p", record=record, split="train")], tmp_path / "c", source="s", options={}, size=8
    )
    assert count_missing(cohort)["image"] == {"train": 1.0, "validation": None, "test": None, "all": 1.0}


def test_facts_are_described_apart_from_the_record(tmp_path: Path) -> None:
    facts = [
        {"volume_ml": 1.0, "side": "left"},
        {"volume_ml": 5.0, "side": "left"},
        {"volume_ml": None, "side": "right"},
    ]
    studies = [Study(f"s{i}", f"p{i}", (image(f"i{i}", i, View.PA),), facts=own) for i, own in enumerate(facts)]
    cohort = write_cohort(studies, tmp_path / "c", source="s", options={}, size=8)
    described = describe_facts(cohort)
    assert (described["volume_ml"]["min"], described["volume_ml"]["max"], described["volume_ml"]["missing"]) == (
        1,
        5,
        1,
    )
    assert described["side"]["words"] == {"left": 2, "right": 1}
    assert describe_record(cohort) == {}


def test_an_outcome_that_is_unknown_at_one_end_of_the_chart(tmp_path: Path) -> None:
    def of(i: int) -> Study:
        record = Record({"score": float(i % 10), "age_years": float(i // 10), "constant": 1.0})
        known = i % 10 > 2 or i // 10 < 5  # below a score of 3, known in 5 of 14 tens alone
        outcome = Outcome("bad", 1.0 if known else None)
        return Study(
            f"s{i:03}", f"p{i}", record=record, outcomes=(outcome, Outcome("score", float(i), Kind.ORDINAL, "score"))
        )

    cohort = write_cohort([of(i) for i in range(140)], tmp_path / "c", source="s", options={})
    found = {(u["label"], u["column"]): u for u in count_unknown(cohort)}
    assert set(found) == {("outcome/bad", "score"), ("outcome/bad", "age_years")}
    scored = found["outcome/bad", "score"]
    assert (scored["low"], scored["high"]) == (2, 7)
    assert (scored["unknown_low"], scored["unknown_high"]) == (round(9 / 14, 6), 0)
    few = write_cohort([of(i) for i in range(90)], tmp_path / "d", source="s", options={})
    assert [u["column"] for u in count_unknown(few)] == ["age_years"]  # a quarter of the scores holds 27, too few
