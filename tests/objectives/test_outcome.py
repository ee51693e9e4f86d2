import math

import torch

from chiasm.objectives.outcome import target_loss
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
