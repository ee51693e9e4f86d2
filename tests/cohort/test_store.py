import json
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chiasm.cohort.store import MEMORY, SCHEMA, Cohort, cohort_from_studies, write_cohort
from chiasm.errors import CohortError, InputError
from chiasm.geometry import Geometry
from chiasm.sources.registry import find_source
from chiasm.study import Image, Kind, Region, Rejected, Report, State, View


@pytest.fixture(scope="module")
def cohort(make_study, make_image, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six studies of one image each; a seventh with a lateral view too and a mask, an eighth with a volume."""
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:9] = True
    lateral = replace(make_image("lateral", seed=60), view=View.LATERAL)
    regions = (
        Region("pneumonia", "lateral", mask=mask, reader="b"),
        Region("pneumonia", "lateral", (7.0, 18.0, 12.0, 25.0), reader="c"),
        Region("left_lung", "i006", (1.0, 2.0, 10.0, 30.0), target="anatomy"),
    )
    volume = Image(
        "vol", np.random.default_rng(7).integers(0, 2000, (6, 10, 12)), Geometry.identity((6, 10, 12), (5.0, 1.0, 1.0))
    )
    lesion = np.zeros((6, 10, 12), bool)
    lesion[1:3, 2:4, 5:11] = True
    studies = [
        *(make_study(i) for i in range(6)),
        make_study(
            6, images=(*make_study(6).images, lateral), regions=regions, report=Report({"caption": "A."}, "lateral")
        ),
        make_study(7, images=(volume,), regions=(Region("pneumonia", "vol", mask=lesion),), bayes={"image": 0.125}),
    ]
    out = tmp_path_factory.mktemp("store") / "cohort"
    return write_cohort(studies, out, source="hand", options={"k": 1}, size=48, volume_size=(8, 12, 12))


def test_what_was_written_comes_back(cohort: Cohort, make_study) -> None:
    assert (len(cohort), cohort.source, cohort.size, cohort.sections) == (
        8,
        "hand",
        48,
        ("history", "findings", "caption"),
    )
    original, back = make_study(3), cohort.study(3)
    assert (back.study_id, back.patient_id, back.report, back.record) == (
        "s003",
        "p001",
        original.report,
        original.record,
    )
    assert set(back.findings) == set(original.findings)
    assert back.outcomes == original.outcomes
    assert back.regions == original.regions
    assert back.bayes == {}
    assert cohort.study(7).bayes == {"image": 0.125}
    image = back.images[0]
    assert (image.image_id, image.view, image.dicom_modality, image.source) == (
        "i003",
        View.PA,
        "DX",
        "images/i003.png",
    )
    assert image.geometry.original_shape == (40, 30)
    assert image.geometry.shape == image.pixels.shape == (48, 48)
    caption = cohort.study(6).report
    assert caption == Report({"caption": "A."}, "lateral")
    assert [i.view for i in cohort.study(6).images] == [View.PA, View.LATERAL]


def test_stored_pixels_are_the_original_in_proportion(cohort: Cohort, make_study) -> None:
    row = cohort.image_rows(3)[0]
    pixels, geometry = cohort.pixels(row), cohort.geometry(row)
    assert pixels.base is not None  # a view of the file
    assert geometry.boxes_to_stored(np.array([[0, 0, 30, 40]])).tolist() == [[6, 0, 42, 48]]  # 30 x 40 in 36 x 48
    assert not pixels[:, :6].any()
    assert not pixels[:, 42:].any()
    assert abs(pixels[:, 6:42].mean() - make_study(3).images[0].pixels.mean()) < 3


def test_a_study_of_the_store_can_be_stored_again(cohort: Cohort, tmp_path: Path) -> None:
    studies = [cohort.study(row) for row in range(len(cohort))]
    again = write_cohort(studies, tmp_path / "again", source="copy", options={}, size=48, volume_size=(8, 12, 12))
    assert again.targets == cohort.targets
    assert again.record == cohort.record
    for row in range(8):
        np.testing.assert_array_equal(again.pixels(row), cohort.pixels(row))
        assert again.geometry(row).original_shape == cohort.geometry(row).original_shape
        np.testing.assert_array_equal(
            again.boxes(row, "findings", "pneumonia"), cohort.boxes(row, "findings", "pneumonia")
        )


def test_labels_have_a_mask_and_never_nan(cohort: Cohort) -> None:
    values, mask = cohort.labels("findings", ["edema", "pneumonia", "hernia"])
    assert values.tolist() == [[0, i % 2, 0] for i in range(8)]
    assert mask.tolist() == [[False, True, False]] * 8
    assert values.dtype == np.float32
    for rule, value in (("positive", 1.0), ("negative", 0.0)):
        values, mask = cohort.labels("findings", ["edema"], rule)
        assert mask.all()
        assert (values == value).all()
    assert cohort.labels("severity", ["score"])[0][:, 0].tolist() == [i / 2 for i in range(8)]
    values, mask = cohort.labels("nowhere", ["a", "b"])
    assert (values.shape, mask.any()) == ((8, 2), False)


def test_texts_join_sections_in_the_order_asked(cohort: Cohort) -> None:
    assert cohort.texts(["findings", "history"])[2] == "No effusion.\ncough 2"
    assert cohort.texts(["caption", "impression"]) == ["", "", "", "", "", "", "A.", ""]
    assert cohort.texts([]) == [""] * 8


def test_regions_as_boxes_and_as_a_mask_in_the_original_frame(cohort: Cohort) -> None:
    row = cohort.image_rows(6)[1]
    assert cohort.boxes(row, "findings", "pneumonia").tolist() == [[5, 10, 9, 20], [7, 18, 12, 25]]
    expected = np.zeros((40, 30), bool)
    expected[10:20, 5:9] = expected[18:25, 7:12] = True
    np.testing.assert_array_equal(cohort.mask(row, "findings", "pneumonia"), expected)
    assert cohort.mask(row, "findings", "edema") is None
    assert cohort.boxes(row, "findings", "edema").shape == (0, 4)
    assert cohort.boxes(cohort.image_rows(6)[0], "anatomy", "left_lung").tolist() == [[1, 2, 10, 30]]
    volume = cohort.image_rows(7)[0]
    assert cohort.boxes(volume, "findings", "pneumonia").tolist() == [[5, 2, 11, 4]]
    assert cohort.mask(volume, "findings", "pneumonia").sum() == 2 * 2 * 6


def test_a_volume_is_stored_apart(cohort: Cohort) -> None:
    row = cohort.image_rows(7)[0]
    assert cohort.pixels(row).shape == (8, 12, 12)
    assert cohort.geometry(row).spacing_mm == (5.0, 1.0, 1.0)
    assert (cohort.array(2).shape, cohort.array(3).shape) == ((8, 1, 48, 48), (1, 1, 8, 12, 12))
    assert cohort.targets["severity"].kind is Kind.REGRESSION


def test_tables_in_pandas_have_none_for_missing_text(cohort: Cohort) -> None:
    assert cohort.studies["report.caption"].tolist() == [None] * 6 + ["A.", None]
    assert cohort.images["perceptual_hash"].dtype == np.uint64
    assert [len(runs) if runs is not None else 0 for runs in cohort.regions["rle"]] == [0, 0, 0, 21, 0, 0, 9]
    assert [State(s) for s in cohort.studies["findings.edema"]] == [State.UNCERTAIN] * 8


def test_image_study_and_rows_agree(cohort: Cohort) -> None:
    assert cohort.image_study.tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 7]
    assert [cohort.image_rows(row) for row in (0, 6, 7)] == [[0], [6, 7], [8]]
    rows = np.concatenate([cohort.rows(split) for split in ("train", "validation", "test")])
    assert sorted(rows) == list(range(8))


def test_a_cohort_is_pickled_by_its_path(cohort: Cohort) -> None:
    assert len(pickle.dumps(cohort)) < 1000
    assert pickle.loads(pickle.dumps(cohort)).hash == cohort.hash


# --- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(cohort: Cohort, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort.path, tmp_path / "copy"))


def test_verify_passes_on_a_copy(copy: Path) -> None:
    Cohort.open(copy).verify()


def test_verify_sees_one_changed_pixel(copy: Path) -> None:
    pixels = np.load(copy / "pixels_2d.npy", mmap_mode="r+")
    pixels[4, 0, 20, 20] ^= 1
    pixels.flush()
    with pytest.raises(CohortError, match="the pixels of image row 4"):
        Cohort.open(copy).verify()


def test_verify_sees_one_label_and_one_word_of_cohort_json(copy: Path) -> None:
    file = copy / "studies.parquet"
    intact = file.read_bytes()
    table = pq.read_table(file)
    column = table["findings.pneumonia"].to_pylist()
    column[2] = "present"
    pq.write_table(
        table.set_column(table.column_names.index("findings.pneumonia"), "findings.pneumonia", [column]), file
    )
    with pytest.raises(CohortError, match="the tables or"):
        Cohort.open(copy).verify()
    file.write_bytes(intact)
    Cohort.open(copy).verify()
    meta = json.loads((copy / "cohort.json").read_text())
    meta["targets"]["severity"]["kind"] = "ordinal"
    (copy / "cohort.json").write_text(json.dumps(meta))
    with pytest.raises(CohortError, match="the tables or"):
        Cohort.open(copy).verify()


def test_rewritten_tables_with_the_same_content_pass(copy: Path) -> None:
    table = pq.read_table(copy / "studies.parquet")
    pq.write_table(table, copy / "studies.parquet", compression="none", row_group_size=3)
    Cohort.open(copy).verify()


def test_a_folder_that_holds_no_cohort_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="this is no cohort") as caught:
        Cohort.open(tmp_path / "nowhere")
    assert caught.value.got == "no such folder"
    assert "chiasm import" in caught.value.remedy
    with pytest.raises(CohortError, match="a folder without"):
        Cohort.open(tmp_path)


def test_a_cohort_of_another_schema_version_is_refused(copy: Path) -> None:
    meta = json.loads((copy / "cohort.json").read_text())
    (copy / "cohort.json").write_text(json.dumps({**meta, "schema": 2}))
    with pytest.raises(CohortError, match="another schema") as caught:
        Cohort.open(copy)
    assert (caught.value.expected, caught.value.got) == (f"schema {SCHEMA}", "schema 2")
    assert caught.value.remedy == "import it again: chiasm import hand PATH --out COHORT --size 48"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("cohort.json", lambda raw: raw[:40]),
        ("cohort.json", lambda raw: b"[]"),
        ("cohort.json", lambda raw: b'{"schema": %d}' % SCHEMA),
        ("pixels_2d.npy", lambda raw: raw[:-100]),
        ("pixels_2d.npy", lambda raw: raw[:20]),
        ("pixels_2d.npy", lambda raw: b""),
        ("pixels_2d.npy", None),
        ("pixels_3d.npy", None),
        ("studies.parquet", lambda raw: raw[:-8]),
        ("studies.parquet", None),
    ],
)
def test_damage_is_one_readable_error(copy: Path, file: str, damage) -> None:
    path = copy / file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CohortError) as caught:
        Cohort.open(copy)
    assert str(copy) in caught.value.where
    assert caught.value.remedy


def test_a_damaged_table_is_an_error_when_it_is_read(copy: Path) -> None:
    (copy / "images.parquet").write_bytes(b"PAR1")
    with pytest.raises(CohortError, match="damaged"):
        Cohort.open(copy).images  # noqa: B018


def test_an_array_of_another_length_is_an_error(copy: Path) -> None:
    np.save(copy / "pixels_2d.npy", np.load(copy / "pixels_2d.npy")[:-1])
    with pytest.raises(CohortError, match="does not fit its cohort") as caught:
        Cohort.open(copy)
    assert caught.value.got == "uint8 (7, 1, 48, 48)"


def test_a_pickled_array_is_not_loaded(copy: Path) -> None:
    np.save(copy / "pixels_2d.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CohortError):
        Cohort.open(copy)


def test_facts_names_and_notes_come_back_and_count_as_content(make_study, make_image, tmp_path: Path) -> None:
    def written(name: str, volume_ml: float | None) -> Cohort:
        image = replace(make_image("i000"), name="FLAIR")
        facts = {"lesion_volume_ml": volume_ml, "hemisphere": "left", "never": None}
        studies = [make_study(0, images=(image,), regions=(), facts=facts), make_study(1)]
        return write_cohort(studies, tmp_path / name, source="hand", options={}, size=16, notes=("An expert drew it.",))

    cohort = written("a", 12.5)
    assert cohort.study(0).facts == {"hemisphere": "left", "lesion_volume_ml": 12.5}
    assert cohort.study(1).facts == {"hemisphere": None, "lesion_volume_ml": None}
    assert {name: info.kind for name, info in cohort.facts.items()} == {
        "hemisphere": "categorical",
        "lesion_volume_ml": "numeric",
    }
    assert cohort.studies["fact.lesion_volume_ml"].tolist()[0] == 12.5
    assert not set(cohort.record) & set(cohort.facts)
    assert [image.name for row in (0, 1) for image in cohort.study(row).images] == ["FLAIR", ""]
    assert cohort.notes == ("An expert drew it.",)
    cohort.verify()
    assert written("b", 12.5).hash == cohort.hash != written("c", 12.6).hash


# --- in memory ---------------------------------------------------------------------------------------------------------


def assert_equal(memory: Cohort, disk: Cohort) -> None:
    """Every table, pixel, word of cohort.json and answer of the two is the same."""
    assert memory.hash == disk.hash
    assert memory.meta == disk.meta
    assert len(memory) == len(disk)
    for name in ("studies", "images", "regions"):
        assert memory.table(name).schema.equals(disk.table(name).schema)
        assert memory.table(name).to_pylist() == disk.table(name).to_pylist()
        pd.testing.assert_frame_equal(getattr(memory, name), getattr(disk, name))
    columns = ["patient_id", "study_id"]
    parts = [[row for part in cohort.parts(columns) for row in part.to_pylist()] for cohort in (memory, disk)]
    assert parts[0] == parts[1]
    for ndim in (2, 3):
        np.testing.assert_array_equal(memory.array(ndim), disk.array(ndim))
    assert memory.arrays.keys() == disk.arrays.keys()
    assert (memory.atlas is None) == (disk.atlas is None)
    if disk.atlas is not None:
        np.testing.assert_array_equal(memory.atlas, disk.atlas)
    assert memory.texts(disk.sections) == disk.texts(disk.sections)
    for target, info in disk.targets.items():
        for own, other in zip(memory.labels(target, info.labels), disk.labels(target, info.labels), strict=True):
            np.testing.assert_array_equal(own, other)
    for row in range(len(disk.images)):
        np.testing.assert_array_equal(memory.pixels(row), disk.pixels(row))
        assert memory.geometry(row) == disk.geometry(row)
    for row in range(len(disk)):
        np.testing.assert_equal(asdict(memory.study(row)), asdict(disk.study(row)))
    memory.verify()


@pytest.mark.parametrize("source", ["phantom-chest", "phantom-stroke"])
def test_a_cohort_of_a_phantom_is_the_same_in_memory_and_on_disk(source: str, tmp_path: Path) -> None:
    found = find_source(source)
    options = {"studies": 7, "size": 48} if source == "phantom-chest" else {"studies": 5, "volume_size": (24, 24, 24)}
    stored = {"size": 48, "volume_size": (24, 24, 24), "split": "hash", "seed": 3, "notes": ("Made.",)}
    atlas = found.atlas(volume_size=(24, 24, 24)) if found.atlas else None
    arguments = {"source": source, "options": {"studies": 7}, "atlas": atlas, **stored}
    memory = cohort_from_studies(found.read(**options), **arguments)
    assert_equal(memory, write_cohort(found.read(**options), tmp_path / "cohort", **arguments))


def test_a_cohort_of_any_studies_is_the_same_in_memory_and_on_disk(cohort: Cohort) -> None:
    """The hand-made studies have masks, boxes, a caption, a lateral view and a volume; rejected ones are counted."""
    studies = [*(cohort.study(row) for row in range(len(cohort))), Rejected("row 9", "unreadable")]
    arguments = {"source": "copy", "options": {}, "size": 48, "volume_size": (8, 12, 12)}
    memory = cohort_from_studies(studies, **arguments)
    assert_equal(memory, write_cohort(studies, cohort.path.parent / "copy", **arguments))


def test_a_cohort_in_memory_touches_no_disk(make_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory = cohort_from_studies([make_study(0)], size=48)
    assert (memory.path, memory.in_memory, memory.source) == (MEMORY, True, "memory")
    assert memory.texts(["image_description"]) == [""]
    assert_equal(pickle.loads(pickle.dumps(memory)), memory)
    with pytest.raises(CohortError, match="no study could be used"):
        cohort_from_studies([])
    with pytest.raises(CohortError, match="no such split rule"):
        cohort_from_studies([make_study(0)], split="half")
    with pytest.raises(InputError, match="strict"):
        cohort_from_studies([Rejected("row 1", "unreadable")], strict=True)
    assert not list(tmp_path.iterdir())


def test_tables_that_lack_what_the_cohort_names_or_hold_no_text_are_damaged(make_study, tmp_path: Path) -> None:
    cohort = write_cohort([make_study(n) for n in range(3)], tmp_path / "c", source="hand", options={}, size=32)
    file = cohort.path / "studies.parquet"
    whole = pq.read_table(file)
    lost = next(name for name in whole.column_names if name.startswith("record."))
    pq.write_table(whole.drop_columns([lost]), file)
    with pytest.raises(CohortError, match="damaged") as caught:
        Cohort.open(cohort.path)
    assert caught.value.got == "1 of them are not in studies.parquet"
    raw = pa.array([b"\xff\xfe"] * len(whole)).view(pa.string())
    pq.write_table(whole.set_column(whole.column_names.index("study_id"), "study_id", raw), file)
    with pytest.raises(CohortError, match="damaged"):
        _ = Cohort.open(cohort.path).studies
    (cohort.path / "cohort.json").write_text("[" * 100_000)
    with pytest.raises(CohortError, match="damaged"):
        Cohort.open(cohort.path)


def test_a_cohort_that_is_used_must_be_what_was_imported_and_may_be_copied(make_study, tmp_path: Path) -> None:
    cohort = write_cohort([make_study(n) for n in range(3)], tmp_path / "c", source="hand", options={}, size=32)
    copy = tmp_path / "copy"
    shutil.copytree(cohort.path, copy, copy_function=shutil.copy)  # with other times
    assert Cohort.open_unchanged(copy).hash == cohort.hash
    pq.write_table(pq.read_table(copy / "studies.parquet"), copy / "studies.parquet", compression="none")
    assert Cohort.open_unchanged(copy).hash == cohort.hash  # the same content in other bytes
    content = bytearray((copy / "pixels_2d.npy").read_bytes())
    content[-1] ^= 1
    (copy / "pixels_2d.npy").write_bytes(bytes(content))
    with pytest.raises(CohortError, match="changed"):
        Cohort.open_unchanged(copy)
    (copy / "files.json").unlink()  # of an import before there were hashes
    assert Cohort.open_unchanged(copy).hash == cohort.hash
