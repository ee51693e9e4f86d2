"""Planted leaks are found, each in its place, and nothing beside them; no patient id and no text comes out."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from chiasm.audit.leakage import inspect_cohort, label_words, render_inspection
from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import write_cohort
from chiasm.geometry import Geometry
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Report, State, Study, View

SIZE = 96
LONG = "The heart is mildly enlarged and there is a small effusion on the left " * 2
Pixels = NDArray[np.uint8]


def picture(seed: int) -> Pixels:
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(SIZE, SIZE)), 12) * 12 * 3.5
    fine = gaussian_filter(random.normal(size=(SIZE, SIZE)), 1.5) * 1.5 * 3.5
    return np.clip(128 + 40 * smooth + 10 * fine, 0, 255).astype(np.uint8)


def image(study: str, pixels: Pixels, n: int = 0, view: View = View.PA) -> Image:
    return Image(f"{study}-{n}", pixels, Geometry.identity(pixels.shape), view, "DX")


def study(name: str, patient: str, split: str, pixels: Pixels | None = None, text: str = "", **more: Any) -> Study:
    images = () if pixels is None else (image(name, pixels),)
    report = Report({"findings": text}) if text else None
    return Study(name, f"patient-{patient}", images, report, split=split, **more)


def inspect(tmp_path: Path, studies: list[Study]) -> dict[str, Any]:
    document = inspect_cohort(
        write_cohort(studies, tmp_path / "c", source="crafted", options={}, size=SIZE, split="published")
    )
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    return document


def listed(document: dict[str, Any], kind: str) -> list[list[str]]:
    return sorted(group["studies"] for group in document["leakage"][kind]["listed"])


def test_a_patient_in_two_splits_is_found(tmp_path: Path) -> None:
    studies = [study(f"s{i}", str(i % 7), "train", picture(i)) for i in range(8)]
    studies += [study("x", "3", "test", picture(90)), study("y", "9", "test", picture(91))]
    document = inspect(tmp_path, studies)
    found = document["leakage"]["shared_patients"]
    assert (found["count"], found["listed"][0]["studies"]) == (1, ["s3", "x"])
    assert found["listed"][0]["splits"] == ["test", "train"]
    assert "1 patients have studies in more than one split" in document["warnings"][0]
    assert document["splits"]["all"]["patients"] == 8


def test_copies_of_pictures_are_found_though_moved_and_recoded(tmp_path: Path) -> None:
    def moved(p: Pixels) -> Pixels:
        result = np.roll(p, 1, 0)
        result[0] = 0
        return result

    base, stripes = picture(50) // 2 + 64, np.where(np.arange(SIZE) % 3 == 0, 60, -30)
    signs = np.random.default_rng(0).choice((-1, 1), (2, SIZE // 6, SIZE // 6)).repeat(6, 1).repeat(6, 2)
    alike = [(base + sign * stripes).astype(np.uint8) for sign in signs]
    blank = np.full((SIZE, SIZE), 7, np.uint8)
    studies = [
        study("a1", "a", "train", picture(0)),
        study("a2", "b", "test", picture(0)),
        study("a3", "c", "test", (picture(0) * 0.7).astype(np.uint8)),
        study("b1", "d", "train", picture(1)),
        study("b2", "d", "train", picture(1)),
        study("b3", "d", "train", moved(picture(1))),
        study("c1", "e", "train", picture(2)),
        study("c2", "f", "train", moved(picture(2))),
        study("d1", "g", "train", alike[0]),
        study("d2", "h", "test", alike[1]),
        study("e1", "i", "train", blank),
        study("e2", "j", "test", blank),
        *(study(f"z{i}", f"z{i}", "test", picture(100 + i)) for i in range(20)),
    ]
    document = inspect(tmp_path, studies)
    assert listed(document, "identical_pixels") == [["a1", "a2"], ["b1", "b2"]]
    assert listed(document, "near_identical_pixels") == [["a1", "a2", "a3"], ["c1", "c2"]]
    equal, near = (document["leakage"][f"{kind}_pixels"] for kind in ("identical", "near_identical"))
    assert (equal["count"], equal["across_patients"], equal["across_splits"], equal["blank_images"]) == (2, 1, 1, 2)
    assert (near["count"], near["across_splits"]) == (2, 1)
    assert all(pair["correlation"] >= 0.99 and len(pair["shift_px"]) == 2 for pair in near["listed"])
    said = " ".join(document["warnings"])
    for sentence in ("1 pictures stand under more than one patient", "2 images are blank", "2 pairs of images"):
        assert sentence in said


def test_a_report_of_two_patients_is_found_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    studies = [
        study("a1", "a", "train", text=LONG),
        study("a2", "b", "test", text=LONG.upper().replace(" ", "  ")),
        study("b1", "c", "train", text="No acute disease."),
        study("b2", "d", "train", text="No acute  disease."),
        study("c1", "e", "train", text="The same patient, the same split."),
        study("c2", "e", "train", text="The same patient, the same split."),
        study("d1", "f", "test", text="A text of its own."),
        study("d2", "g", "test", picture(0)),
        study("d3", "h", "test", picture(1)),
    ]
    document = inspect(tmp_path, studies)
    found = document["leakage"]["identical_reports"]
    assert [group["studies"] for group in found["listed"]] == [["a1", "a2"], ["b1", "b2"]]
    assert (found["count"], found["across_splits"], found["long"], found["long_across_splits"]) == (2, 1, 1, 1)
    assert [group["words"] for group in found["listed"]] == [28, 3]
    assert any("1 reports of 20 words or more" in warning for warning in document["warnings"])


def label(name: str, state: State, target: str = "findings", reader: str = "") -> Finding:
    return Finding(name, state, target, reader)


def test_a_report_that_names_its_label_is_found(tmp_path: Path) -> None:
    present, absent, silent = State.PRESENT, State.ABSENT, State.NOT_MENTIONED
    rows = [
        (present, 1, "Small pleural-effusions on the left. Patient died."),
        (present, 0, "No effusion."),
        (present, 0, "Clear."),
        (absent, 1, "No effusion. Hip_fractures."),
        (absent, None, "Lungs are clear."),
        (silent, 0, "Effusion."),
        (present, 0, ""),
    ]
    studies = [
        study(
            f"s{i}",
            str(i),
            "train",
            picture(i),
            text,
            findings=(label("pleural_effusion", state), label("hip_fracture", State.PRESENT, "own", "ann")),
            outcomes=(Outcome("died", died),),
        )
        for i, (state, died, text) in enumerate(rows)
    ]
    found = inspect(tmp_path, studies)["leakage"]["label_words"]["findings"]
    effusion = found["findings/pleural_effusion"]
    assert (effusion["present"], effusion["others"]) == (3, 2)  # what is not mentioned, or has no report, is neither
    assert effusion["named_if_present"] == pytest.approx(2 / 3)
    assert effusion["named_otherwise"] == pytest.approx(1 / 2)
    assert effusion["affirmed_if_present"] == pytest.approx(1 / 3)
    assert effusion["affirmed_otherwise"] == 0
    assert effusion["auroc"] == pytest.approx(0.5 + (1 / 3) / 2, abs=1e-4)
    assert found["outcome/died"]["named_if_present"] == 1 / 2
    assert found["outcome/died"]["named_otherwise"] == 0
    assert "affirmed_if_present" not in found["outcome/died"]
    assert found["own/hip_fracture"]["named_if_present"] == pytest.approx(1 / 6)
    assert (found["own/hip_fracture"]["others"], found["own/hip_fracture"]["auroc"]) == (0, None)


def test_a_section_that_gives_the_label_away_is_warned_of(tmp_path: Path) -> None:
    studies = [
        Study(
            f"s{i}",
            str(i),
            report=Report({"history": "Known hernias." if i % 2 else "Cough.", "findings": "Bowel in the chest."}),
            findings=(label("hernia", State.PRESENT if i % 2 else State.ABSENT),),
            split="train" if i < 20 else "test",
        )
        for i in range(24)
    ]
    document = inspect(tmp_path, studies)
    assert document["leakage"]["label_words"]["history"]["findings/hernia"]["auroc"] == 1
    assert document["leakage"]["label_words"]["findings"]["findings/hernia"]["auroc"] == 0.5
    assert [w.split(",")[0] for w in document["warnings"][1:]] == [
        "fewer than 5 studies of a class in test",
        "no study in validation",
    ]
    assert "section history gives findings/hernia away" in document["warnings"][0]


def test_the_labeler_reads_a_sample_and_the_words_are_looked_for_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chiasm.audit.leakage.MOST_READ", 5)
    studies = [
        study(
            f"s{i:02}", str(i), "train", text="Mass.", findings=(label("mass", State.PRESENT if i else State.ABSENT),)
        )
        for i in range(20)
    ]
    cohort = write_cohort(studies, tmp_path / "c", source="crafted", options={}, size=32, split="published")
    entry = label_words(cohort)["findings"]["findings/mass"]
    assert (entry["present"], entry["others"], entry["read"]) == (19, 1, 5)
    assert entry["affirmed_if_present"] == 1


def test_a_label_without_positives_is_said(tmp_path: Path) -> None:
    studies = [
        study(f"s{i}", str(i), split, picture(i), findings=(label("mass", state),), outcomes=(Outcome("died", died),))
        for i, (split, state, died) in enumerate(
            [("train", State.PRESENT, 0), ("train", State.ABSENT, 0), ("test", State.UNCERTAIN, 1)]
        )
    ]
    assert inspect(tmp_path, studies)["warnings"] == [
        "no positive study in train, so it cannot be learned: outcome/died",
        "fewer than 5 studies of a class in train, so little can be learned: findings/mass (1)",
        "no positive study in test, so it cannot be scored: findings/mass",
        "no negative study in test, so it cannot be scored: outcome/died",
        "no study in validation, so nothing can be trained: import with another --seed, or train with --folds",
    ]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.REGRESSION, (7.0,) * 8),
        (Kind.ORDINAL, (2.0,) * 8),
        (Kind.MULTICLASS, ("small",) * 8),
        (Kind.BINARY, (1.0,) * 8),
    ],
)
def test_a_label_that_is_the_same_for_all_is_said_of_any_kind(
    tmp_path: Path, kind: Kind, values: tuple[Any, ...]
) -> None:
    def warned(name: str, changed: Any) -> str:
        own = [*values[:-1], changed]
        studies = [
            study(
                f"s{i}", str(i), ("train", "validation")[i % 2], picture(i), outcomes=(Outcome("y", own[i], kind, "t"),)
            )
            for i in range(8)
        ]
        return " ".join(w for w in inspect(tmp_path / name, studies)["warnings"] if "in train" in w)

    assert "so it cannot be learned: t/y" in warned("same", values[-1])
    other = {Kind.BINARY: 0.0, Kind.MULTICLASS: "large"}.get(kind, 9.0)
    studies_differ = [
        study(f"s{i}", str(i), "train", picture(i), outcomes=(Outcome("y", values[0] if i % 2 else other, kind, "t"),))
        for i in range(12)
    ]
    assert not [w for w in inspect(tmp_path / "differ", studies_differ)["warnings"] if "in train" in w]


def test_a_cohort_without_anything_wrong_says_so(tmp_path: Path) -> None:
    studies = [study(f"s{i}", str(i), ("train", "validation", "test")[i % 3], picture(i)) for i in range(4)]
    document = inspect(tmp_path, studies)
    assert document["warnings"] == []
    assert "nothing to warn of" in render_inspection(document)


def test_no_text_and_no_patient_comes_out(tmp_path: Path) -> None:
    studies = [
        study(f"s{i}", "xyzzy", "train" if i % 2 else "test", picture(i % 3), LONG + "xyzzy", record=Record({"age_years": 5.0}))
        for i in range(6)
    ]  # fmt: skip
    document = inspect(tmp_path, studies)
    assert document["leakage"]["shared_patients"]["count"] == 1
    for text in (json.dumps(document), render_inspection(document)):
        assert "xyzzy" not in text
        assert "mildly" not in text


def test_the_whole_document_as_text(tmp_path: Path) -> None:
    studies = [
        study(
            "s1", "a", "train", picture(0), LONG,
            record=Record({"age_years": 40.0, "sex": "f"}, frozenset({"sex"})),
            findings=(label("mass", State.PRESENT),), outcomes=(Outcome("score", 2.5, Kind.REGRESSION, "severity"),),
            regions=(Region("mass", "s1-0", (1, 1, 5, 5)),),
        ),
        study("s2", "b", "test", picture(1), LONG, findings=(label("mass", State.ABSENT),)),
    ]  # fmt: skip
    text = render_inspection(inspect(tmp_path, studies))
    lines = [re.sub(r"\s{2,}", " | ", line.strip()) for line in text.splitlines()]
    for line in (
        "studies | 1 | 0 | 1 | 2",
        "with region | 1 | 0 | 0 | 1",
        "view | pa 2",
        "mass | 1 of 1 (100.0%) | - | 0 of 1 (0.0%) | 1 of 2 (50.0%)",
        "score | 1, 2.5 (2.5..2.5) | - | - | 1, 2.5 (2.5..2.5)",
        "record age_years | 0% | - | 100% | 50%",
        "sex (unknown time) | f 1",
        "identical reports | 1 | 1 | 1",
        "identical reports: s1, s2 (test, train)",
    ):
        assert line in lines
    assert lines[-1].startswith("this page holds study ids")


def test_real_chest_xrays_have_one_pair_and_no_false_ones(shared_data: Path, tmp_path: Path) -> None:
    cohort = import_cohort("chestxray14", shared_data / "nih-chestxray14", tmp_path / "c", size=128)
    document = inspect_cohort(cohort)
    assert document["leakage"]["shared_patients"]["count"] == 0
    assert listed(document, "identical_pixels") == [["00002658_001", "00002658_002"]]
    assert document["leakage"]["identical_pixels"]["across_patients"] == 0
    assert document["leakage"]["near_identical_pixels"]["count"] == 0
    hashes = cohort.images["perceptual_hash"].to_numpy(np.uint64)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= 10
    assert near.sum() > 1000  # what the hash alone would say


def test_notes_and_what_is_unknown_not_at_random_are_said(tmp_path: Path) -> None:
    def of(i: int) -> Study:
        record, value = Record({"score": float(i)}), None if i < 60 else 1.0
        return Study(
            f"s{i:03}", f"p{i}", record=record, outcomes=(Outcome("bad", value),), facts={"volume_ml": float(i)}
        )

    studies = [of(i) for i in range(120)]
    cohort = write_cohort(studies, tmp_path / "c", source="s", options={}, notes=("An expert drew it.",))
    document = inspect_cohort(cohort)
    said = "outcome/bad is unknown in 100% of studies with score up to 29.75 and in 0% from 89.25"
    assert any(warning.startswith(said) for warning in document["warnings"])
    lines = render_inspection(document).splitlines()
    assert "note: An expert drew it." in lines
    assert any("volume_ml" in line and "0 .. 29.75 .. 59.5 .. 89.25 .. 119" in line for line in lines)
