import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from given import Given
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.encoding.batches import Loader, Ragged, fit_plan
from chiasm.encoding.plan import Plan
from chiasm.encoding.raster import cover
from chiasm.errors import CohortError
from chiasm.recipe import read_recipe
from chiasm.study import Finding, Kind, Outcome, Record, Region, Report, State, Study, View


class Letters:
    """A tokenizer of letters: a = 4, b = 5, ...; whatever else is <unk>."""

    def encode_batch(self, texts, max_tokens=None):
        return [[ord(c) - 93 if c.isalpha() else 1 for c in text.lower()][:max_tokens] for text in texts]


OVERRIDES = (
    "inputs.image.size=32",
    "heads.localization.stride=8",
    "inputs.text.max_tokens=9",
    "heads.description.max_tokens=5",
)


def write(studies: list[Study], out: Path) -> Cohort:
    return write_cohort(studies, out, source="hand", options={}, size=32, volume_size=(8, 16, 16))


@pytest.fixture(scope="module")
def cohorts(make_study, make_image, tmp_path_factory: pytest.TempPathFactory) -> list[Cohort]:
    """Studies 0..5 of one image; 6 with a lateral view; 7 without image, report, record; and a second, poorer cohort."""
    home = tmp_path_factory.mktemp("loader")
    two = (*make_study(6).images, replace(make_image("lateral", seed=60), view=View.LATERAL))
    hidden = Region("pneumonia", "lateral", (3.0, 3.0, 9.0, 9.0))
    present = (Finding("pneumonia", State.PRESENT, reader="a"),)
    nothing = make_study(7, images=(), regions=(), report=Report({"other": "x"}), record=None, findings=(), outcomes=())
    first = [
        *(make_study(i) for i in range(6)),
        make_study(6, images=two, regions=(hidden, replace(hidden, box=(6.0, 3.0, 12.0, 9.0))), findings=present),
        nothing,
    ]
    absent = (Finding("pneumonia", State.ABSENT), Finding("hernia", State.PRESENT))
    never = (Finding("pneumonia", State.ABSENT), Finding("hernia", State.ABSENT))
    chart = Record({"age_years": 90.0, "sex": "other"})
    second = [
        make_study(
            i,
            findings=absent if i < 2 else never,
            regions=(),
            outcomes=(),
            record=chart,
            images=(make_image(f"second{i}", seed=99 + i),),
        )
        for i in range(3)
    ]
    return [write(first, home / "first"), write(second, home / "second")]


@pytest.fixture(scope="module")
def plan(cohorts: list[Cohort]) -> Plan:
    return fit_plan(read_recipe("report-fusion", OVERRIDES), cohorts, [np.arange(8), np.arange(3)])[0]


@pytest.fixture(scope="module")
def loader(cohorts: list[Cohort], plan: Plan) -> Loader:
    return Loader(cohorts, plan, Letters())


def test_indices_run_through_the_cohorts(loader: Loader, cohorts: list[Cohort]) -> None:
    assert len(loader) == 11
    assert [loader.cohort_of(i) for i in (0, 7, 8, 10)] == [(0, 0), (0, 7), (1, 0), (1, 2)]
    assert loader.keys[7:9] == ["0/s007", "1/s000"]
    assert loader.study_ids[[0, 8]].tolist() == ["s000", "s000"]
    assert loader.patient_ids[[7, 10]].tolist() == ["p003", "p001"]
    assert loader.image_rows(6) == [6, 7]
    assert loader.image_rows(7) == []
    assert loader.image_rows(9) == [1]


