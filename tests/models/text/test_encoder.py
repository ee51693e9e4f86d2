import math

import pytest
import torch

from chiasm.models.text.encoder import AttentionPool, BiLSTM
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


def test_a_text_model_of_a_folder_reads_with_its_own_tokenizer(tmp_path):
    import tokenizers
    import transformers

    from chiasm.models.text.encoder import build_text_encoder
    from chiasm.recipe import TextInput
    from chiasm.report.tokenizer import Tokenizer, build_tokenizer

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "effusion", "."])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)

    options = TextInput(encoder=f"hf:{tmp_path}")
    reader = build_tokenizer(options, Tokenizer.train([]))
    assert reader.encode_batch(["no effusion .", "", "no no no no"], 4) == [[2, 4, 5, 3], [], [2, 4, 4, 3]]
    encoder = build_text_encoder(options, len(reader), 8, 0.0).train()
    ids = torch.tensor([[2, 4, 5, 3], [2, 4, 3, 0]])
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    tokens = encoder(ids, mask)
    assert tokens.values.shape == (2, 4, 8)
    ids[1, 3] = 6
    assert torch.equal(encoder(ids, mask).values[1, :3], tokens.values[1, :3])
    assert not any(p.requires_grad for p in encoder.net.parameters())
    nothing = encoder(ids, torch.zeros_like(mask))
    assert torch.isfinite(nothing.values).all()
    with torch.no_grad():
        states = encoder.net(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(tokens.values[mask], encoder.project(states)[mask])
    encoder.net.forward = None  # what was read is not read again, and what was not would fail here
    assert torch.equal(encoder(ids, mask).values, tokens.values)
    with pytest.raises(TypeError):
        encoder(ids + 1 - 1, mask.flip(0))
