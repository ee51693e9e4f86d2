"""Toy models whose gradient times input a hand can compute, and a cohort in the space of an atlas."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.evaluation.present import draw_glass
from chiasm.evaluation.saliency import choose_label, gradient_times_input, saliency
from chiasm.evaluation.spec import Arm, Evidence
from chiasm.evaluation.store import read_evidence, write_evidence
from chiasm.formats.atlas import Atlas
from chiasm.geometry import Geometry
from chiasm.heads.spec import Pool, Question
from chiasm.models.image.encoder import Backbone, Extractor, Voxels
from chiasm.models.image.territories import Territories
from chiasm.run.model import Model
from chiasm.study import Image, Kind, Outcome, Record, Study
from chiasm.tensors import Batch

SHAPE = (8, 8, 8)
REGIONS = 33
WEIGHTS = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))


class Linear(Model):
    """The logit is the sum of weight times voxel over a study's volumes, times `gain`; no network below it."""

    def __init__(self, gain: float = 1.0) -> None:
        nn.Module.__init__(self)
        self.gain = gain

    def forward(self, batch: Batch) -> Any:
        assert batch.images is not None and batch.image_mask is not None and batch.features is None
        each = (batch.images * WEIGHTS).sum(dim=(2, 3, 4, 5)) * batch.image_mask
        return SimpleNamespace(logits={"outcome": self.gain * each.sum(dim=1, keepdim=True)})