def test_pixels_are_those_of_the_store_in_order_with_a_mask(loader: Loader, cohorts: list[Cohort]) -> None:
    batch = loader.batch([9, 6, 7, 6])
    assert batch.indices.tolist() == [9, 6, 7, 6]
    assert batch.images.shape == (4, 2, 1, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.image_mask.tolist() == [[True, False], [True, True], [False, False], [True, True]]
    np.testing.assert_array_equal(batch.images[0, 0, 0], cohorts[1].pixels(1))
    np.testing.assert_array_equal(batch.images[1, 1, 0], cohorts[0].pixels(7))
    np.testing.assert_array_equal(batch.images[1], batch.images[3])
    assert not batch.images[2].any()
    views = list(View)
    assert [views[v] for v in batch.view[1].tolist()] == [View.PA, View.LATERAL]
    assert loader.batch([0, 1]).images.shape == (2, 1, 1, 32, 32)
    assert loader.batch([7]).images.shape == (1, 1, 1, 32, 32)
    batch.images[0, 0] = 0  # a batch is a copy: the cohort stays as it is
    assert loader.batch([9]).images.any()


def test_texts_are_padded_ids_and_absent_ones_all_masked(loader: Loader) -> None:
    batch = loader.batch([2, 7])
    # "cough 2\nNo effusion." cut to 9 letters
    assert batch.token_ids.tolist() == [[6, 18, 24, 10, 11, 1, 1, 1, 17], [0] * 9]
    assert batch.token_mask.tolist() == [[True] * 9, [False] * 9]
    assert loader.batch([7]).token_ids.shape == (1, 1)


def test_a_description_goes_from_bos_to_eos_unless_cut_off(
    cohorts: list[Cohort], make_study, plan: Plan, tmp_path: Path
) -> None:
    texts = ("abcde", "abcdef", "a", "")
    studies = [make_study(i, report=Report({"findings": text})) for i, text in enumerate(texts)]
    batch = Loader([write(studies, tmp_path / "c")], plan, Letters()).batch(range(4))
    assert batch.description_ids.tolist() == [
        [2, 4, 5, 6, 7, 8, 3],
        [2, 4, 5, 6, 7, 8, 0],  # the sixth letter does not fit: the end is not taught
        [2, 4, 3, 0, 0, 0, 0],
        [0] * 7,
    ]
    assert batch.description_mask.sum(dim=1).tolist() == [7, 6, 3, 0]


def test_reports_that_are_longer_than_the_model_reads_are_known(make_study, plan: Plan, tmp_path: Path) -> None:
    texts = ("abcdefghi", "abcdefghij", "a", "")
    studies = [make_study(i, report=Report({"findings": text})) for i, text in enumerate(texts)]
    again = write([make_study(9, report=Report({"impression": "klmnopqrstuvw"}))], tmp_path / "d")
    loader = Loader([write(studies, tmp_path / "c"), again], plan, Letters())
    assert loader.truncated_reports.tolist() == [False, True, False, False, True]
    assert loader.batch([1]).token_mask.sum() == 9


def test_description_has_its_own_tokenizer(cohorts: list[Cohort], plan: Plan) -> None:
    class Ones:
        def encode_batch(self, texts, max_tokens=None):
            return [[9] * bool(text) for text in texts]

    batch = Loader(cohorts, plan, Letters(), describer=Ones()).batch([0])
    assert batch.description_ids.tolist() == [[2, 9, 3]]
    assert batch.token_ids[0, 0] == 6
    with pytest.raises(ValueError, match="needs a tokenizer"):
        Loader(cohorts, plan, None)


def test_record_is_standardized_and_missing_is_a_mask(loader: Loader, plan: Plan) -> None:
    batch = loader.batch([1, 7, 8])
    mean, std = plan.numeric["age_years"]
    np.testing.assert_allclose(batch.record_values[:, 0], [(21 - mean) / std, 0, (90 - mean) / std], rtol=1e-6)
    assert batch.record_observed.tolist() == [[True], [False], [True]]
    assert plan.categories == {"sex": ("f", "m", "other")}
    assert batch.record_codes.tolist() == [[2], [0], [3]]
    unseen = replace(plan, categories={"sex": ("f",)})
    assert Loader(loader.cohorts, unseen, Letters()).batch([0, 1, 8]).record_codes.tolist() == [[1], [0], [0]]


def test_labels_have_masks_and_a_target_one_cohort_lacks_is_masked(loader: Loader, plan: Plan) -> None:
    loader = Loader(loader.cohorts, replace(plan, scaling={"severity": ((1.0, 4.0),)}), Letters())
    assert plan.targets == {"findings": ("pneumonia", "hernia"), "outcome": ("died",), "severity": ("score",)}
    batch = loader.batch([1, 2, 7, 8])
    assert batch.labels["findings"].tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert batch.label_mask["findings"].tolist() == [[True, False], [True, False], [False, False], [True, True]]
    assert batch.label_mask["outcome"].tolist() == [[True], [True], [False], [False]]
    assert batch.labels["severity"][:, 0].tolist() == [-0.125, 0, 0, 0]
    np.testing.assert_array_equal(loader.labels["findings"][[1, 2, 7, 8]], batch.labels["findings"])


@pytest.mark.parametrize(
    ("rule", "value", "known"), [("ignore", 0, False), ("positive", 1, True), ("negative", 0, True)]
)
def test_uncertain_follows_the_recipe(rule: str, value: int, known: bool, cohorts: list[Cohort], plan: Plan) -> None:
    hedged = replace(plan, targets={"findings": ("edema",)}, uncertain={"findings": rule}, localized=())
    batch = Loader(cohorts, hedged, Letters()).batch([0, 7])
    assert batch.labels["findings"].tolist() == [[value], [0]]
    assert batch.label_mask["findings"].tolist() == [[known], [False]]


def test_lesions_are_exact_shares_and_silence_is_not_a_negative(
    loader: Loader, cohorts: list[Cohort], plan: Plan
) -> None:
    assert plan.localized == (("findings", "pneumonia"), ("findings", "hernia"))
    batch = loader.batch([1, 2, 6, 7, 8])
    assert batch.lesion_mask.shape == (5, 2, 2, 4, 4)
    # study 1 has a box; 2 is absent where this cohort draws; 6's box lies in its second image, and its first is unread;
    # the second cohort draws nothing, so its absent says nothing of the map
    supervised = torch.zeros(5, 2, 2, dtype=torch.bool)
    supervised[0, 0, 0] = supervised[1, 0, 0] = supervised[2, 1, 0] = True
    assert batch.lesion_label_mask.tolist() == supervised.tolist()
    expected = cover([Region("pneumonia", "", (2.0, 4.0, 20.0, 30.0))], cohorts[0].geometry(1), (4, 4))
    np.testing.assert_array_equal(batch.lesion_mask[0, 0, 0], expected)
    union = cover([Region("pneumonia", "", (3.0, 3.0, 12.0, 9.0))], cohorts[0].geometry(7), (4, 4))
    np.testing.assert_allclose(batch.lesion_mask[2, 1, 0], union, atol=1e-7)
    assert batch.lesion_mask.sum() == pytest.approx(float(expected.sum() + union.sum()), rel=1e-6)
    assert batch.lesion_mask.dtype == torch.float32


def test_a_region_says_more_than_an_absent_label(make_study, plan: Plan, tmp_path: Path) -> None:
    study = make_study(0, regions=(Region("pneumonia", "i000", (0.0, 0.0, 30.0, 40.0)),))  # study 0 is labelled absent
    batch = Loader([write([study], tmp_path / "c")], plan, Letters()).batch([0])
    assert batch.lesion_label_mask[0, 0].tolist() == [True, False]
    assert batch.lesion_mask[0, 0, 0].sum() == pytest.approx(16 * 30 / 40)


def test_modalities_the_plan_lacks_are_none(cohorts: list[Cohort], plan: Plan) -> None:
    bare = replace(
        plan,
        image_shape=None,
        grid=None,
        localized=(),
        text_sections=(),
        description_sections=(),
        numeric={},
        categories={},
    )
    batch = Loader(cohorts, bare, None).batch([0, 6])
    named = (
        "images",
        "image_mask",
        "view",
        "features",
        "token_ids",
        "token_mask",
        "record_values",
        "lesion_mask",
        "description_ids",
    )
    assert all(getattr(batch, name) is None for name in named)
    assert set(batch.labels) == set(plan.targets)


def test_features_stand_in_for_images(cohorts: list[Cohort], plan: Plan) -> None:
    random = np.random.default_rng(0)
    features = [
        [
            random.normal(size=(len(c.array(2)), channels, side, side)).astype(np.float16)
            for channels, side in ((3, 4), (5, 2))
        ]
        for c in cohorts
    ]
    batch = Loader(cohorts, plan, Letters(), [Given(levels) for levels in features]).batch([6, 9])
    assert batch.images is None
    assert [level.shape for level in batch.features] == [(2, 2, 3, 4, 4), (2, 2, 5, 2, 2)]
    places = cohorts[0].images["index"][[6, 7]]
    np.testing.assert_array_equal(batch.features[1][0], features[0][1][places])
    np.testing.assert_array_equal(batch.features[0][1, 0], features[1][0][cohorts[1].images["index"][1]])
    assert not batch.features[0][1, 1].any()


def test_features_of_a_cohort_without_images(cohorts: list[Cohort], make_study, plan: Plan, tmp_path: Path) -> None:
    texts = write([make_study(0, images=(), regions=())], tmp_path / "c")
    features = [np.arange(3 * 2 * 4, dtype=np.float16).reshape(3, 2, 2, 2)]
    loader = Loader([texts, cohorts[1]], plan, Letters(), [Given([]), Given(features)])
    batch = loader.batch([0, 3])
    assert batch.image_mask.tolist() == [[False], [True]]
    np.testing.assert_array_equal(batch.features[0][1, 0], features[0][2])
    assert not Loader([texts], plan, Letters()).batch([0]).images.any()
    alone = Loader([texts], plan, Letters(), [Given([])]).batch([0])  # a report to predict from, and a cached backbone
    assert alone.features is None
    assert alone.images.shape == (1, 1, 1, 32, 32)
    assert not alone.image_mask.any()


def test_states_of_texts_go_with_their_tokens(cohorts: list[Cohort], plan: Plan) -> None:
    """Each token's state is its own id and its cohort: rows of both cohorts find theirs, and padding has none."""

    def states(number: int) -> Callable[[Sequence[NDArray[np.integer]]], NDArray[np.float16]]:
        return lambda ids: np.stack([np.concatenate(ids), np.full(sum(map(len, ids)), number)], axis=1).astype(
            np.float16
        )

    loader = Loader(cohorts, plan, Letters(), [Given(states=states(number)) for number in (1, 2)])
    rows = [9, 0, 7, 1]
    batch = loader.batch(rows)
    assert batch.images is not None
    assert not batch.token_mask[2].any()
    which = torch.tensor([[1 + loader.cohort_of(row)[0]] for row in rows])
    expected = torch.stack([batch.token_ids, which.expand_as(batch.token_ids)], dim=2) * batch.token_mask[..., None]
    assert torch.equal(batch.token_states.long(), expected)
    assert torch.equal(pickle.loads(pickle.dumps(loader)).batch(rows).token_states, batch.token_states)


def test_a_view_that_training_never_saw_is_read_as_the_most_frequent_one(cohorts: list[Cohort], plan: Plan) -> None:
    def views(seen: tuple[str, ...]) -> list[View]:
        batch = Loader(cohorts, replace(plan, views=seen), Letters()).batch([6])
        return [list(View)[v] for v in batch.view[0].tolist()]

    assert views(("pa", "lateral")) == [View.PA, View.LATERAL]
    assert views(("ap", "lateral")) == [View.AP, View.LATERAL]
    assert views(()) == [View.PA, View.LATERAL]


def test_a_batch_of_volumes_masks_images_of_two_dimensions(make_study, make_image, tmp_path: Path) -> None:
    mask = np.zeros((4, 10, 10), bool)
    mask[:2] = True
    study = make_study(1, images=(make_image("v", (4, 10, 10)),), regions=(Region("pneumonia", "v", mask=mask),))
    cohort = write([make_study(0), study], tmp_path / "c")
    plan, _, _ = fit_plan(read_recipe("report-fusion", OVERRIDES), [cohort], [np.array([1])])
    batch = Loader([cohort], plan, Letters()).batch([0, 1])
    assert batch.images.shape == (2, 1, 1, 8, 16, 16)
    assert batch.image_mask.tolist() == [[False], [True]]  # a single image is no volume
    np.testing.assert_array_equal(batch.images[1, 0, 0], cohort.pixels(1))
    assert batch.lesion_mask.shape == (2, 1, 1, 1, 2, 2)
    np.testing.assert_array_equal(
        batch.lesion_mask[1, 0, 0], cover([Region("", "", mask=mask)], cohort.geometry(1), (1, 2, 2))
    )


def test_workers_get_names_of_files_and_not_their_content(
    loader: Loader, cohorts: list[Cohort], plan: Plan, tmp_path: Path
) -> None:
    maps = np.lib.format.open_memmap(tmp_path / "maps.npy", mode="w+", dtype=np.float16, shape=(9, 4, 64, 64))
    maps[:] = 1
    maps.flush()
    mapped = [np.load(tmp_path / "maps.npy", mmap_mode="r")]
    there = pickle.dumps(Loader(cohorts[:1], plan, Letters(), [Given(mapped)]))
    assert len(there) < 30_000
    assert pickle.loads(there).batch([0, 6]).features[0].shape == (2, 2, 4, 64, 64)
    back = pickle.loads(pickle.dumps(loader)).batch([6, 9])
    for name, value in loader.batch([6, 9]).__dict__.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(back, name)), name


