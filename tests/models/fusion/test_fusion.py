"""What every fusion family keeps: one interface, absence that is absence, no study that sees another, nothing dead."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.registry import FUSIONS as FAMILIES
from chiasm.tensors import MODALITIES, Tokens

DIM = 16
SUBSETS = [(m,) for m in MODALITIES] + [("image", "text"), ("image", "record"), ("text", "record"), MODALITIES]
CASES = [(name, s) for name in FAMILIES for s in SUBSETS if set(getattr(FAMILIES[name], "needs", ())) <= set(s)]


def make(name, modalities=MODALITIES):
    torch.manual_seed(0)
    fusion = FAMILIES[name](modalities, DIM, 2, 0.0).eval()
    with torch.no_grad():  # as after training: a weight, bias or gain that is still 0 or 1 would hide a mistake
        for parameter in fusion.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return fusion


def draw(seed=1, batch=4, modalities=MODALITIES):
    """Tokens of a batch: volumes of 1 x 2 x 3 cells, reports of 5 words, records of 3 columns."""
    torch.manual_seed(seed)
    sizes = {"image": 6, "text": 5, "record": 3}
    return {
        m: Tokens(
            torch.randn(batch, sizes[m], DIM),
            torch.ones(batch, sizes[m], dtype=torch.bool),
            (1, 2, 3) if m == "image" else (),
        )
        for m in modalities
    }


def everything(fused, tokens):
    """All that may be read of a result: what stands under a mask may not."""
    parts = [fused.vector, *fused.vectors.values()]
    return [*parts, *(t.values[t.mask] for t in fused.tokens.values())]


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_a_family_gives_the_vector_the_vectors_and_the_tokens_of_its_modalities(name, modalities):
    tokens = draw(modalities=modalities)
    fused = make(name, modalities)(tokens)
    assert fused.vector.shape == (4, DIM)
    assert list(fused.vectors) == list(fused.tokens) == list(modalities)
    for m in modalities:
        assert fused.vectors[m].shape == (4, DIM)
        assert fused.tokens[m].values.shape == tokens[m].values.shape
        assert fused.tokens[m].grid == tokens[m].grid
        assert torch.equal(fused.tokens[m].mask, tokens[m].mask)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_stands_under_a_mask_changes_nothing(name, data):
    tokens, fusion = draw(), make(name)
    for t in tokens.values():
        flags = data.draw(st.lists(st.booleans(), min_size=t.mask.numel(), max_size=t.mask.numel()))
        t.mask[:] = torch.tensor(flags).view_as(t.mask)
        t.mask[0] &= data.draw(st.booleans())  # often the whole modality of a study
    with torch.no_grad():
        before = everything(fusion(tokens), tokens)
        for t in tokens.values():
            t.values[~t.mask] = data.draw(st.sampled_from([0.0, 1e3, -1e6]))
        after = everything(fusion(tokens), tokens)
    assert all(torch.isfinite(x).all() for x in before)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_absent_modality_is_a_zero_vector_and_a_present_one_counts(name):
    fusion = make(name)
    for m in MODALITIES:
        tokens = draw()
        whole = fusion(tokens)
        tokens[m].mask[1] = False
        fused = fusion(tokens)
        assert torch.equal(fused.vectors[m][1], torch.zeros(DIM))
        assert torch.allclose(fused.vector[[0, 2, 3]], whole.vector[[0, 2, 3]], atol=1e-6)
        assert not torch.allclose(fused.vector[1], whole.vector[1], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_permuting_the_batch_permutes_the_result(name):
    fusion, tokens = make(name), draw()
    tokens["text"].mask[1] = False
    tokens["image"].mask[2] = False
    order = torch.tensor([2, 0, 3, 1])
    moved = {m: Tokens(t.values[order], t.mask[order], t.grid) for m, t in tokens.items()}
    a, b = fusion(tokens), fusion(moved)
    assert torch.allclose(a.vector[order], b.vector, atol=1e-6)
    for m in MODALITIES:
        assert torch.allclose(a.vectors[m][order], b.vectors[m], atol=1e-6)
        real = tokens[m].mask[order]
        assert torch.allclose(a.tokens[m].values[order][real], b.tokens[m].values[real], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "modalities"), [case for case in CASES if len(case[1]) > 1]
)  # alone, none looks around
def test_a_gradient_reaches_every_parameter_and_every_modality(name, modalities):
    fusion, tokens = make(name, modalities), draw(modalities=modalities)
    for t in tokens.values():
        t.values.requires_grad_(True)
    fused = fusion(tokens)
    parts = [fused.vector, *fused.vectors.values(), *(t.values for t in fused.tokens.values())]
    sum((x * torch.randn_like(x)).sum() for x in parts).backward()
    dead = [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead
    assert all(t.values.grad.abs().sum(dim=(1, 2)).gt(0).all() for t in tokens.values())
