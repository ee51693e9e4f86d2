import math

import pytest
import torch
import torch.nn.functional as F

from chiasm.objectives.alignment import alignment_losses, contrast
from chiasm.recipe import Alignment
from chiasm.tensors import Batch, Fused, Outputs

YES = torch.ones(3, dtype=torch.bool)


def _vectors(seed):
    return F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def _slow(anchors, others, positives, fold_models, temperature):
    """Mean over anchors of - mean over positives of the log share; `positives`: anchor -> list."""
    losses = []
    for i, own in positives.items():
        scores = {o: math.exp(float(anchors[i] @ others[o]) / temperature) for o in fold_models}
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


def test_the_two_losses_of_a_recipe_by_hand():
    v = {name: _vectors(n) for n, name in enumerate(("image", "text", "record", "fused"))}
    outputs = Outputs(
        {},
        Fused(v["fused"], {}, {}),
        present={"image": torch.tensor([True, True, False]), "text": YES, "record": YES},
        aligned=v,
    )
    batch = Batch(
        torch.arange(3),
        labels={"event": torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])},
        label_mask={"event": torch.tensor([[True, True], [True, True], [True, False]])},
    )
    found = alignment_losses(
        outputs, batch, Alignment(target="event", image_text=2.0, fused_record=3.0, temperature=0.5)
    )
    text = _slow(v["image"], v["text"], {0: [0], 1: [1]}, [0, 1, 2], 0.5)
    first = _slow(v["fused"], v["record"], {0: [0, 2], 1: [1]}, [0, 1, 2], 0.5)
    second = _slow(v["fused"], v["record"], {0: [0, 1], 1: [0, 1]}, [0, 1], 0.5)
    assert found.keys() == {"image_text_loss", "fused_record_loss"}
    assert abs(float(found["image_text_loss"]) - 2 * text) < 1e-9
    assert abs(float(found["fused_record_loss"]) - 3 * (first + second) / 2) < 1e-9


def test_a_study_of_unknown_outcome_takes_no_part():
    """Neither what it is nor what stands under its mask changes the contrast of the others, and none moves it."""
    v = {name: _vectors(n).requires_grad_(True) for n, name in enumerate(("image", "record", "fused"))}
    found = []
    for hidden in (0.0, 1.0):
        batch = Batch(
            torch.arange(3),
            labels={"event": torch.tensor([[1.0], [0.0], [hidden]])},
            label_mask={"event": torch.tensor([[True], [True], [False]])},
        )
        outputs = Outputs({}, Fused(v["fused"], {}, {}), present={"image": YES, "record": YES}, aligned=v)
        options = Alignment(target="event", fused_record=1.0, temperature=0.5)
        found.append(alignment_losses(outputs, batch, options)["fused_record_loss"])
    with torch.no_grad():
        by_hand = _slow(v["fused"], v["record"], {0: [0], 1: [1]}, [0, 1], 0.5)
    assert [float(loss.detach()) for loss in found] == [pytest.approx(by_hand, abs=1e-9)] * 2
    found[1].backward()
    for name in ("fused", "record"):
        assert (v[name].grad.abs().sum(dim=1) > 0).tolist() == [True, True, False]
