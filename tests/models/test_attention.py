import pytest
import torch
from torch import nn

from chiasm.models.attention import Layout, look, project_keys, project_queries

MASK = torch.tensor([[False, True, False, True], [False] * 4, [True, True, False, False]])


def test_a_layout_puts_each_studys_tokens_at_the_front():
    values = torch.arange(12.0).view(3, 4, 1)
    layout = Layout(MASK)
    padded = layout.pad(values[MASK])
    assert padded[..., 0].tolist() == [[1.0, 3.0], [0.0, 0.0], [8.0, 9.0]]
    assert layout.real.tolist() == [[True, True], [False, False], [True, True]]
    assert torch.equal(layout.rows(padded), values[MASK])


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_a_layout_of_nothing_is_empty(shape):
    layout = Layout(torch.zeros(shape, dtype=torch.bool))
    padded = layout.pad(torch.zeros(0, 5))
    assert padded.shape == (shape[0], 0, 5)
    assert layout.rows(padded).shape == (0, 5)


def test_the_steps_together_are_torchs_attention():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(attention.in_proj_bias)
    x, keys = torch.randn(3, 5, 8, dtype=torch.float64), torch.randn(3, 4, 8, dtype=torch.float64)
    mask = MASK.clone()
    mask[1, 2] = True  # looking at nothing is not defined
    expected, _ = attention(x, keys, keys, key_padding_mask=~mask)
    found = look(attention, project_queries(attention, x), project_keys(attention, keys), mask[:, None])
    assert torch.allclose(attention.out_proj(found), expected, atol=1e-12)


def test_a_causal_query_looks_at_nothing_behind_itself():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    q, kv = project_queries(attention, x), project_keys(attention, x)
    own = torch.ones(5, 5, dtype=torch.bool).tril().expand(3, 5, 5)
    assert torch.allclose(look(attention, q, kv, None, causal=True), look(attention, q, kv, own), atol=1e-12)


def test_attention_forgets_its_share_while_it_trains_only():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    x = torch.randn(3, 5, 8)
    q, kv = project_queries(attention, x), project_keys(attention, x)
    assert not torch.equal(look(attention, q, kv, None), look(attention, q, kv, None))
    attention.eval()
    assert torch.equal(look(attention, q, kv, None), look(attention, q, kv, None))
