import pytest
import torch
from torch import nn

from chiasm.models.attention import Padding, attend, places_of, project, put, take

MASK = torch.tensor([[False, True, False, True], [False] * 4, [True, True, False, False]])


def test_a_padding_puts_each_studys_tokens_at_the_front():
    values = torch.arange(12.0).view(3, 4, 1)
    padding = Padding(MASK)
    padded = padding.pad(values[MASK])
    assert padded[..., 0].tolist() == [[1.0, 3.0], [0.0, 0.0], [8.0, 9.0]]
    assert padding.mask.tolist() == [[True, True], [False, False], [True, True]]
    assert torch.equal(padding.rows(padded), values[MASK])


def test_what_is_taken_is_put_back_and_the_rest_is_zero():
    values = torch.randn(3, 4, 2)
    rows = take(values, places_of(MASK))
    assert torch.equal(rows, values[MASK])
    assert torch.equal(put(rows, places_of(MASK), MASK.shape), values * MASK[..., None])


def test_several_sets_of_tokens_are_laid_side_by_side():
    values = torch.arange(12.0).view(3, 4, 1)
    first = torch.tensor([[True], [True], [False]])
    padding = Padding(first, MASK)
    padded = padding.pad(torch.cat([torch.tensor([[-1.0], [-2.0]]), values[MASK]]))
    assert padded[..., 0].tolist() == [[-1.0, 1.0, 3.0], [-2.0, 0.0, 0.0], [8.0, 9.0, 0.0]]


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_a_padding_of_nothing_is_empty(shape):
    padding = Padding(torch.zeros(shape, dtype=torch.bool))
    padded = padding.pad(torch.zeros(0, 5))
    assert padded.shape == (shape[0], 0, 5)
    assert padding.rows(padded).shape == (0, 5)


def test_the_steps_together_are_torchs_attention():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(attention.in_proj_bias)
    x, keys = torch.randn(3, 5, 8, dtype=torch.float64), torch.randn(3, 4, 8, dtype=torch.float64)
    mask = MASK.clone()
    mask[1, 2] = True  # looking at nothing is not defined
    expected, _ = attention(x, keys, keys, key_padding_mask=~mask)
    q, kv = (rows.view(3, -1, rows.shape[1]) for rows in project(attention, x.flatten(0, 1), keys.flatten(0, 1)))
    found = attend(attention, q, kv, mask[:, None])
    assert torch.allclose(attention.out_proj(found), expected, atol=1e-12)


def test_a_causal_query_looks_at_nothing_behind_itself():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    rows = x.flatten(0, 1)
    q, kv = (part.view(3, 5, -1) for part in project(attention, rows, rows))
    own = torch.ones(5, 5, dtype=torch.bool).tril().expand(3, 5, 5)
    assert torch.allclose(attend(attention, q, kv, None, causal=True), attend(attention, q, kv, own), atol=1e-12)


def test_attention_forgets_its_share_while_it_trains_only():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    x = torch.randn(3, 5, 8)
    rows = x.flatten(0, 1)
    q, kv = (part.view(3, 5, -1) for part in project(attention, rows, rows))
    assert not torch.equal(attend(attention, q, kv, None), attend(attention, q, kv, None))
    attention.eval()
    assert torch.equal(attend(attention, q, kv, None), attend(attention, q, kv, None))
