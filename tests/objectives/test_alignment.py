import math

import torch
import torch.nn.functional as F

from chiasm.objectives.alignment import contrast

YES = torch.ones(3, dtype=torch.bool)


def _vectors(seed):
    return F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def _slow(anchors, others, positives, among, temperature):
    """Mean over anchors of - mean over positives of the log share; `positives`: anchor -> list."""
    losses = []
    for i, own in positives.items():
        scores = {o: math.exp(float(anchors[i] @ others[o]) / temperature) for o in among}
        losses.append(-sum(math.log(scores[p] / sum(scores.values())) for p in own) / len(own))
    return sum(losses) / len(losses)


def test_contrast_with_ones_own_is_infonce():
    a, b = _vectors(0), _vectors(1)
    found = contrast(a, b, torch.eye(3, dtype=torch.bool), YES, YES, 0.2)
    assert abs(float(found) - _slow(a, b, {0: [0], 1: [1], 2: [2]}, [0, 1, 2], 0.2)) < 1e-9
    assert abs(float(found) - float(F.cross_entropy(a @ b.T / 0.2, torch.arange(3)))) < 1e-9


def test_who_is_absent_is_neither_anchor_nor_candidate():
    a, b = _vectors(0), _vectors(1)
    same = torch.tensor([[True, False, True], [False, True, False], [True, False, True]])
    anchors, others = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    found = contrast(a, b, same, anchors, others, 0.5)
    assert abs(float(found) - _slow(a, b, {0: [2], 1: [1]}, [1, 2], 0.5)) < 1e-9


def test_without_a_pair_there_is_no_loss_and_no_gradient():
    a, b = _vectors(0).requires_grad_(True), _vectors(1)
    loss = contrast(a, b, torch.eye(3, dtype=torch.bool), YES, ~YES, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert (a.grad == 0).all()
