"""Maps of findings, and what they say together."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chiasm.domains.chest.frame import organ_field
from chiasm.heads.localization import OUTSIDE, LocalizationLayers, pool_maps
from chiasm.heads.maps import likely_places, within_range
from chiasm.tensors import Tokens


def test_pool_maps_is_the_log_mean_exp_over_the_cells_of_real_images():
    torch.manual_seed(0)
    maps = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    found = pool_maps(maps, mask, sharpness=2.0)
    for study, images in enumerate([2, 1]):
        for channel in range(3):
            cells = maps[study, :images, channel].flatten().tolist()
            slow = math.log(sum(math.exp(2.0 * c) for c in cells) / len(cells)) / 2.0
            assert abs(float(found[study, channel]) - slow) < 1e-9


def test_pool_maps_of_a_study_without_images_is_zero_and_has_a_finite_gradient():
    maps = torch.randn(2, 1, 3, 2, 2, requires_grad=True)
    pooled = pool_maps(maps, torch.tensor([[False], [True]]))
    assert torch.equal(pooled[0], torch.zeros(3))
    pooled.sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert (maps.grad[0] == 0).all()


def test_map_head_puts_each_cell_where_its_token_stands():
    head = LocalizationLayers(8, [("t", 0), ("t", 1)], {"t": 2})
    values = torch.randn(1, 2 * 6, 8)
    tokens = Tokens(values, torch.ones(1, 12, dtype=torch.bool), grid=(2, 3))
    maps = head(SimpleNamespace(encoded={"image": tokens}))["map_logits"]
    assert maps.shape == (1, 2, 2, 2, 3)
    token = 6 + 1 * 3 + 2  # second image, row 1, column 2
    assert torch.allclose(maps[0, 1, :, 1, 2], head.net(values[0, token]))


def test_the_maps_of_an_absent_image_are_those_of_zeros():
    torch.manual_seed(0)
    head = LocalizationLayers(8, [("t", 0), ("t", 1)], {"t": 2})
    tokens = Tokens(torch.randn(1, 2 * 6, 8), torch.tensor([[True] * 6 + [False] * 6]), grid=(2, 3))
    maps = head(SimpleNamespace(encoded={"image": tokens}))["map_logits"]
    assert torch.allclose(maps[0, 1], head.net(torch.zeros(8))[:, None, None].expand(2, 2, 3))


def test_a_map_that_may_lie_in_the_lungs_only_says_little_elsewhere_and_the_others_say_what_they_did():
    torch.manual_seed(0)
    field = np.stack([organ_field("edema", (4, 4)), np.ones((4, 4))])
    free, bound = (LocalizationLayers(8, [("t", 0), ("t", 1)], {"t": 2}, f) for f in (None, field))
    bound.load_state_dict(free.state_dict())
    tokens = Tokens(torch.randn(1, 16, 8), torch.ones(1, 16, dtype=torch.bool), grid=(4, 4))
    seen = SimpleNamespace(encoded={"image": tokens})
    open_maps, maps = free(seen)["map_logits"][0, 0], bound(seen)["map_logits"][0, 0]
    assert torch.equal(maps[1], open_maps[1])
    expected = open_maps[0] + torch.from_numpy(np.log(field[0])).float().clamp(min=OUTSIDE)
    assert torch.allclose(maps[0], expected, atol=1e-5)
    assert torch.allclose(bound(seen)["label_logits"], pool_maps(maps[None, None], torch.tensor([[True]])))


def test_a_map_within_its_range_goes_from_0_to_1_and_an_even_one_says_nothing():
    values = np.array([[[[0.2, 0.3], [0.4, 0.6]], [[0.5, 0.5], [0.5, 0.5]]]])
    found = within_range(values)
    assert np.allclose(found, [[[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]]])


def test_likely_places_are_shares_of_the_likeliest_cell_spread_over_their_neighbours():
    logits = np.full((2, 100, 100), -9.0, np.float32)
    logits[0, 50, 40], logits[1, 50, 40], logits[1, 50, 60] = 3.0, 3.0, 3.0 + np.log(0.5)
    one, two = likely_places(logits)
    distance = np.hypot(*(np.indices((100, 100)) - np.array([50, 40])[:, None, None]))
    near = distance < 20  # a Gaussian of 7 cells about the likeliest
    assert np.allclose(
        one[near], np.exp(-(distance**2) / (2 * 7**2))[near] / (2 * np.pi * 7**2) + np.exp(-12), rtol=0.02
    )
    apart = np.exp(-(20**2) / (2 * 7**2))  # what one of the two adds to the other
    assert abs(two[50, 60] / two[50, 40] - (0.5 + apart) / (1 + 0.5 * apart)) < 0.02


@pytest.mark.parametrize("shift", [-30.0, 0.0, 30.0])
def test_the_level_of_a_map_says_nothing_of_where(shift):
    logits = np.random.default_rng(0).normal(size=(1, 6, 6)).astype(np.float32)
    assert np.allclose(likely_places(logits + np.float32(shift)), likely_places(logits), atol=1e-4)
