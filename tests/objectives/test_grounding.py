import math

import torch

from chiasm.objectives.grounding import map_loss, place_loss, value_loss


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


def test_the_place_loss_is_minus_the_log_of_the_share_in_what_is_named():
    mass = torch.tensor([[[0.1, 0.3, 0.6], [1.0, 0.0, 0.0]], [[0.2, 0.2, 0.6], [0.5, 0.5, 0.0]]])
    place = torch.zeros(2, 2, 3, dtype=torch.bool)
    place[0, 0, 1:] = True
    place[1, 1, 0] = True
    assert abs(float(place_loss(mass, place)) + (math.log(0.9) + math.log(0.5)) / 2) < 1e-6
    assert float(place_loss(mass, torch.zeros_like(place))) == 0


def test_values_of_an_attribute_share_the_truth_and_what_is_not_stated_is_masked():
    logits = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[5.0, 0.0], [1.0, 0.0]]])
    values = torch.tensor([[[True, True], [True, False]], [[False, False], [False, True]]])
    present = torch.tensor([[True, True], [True, False]])  # the last is not present, the one before has no value
    first = math.log(1 + math.e) - 0.5
    second = math.log(1 + math.exp(2)) - 2
    assert abs(float(value_loss(logits, values, present)) - (first + second) / 2) < 1e-6
