"""Fold models are stand-ins whose answers are written down here; what is tested is who is asked what, and where it goes."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fits import calibration_of
from numpy.typing import NDArray
from scipy.special import expit

from chiasm.cohort.store import Cohort
from chiasm.evaluation import arms as room
from chiasm.evaluation.arms import collect
from chiasm.geometry import Geometry
from chiasm.heads.description import DescriptionHead, DescriptionOptions
from chiasm.heads.localization import ImageMaps, LocalizationHead, LocalizationOptions
from chiasm.recipe import Evaluate, RecordInput
from chiasm.run.answers import Answers, Calibration, calibrated, fitted
from chiasm.run.infer import Ask
from chiasm.study import Kind

EDEMA = ("pneumonia", "edema")
FITTED = {"findings": {"pneumonia": {"temperature": 2.0, "threshold": 0.6, "map_threshold": 0.3}}}


class Shelf:
    """A loader over one cohort, as far as evaluation looks at it."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohorts, self.features = [cohort], None

    def __len__(self) -> int:
        return len(self.cohorts[0])

    def cohort_of(self, index: int) -> tuple[int, int]:
        return 0, index


@dataclass
class Stand:
    """A fold model that answers `level` + index / 100 on every label, 1 more without the report."""

    level: float
    loader: Shelf
    split: dict[str, NDArray[np.int64]]
    labels: tuple[str, ...] = EDEMA
    modalities: tuple[str, ...] = ("image", "text")
    calibration: Calibration = field(default_factory=Calibration)
    asked: list[Ask] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = SimpleNamespace(
            targets={"findings": self.labels},
            kinds={"findings": Kind.BINARY},
            uncertain={"findings": "ignore"},
            views=("pa", "ap"),
            scaling={},
            findings=("findings",),
            text_sections=("findings",),
            description_sections=("findings",),
            localized=(("findings", "pneumonia"),),
            image_shape=(32, 32),
            numeric={"age_years": (0.0, 1.0)},
            heads={},
            categories={"etiology": ("a", "b")} if "record" in self.modalities else {},
            prior=lambda target: np.full(len(self.labels), 0.25),
        )
        localization = LocalizationHead(LocalizationOptions(), None, self.plan)  # type: ignore[arg-type]
        description = DescriptionHead(DescriptionOptions(), None, self.plan)  # type: ignore[arg-type]
        writes = SimpleNamespace(tell=None)
        self.model = SimpleNamespace(
            modalities=self.modalities,
            parts={"localization": localization, "description": description},
            heads={"localization": SimpleNamespace(), "description": writes},
        )
        record = RecordInput(opt_in=("etiology", "seen by nobody"))
        active = {"localization": LocalizationOptions(), "description": DescriptionOptions()}
        inputs = SimpleNamespace(record=record)
        self.recipe = SimpleNamespace(evaluate=Evaluate(), inputs=inputs, active_heads=active, baseline=None)

    def image(self, index: int, image_row: int) -> tuple[str, Geometry]:
        return f"i{image_row:02}", self.loader.cohorts[0].geometry(image_row)

    def probabilities(self, answers: Answers) -> dict[str, NDArray[np.float64]]:
        return calibrated(answers.logits, answers.shown, self.plan, self.calibration)

    def thresholds(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        return fitted(self.calibration, "threshold", target, self.labels, shown, np.nan)

    def quantiles(self, target: str, shown: NDArray[np.str_]) -> NDArray[np.float64]:
        return fitted(self.calibration, "quantile", target, self.labels, shown, np.nan)


def fake_infer(fold_model: Stand, indices: NDArray[np.int64], asks: list[Ask], progress: Any = None) -> list[Answers]:
    return [fake_answer(fold_model, indices, ask) for ask in asks]


def fake_answer(fold_model: Stand, indices: NDArray[np.int64], ask: Ask) -> Answers:
    fold_model.asked.append(ask)
    shows = ("image", "text") if ask.subset is None else ask.subset
    base = fold_model.level + indices / 100 + (1.0 if "text" not in shows and shows else 0.0)
    logits = {"findings": np.repeat(base[:, None], len(fold_model.labels), axis=1).astype(np.float32)}
    shown = np.full(len(indices), "+".join(shows))
    texts = [f"{fold_model.level:g} says {i}" for i in indices] if ask.tell else []
    maps = np.full((len(indices), 1, 4, 4), fold_model.level, np.float16)
    kept = {"localization": ImageMaps(maps, np.stack([indices, indices], axis=1)), "description": texts}
    return Answers(indices, logits, shown, {name: kept[name] for name in ask.heads})


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "infer", fake_infer)


