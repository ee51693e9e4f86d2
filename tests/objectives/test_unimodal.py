import math

import torch

from chiasm.objectives.unimodal import unimodal_losses
from chiasm.recipe import parse_recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Fused, Outputs


def test_a_modality_is_scored_over_the_known_labels_of_the_studies_that_have_it():
    logits = {"image": {"outcome": torch.tensor([[2.0], [0.0], [-1.0]])}, "text": {"outcome": torch.zeros(3, 1)}}
    outputs = Outputs(
        {},
        Fused(torch.zeros(3, 4), {}, {}),
        unimodal_logits=logits,
        present={"image": torch.tensor([True, False, True]), "text": torch.tensor([False, False, False])},
    )
    batch = Batch(
        torch.arange(3),
        labels={"outcome": torch.tensor([[1.0], [1.0], [1.0]])},
        label_mask={"outcome": torch.tensor([[True], [True], [True]])},
    )
    recipe = parse_recipe({"name": "x", "targets": {"outcome": {"weight": 3}}}, "here")
    losses = unimodal_losses(outputs, batch, recipe, {"outcome": Kind.BINARY})
    by_hand = 3 * (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    assert abs(float(losses["outcome_from_image_loss"]) - by_hand) < 1e-6
    assert float(losses["outcome_from_text_loss"]) == 0
