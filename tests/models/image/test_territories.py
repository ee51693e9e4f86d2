"""Volumes read by territory: against slow sums, and what must not move them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from chiasm.cohort.store import Cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.errors import CohortError, RecipeError
from chiasm.models.image.encoder import SmallCNN, Voxels
from chiasm.models.image.territories import RARE, Territories
from chiasm.recipe import read_recipe
from chiasm.report.tokenizer import Tokenizer
from chiasm.run.fold_model import load_fold_model
from chiasm.run.model import build_model
from chiasm.training.train import train

SHAPE = (4, 6, 8)
REGIONS = 33


@pytest.fixture
def atlas() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, SHAPE).astype(np.uint8)


def test_what_a_region_holds_of_the_voxels_by_a_slow_sum(atlas):
    place = Territories(SHAPE, 0.5, Voxels(), REGIONS)
    place.place(atlas)
    pixels = torch.randint(0, 256, (3, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).float()
    (level,) = place(pixels)
    assert level.shape == (3, 1, REGIONS)
    for n in range(3):
        for region in range(REGIONS):
            here = [pixels[n, 0][cell].item() / 255 for cell in np.ndindex(SHAPE) if atlas[cell] == region]
            assert level[n, 0, region].item() == pytest.approx(np.log1p(sum(here) * 0.5), rel=1e-5)


def test_maps_of_another_backbone_are_averaged_by_the_share_of_each_cell(atlas):
    shape = (32, 32, 32)
    regions = np.kron(atlas[:4, :4, :4], np.ones((8, 8, 8), np.uint8))
    regions[0, 0, 0] = 30  # one voxel of a cell of 512
    torch.manual_seed(0)
    inner = SmallCNN(3, width=4)
    place = Territories(shape, 1.0, inner, REGIONS)
    place.place(regions)
    pixels = torch.randint(0, 256, (2, 1, *shape), generator=torch.Generator().manual_seed(0)).float()
    maps, levels = inner(pixels), place(pixels)
    assert len(levels) == 1 + len(maps) and place.channels == (1, *inner.channels)
    for level, pooled in zip(maps, levels[1:], strict=True):
        up = level.detach().repeat_interleave(32 // level.shape[2], 2)
        up = up.repeat_interleave(32 // level.shape[3], 3).repeat_interleave(32 // level.shape[4], 4)
        for region in range(REGIONS):
            here = up[:, :, torch.from_numpy(regions == region)]
            expected = here.mean(dim=2) if here.shape[2] else torch.zeros(2, level.shape[1])
            torch.testing.assert_close(pooled[:, :, region], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def built(strokes):
    recipe = read_recipe("stroke-prognosis", ["fusion.dropout=0.0"])
    rows = strokes.rows("train")
    plan, recipe, _ = fit_plan(recipe, [strokes], [rows])
    tokenizer = Tokenizer.train(strokes.texts(plan.text_sections))
    torch.manual_seed(0)
    model = build_model(recipe, plan, len(tokenizer), 0).eval()
    model.image_encoder.backbone.place(strokes.atlas)
    return model, Loader([strokes], plan, tokenizer).batch(rows[:12])


def test_tokens_are_the_regions_and_the_masked_volume_is_nothing(built):
    model, batch = built
    tokens = model.encode(batch)["image"]
    assert tokens.grid == (REGIONS,) and tokens.values.shape[1] == batch.images.shape[1] * REGIONS
    real = batch.image_mask.repeat_interleave(REGIONS, 1)
    assert torch.equal(tokens.mask, real) and not tokens.values[~real].any()


def test_a_voxel_outside_the_brain_moves_its_own_token_alone(built, strokes):
    model, batch = built
    images = batch.images.clone()
    outside = tuple(np.argwhere(strokes.atlas == 0)[0])
    images[(..., *outside)] = 255
    before = model.encode(batch)["image"].values
    after = model.encode(replace(batch, images=images))["image"].values
    moved = (after != before).any(dim=2)
    assert not moved[:, 1:REGIONS].any() and moved[batch.image_mask[:, 0], 0].any()


def test_a_loaded_model_knows_the_atlas_and_the_volumes_it_was_trained_with(strokes, tmp_path):
    overrides = ["train.epochs=1", "fusion.dim=8", "fusion.heads=2", "heads.alignment=null"]
    train(read_recipe("stroke-prognosis", overrides), [strokes.path], tmp_path / "run")
    own = load_fold_model(tmp_path / "run").over([strokes], own=True)
    encoder = own.model.image_encoder
    assert np.array_equal(encoder.backbone.regions.numpy(), strokes.atlas)
    own.loader.features = None  # the images themselves
    batch = own.loader.batch(own.split["train"])
    volumes = batch.images[batch.image_mask].numpy() / 255
    ml = [[v[0, strokes.atlas == r].sum() * float(encoder.backbone.cell_ml) for r in range(REGIONS)] for v in volumes]
    held = np.log1p(ml)
    np.testing.assert_allclose(encoder.mean.numpy(), held.mean(axis=0), atol=2e-3)  # cached in half precision
    np.testing.assert_allclose(encoder.spread.numpy(), held.std(axis=0) + RARE, atol=2e-3)


def test_a_token_is_what_its_region_holds_more_than_usual(built):
    model, batch = built
    encoder = model.image_encoder
    encoder.standardize([batch])
    own = torch.randn(encoder.own.shape, generator=torch.Generator().manual_seed(0))
    encoder.own.data.copy_(own)
    tokens = model.encode(batch)["image"].values[batch.image_mask[:, 0]]
    held = encoder.backbone(batch.images[batch.image_mask].float())[0][:, 0]
    usual = [held[:, r].mean() for r in range(REGIONS)]
    spread = [held[:, r].var(correction=0).sqrt() + RARE for r in range(REGIONS)]
    view = encoder.view(batch.view[batch.image_mask])
    for r in range(REGIONS):
        more = ((held[:, r] - usual[r]) / spread[r])[:, None]
        by_hand = REGIONS * more * (encoder.shared + own[r]) + encoder.region[r] + view
        torch.testing.assert_close(tokens[:, r], by_hand, rtol=1e-3, atol=1e-3)
    encoder.own.data.zero_()


def test_a_cohort_without_an_atlas_is_refused(phantom):
    recipe = read_recipe(
        "report-fusion", ["inputs.image.tokens=territories", "inputs.image.encoder=voxels", "inputs.image.size=64"]
    )
    with pytest.raises(CohortError, match="by territory") as caught:
        fit_plan(recipe, [phantom], [phantom.rows("train")])
    assert caught.value.got == "no atlas"


def test_another_atlas_and_another_space_are_refused(strokes):
    recipe = read_recipe("stroke-prognosis", [])
    other = Cohort.open(strokes.path)
    other.meta["atlas"]["pixel_hash"] = "of other regions"
    with pytest.raises(CohortError, match="by territory") as caught:
        fit_plan(recipe, [strokes, other], [strokes.rows("train"), other.rows("train")])
    assert caught.value.got == "another atlas"
    plan, _, _ = fit_plan(recipe, [strokes], [strokes.rows("train")])
    moved = json.loads(plan.atlas)
    moved["affine"][3] += 2.0
    with pytest.raises(CohortError, match="space"):
        Loader([strokes], replace(plan, atlas=json.dumps(moved)), None)


def test_voxels_alone_make_no_grid():
    with pytest.raises(RecipeError, match="voxels"):
        read_recipe("report-fusion", ["inputs.image.encoder=voxels"])