def folds(cohort: Cohort, **options: Any) -> list[Stand]:
    shelf = Shelf(cohort)
    train = np.array([0, 1, 4, 5])
    calibration = calibration_of(FITTED)
    return [
        Stand(
            0.0, shelf, {"train": train, "validation": train[:0], "test": np.array([2, 3, 6])}, calibration=calibration
        ),
        Stand(5.0, shelf, {"train": train, "validation": train[:0], "test": np.array([7])}, **options),
    ]


def test_each_fold_answers_its_own_patients(cohort: Cohort) -> None:
    fold_models = folds(cohort)
    evidence, shared = collect(fold_models, fold_models)
    assert evidence.pool.row.tolist() == [2, 3, 6, 7]
    assert evidence.pool.fold_model.tolist() == [[0], [0], [0], [1]]
    logits = np.array([0.02, 0.03, 0.06, 5.07], np.float32)
    assert evidence.arms[""].logits["findings"][:, 0, 0] == pytest.approx(logits)
    temperature = np.array([2, 2, 2, 1])
    assert evidence.arms[""].values["findings"][:, 0] == pytest.approx(expit(logits / temperature))
    assert evidence.arms["image"].logits["findings"][:, 0, 0] == pytest.approx(logits + 1)
    assert evidence.arms[""].thresholds["findings"][:, 0].tolist()[:3] == [0.6] * 3
    assert np.isnan(evidence.arms[""].thresholds["findings"][3]).all()
    assert shared == []


def test_every_subset_and_control_is_asked_once(cohort: Cohort) -> None:
    fold_models = folds(cohort)
    evidence, _ = collect(fold_models, fold_models)
    assert set(evidence.arms) == {
        "",
        "image",
        "text",
        "nothing",
        "shuffled_text",
        "prior",
        "record_column",
        "metadata_only",
        "pixel_statistics",
        "thumbnail",
    }
    assert (evidence.arms["nothing"].values["findings"] == 0.25).all(), "what training says of everybody"
    assert set(evidence.heads["description"]) == {"", "shuffled_image", "constant", "nearest"}
    asked = [(call.subset, call.shuffled, bool(call.tell)) for call in fold_models[0].asked]
    assert asked == [
        (None, None, True),
        (("image",), None, False),
        (("text",), None, False),
        (None, "text", False),
        (None, "image", True),
    ]
    assert evidence.heads["description"][""] == ["0 says 2", "0 says 3", "0 says 6", "5 says 7"]


def test_an_arm_is_calibrated_for_what_it_shows(cohort: Cohort) -> None:
    fold_models = folds(cohort)
    shown = {"shown": {"image": {"temperature": 5.0, "threshold": 0.2}}}
    fold_models[0].calibration = calibration_of({"findings": {"pneumonia": FITTED["findings"]["pneumonia"] | shown}})
    evidence, _ = collect(fold_models, fold_models)
    for prefix, temperature, threshold in (("", 2.0, 0.6), ("image", 5.0, 0.2), ("text", 2.0, 0.6)):
        arm = evidence.arms[prefix]
        assert arm.shown is not None
        assert arm.shown[:, 0].tolist() == [prefix or "image+text"] * 4
        assert arm.values["findings"][:3, 0] == pytest.approx(expit(arm.logits["findings"][:3, 0, 0] / temperature))
        assert arm.thresholds["findings"][:3, 0].tolist() == [threshold] * 3


def test_repeats_are_averaged_for_each_study(cohort: Cohort) -> None:
    fold_models = folds(cohort)
    fold_models[0].calibration = calibration_of(
        {"findings": {"pneumonia": FITTED["findings"]["pneumonia"] | {"quantile": 0.75}}}
    )
    other = [
        replace(fold_models[0]),
        replace(fold_models[1]),
    ]  # the second repeat deals the same four studies out otherwise
    for fold_model, level, test in zip(other, (10.0, 20.0), ([3, 7], [2, 6]), strict=True):
        fold_model.level, fold_model.asked = level, []
        fold_model.calibration = calibration_of({"findings": {"pneumonia": {"quantile": 0.25}}})
        fold_model.split = {**fold_model.split, "test": np.array(test)}
    evidence, _ = collect([*fold_models, *other], [*fold_models, *other])
    assert evidence.pool.row.tolist() == [2, 3, 6, 7], "each study once"
    assert evidence.pool.fold_model.tolist() == [[0, 3], [0, 2], [0, 3], [1, 2]]
    logits = np.array([[0.02, 20.02], [0.03, 10.03], [0.06, 20.06], [5.07, 10.07]], np.float32)
    assert evidence.arms[""].logits["findings"][:, :, 0] == pytest.approx(logits)
    temperature = np.array([[2, 1]] * 3 + [[1, 1]])
    assert evidence.arms[""].values["findings"][:, 0] == pytest.approx(expit(logits / temperature).mean(axis=1))
    assert evidence.arms[""].quantiles["findings"][:, 0].tolist() == [0.5, 0.5, 0.5, 0.25], "of those that have one"
    assert evidence.heads["description"][""] == ["0 says 2", "0 says 3", "0 says 6", "5 says 7"], (
        "the first repeat describes"
    )
    assert [bool(call.tell) for call in other[0].asked] == [False] * 5
    assert evidence.heads["localization"][""].study.tolist() == [0, 1, 2, 3]


