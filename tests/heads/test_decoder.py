import itertools

import pytest
import torch

from chiasm.heads.decoder import BOS, EOS, PAD, UNKNOWN, Decoder, _ban_repeated_trigrams
from chiasm.tensors import Tokens


@pytest.fixture
def decoder():
    torch.manual_seed(1)
    return Decoder(vocabulary_size=7, dim=8, heads=2, layers=1, max_tokens=12, dropout=0.0).eval()


def _memory(decoder, batch=2):
    torch.manual_seed(2)
    return decoder.memory([Tokens(torch.randn(batch, 3, 8), torch.ones(batch, 3, dtype=torch.bool))])


def _score(decoder, words, memory, hidden):
    """Slow: log-probability of a text divided by its length, pad, unknown and bos forbidden."""
    total, ids = 0.0, [BOS]
    for word in words:
        logits = decoder(torch.tensor([ids]), memory, hidden)[0, -1]
        logits[[PAD, UNKNOWN, BOS]] = -torch.inf
        total += logits.log_softmax(0)[word].item()
        ids.append(word)
    return total / len(words)


def test_beam_search_with_enough_beams_finds_the_best_of_all_texts(decoder):
    memory, hidden = _memory(decoder, batch=1)
    words = [EOS, 4, 5, 6]
    texts = []
    for length in (1, 2, 3):
        for text in itertools.product(words, repeat=length):
            ended = text[-1] == EOS or length == 3
            if ended and EOS not in text[:-1]:
                texts.append(text)
    best = max(texts, key=lambda text: _score(decoder, text, memory, hidden))
    found = decoder.search(memory, hidden, beams=30, max_tokens=3)[0].tolist()
    assert tuple(w for w in found if w != PAD) == best


def test_search_repeats_no_trigram(decoder):
    with torch.no_grad():
        decoder.embedding.weight[EOS] = -50.0 * decoder.embedding.weight[4:].mean(0)  # never stop
    ids = decoder.search(*_memory(decoder), beams=2, max_tokens=12)
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
    memory, hidden = _memory(decoder)
    ids = torch.tensor([[BOS, 4, 5, 6], [BOS, 5, 5, 4]])
    changed = ids.clone()
    changed[:, 3] = 4
    assert torch.allclose(decoder(ids, memory, hidden)[:, :3], decoder(changed, memory, hidden)[:, :3])


def test_masked_memory_changes_nothing(decoder):
    mask = torch.tensor([[True, False, True]])
    values = torch.randn(1, 3, 8)
    other = values.clone()
    other[0, 1] = 1e4
    ids = torch.tensor([[BOS, 4]])
    a = decoder(ids, *decoder.memory([Tokens(values, mask)]))
    b = decoder(ids, *decoder.memory([Tokens(other, mask)]))
    assert torch.equal(a, b)
