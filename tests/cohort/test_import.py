"""From hand-made studies to a folder on disk: what is taken, what is rejected, and that it is whole or not there."""

import csv
import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import CohortError, InputError
from chiasm.geometry import Geometry
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Rejected, Report, State, Study


def write(studies, out: Path, **options) -> Cohort:
    return write_cohort(studies, out, source="hand", options={}, **{"size": 32, **options})


def rejections(cohort: Cohort) -> list[tuple[str, str]]:
    rows = list(csv.reader((cohort.path / "rejected.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["where", "reason", "taken"]
    return [(where, reason) for where, reason, _ in rows[1:]]


def test_same_studies_give_the_same_hash_in_any_order_and_place(make_study, tmp_path: Path) -> None:
    studies = [make_study(i) for i in range(6)]
    first = write(studies, tmp_path / "a")
    again = write(reversed(studies), tmp_path / "deep" / "er" / "b")
    assert first.hash == again.hash
    assert first.studies.equals(again.studies)
    np.testing.assert_array_equal(first.pixels(4), again.pixels(4))
    moved = replace(studies[0].images[0], source="elsewhere/x.png")
    assert write([replace(studies[0], images=(moved,)), *studies[1:]], tmp_path / "c").hash == first.hash


def changed_pixel(study: Study) -> Study:
    pixels = study.images[0].pixels.copy()
    pixels[20, 15] ^= 0x80
    return replace(study, images=(replace(study.images[0], pixels=pixels),))


@pytest.mark.parametrize(
    "change",
    [
        changed_pixel,
        lambda s: replace(s, findings=(Finding("pneumonia", State.UNCERTAIN, reader="a"), s.findings[1])),
        lambda s: replace(s, findings=(replace(s.findings[0], reader="c"), s.findings[1])),
        lambda s: replace(s, report=Report({"history": "Cough 1", "findings": "No effusion."})),
        lambda s: replace(s, record=Record({"age_years": 21.5, "sex": "m"})),
        lambda s: replace(s, record=replace(s.record, unknown_time=frozenset({"sex"}))),
        lambda s: replace(s, regions=(replace(s.regions[0], box=(2.0, 4.0, 20.0, 30.5)),)),
        lambda s: replace(s, outcomes=(s.outcomes[0], replace(s.outcomes[1], value=0.25))),
        lambda s: replace(s, patient_id="p099"),
        lambda s: replace(s, bayes={"image": 0.5}),
    ],
)
def test_hash_changes_with_anything_that_is_content(change, make_study, tmp_path: Path) -> None:
    studies = [make_study(i) for i in range(4)]
    hashes = {
        write(each, tmp_path / str(i)).hash
        for i, each in enumerate((studies, [*studies[:1], change(studies[1]), *studies[2:]]))
    }
    assert len(hashes) == 2


def test_the_tables_are_plain_parquet_with_the_documented_columns(make_study, tmp_path: Path) -> None:
    import pandas as pd

    cohort = write([make_study(i, bayes={"image": 0.25, "image+record": 0.75}) for i in range(4)], tmp_path / "c")
    studies = pd.read_parquet(cohort.path / "studies.parquet")
    assert set(studies) == {
        *("study_id", "patient_id", "split", "report_image_id", "report.history", "report.findings"),
        *("findings.pneumonia", "findings.edema", "outcome.died", "severity.score"),
        *("record.age_years", "record.sex", "bayes.image", "bayes.image+record"),
    }
    assert studies["findings.pneumonia"].tolist() == ["absent", "present"] * 2
    regions = pd.read_parquet(cohort.path / "regions.parquet")
    assert regions[["x_min", "y_min", "x_max", "y_max"]].values.tolist() == [[2, 4, 20, 30]] * 2
    assert set(regions["reader"]) == {"b"}
    assert np.load(cohort.path / "pixels_2d.npy", mmap_mode="r").shape == (4, 1, 32, 32)
    meta = json.loads((cohort.path / "cohort.json").read_text())
    assert meta["counts"]["images"] == 4
    assert meta["counts"]["patients"] == 2
    rules = {"CT": "0,2000", "SEG": "mask", "other": "percentile"}
    assert meta["preprocessing"] == {
        "size": 32,
        "volume_size": [64, 64, 64],
        "crop": "",
        "intensity": rules,
        "modalities": {"pixels_2d": ["DX"]},
    }
    assert meta["channels"] == {"pixels_2d": ["gray"]}
    assert meta["targets"]["findings"] == {
        "kind": "binary",
        "labels": ["edema", "pneumonia"],
        "readers": ["a", "a"],
        "of": "findings",
    }
    assert str(tmp_path) not in json.dumps(meta)


def test_missing_values_are_none_and_nan_is_missing(make_study, tmp_path: Path) -> None:
    studies = [
        make_study(0, record=Record({"age_years": float("nan"), "sex": " ", "bmi": None}), report=None),
        make_study(1, outcomes=(Outcome("died", float("nan")), Outcome("late", None)), findings=()),
    ]
    cohort = write(studies, tmp_path / "c")
    rows = cohort.studies
    assert rows["record.sex"].tolist() == [None, "m"]
    assert rows["report.findings"].tolist() == [None, "No effusion."]
    assert rows["findings.pneumonia"].tolist() == ["absent", None]
    assert np.isnan(rows["record.age_years"][0])
    assert np.isnan(rows["outcome.died"][1])
    assert rows["outcome.late"].isna().all()
    assert cohort.meta["counts"]["empty_record_columns"] == ["bmi"]
    assert "bmi" not in cohort.record


def test_duplicates_are_rejected_and_lose_nothing_else(make_study, make_image, tmp_path: Path) -> None:
    twice = make_study(3, images=(make_image("i000", seed=9), make_image("i003", seed=3)))
    cohort = write([make_study(0), make_study(1), make_study(1, patient_id="p9"), twice], tmp_path / "c")
    assert cohort.studies["study_id"].tolist() == ["s000", "s001", "s003"]
    assert cohort.studies["patient_id"].tolist() == ["p000", "p000", "p001"]
    assert cohort.images["image_id"].tolist() == ["i000", "i001", "i003"]
    assert rejections(cohort) == [
        ("study 3 (images/i001.png)", "the study id occurred before"),
        ("images/i000.png", "the image id occurred before"),
    ]
    assert len(cohort.array(2)) == 3
    assert cohort.meta["counts"]["rejected"] == 2
    assert cohort.boxes(2, "findings", "pneumonia").tolist() == [[2, 4, 20, 30]]


def test_what_cannot_be_taken_is_named_and_the_rest_is_kept(make_study, make_image, tmp_path: Path) -> None:
    nan = Image("nan", np.array([[np.nan, 1.0]]), Geometry.identity((1, 2)), source="nan.tif")
    crooked = replace(make_image("crooked"), geometry=Geometry.identity((3, 3)))
    mask = np.ones((2, 2), bool)
    regions = (
        Region("pneumonia", "elsewhere", (0, 0, 1, 1)),
        Region("pneumonia", "i000"),
        Region("pneumonia", "i000", (5, 5, 5, 9)),
        Region("pneumonia", "i000", (5, float("nan"), 6, 9)),
        Region("pneumonia", "i000", mask=mask),
        Region("pneumonia", "i000", (1, 1, 2, 2)),
    )
    said = (("pneumonia", State.PRESENT), ("pneumonia", State.ABSENT), ("edema", State.PRESENT))
    two_states = tuple(Finding(name, state, reader="a") for name, state in said)
    outcomes = (Outcome("died", 3.0), Outcome("score", float("inf"), Kind.REGRESSION, "severity"))
    studies = [
        make_study(0, images=(nan, *make_study(0).images, crooked), regions=regions),
        make_study(1, findings=two_states, outcomes=outcomes),
        make_study(2, record=Record({"age_years": float("inf"), "sex": "f"})),
        make_study(3, images=(), report=Report({"findings": "  "}), record=None, regions=()),
        make_study(4, patient_id=""),
        make_study(5, split="holdout"),
        Rejected("row 17", "no such file"),
    ]
    cohort = write(studies, tmp_path / "c")
    assert cohort.studies["study_id"].tolist() == ["s000", "s001", "s002"]
    assert cohort.images["image_id"].tolist() == ["i000", "i001", "i002"]
    assert len(cohort.regions[cohort.regions["study_id"] == "s000"]) == 1
    assert cohort.studies["findings.pneumonia"].tolist() == ["absent", None, "absent"]
    assert cohort.studies["findings.edema"].tolist() == ["uncertain", "present", "uncertain"]
    found = [reason for _, reason in rejections(cohort)]
    for part in (
        "NaN",
        "do not belong together",
        "lies in an image that the study does not hold",
        "neither box nor mask",
        "box without area",
        "mask of shape (2, 2)",
        "two values by one reader",
        "outcome/died is not 0 or 1",
        "severity/score is not a finite number",
        "record column age_years is infinite",
        "no image, no report text and no record value",
        "patient id is empty",
        "published split",
        "no such file",
    ):
        assert any(part in reason for reason in found), part
    assert len(found) == 15  # the box without area twice
    assert not any("p00" in where + reason for where, reason in rejections(cohort))


def test_strict_stops_at_the_first_rejection(make_study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        write([make_study(0), Rejected("row 17", "no such file")], tmp_path / "c", strict=True)
    assert caught.value.where == "row 17"
    assert list(tmp_path.iterdir()) == []


def test_report_only_and_record_only_studies_are_taken(make_study, tmp_path: Path) -> None:
    cohort = write([make_study(0, images=()), make_study(1, images=(), report=None, regions=())], tmp_path / "c")
    assert (len(cohort), len(cohort.images)) == (2, 0)
    assert not (cohort.path / "pixels_2d.npy").exists()
    assert cohort.array(2).shape == (0, 1, 32, 32)
    assert cohort.image_rows(1) == []
    assert cohort.meta["counts"]["studies_without_image"] == 2
    cohort.verify()


def test_a_target_or_column_of_two_kinds_is_an_error(make_study, tmp_path: Path) -> None:
    mixed = make_study(1, outcomes=(Outcome("died", 1.0), Outcome("score", 2.0, Kind.REGRESSION)))
    with pytest.raises(CohortError, match="outcome is of two kinds"):
        write([make_study(0), mixed], tmp_path / "c")
    with pytest.raises(CohortError, match="findings is of two kinds"):
        write([make_study(0, outcomes=(Outcome("died", 1.0, target="findings"),))], tmp_path / "c")
    with pytest.raises(CohortError, match="age_years holds both numbers and words"):
        write([make_study(0), make_study(1, record=Record({"age_years": "old"}))], tmp_path / "c")
    with pytest.raises(CohortError, match="name cannot be used"):
        write([make_study(0, findings=(Finding("x", State.PRESENT, "record"),))], tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_two_readers_truths_stay_two_truths(make_study, tmp_path: Path) -> None:
    scores = [Outcome("extent", v, Kind.REGRESSION, "severity", reader) for v, reader in ((2.0, "S"), (5.0, "J"))]
    states = (Finding("pneumonia", State.PRESENT, reader="S"), Finding("pneumonia", State.ABSENT, reader="J"))
    region = Region("pneumonia", "i001", (1, 1, 5, 5), reader="S")
    cohort = write(
        [make_study(0), make_study(1, findings=states, outcomes=tuple(scores), regions=(region,))], tmp_path / "c"
    )
    info = cohort.targets["severity"]
    assert dict(zip(info.labels, info.readers, strict=True)) == {"extent_s": "S", "extent_j": "J", "score": ""}
    assert cohort.labels("severity", ["extent_s", "extent_j"])[0][1].tolist() == [2.0, 5.0]
    assert set(cohort.targets["findings"].labels) == {"edema", "pneumonia_a", "pneumonia_s", "pneumonia_j"}
    assert len(cohort.boxes(1, "findings", "pneumonia_s")) == 1
    again = write([cohort.study(row) for row in range(2)], tmp_path / "again")
    assert again.targets == cohort.targets


def test_boxes_beyond_the_frame_are_kept_as_published_and_counted(make_study, tmp_path: Path) -> None:
    inside = (0.0, 0.0, 30.0, 40.0)  # the whole image of 40 x 30 pixels
    beyond = [(-0.5, 4.0, 20.0, 30.0), (1.0, -2.0, 20.0, 30.0), (1.0, 4.0, 30.5, 30.0), (1.0, 4.0, 20.0, 40.5)]
    studies = [
        make_study(i, regions=(Region("pneumonia", f"i{i:03}", box),)) for i, box in enumerate([inside, *beyond])
    ]
    cohort = write(studies, tmp_path / "c")
    assert cohort.meta["counts"]["boxes_outside"] == 4
    assert [cohort.boxes(row, "findings", "pneumonia").tolist() for row in range(1, 5)] == [
        [list(box)] for box in beyond
    ]
    assert cohort.mask(1, "findings", "pneumonia").sum() == 20 * 26


def test_a_split_is_published_or_hashed_as_asked(make_study, tmp_path: Path) -> None:
    studies = [make_study(i) for i in range(60)]
    published = [replace(s, split="test" if i % 3 else "train") for i, s in enumerate(studies)]
    assert write(published, tmp_path / "a").meta["split_rule"] == "published"
    assert len(write(published, tmp_path / "b").rows("test")) == 40
    assert write([*published[1:], studies[0]], tmp_path / "c").meta["split_rule"] == "hash 70/10/20"
    assert write(published, tmp_path / "d", split="hash").meta["split_rule"] == "hash 70/10/20"
    with pytest.raises(CohortError, match="published split"):
        write([*published[1:], studies[0]], tmp_path / "e", split="published")
    hashed = write(studies, tmp_path / "f", seed=5)
    assert hashed.studies.groupby("patient_id")["split"].nunique().max() == 1
    assert (hashed.studies["split"] != write(studies, tmp_path / "g", seed=6).studies["split"]).any()
    with pytest.raises(CohortError, match="no such split rule"):
        write(studies, tmp_path / "h", split="random")


def test_boxes_to_test_sends_every_boxed_patient_there(make_study, tmp_path: Path) -> None:
    lung = Region("left_lung", "i010", (1, 1, 5, 5), target="anatomy")
    studies = [make_study(i, regions=()) for i in range(40)]
    studies[10] = make_study(10, regions=(lung,))
    studies[9] = make_study(9)  # one of patient p004's two studies has a box
    plain, boxed = write(studies, tmp_path / "a", split="hash"), write(studies, tmp_path / "b", split="boxes-to-test")
    assert boxed.meta["split_rule"] == "boxes-to-test"
    assert plain.studies["split"][8:10].tolist() == ["train", "train"]
    assert boxed.studies["split"][8:10].tolist() == ["test", "test"]
    others = plain.studies["patient_id"] != "p004"
    assert (plain.studies["split"] == boxed.studies["split"])[others].all()
    with pytest.raises(CohortError, match="no study has a region"):
        write([make_study(i, regions=()) for i in range(3)], tmp_path / "c", split="boxes-to-test")


def test_nothing_is_overwritten_and_nothing_empty_is_written(make_study, tmp_path: Path) -> None:
    write([make_study(0)], tmp_path / "c")
    with pytest.raises(CohortError, match="exists already"):
        write([make_study(0)], tmp_path / "c")
    with pytest.raises(CohortError, match="no study could be used") as caught:
        write([Rejected("a.png", "is empty")], tmp_path / "d")
    assert "a.png: is empty" in caught.value.remedy
    (tmp_path / "e").mkdir()
    write([make_study(0)], tmp_path / "e")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "e"]


def test_an_error_in_the_middle_leaves_nothing(make_study, tmp_path: Path) -> None:
    def failing():
        yield make_study(0)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c.lock", "c.partial"]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write(failing(), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
    assert write([make_study(0)], tmp_path / "c").path == tmp_path / "c"


def test_two_imports_cannot_write_one_cohort(make_study, tmp_path: Path) -> None:
    def nested():
        yield make_study(0)
        with pytest.raises(CohortError, match="another import"):
            write([make_study(0)], tmp_path / "c")
        yield make_study(1)

    assert len(write(nested(), tmp_path / "c")) == 2


def test_a_killed_import_leaves_a_partial_folder_and_a_lock_that_the_next_one_removes(
    make_study, tmp_path: Path
) -> None:
    script = """
        import sys, time
        from pathlib import Path
        import numpy as np
        from chiasm.cohort.store import write_cohort
        from chiasm.geometry import Geometry
        from chiasm.study import Image, Study

        def studies():
            for i in range(10**6):
                pixels = np.full((32, 32), i % 256, np.uint8)
                yield Study(f"s{i}", f"p{i}", (Image(f"i{i}", pixels, Geometry.identity((32, 32))),))
                time.sleep(0.001)

        write_cohort(studies(), Path(sys.argv[1]), source="hand", options={}, size=32)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "c")])
    partial = tmp_path / "c.partial"
    for _ in range(3000):
        if (partial / "pixels_2d.npy").exists() and (partial / "pixels_2d.npy").stat().st_size > 10_000:
            break
        time.sleep(0.01)
    with pytest.raises(CohortError, match="another import"):
        write([make_study(0)], tmp_path / "c")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.lock", "c.partial"]
    with pytest.raises(CohortError, match="this is no cohort"):
        Cohort.open(tmp_path / "c")
    write([make_study(0)], tmp_path / "c").verify()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_progress_counts_studies_and_rejected_inputs(make_study, tmp_path: Path) -> None:
    seen: list[int] = []
    write([make_study(0), Rejected("x", "y"), make_study(1)], tmp_path / "c", progress=seen.append)
    assert seen == [1, 2, 3]
