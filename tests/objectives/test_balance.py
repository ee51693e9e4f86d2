import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chiasm.objectives.balance import modulate, modulation, truth_scores
from chiasm.study import Kind
from chiasm.tensors import Batch, Fused, Outputs


def test_scores_are_the_probability_of_the_truth_over_known_labels_of_studies_with_the_modality():
    outputs = Outputs(
        {},
        Fused(torch.zeros(2, 4), {}, {}),
        unimodal_logits={
            "image": {"event": torch.tensor([[2.0, 9.0], [-1.0, 0.5]]), "score": torch.tensor([[0.5], [0.0]])},
            "text": {"event": torch.zeros(2, 2), "score": torch.zeros(2, 1)},
        },
        present={"image": torch.tensor([True, True]), "text": torch.tensor([False, True])},
    )
    batch = Batch(
        torch.arange(2),
        labels={"event": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "score": torch.tensor([[0.0], [2.0]])},
        label_mask={"event": torch.tensor([[True, False], [True, True]]), "score": torch.tensor([[True], [False]])},
    )

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    found = truth_scores(outputs, batch, {"event": Kind.BINARY, "score": Kind.REGRESSION})
    image = [[sigmoid(2.0) + sigmoid(-1.0) + (1 - sigmoid(0.5)), 3.0], [math.exp(-0.5 * 0.5**2), 1.0]]
    assert torch.allclose(found, torch.tensor([image, [[1.0, 2.0], [0.0, 0.0]]]))
    rho, _ = modulation(found, alpha=0.5)
    assert torch.allclose(rho[0], torch.tensor((image[0][0] / 3 + image[1][0]) / 2 / 0.5))  # targets weigh alike


def test_two_modalities_are_the_papers_formula():
    rho, k = modulation(torch.tensor([[[6.0, 10.0]], [[3.0, 10.0]]]), alpha=0.3)
    assert torch.allclose(rho, torch.tensor([2.0, 0.5]))
    assert torch.allclose(k, torch.tensor([1 - math.tanh(0.3 * 2.0), 1.0]))


def test_of_three_each_is_held_against_the_mean_of_the_others():
    rho, k = modulation(torch.tensor([[[8.0, 10.0]], [[3.0, 10.0]], [[1.0, 5.0]]]), alpha=0.1)
    by_hand = [0.8 / 0.25, 0.3 / 0.5, 0.2 / 0.55]
    assert torch.allclose(rho, torch.tensor(by_hand))
    assert torch.allclose(k, torch.tensor([1 - math.tanh(0.1 * by_hand[0]), 1.0, 1.0]))


@pytest.mark.parametrize("absent", [(1,), (1, 2), (0, 1, 2)])
def test_a_modality_that_the_batch_lacks_takes_no_part(absent):
    scores = torch.tensor([[[8.0, 10.0]], [[3.0, 10.0]], [[2.0, 10.0]]])
    scores[list(absent)] = 0.0
    rho, k = modulation(scores, alpha=0.5)
    left = [i for i in range(3) if i not in absent]
    if len(left) > 1:
        assert torch.allclose(rho[left], modulation(scores[left], alpha=0.5)[0])
        assert torch.equal(rho[list(absent)], torch.ones(len(absent)))
    else:
        assert torch.equal(rho, torch.ones(3))
        assert torch.equal(k, torch.ones(3))


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=4), st.floats(0.05, 1))
def test_some_modality_is_never_slowed_and_none_is_reversed(scores, alpha):
    rho, k = modulation(torch.tensor([[[s, 1.0]] for s in scores]), alpha)
    assert ((k >= 0) & (k <= 1)).all()
    assert (k[rho <= 1] == 1).all()
    if min(scores) < 0.99 * max(scores):  # a tie is a ratio of 1, but for its last digit
        assert k[int(torch.tensor(scores).argmin())] == 1


def test_gradients_are_scaled_and_get_noise_of_their_own_spread():
    torch.manual_seed(0)
    weight, none, one = (torch.nn.Parameter(torch.zeros(n)) for n in (40_000, 3, 1))
    g = 3 * torch.randn(40_000) + 1
    weight.grad, one.grad = g.clone(), torch.tensor([2.0])
    modulate([weight, none, one], torch.tensor(0.25), None)
    assert torch.equal(weight.grad, 0.25 * g)
    assert none.grad is None
    weight.grad = g.clone()
    modulate([weight, one], torch.tensor(0.25), torch.Generator().manual_seed(5))
    noise = weight.grad - 0.25 * g
    assert abs(float(noise.std()) - 3) < 0.05
    assert abs(float(noise.mean())) < 0.05
    assert abs(float((noise * g).mean())) < 0.15
    assert torch.equal(one.grad, torch.tensor([0.125]))  # one number has no spread
    again = torch.nn.Parameter(torch.zeros(40_000))
    again.grad = g.clone()
    modulate([again], torch.tensor(0.25), torch.Generator().manual_seed(5))
    assert torch.equal(again.grad, weight.grad)
