"""Vectors of one space, and the two contrasts of a recipe."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from chiasm.heads.alignment import AlignmentHead, AlignmentLayers, AlignmentOptions
from chiasm.tensors import Batch, Fused, Outputs, Tokens

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


def test_what_is_aligned_are_unit_vectors_and_zeros_where_there_is_nothing():
    torch.manual_seed(0)
    head = AlignmentLayers(8, ("image", "text", "fused", "record"))
    tokens = {m: Tokens(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)) for m in ("image", "text", "record")}
    tokens["text"].mask[1] = False
    found = head(SimpleNamespace(tokens=tokens, fused=Fused(torch.randn(2, 8), {}, tokens)))
    assert list(found) == ["image", "text", "fused", "record"]
    lengths = torch.stack([x.norm(dim=1) for x in found.values()])
    assert torch.allclose(lengths, torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]), atol=1e-5)


def test_the_two_losses_of_a_recipe_by_hand():
    v = {name: _vectors(n) for n, name in enumerate(("image", "text", "record", "fused"))}
    outputs = Outputs(
        {},
        Fused(v["fused"], {}, {}),
        present={"image": torch.tensor([True, True, False]), "text": YES, "record": YES},
        heads={"alignment": v},
    )
    batch = Batch(
        torch.arange(3),
        labels={"event": torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])},
        label_mask={"event": torch.tensor([[True, True], [True, True], [True, False]])},
    )
    options = AlignmentOptions(target="event", image_text=2.0, fused_record=3.0, temperature=0.5)
    found = {name: loss.value for name, loss in AlignmentHead(options, None).losses(outputs, batch).items()}
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
        outputs = Outputs({}, Fused(v["fused"], {}, {}), present={"image": YES, "record": YES}, heads={"alignment": v})
        options = AlignmentOptions(target="event", fused_record=1.0, temperature=0.5)
        found.append(AlignmentHead(options, None).losses(outputs, batch)["fused_record_loss"].value)
    with torch.no_grad():
        by_hand = _slow(v["fused"], v["record"], {0: [0], 1: [1]}, [0, 1], 0.5)
    assert [float(loss.detach()) for loss in found] == [pytest.approx(by_hand, abs=1e-9)] * 2
    found[1].backward()
    for name in ("fused", "record"):
        assert (v[name].grad.abs().sum(dim=1) > 0).tolist() == [True, True, False]
