"""Maps of example cases: against a hand computation, against random weights, and on the page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.evaluation.case_maps import map_cases, randomized
from chiasm.evaluation.cases import _pictures, _tell_maps
from chiasm.evaluation.spec import CaseMaps, Evidence
from chiasm.geometry import Geometry
from chiasm.run.model import Model
from chiasm.study import Image, Outcome, Study

SIDE = 32
WEIGHTS = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)


class Linear(Model):
    """The logit is the sum of weight times pixel over the first image."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weights = nn.Parameter(torch.from_numpy(WEIGHTS.copy()))
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, batch: Any) -> Any:
        return SimpleNamespace(logits={"outcome": (batch.images[:, 0, 0] * self.weights).sum(dim=(1, 2))[:, None]})


class Loader:
    """Two studies with an image and one without."""

    offsets = np.array([0, 3])
    pixels = torch.from_numpy(np.random.default_rng(1).random((3, 1, 1, SIDE, SIDE)).astype(np.float32))
    features: Any = "cached"

    def image_rows(self, index: int) -> list[int]:
        return [] if index == 2 else [index]

    def batch(self, indices: list[int]) -> Any:
        from chiasm.tensors import Batch

        assert self.features is None, "the pixels are asked"
        return Batch(torch.tensor(indices), images=self.pixels[indices], image_mask=torch.ones(len(indices), 1).bool())


@pytest.fixture
def found() -> CaseMaps:
    plan = SimpleNamespace(image_shape=(SIDE, SIDE), targets={"outcome": ("event",)}, levels={})
    fold_model: Any = SimpleNamespace(model=Linear(), plan=plan, loader=Loader())
    pool = SimpleNamespace(cohort=[0, 0, 0], row=[0, 1, 2], fold_model=np.zeros((3, 1), np.int64))
    evidence: Any = SimpleNamespace(pool=pool)
    return map_cases([fold_model], evidence, "outcome/event", [1, 2])


def test_of_a_linear_model_the_map_is_weight_times_pixel_smoothed(found):
    assert found.values.keys() == {1}, "one has no image"
    expected = gaussian_filter((WEIGHTS * Loader.pixels[1, 0, 0].numpy()).astype(float), SIDE / 32).clip(min=0)
    np.testing.assert_allclose(found.values[1], expected, atol=1e-5)


def test_random_weights_of_a_linear_model_show_something_else(found):
    assert found.alike is not None and abs(found.alike) < 0.25
    other = randomized(Linear())
    assert np.corrcoef(other.weights.detach().numpy().ravel(), WEIGHTS.ravel())[0, 1] == pytest.approx(0, abs=0.1)
    assert float(other.weights.detach().std()) == pytest.approx(float(WEIGHTS.std()), rel=0.1)
    assert float(other.bias.detach()) == 3.0, "one number has no spread"
    assert torch.equal(randomized(Linear()).weights, other.weights), "seeded"


def test_the_map_stands_beside_its_image_and_the_check_in_the_rule(tmp_path):
    image = Image("i", np.full((20, 20), 99, np.uint8), Geometry.identity((20, 20)), name="PA")
    study = Study("s", "p", images=(image,), outcomes=(Outcome("event", 1.0),))
    cohort: Cohort = write_cohort([study], tmp_path / "c", source="hand", options={}, size=20)
    heat = np.zeros((20, 20), np.float32)
    heat[5, 5] = 2.0
    pictures = _pictures(cohort, 0, heat)
    assert [caption for caption, _ in pictures] == ["PA", "what raised the answer"]
    assert pictures[0][1] != pictures[1][1]
    assert [caption for caption, _ in _pictures(cohort, 0, None)] == ["PA"]

    def tell(alike: float | None) -> str:
        evidence: Any = SimpleNamespace(maps=CaseMaps({}, alike))
        return _tell_maps(evidence)

    assert tell(None) == ""
    assert "by 0.12" in tell(0.12) and "other maps" in tell(0.12)
    assert "should not be read as evidence" in tell(0.81)
    assert Evidence.__dataclass_fields__["maps"].default == CaseMaps()
