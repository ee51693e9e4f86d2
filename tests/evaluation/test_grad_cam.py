"""Grad-CAM on image tokens against the formula, written with loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chiasm.evaluation.grad_cam import LEAST, grad_cam
from chiasm.tensors import Batch, Tokens

GRID = (2, 3)


class Answering:
    """A model whose logit of a label is the sum over images and cells of a weight times a token, squared."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.values = torch.randn(3, 2 * 6, 4, generator=rng)
        self.weights = torch.randn(2, 4, generator=rng)
        self.mask = torch.ones(3, 2 * 6, dtype=torch.bool)
        self.mask[1, 6:] = False

    def encode(self, batch):
        rows = batch.indices
        return {"image": Tokens(self.values[rows], self.mask[rows], GRID)}

    def answer(self, encoded, batch):
        tokens = encoded["image"]
        each = (tokens.values @ self.weights.T).square() * tokens.mask[..., None]
        return SimpleNamespace(logits={"findings": each.sum(dim=1)})


@pytest.fixture
def fold_model():
    loader = SimpleNamespace(
        batch=lambda rows: Batch(torch.as_tensor(rows)), image_rows=lambda study: [10 * study, 10 * study + 1]
    )
    localized = [("findings", "edema"), ("findings", "mass"), ("rsna", "opacity")]
    plan = SimpleNamespace(localized=localized, targets={"findings": ["mass", "edema"]})
    return SimpleNamespace(model=Answering(), loader=loader, plan=plan)


def test_a_map_is_what_channels_hold_weighted_by_the_mean_gradient_where_it_is_positive(fold_model):
    model = fold_model.model
    found = grad_cam(fold_model, np.arange(3))
    assert found.index.tolist() == [[0, 0], [0, 1], [1, 10], [2, 20], [2, 21]], "the image that is not there has no map"
    for place, (study, slot) in enumerate([(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]):
        own = model.values[study, 6 * slot : 6 * slot + 6]
        for channel, label in enumerate([1, 0]):
            slopes = 2 * (own @ model.weights[label])[:, None] * model.weights[label]
            cam = (own @ slopes.mean(dim=0)).clamp(min=0)
            expected = (cam / cam.max()).clamp(min=LEAST).log().reshape(GRID) if cam.max() > 0 else np.log(LEAST)
            assert np.allclose(found.values[place, channel], expected, atol=0.02)
    assert len(np.unique(found.values[:, 2])) == 1, "a label that the model does not answer has an even map"
