import math

import pytest
import torch
from tiny_bert import save_tiny_bert

from chiasm.models.text.encoder import AttentionPool, BiLSTM
from chiasm.recipe import TextInput
from chiasm.report.tokenizer import Tokenizer, build_tokenizer
from chiasm.tensors import Tokens


def test_attention_pool_is_the_published_formula():
    torch.manual_seed(0)
    pool = AttentionPool(4).double().requires_grad_(False)
    h = torch.randn(1, 3, 4, dtype=torch.float64)
    vector, weights = pool(Tokens(h, torch.ones(1, 3, dtype=torch.bool)))
    scores = []
    for t in range(3):
        u = [
            math.tanh(
                sum(float(pool.project.weight[i, j] * h[0, t, j]) for j in range(4)) + float(pool.project.bias[i])
            )
            for i in range(4)
        ]
        scores.append(sum(float(pool.query.weight[0, i]) * u[i] for i in range(4)))
    exp = [math.exp(s) for s in scores]
    slow = [e / sum(exp) for e in exp]
    assert torch.allclose(weights[0], torch.tensor(slow, dtype=torch.float64))
    assert torch.allclose(vector[0], sum(a * h[0, t] for t, a in enumerate(slow)))


def test_attention_pool_gives_zeros_where_there_is_nothing():
    pool = AttentionPool(4)
    values = torch.full((2, 3, 4), torch.nan)
    values[1] = 1.0
    mask = torch.tensor([[False] * 3, [True, True, False]])
    vector, weights = pool(Tokens(values.nan_to_num(1e9), mask))
    assert torch.equal(vector[0], torch.zeros(4))
    assert torch.equal(weights[1], torch.tensor([0.5, 0.5, 0.0]))


def test_bilstm_of_a_padded_report_is_that_of_the_report_alone():
    torch.manual_seed(0)
    encoder = BiLSTM(10, 8, dropout=0.0).eval()
    ids = torch.tensor([[4, 5, 6, 0, 0], [7, 8, 9, 4, 5]])
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    together = encoder(ids, mask).values
    alone = encoder(ids[:1, :3], mask[:1, :3]).values
    assert torch.allclose(together[0, :3], alone[0], atol=1e-6)
    ids[0, 3:] = 9  # what stands under the mask
    assert torch.equal(encoder(ids, mask).values, together)


def test_bilstm_computes_only_texts_that_are_there():
    torch.manual_seed(0)
    encoder, rows = BiLSTM(10, 8, dropout=0.0), []
    encoder.embedding.register_forward_hook(lambda _, args, __: rows.append(tuple(args[0].shape)))
    ids = torch.randint(4, 10, (4, 6))
    mask = torch.arange(6) < torch.tensor([0, 3, 0, 2])[:, None]
    values = encoder(ids, mask).values
    assert rows == [(2, 3)]
    for i in (1, 3):
        assert torch.allclose(
            values[i][mask[i]], encoder(ids[i : i + 1], mask[i : i + 1]).values[0][mask[i]], atol=1e-6
        )
    encoder.zero_grad()
    nothing = encoder(ids, torch.zeros_like(mask))
    (nothing.values * nothing.mask[..., None]).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[2, 4, 5, 3], [2, 4, 3, 0]]), torch.tensor([[True] * 4, [True] * 3 + [False]])


def build(options):
    return options.part.build(options, 0, 8, 0.0)


def test_a_text_model_of_a_folder_reads_with_its_own_tokenizer(tmp_path, inputs):
    options = TextInput(encoder=save_tiny_bert(tmp_path))
    reader = build_tokenizer(options, Tokenizer.train([]))
    assert reader.encode_batch(["no effusion .", "", "no no no no"], 4) == [[2, 4, 5, 3], [], [2, 4, 4, 3]]
    encoder = options.part.build(options, len(reader), 8, 0.0).train()
    ids, mask = inputs
    tokens = encoder(ids, mask)
    assert tokens.values.shape == (2, 4, 8)
    ids[1, 3] = 6
    assert torch.equal(encoder(ids, mask).values[1, :3], tokens.values[1, :3])
    assert torch.isfinite(encoder(ids, torch.zeros_like(mask)).values).all()
    with torch.no_grad():
        states = encoder.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(tokens.values[mask], encoder.project(states)[mask])


def test_states_that_are_given_are_not_read_again(tmp_path, inputs):
    encoder = build(TextInput(encoder=save_tiny_bert(tmp_path)))
    ids, mask = inputs
    states = encoder.extract(ids, mask)
    expected = encoder(ids, mask).values
    encoder.backbone.forward = None
    torch.testing.assert_close(encoder(ids, mask, states).values, expected)
    torch.testing.assert_close(encoder(ids, mask, states.half()).values, expected, atol=2e-3, rtol=1e-3)
    with pytest.raises(TypeError):
        encoder(ids, mask)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_text_model_learns_unless_it_is_frozen(tmp_path, inputs, freeze):
    encoder = build(TextInput(encoder=save_tiny_bert(tmp_path), freeze=freeze))
    ids, mask = inputs
    one, two = (encoder.train()(ids, mask).values for _ in range(2))
    assert torch.equal(one, two) is freeze, "dropout acts where it learns"
    encoder.eval()(ids, mask).values[mask].square().sum().backward()
    learned = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert ("backbone.embeddings.word_embeddings.weight" in learned) is not freeze
    assert "project.weight" in learned
    assert torch.equal(encoder(ids, mask).values, encoder(ids, mask).values)