def test_a_cohort_that_does_not_fit_the_plan(cohorts: list[Cohort], make_study, plan: Plan, tmp_path: Path) -> None:
    large = write_cohort([make_study(0)], tmp_path / "large", source="hand", options={}, size=48)
    with pytest.raises(CohortError, match="another size") as caught:
        Loader([large], plan, Letters())
    assert caught.value.remedy == "chiasm import hand PATH --out COHORT --size 32"
    graded = write([make_study(0, outcomes=(Outcome("died", 2.0, Kind.ORDINAL),))], tmp_path / "graded")
    with pytest.raises(CohortError, match="target outcome is of another kind"):
        Loader([graded], plan, Letters())


def test_a_study_teaches_by_a_label_a_region_or_a_text(make_study, plan: Plan, tmp_path: Path) -> None:
    empty = {"findings": (), "outcomes": (), "regions": (), "report": Report({"history": "cough"})}
    box = (
        Region("pneumonia", "i001", (1.0, 1.0, 9.0, 9.0)),
        Region("left_lung", "i001", (1.0, 1.0, 9.0, 9.0), target="anatomy"),
    )
    studies = [
        make_study(0, **empty),
        make_study(1, **{**empty, "regions": box}),
        make_study(2, **{**empty, "report": Report({"findings": "clear"})}),
        make_study(3, **{**empty, "findings": (Finding("pneumonia", State.UNCERTAIN),)}),
        make_study(4, **{**empty, "findings": (Finding("pneumonia", State.ABSENT),)}),
        make_study(5, **{**empty, "regions": (replace(box[1], image_id="i005"),)}),
    ]
    loader = Loader([write(studies, tmp_path / "c")], plan, Letters())
    assert loader.teaches.tolist() == [False, True, True, False, True, False]
    bare = Loader(loader.cohorts, replace(plan, localized=(), description_sections=()), Letters())
    assert bare.teaches.tolist() == [False, False, False, False, True, False]


