import math

import torch

from chiasm.objectives.grounding import map_loss


def test_map_loss_by_hand():
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 1, 2)
    shares = torch.tensor([0.0, 0.5]).view(1, 1, 1, 1, 2)
    loss = map_loss(logits, shares, torch.ones(1, 1, 1, dtype=torch.bool))
    p = [0.5, 1 / (1 + math.exp(-2))]
    cross = -(math.log(1 - p[0]) + 0.5 * math.log(p[1]) + 0.5 * math.log(1 - p[1])) / 2
    dice = 1 - 2 * 0.5 * p[1] / (p[0] ** 2 + p[1] ** 2 + 0.25)
    assert abs(float(loss) - (4 * cross + dice)) < 1e-5


def test_dice_is_a_mean_over_the_maps_with_a_lesion_alone():
    """An empty map, judged or not, has cross-entropy to teach it, and must not dilute the overlap of the others."""
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0], [0.5, 0.5]]).view(3, 1, 1, 1, 2)
    shares = torch.tensor([[0.0, 0.5], [0.0, 0.0], [0.0, 0.0]]).view(3, 1, 1, 1, 2)
    judged = torch.tensor([True, True, False]).view(3, 1, 1)
    p = (1 / (1 + (-logits).exp())).view(3, 2).tolist()
    first = -(math.log(1 - p[0][0]) + 0.5 * math.log(p[0][1]) + 0.5 * math.log(1 - p[0][1])) / 2
    second = -(math.log(1 - p[1][0]) + math.log(1 - p[1][1])) / 2
    dice = 1 - 2 * 0.5 * p[0][1] / (p[0][0] ** 2 + p[0][1] ** 2 + 0.25)
    assert abs(float(map_loss(logits, shares, judged)) - (4 * (first + second) / 2 + dice)) < 1e-5


def test_an_image_no_reader_judged_teaches_nothing_and_a_reviewed_negative_teaches_emptiness():
    logits = torch.zeros(2, 1, 1, 2, 2, requires_grad=True)
    judged = torch.tensor([[[False]], [[True]]])
    map_loss(logits, torch.zeros(2, 1, 1, 2, 2), judged).backward()
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] > 0).all()