def _volume(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six studies; odd ones had the outcome, 5 has no volume."""
    affine = (1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
    place = Geometry.identity(SHAPE, (1.0, 1.0, 1.0), tuple(map(float, affine)))
    studies = [
        Study(
            f"s{i}",
            f"p{i}",
            images=(Image(f"i{i}", _volume(i), place),) if i != 5 else (),
            record=Record({"age_years": 50.0}),
            outcomes=(Outcome("event", float(i % 2)), Outcome("score", float(i), Kind.REGRESSION, "severity")),
            split="test",
        )
        for i in range(6)
    ]
    regions = np.zeros(SHAPE, np.uint8)
    regions[2:6, 2:6, 2:6] = 1
    out = tmp_path_factory.mktemp("saliency") / "cohort"
    return write_cohort(studies, out, source="hand", options={}, volume_size=SHAPE, atlas=Atlas(regions, place))


@dataclass
class Shelf:
    """A loader of volumes, as far as is needed; its cached features must not be read."""

    cohort: Cohort
    features: Any = "a cache"

    def image_rows(self, index: int) -> list[int]:
        return self.cohort.image_rows(index)

    def batch(self, indices: np.ndarray) -> Batch:
        assert self.features is None
        images = torch.stack([torch.from_numpy(_volume(int(i))) for i in indices])[:, None, None]
        mask = torch.tensor([[bool(self.image_rows(int(i)))] for i in indices])
        return Batch(torch.from_numpy(indices), images=images, image_mask=mask, view=torch.zeros_like(mask).long())


def _fold_model(space: Cohort, gain: float) -> Any:
    plan = SimpleNamespace(image_shape=SHAPE, targets={"outcome": ("event",)}, levels={})
    return SimpleNamespace(model=Linear(gain), plan=plan, loader=Shelf(space))


def _question(**changes: Any) -> Question:
    targets = {"severity": ["score"], "outcome": ["event"]}
    kinds = {"severity": Kind.REGRESSION, "outcome": Kind.BINARY}
    return replace(Question(targets, kinds, {}), **changes)


def test_a_linear_model_is_taken_apart_exactly() -> None:
    images = torch.stack([torch.from_numpy(_volume(i)) for i in (1, 2)])[:, None, None]
    batch = Batch(torch.arange(2), images=images, image_mask=torch.ones(2, 1, dtype=torch.bool))
    found = gradient_times_input(Linear(), batch, lambda outputs: outputs.logits["outcome"][:, 0])
    torch.testing.assert_close(found, images.float() * WEIGHTS)
    total = Linear()(replace(batch, images=images.float())).logits["outcome"][:, 0]
    torch.testing.assert_close(found.sum(dim=(1, 2, 3, 4, 5)), total, rtol=1e-4, atol=1e-2)


def test_the_mean_is_over_fold_models_and_over_those_who_had_the_outcome(space: Cohort) -> None:
    pool = Pool.find([space], [f"0/s{i}" for i in range(6)], np.tile([0, 1], (6, 1)))
    everybody = np.arange(6)
    found = saliency(_question(), pool, [(_fold_model(space, gain), everybody, everybody) for gain in (1.0, -3.0)])
    assert found is not None
    assert (found.target, found.label, found.studies) == ("outcome", "event", 2), "1 and 3; 5 has no volume"
    seen = WEIGHTS.numpy() * np.stack([_volume(1), _volume(3)])
    by_hand = (np.maximum(seen, 0) + np.maximum(-3 * seen, 0)).mean(axis=0) / 2
    np.testing.assert_allclose(found.values, by_hand, rtol=1e-5)


def test_without_a_space_or_a_network_there_is_no_map(space: Cohort, cohort: Cohort) -> None:
    everybody = np.arange(6)
    pool = Pool.find([space], [f"0/s{i}" for i in range(6)], np.zeros((6, 1), np.int64))
    flat = Pool.find([cohort], [f"0/s{i:02}" for i in range(6)], np.zeros((6, 1), np.int64))
    fold_model = _fold_model(space, 1.0)
    assert saliency(_question(), pool, [(fold_model, everybody, everybody)]) is not None
    assert saliency(_question(), flat, [(fold_model, everybody, everybody)]) is None, "no atlas"
    plain = SimpleNamespace(**{**vars(fold_model), "model": nn.Linear(1, 1)})
    assert saliency(_question(), pool, [(plain, everybody, everybody)]) is None, "a baseline has no gradient"
    assert saliency(_question(targets={}, kinds={}), pool, [(fold_model, everybody, everybody)]) is None


def test_the_label_is_the_first_binary_one_else_the_first_with_an_order() -> None:
    assert choose_label(_question()) == ("outcome", 0)
    seen = {"findings": ["edema"], "outcome": ["event"]}
    assert choose_label(_question(targets=seen, kinds=dict.fromkeys(seen, Kind.BINARY), findings=["findings"])) == (
        "outcome",
        0,
    )
    kinds = {"severity": Kind.REGRESSION, "outcome": Kind.MULTICLASS}
    assert choose_label(_question(kinds=kinds)) == ("severity", 0)
    assert choose_label(_question(kinds=dict.fromkeys(kinds, Kind.SURVIVAL))) is None


def test_a_gradient_reaches_the_voxels_through_territories() -> None:
    """The first map is log(1 + ml) of each region: its derivative by a voxel of 0..255 is cell / 255 / (1 + ml)."""
    regions = np.zeros(SHAPE, np.uint8)
    regions[4:] = 3
    backbone = Territories(SHAPE, cell_ml=0.5, inner=Voxels(), count=REGIONS)
    backbone.place(regions)
    pixels = torch.from_numpy(_volume(0))[None, None].float().requires_grad_()
    volume = backbone(pixels)[0][0, 0]
    (gradient,) = torch.autograd.grad(volume[3], pixels)
    ml = 0.5 * _volume(0)[4:].sum() / 255
    assert volume.shape == (REGIONS,)
    assert gradient[0, 0, 4:].flatten().tolist() == pytest.approx([0.5 / 255 / (1 + ml)] * 256)
    assert not gradient[0, 0, :4].any()


def test_a_frozen_backbone_lets_a_gradient_through_that_is_asked_for() -> None:
    class Twice(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, pixels: Tensor) -> list[Tensor]:
            return [self.weight * pixels]

    frozen = Extractor(Twice(), 1, frozen=True)
    assert not frozen.extract(torch.ones(1, 4, 4, dtype=torch.uint8))[0].requires_grad
    pixels = torch.ones(1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(frozen.extract(pixels)[0].sum(), pixels)
    assert gradient.tolist() == torch.full((1, 4, 4), 2.0).tolist()


def test_what_was_looked_at_is_stored_and_drawn(space: Cohort, tmp_path: Path) -> None:
    pool = Pool.find([space], [f"0/s{i}" for i in range(6)], np.zeros((6, 1), np.int64))
    everybody = np.arange(6)
    found = saliency(_question(), pool, [(_fold_model(space, 1.0), everybody, everybody)])
    assert found is not None
    arm = Arm({"outcome": np.full((6, 1), 0.5), "severity": np.zeros((6, 1))})
    evidence = Evidence(_question(modalities=["image"]), pool, {"": arm}, saliency=found)
    write_evidence(evidence, tmp_path / "p")
    back = read_evidence(tmp_path / "p", [space])
    assert back.saliency is not None
    np.testing.assert_array_equal(back.saliency.values, found.values)
    assert (back.saliency.target, back.saliency.label, back.saliency.studies) == ("outcome", "event", 2)
    glass = draw_glass(back)
    assert glass is not None
    assert list(glass.pictures) == ["axial", "sagittal", "coronal"]
    assert "averaged over the 2 tested patients with the outcome" in glass.said
    assert draw_glass(replace(back, saliency=None)) is None
