import itertools

import pytest
import torch

from chiasm.heads.decoder import BOS, EOS, PAD, UNKNOWN, Decoder, _ban_repeated_trigrams
from chiasm.tensors import Tokens


def _joined(memory):
    return Tokens(torch.cat([t.values for t in memory], dim=1), torch.cat([t.mask for t in memory], dim=1))


def slow_logits(decoder, ids, memory):
    """[B, T, V]: torch's own Transformer decoder over whole texts, all of them padded."""
    length = ids.shape[1]
    memory = _joined(memory)
    x = decoder.embedding(ids) * decoder.scale + decoder.position[:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    values = memory.values.masked_fill(~memory.mask[..., None], 0.0)
    return decoder.layers(x, values, tgt_mask=future, memory_key_padding_mask=~memory.mask) @ decoder.embedding.weight.T


@torch.no_grad()
def slow_search(decoder, memory, beams, max_tokens):
    """The beam search that computes every text anew at each word, to the end of the longest."""
    batch = len(memory[0].mask)
    memory = [Tokens(t.values.repeat_interleave(beams, 0), t.mask.repeat_interleave(beams, 0)) for t in memory]
    ids = torch.full((batch * beams, 1), BOS)
    scores = torch.full((batch, beams), -torch.inf)
    scores[:, 0] = 0.0
    done = torch.zeros(batch * beams, dtype=torch.bool)
    for _ in range(max_tokens):
        logits = slow_logits(decoder, ids, memory)[:, -1].float()
        logits[:, [PAD, UNKNOWN, BOS]] = -torch.inf
        _ban_repeated_trigrams(logits, ids)
        step = logits.log_softmax(dim=1)
        step[done] = -torch.inf
        step[done, PAD] = 0.0
        total = (scores.flatten()[:, None] + step).view(batch, -1)
        length = torch.where(done, (ids != PAD).sum(dim=1) - 1, ids.shape[1]).view(batch, beams, 1)
        best = (total.view(batch, beams, -1) / length.clamp(min=1)).view(batch, -1).topk(beams, dim=1).indices
        scores = total.gather(1, best)
        parent = best // step.shape[1] + torch.arange(batch)[:, None] * beams
        word = best % step.shape[1]
        ids = torch.cat([ids[parent.flatten()], word.view(-1, 1)], dim=1)
        done = done[parent.flatten()] | (word.flatten() == EOS)
    return ids.view(batch, beams, -1)[:, 0, 1:]


@pytest.fixture
def decoder():
    torch.manual_seed(1)
    return Decoder(vocabulary_size=7, dim=8, heads=2, layers=1, max_tokens=12, dropout=0.0).eval()


def _memory(decoder, batch=2):
    torch.manual_seed(2)
    return decoder.memory([Tokens(torch.randn(batch, 3, 8), torch.ones(batch, 3, dtype=torch.bool))])


def _score(decoder, words, memory):
    """Slow: log-probability of a text divided by its length, pad, unknown and bos forbidden."""
    total, ids = 0.0, [BOS]
    for word in words:
        logits = slow_logits(decoder, torch.tensor([ids]), memory)[0, -1]
        logits[[PAD, UNKNOWN, BOS]] = -torch.inf
        total += logits.log_softmax(0)[word].item()
        ids.append(word)
    return total / len(words)


def test_beam_search_with_enough_beams_finds_the_best_of_all_texts(decoder):
    memory = _memory(decoder, batch=1)
    words = [EOS, 4, 5, 6]
    texts = []
    for length in (1, 2, 3):
        for text in itertools.product(words, repeat=length):
            ended = text[-1] == EOS or length == 3
            if ended and EOS not in text[:-1]:
                texts.append(text)
    best = max(texts, key=lambda text: _score(decoder, text, memory))
    found = decoder.search(memory, beams=30, max_tokens=3)[0].tolist()
    assert tuple(w for w in found if w != PAD) == best


def test_search_repeats_no_trigram(decoder):
    with torch.no_grad():
        decoder.embedding.weight[EOS] = -50.0 * decoder.embedding.weight[4:].mean(0)  # never stop
    ids = decoder.search(_memory(decoder), beams=2, max_tokens=12)
    for row in ids.tolist():
        words = [w for w in row if w not in (PAD, EOS)]
        trigrams = list(zip(words, words[1:], words[2:], strict=False))
        assert len(trigrams) == len(set(trigrams))


def test_ban_repeated_trigrams_by_hand():
    ids = torch.tensor([[BOS, 4, 5, 6, 4, 5], [BOS, 4, 5, 6, 5, 4]])
    logits = torch.zeros(2, 7)
    _ban_repeated_trigrams(logits, ids)
    assert logits[0].tolist() == [0, 0, 0, 0, 0, 0, -torch.inf]  # 4 5 6 was said
    assert logits[1].tolist() == [0] * 7


def test_a_word_depends_on_the_words_before_it_only(decoder):
    memory = _memory(decoder)
    ids = torch.tensor([[BOS, 4, 5, 6], [BOS, 5, 5, 4]])
    changed = ids.clone()
    changed[:, 3] = 4
    mask = torch.ones_like(ids, dtype=torch.bool)
    a, b = (decoder(text, mask, memory).view(2, 4, -1) for text in (ids, changed))
    assert torch.allclose(a[:, :3], b[:, :3])
    assert not torch.allclose(a[0, 3], b[0, 3])


def test_masked_memory_changes_nothing(decoder):
    mask = torch.tensor([[True, False, True]])
    values = torch.randn(1, 3, 8)
    other = values.clone()
    other[0, 1] = 1e4
    ids = torch.tensor([[BOS, 4]])
    real = torch.ones_like(ids, dtype=torch.bool)
    a = decoder(ids, real, decoder.memory([Tokens(values, mask)]))
    b = decoder(ids, real, decoder.memory([Tokens(other, mask)]))
    assert torch.equal(a, b)


def _ragged(vocabulary=40, batch=5, layers=2, seed=0):
    """A random model in float64, and studies of which some of the memory is masked, of one all of it."""
    torch.manual_seed(seed)
    decoder = Decoder(vocabulary, dim=16, heads=4, layers=layers, max_tokens=24, dropout=0.0).double().eval()
    with torch.no_grad():
        for parameter in decoder.parameters():  # biases and norms start where they hide a mistake
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    mask = torch.rand(batch, 9) < 0.6
    mask[1] = False
    values = torch.randn(batch, 9, 16, dtype=torch.float64)
    return decoder, decoder.memory([Tokens(values[:, :6], mask[:, :6]), Tokens(values[:, 6:], mask[:, 6:])])


def test_logits_and_gradients_are_those_of_the_padded_decoder():
    decoder, memory = _ragged()
    ids = torch.randint(4, 40, (5, 7))
    mask = torch.arange(7) < torch.tensor([7, 3, 0, 1, 5])[:, None]  # one study has nothing to say
    fast = decoder(ids, mask, memory)
    slow = slow_logits(decoder, ids, memory)[mask]
    assert torch.allclose(fast, slow, atol=1e-12)
    weights = torch.randn_like(slow)
    parameters = dict(decoder.named_parameters())
    a, b = (torch.autograd.grad((x * weights).sum(), parameters.values(), retain_graph=True) for x in (fast, slow))
    for name, x, y in zip(parameters, a, b, strict=True):
        assert torch.allclose(x, y, atol=1e-10), name


def test_a_batch_with_nothing_to_say_has_gradients_of_zero():
    decoder, memory = _ragged()
    logits = decoder(torch.zeros(5, 1, dtype=torch.long), torch.zeros(5, 1, dtype=torch.bool), memory)
    assert logits.shape == (0, 40)
    logits.sum().backward()
    assert all(not p.grad.any() for p in decoder.parameters())


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("eagerness", [1.0, 1.5, 2.0])
def test_search_says_what_computing_every_text_anew_says(beams, eagerness):
    ended = set()
    for seed in range(4):
        decoder, memory = _ragged(seed=seed, batch=4)
        with torch.no_grad():  # the more <eos> varies, the sooner it is the most likely
            decoder.embedding.weight[EOS] *= eagerness
        fast = decoder.search(memory, beams, 24)
        assert torch.equal(fast, slow_search(decoder, memory, beams, 24))
        ended |= set((fast != PAD).sum(dim=1).tolist())
    assert len(ended) > 2 or eagerness == 1.0  # studies come to their end at different words


def test_studies_are_described_alike_in_any_company():
    decoder, memory = _ragged(batch=4)
    with torch.no_grad():
        decoder.embedding.weight[EOS] *= 1.5
    together = decoder.search(memory, 3, 24)
    for i in range(4):
        alone = decoder.search([Tokens(t.values[i : i + 1], t.mask[i : i + 1]) for t in memory], 3, 24)
        assert torch.equal(alone[0], together[i])


def test_a_study_whose_texts_are_at_their_end_is_no_longer_computed(monkeypatch):
    decoder, memory = _ragged(batch=4)
    rows, real = [], decoder._logits
    monkeypatch.setattr(decoder, "_logits", lambda x, looking: rows.append(len(x)) or real(x, looking))
    with torch.no_grad():
        decoder.embedding.weight[EOS] *= 2.0
    said = (decoder.search(memory, 1, 24) != PAD).sum(dim=1)
    assert rows == [int((said > step).sum()) for step in range(int(said.max()))]
    assert len(set(rows)) > 1
