"""Stacked cross-attention against a loop that is slow and obvious, and contrasts by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from chiasm.objectives.cross_attention import hardest_negatives, same_findings, soft_contrast, stacked_relevance

YES = torch.ones(3, dtype=torch.bool)


def slow_relevance(queries, query_mask, keys, key_mask, sharpness=9.0, pooling=6.0):
    """Pair by pair, word by word, as the equations are written."""
    found = torch.zeros(len(keys), len(queries), dtype=queries.dtype)
    for b in range(len(keys)):
        regions = [F.normalize(v, dim=0) for v in keys[b][key_mask[b]]]
        for c in range(len(queries)):
            words = [F.normalize(e, dim=0) for e in queries[c][query_mask[c]]]
            if not regions or not words:
                continue
            s = torch.stack([torch.stack([F.leaky_relu(v @ e, 0.1) for e in words]) for v in regions])
            s = s / s.norm(dim=1, keepdim=True)
            total = 0.0
            for t, e in enumerate(words):
                weight = (sharpness * s[:, t]).softmax(dim=0)
                a = sum(w * v for w, v in zip(weight, regions, strict=True))
                total += math.exp(pooling * float(a @ e / a.norm() / e.norm()))
            found[b, c] = math.log(total) / pooling
    return found


def example(seed=0, batch=5, regions=7, words=4, dim=6):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, regions, dim, generator=generator, dtype=torch.float64)
    text = torch.randn(batch, words, dim, generator=generator, dtype=torch.float64)
    image_mask = torch.rand(batch, regions, generator=generator) < 0.7
    text_mask = torch.arange(words) < torch.tensor([4, 2, 0, 1, 3])[:, None]
    image_mask[:, 0], image_mask[3] = True, False
    return image, image_mask, text, text_mask


@pytest.mark.parametrize("seed", range(3))
def test_relevance_is_that_of_the_slow_loop_in_both_directions(seed):
    image, image_mask, text, text_mask = example(seed)
    fast = stacked_relevance(text, text_mask, image, image_mask)
    assert (fast - slow_relevance(text, text_mask, image, image_mask)).abs().max() < 1e-5
    assert fast[3].eq(0).all() and fast[:, 2].eq(0).all()  # no image, no text
    back = stacked_relevance(image, image_mask, text, text_mask)
    assert (back - slow_relevance(image, image_mask, text, text_mask)).abs().max() < 1e-5


def test_what_stands_under_a_mask_changes_nothing_and_gradients_are_finite():
    image, image_mask, text, text_mask = example()
    plain = stacked_relevance(text, text_mask, image, image_mask)
    dirty_image = image.masked_fill(~image_mask[..., None], 1e3).requires_grad_()
    dirty_text = text.masked_fill(~text_mask[..., None], -1e3).requires_grad_()
    dirty = stacked_relevance(dirty_text, text_mask, dirty_image, image_mask)
    assert torch.equal(dirty, plain)
    dirty.sum().backward()
    for x, mask in ((dirty_image, image_mask), (dirty_text, text_mask)):
        assert torch.isfinite(x.grad).all()
        assert (x.grad[~mask] == 0).all()


def test_studies_are_alike_by_the_findings_that_are_present():
    states = torch.tensor([[True, True], [True, False], [False, False], [False, False], [True, True]])
    stated = torch.tensor([[True, True], [True, True], [True, False], [False, True], [False, False]])
    assert same_findings(states, stated).tolist() == [
        [1.0, 0.5, 0.0, 0.0, 0.0],
        [0.5, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]


def test_soft_contrast_by_hand():
    scores = torch.tensor([[1.0, 0.5, 9.0], [0.0, 2.0, 9.0], [9.0, 9.0, 9.0]])
    alike = torch.tensor([[1.0, 0.5, 1.0], [0.5, 1.0, 0.0], [1.0, 0.0, 1.0]])
    mask = torch.tensor([True, True, False])

    def direction(rows):
        total = 0.0
        for i, row in enumerate(rows):
            logs = [x / 0.5 - math.log(sum(math.exp(y / 0.5) for y in row)) for x in row]
            total -= (logs[i] * 1 + logs[1 - i] * 0.5) / 1.5
        return total / 2

    slow = (direction([[1.0, 0.5], [0.0, 2.0]]) + direction([[1.0, 0.0], [0.5, 2.0]])) / 2
    assert abs(float(soft_contrast(scores, alike, mask, 0.5)) - slow) < 1e-6


def test_a_single_pair_has_nothing_to_be_told_from():
    scores = torch.ones(3, 3, requires_grad=True)
    loss = soft_contrast(scores, torch.eye(3), torch.tensor([True, False, False]), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(scores.grad).all()


def test_the_hardest_negative_is_the_most_alluring_of_those_that_say_something_else():
    scores = torch.tensor([[0.5, 0.6, 0.9], [0.1, 0.7, 0.2], [0.3, 0.3, 0.8]])
    alike = torch.eye(3)
    alike[0, 2] = alike[2, 0] = 1.0
    # rows: .2 + .6 - .5, 0, 0; columns: 0, .2 + .6 - .7, 0
    assert float(hardest_negatives(scores, alike, YES)) == pytest.approx((0.3 / 3 + 0.1 / 3) / 2)
    alike[0, 1] = alike[1, 0] = 0.5  # half alike: half the margin
    assert float(hardest_negatives(scores, alike, YES)) == pytest.approx((0.2 / 3 + 0.0 / 3) / 2)


def test_the_hardest_negative_of_a_masked_study_does_not_count():
    scores = torch.tensor([[0.5, 9.0], [9.0, 0.5]])
    assert float(hardest_negatives(scores, torch.eye(2), torch.tensor([True, False]))) == 0
