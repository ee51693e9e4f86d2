import math

import torch

from chiasm.objectives.outcome import label_losses, target_loss
from chiasm.study import Kind


def test_binary_loss_by_hand_and_masked_labels_teach_nothing():
    logits = torch.tensor([[2.0, 5.0], [-1.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mask = torch.tensor([[True, False], [True, True]])
    loss = target_loss(logits, labels, mask, Kind.BINARY)
    by_hand = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log(2)) / 3
    assert abs(loss.item() - by_hand) < 1e-6
    loss.backward()
    assert logits.grad[0, 1] == 0


def test_regression_loss_is_hubers():
    loss = target_loss(
        torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), Kind.REGRESSION
    )
    assert abs(float(loss) - (0.5 * 0.25 + (3.0 - 0.5)) / 2) < 1e-6


def test_a_batch_without_labels_has_zero_loss_and_zero_gradient():
    logits = torch.randn(2, 1, requires_grad=True)
    loss = target_loss(logits, torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool), Kind.BINARY)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_the_loss_of_levels_is_minus_the_log_of_the_true_one():
    logits = torch.tensor([[[0.2, 0.5, 0.3], [0.1, 0.9, 0.0]]]).clamp(min=1e-30).log()
    each = label_losses(logits, torch.tensor([[2.0, 1.0]]), Kind.ORDINAL)
    assert torch.allclose(each, torch.tensor([[-math.log(0.3), -math.log(0.9)]]))
    assert torch.equal(each, label_losses(logits, torch.tensor([[2.0, 1.0]]), Kind.MULTICLASS))


def test_the_loss_of_a_time_is_minus_the_log_of_what_is_known():
    hazards = torch.tensor([0.1, 0.2, 0.4])
    logits = hazards.logit().expand(5, 1, 3).clone().requires_grad_()
    codes = torch.tensor([[0.0], [1.0], [2.0], [-1.0], [-3.0]])
    by_hand = [0.1, 0.9 * 0.2, 0.9 * 0.8 * 0.4, 0.9, 0.9 * 0.8 * 0.6]
    each = label_losses(logits, codes, Kind.SURVIVAL)
    assert torch.allclose(each[:, 0], -torch.tensor(by_hand).log())
    each.sum().backward()
    assert (logits.grad[0, 0, 1:] == 0).all(), "what came after the event says nothing"
    assert (logits.grad[3, 0, 1:] == 0).all(), "nor what came after the patient was lost"