def test_a_cohort_without_labels_can_be_answered(make_study, plan: Plan, tmp_path: Path) -> None:
    unread = write([make_study(0, findings=(), outcomes=(), regions=())], tmp_path / "c")
    loader = Loader([unread], plan, Letters())
    batch = loader.batch([0])
    assert not any(mask.any() for mask in batch.label_mask.values())
    assert not batch.lesion_label_mask.any()
    assert batch.labels["findings"].shape == (1, 2)


def test_the_batch_says_which_modalities_are_there(loader: Loader) -> None:
    present = loader.batch([0, 7]).present()
    assert {name: found.tolist() for name, found in present.items()} == {
        "image": [True, False],
        "text": [True, False],
        "record": [True, False],
    }


@given(st.lists(st.lists(st.integers(0, 99_999), max_size=6), min_size=1, max_size=8), st.data())
def test_ragged_rows_come_back(rows: list[list[int]], data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    values, mask = Ragged([rows[:3], rows[3:]]).padded(np.array(picked))
    assert values.shape == mask.shape == (len(picked), max(1, *(len(rows[i]) for i in picked), 1))
    for i, row in enumerate(picked):
        assert values[i][mask[i]].tolist() == rows[row]
        assert not values[i][~mask[i]].any()


def test_sequences_of_a_study_are_told_apart_by_their_names(make_study, make_image, tmp_path: Path) -> None:
    """Two named images a study; a third study has one of another name, which training has too; a single name tells nothing."""
    studies = []
    for number, names in enumerate((("T1", "FLAIR"), ("FLAIR",), ("T2",), ("",))):
        images = [replace(make_image(f"{number}-{name}", seed=number), name=name) for name in names]
        studies.append(make_study(number, images=tuple(images), regions=(), split="train"))
    cohort = write(studies, tmp_path / "c")
    recipe = read_recipe("report-fusion", list(OVERRIDES))
    rows = np.arange(4)
    plan, _, _ = fit_plan(recipe, [cohort], [rows])
    assert plan.sequences == ("FLAIR", "T1", "T2")
    batch = Loader([cohort], plan, Letters()).batch(rows)
    assert batch.view is not None and batch.image_mask is not None
    code = {name: len(View) + n for n, name in enumerate(plan.sequences)}
    own = list(View).index(studies[3].images[0].view)
    expected = [[code["T1"], code["FLAIR"]], [code["FLAIR"]], [code["T2"]], [own]]
    assert [view[mask].tolist() for view, mask in zip(batch.view, batch.image_mask, strict=True)] == expected
    plan, _, _ = fit_plan(recipe, [write(studies[1:], tmp_path / "d")], [np.arange(3)])
    assert plan.sequences == ()
