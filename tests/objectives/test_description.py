import torch
import torch.nn.functional as F

from chiasm.objectives.description import description_loss


def test_each_word_is_predicted_from_the_ones_before_and_padding_is_left_out():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6)
    ids = torch.tensor([[2, 4, 5, 3], [2, 4, 3, 0]])
    mask = ids != 0
    words = [(0, 0, 4), (0, 1, 5), (0, 2, 3), (1, 0, 4), (1, 1, 3)]
    slow = sum(
        0.9 * -F.log_softmax(logits[b, t], 0)[w] + 0.1 * -F.log_softmax(logits[b, t], 0).mean() for b, t, w in words
    )
    assert torch.allclose(description_loss(logits[mask[:, 1:]], ids, mask), slow / len(words), atol=1e-6)


def test_nothing_to_say_is_no_loss_and_no_gradient():
    logits = torch.zeros(0, 6, requires_grad=True)
    loss = description_loss(logits, torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and logits.grad.shape == (0, 6)