def test_a_fold_that_lacks_a_label_leaves_it_open(cohort: Cohort) -> None:
    fold_models = folds(cohort, labels=("edema",))
    evidence, _ = collect(fold_models, fold_models)
    assert list(evidence.question.targets["findings"]) == list(EDEMA)
    unknown = np.isnan(evidence.arms[""].values["findings"])
    assert unknown.tolist() == [[False, False]] * 3 + [[True, False]]
    assert np.isnan(evidence.arms["prior"].values["findings"][:, 0]).sum() == 0, "a prior needs no model"


def test_another_cohort_is_answered_by_all_fold_models_together(cohort: Cohort) -> None:
    shelf = Shelf(cohort)
    fold_models = [Stand(0.0, shelf, {}), Stand(5.0, shelf, {})]
    evidence, _ = collect(fold_models, None)
    assert evidence.question.external
    assert len(evidence.pool) == 16
    assert evidence.pool.fold_model.tolist() == [[0, 1]] * 16
    values = evidence.arms[""].values["findings"][:, 0]
    assert values == pytest.approx((expit(np.arange(16) / 100) + expit(5 + np.arange(16) / 100)) / 2, abs=1e-6)
    assert set(evidence.arms) == {"", "image", "text", "nothing", "shuffled_text"}, (
        "no training patients, no fitted control"
    )
    assert [bool(call.tell) for call in fold_models[1].asked] == [False] * 5, "the first fold model alone describes"
    assert evidence.heads["description"][""][3] == "0 says 3"
    assert evidence.heads["localization"][""].values[0] == pytest.approx((0.5 + expit(5)) / 2, abs=1e-3)


def test_controls_of_another_cohort_learn_from_the_own_one(cohort: Cohort) -> None:
    own = folds(cohort)
    evidence, shared = collect([Stand(0.0, Shelf(cohort), {}), Stand(5.0, Shelf(cohort), {})], own)
    assert "thumbnail" in evidence.arms
    odd = np.arange(16) % 2 == 1
    values = evidence.arms["thumbnail"].values["findings"][:, 0]
    assert values[odd].min() > values[~odd].max()
    assert len(shared) == 2, "here the other cohort is the same one, and that is said"
    assert evidence.heads["description"]["nearest"][4] == cohort.texts(["findings"])[4]


def test_maps_keep_their_study_and_threshold(cohort: Cohort) -> None:
    fold_models = folds(cohort)
    maps = collect(fold_models, fold_models)[0].heads["localization"][""]
    assert maps.study.tolist() == [0, 1, 2, 3]
    assert maps.image_row.tolist() == [2, 3, 6, 7]
    assert maps.values[:, 0, 0, 0] == pytest.approx(expit([0, 0, 0, 5]), abs=1e-3)
    assert maps.thresholds[:, 0].tolist() == [0.3, 0.5], ".5 where validation had no boxes"


def test_one_modality_has_no_subsets(cohort: Cohort) -> None:
    shelf = Shelf(cohort)
    split = {"train": np.array([0, 1]), "validation": np.array([4]), "test": np.array([2, 3])}
    fold_model = Stand(0.0, shelf, split, modalities=("image",))
    evidence, _ = collect([fold_model], [fold_model])
    assert set(evidence.arms) == {
        "",
        "nothing",
        "prior",
        "record_column",
        "metadata_only",
        "pixel_statistics",
        "thumbnail",
    }


def test_columns_that_were_opted_in_are_hidden_in_an_arm_of_their_own(cohort: Cohort) -> None:
    fold_model = Stand(0.0, Shelf(cohort), {}, modalities=("image", "record"))
    evidence, _ = collect([fold_model], None)
    assert evidence.question.opted_in == ("etiology",), "what no model reads is no input"
    assert "without_opt_in" in evidence.arms
    assert [call.hidden_columns for call in fold_model.asked if call.hidden_columns] == [("etiology",)]
