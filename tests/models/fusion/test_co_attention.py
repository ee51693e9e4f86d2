import pytest
import torch

from chiasm.models.fusion.co_attention import CoAttention, CrossAttention
from chiasm.tensors import Tokens

MODALITIES = ("image", "text", "record")


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return CoAttention(MODALITIES, dim=16, heads=2, dropout=0.0).eval()


def _tokens(batch=4):
    torch.manual_seed(1)
    sizes = {"image": 6, "text": 5, "record": 3}
    return {m: Tokens(torch.randn(batch, n, 16), torch.ones(batch, n, dtype=torch.bool)) for m, n in sizes.items()}


@pytest.mark.parametrize("absent", MODALITIES)
def test_what_an_absent_modality_holds_changes_nothing(fusion, absent):
    tokens = _tokens()
    tokens[absent].mask[:2] = False
    before = fusion(tokens)
    tokens[absent].values[:2] = 1e3
    after = fusion(tokens)
    assert torch.equal(before.vector, after.vector)
    for name in MODALITIES:
        if name != absent:
            assert torch.equal(before.tokens[name].values, after.tokens[name].values)


def test_each_modality_looks_at_each_other(fusion):
    for changed in MODALITIES:
        tokens = _tokens()
        before = fusion(tokens)
        tokens[changed].values.mul_(2.0)
        after = fusion(tokens)
        for name in MODALITIES:
            assert not torch.allclose(before.tokens[name].values, after.tokens[name].values)


def test_permuting_the_batch_permutes_the_result(fusion):
    tokens = _tokens()
    tokens["text"].mask[1] = False
    order = torch.tensor([2, 0, 3, 1])
    moved = {m: Tokens(t.values[order], t.mask[order]) for m, t in tokens.items()}
    assert torch.allclose(fusion(tokens).vector[order], fusion(moved).vector, atol=1e-6)


def test_the_gate_of_two_modalities_is_the_sigmoid_of_the_difference(fusion):
    pair = CoAttention(("image", "text"), dim=16, heads=2, dropout=0.0).eval()
    tokens = {m: t for m, t in _tokens().items() if m != "record"}
    pooled = []
    for name, other in (("image", "text"), ("text", "image")):
        updated = pair.cross_attention[name](tokens[name], [tokens[other]])
        pooled.append(pair.norm[name](pair.pool[name](updated)[0]))
    v, s = pooled
    both = torch.cat([v, s], dim=1)
    z = torch.sigmoid(pair.gate["image"](both) - pair.gate["text"](both))
    assert torch.allclose(pair(tokens).vector, z * v + (1 - z) * s, atol=1e-6)


def test_the_gate_shares_out_one_among_the_modalities_that_are_there(fusion):
    tokens = _tokens()
    tokens["text"].mask[0] = tokens["record"].mask[0] = tokens["text"].mask[1] = False
    fused = fusion(tokens)
    assert torch.allclose(fused.vector[0], fused.vectors["image"][0], atol=1e-6)  # alone: a gate of one
    everything = torch.cat([fused.vectors[m][1] for m in MODALITIES])
    say = {m: fusion.gate[m](everything).exp() for m in ("image", "record")}
    by_hand = sum(say[m] * fused.vectors[m][1] for m in say) / sum(say.values())
    assert torch.allclose(fused.vector[1], by_hand, atol=1e-6)


def test_a_study_of_which_nothing_is_known_is_the_zero_vector(fusion):
    tokens = _tokens()
    for t in tokens.values():
        t.mask[0] = False
    assert torch.equal(fusion(tokens).vector[0], torch.zeros(16))


def _padded(cross, queries, others):
    """Slow: every token computed, padding and all, by torch's own attention."""
    keys = torch.cat([t.values.masked_fill(~t.mask[..., None], 0.0) for t in others], dim=1)
    mask = torch.cat([queries.mask.new_ones(len(keys), 1), *(t.mask for t in others)], dim=1)
    keys = torch.cat([cross.null.expand(len(keys), 1, -1), cross.norm_key(keys)], dim=1)
    looked, _ = cross.attention(cross.norm_query(queries.values), keys, keys, key_padding_mask=~mask)
    x = queries.values + looked
    return x + cross.feed_forward(cross.forward_norm(x))


def _ragged(seed, *sizes, batch=5):
    torch.manual_seed(seed)
    return [
        Tokens(torch.randn(batch, n, 8, dtype=torch.float64, requires_grad=True), torch.rand(batch, n) < 0.6)
        for n in sizes
    ]


def _cross():
    torch.manual_seed(0)
    cross = CrossAttention(8, 2, 0.0).double()
    for parameter in cross.parameters():  # biases, norms and the null key start where they hide a mistake
        torch.nn.init.normal_(parameter, std=0.5)
    return cross


def test_only_real_tokens_are_computed_and_nothing_changes():
    cross, (queries, *others) = _cross(), _ragged(1, 7, 4, 3)
    queries.mask[1] = False  # nothing asks
    for t in (*others, queries):
        t.mask[2] = False
    others[0].mask[3], others[1].mask[3] = False, False  # nothing to look at
    fast, slow = cross(queries, others).values, _padded(cross, queries, others)
    assert torch.allclose(fast[queries.mask], slow[queries.mask], atol=1e-12)
    assert not fast[~queries.mask].any()
    weights = torch.randn_like(fast) * queries.mask[..., None]
    learned = [*cross.parameters(), queries.values, *(t.values for t in others)]
    pairs = zip(*(torch.autograd.grad((x * weights).sum(), learned) for x in (fast, slow)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_where_no_study_asks_every_weight_has_a_gradient_of_zero():
    """Else two processes stop at the second step: a weight without a gradient is waited for."""
    cross, (queries, other) = _cross(), _ragged(1, 7, 4)
    queries.mask[:] = False
    cross(queries, [other]).values.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in cross.parameters())
