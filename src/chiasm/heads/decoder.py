"""A description, word by word, from the tokens of a pass in which the report is masked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.models.attention import Padding, attend, places_of, project, take
from chiasm.tensors import Tokens

PAD, UNKNOWN, BOS, EOS = 0, 1, 2, 3


class Decoder(nn.Module):
    """A Transformer decoder (Vaswani et al. 2017) whose output weights are its embedding (Press & Wolf 2017)."""

    def __init__(
        self, vocabulary_size: int, dim: int, heads: int, layers: int, max_tokens: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.position = nn.Parameter(torch.randn(max_tokens + 2, dim) * 0.02)
        layer = nn.TransformerDecoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, layers, nn.LayerNorm(dim))
        self.dropout = nn.Dropout(dropout)
        self.null = nn.Parameter(torch.zeros(1, 1, dim))  # a study of which nothing else is known
        self.scale = math.sqrt(dim)

    def memory(self, tokens: Sequence[Tokens]) -> list[Tokens]:
        """The tokens of several modalities as one memory, which is never empty."""
        mask = tokens[0].mask.new_ones(len(tokens[0].mask), 1)
        return [Tokens(self.null.expand(len(mask), -1, -1), mask), *tokens]

    def forward(self, ids: Tensor, mask: Tensor, memory: Sequence[Tokens]) -> Tensor:
        """[B, T] texts and which words are real, from the first on -> [n, V] logits of the word after each real one."""
        texts = Texts(self, mask, memory)
        return self._logits(self.dropout(self._embed(ids[mask], texts.places)), texts)

    def _embed(self, ids: Tensor, place: Tensor | int) -> Tensor:
        x: Tensor = self.embedding(ids) * self.scale + self.position[place]
        return x

    def _logits(self, x: Tensor, looking: Texts | Beams) -> Tensor:
        """[n, D] words through the layers -> [n, V]."""
        for number, block in enumerate(self.layers.layers):
            x = x + block.dropout1(block.self_attn.out_proj(looking.back(number, block.norm1(x))))
            x = x + block.dropout2(block.multihead_attn.out_proj(looking.around(number, block.norm2(x))))
            x = x + block.dropout3(block.linear2(block.dropout(F.gelu(block.linear1(block.norm3(x))))))
        assert self.layers.norm is not None
        logits: Tensor = self.layers.norm(x) @ self.embedding.weight.T
        return logits

    @torch.no_grad()
    def search(self, memory: Sequence[Tokens], beams: int, max_tokens: int) -> Tensor:
        """Beam search without repeated trigrams (Paulus et al. 2018), scores divided by length.

        -> [B, max_tokens] ids of the best text of each study, without <bos>, ended by <eos> and padding.
        """
        batch, device = len(memory[0].mask), memory[0].values.device
        best = torch.full((batch, max_tokens), PAD, device=device)
        going = torch.arange(batch, device=device)  # studies with a text that is not at its end
        looking = Beams(self, memory, beams, max_tokens)
        ids = torch.full((batch, beams, 1), BOS, device=device)
        # all beams start alike: only the first may speak at the first step
        scores = torch.full((batch, beams), -torch.inf, device=device)
        scores[:, 0] = 0.0
        done = torch.zeros(batch, beams, dtype=torch.bool, device=device)
        for step in range(max_tokens):
            looking.begin(step)
            logits = self._logits(self._embed(ids[:, :, -1].flatten(), step), looking).float()  # [B * beams, V]
            logits[:, [PAD, UNKNOWN, BOS]] = -torch.inf
            _ban_repeated_trigrams(logits, ids.flatten(0, 1))
            scores, parent, word = _extend(logits, ids, scores, done)
            ids = torch.cat([_of(parent, ids), word[..., None]], dim=2)
            done = done.gather(1, parent) | (word == EOS)
            looking.follow(parent)
            best[going, : step + 1] = ids[:, 0, 1:]  # the first beam is the best
            rest = ~done.all(dim=1)
            if not rest.any():
                break
            if not rest.all():
                going, ids, scores, done = going[rest], ids[rest], scores[rest], done[rest]
                looking.keep(rest)
        return best


class Texts:
    """Whole texts at once: each word looks back at those before it, and around at the memory. Only real words are computed."""

    def __init__(self, decoder: Decoder, mask: Tensor, memory: Sequence[Tokens]) -> None:
        told = mask.any(dim=1)  # a study with nothing to say costs nothing
        self.own, self.seen = Padding(mask[told]), Padding(*(t.mask[told] for t in memory))
        self.memory = torch.cat([take(t.values, places_of(t.mask & told[:, None])) for t in memory])  # [m, D]
        self.places = (mask.cumsum(dim=1) - 1)[mask]  # [n] of each word in its text
        self.blocks = decoder.layers.layers

    def back(self, number: int, words: Tensor) -> Tensor:
        attention = self.blocks[number].self_attn
        q, kv = project(attention, words, words)
        return self.own.rows(attend(attention, self.own.pad(q), self.own.pad(kv), None, causal=True))

    def around(self, number: int, words: Tensor) -> Tensor:
        attention = self.blocks[number].multihead_attn
        q, kv = project(attention, words, self.memory)
        return self.own.rows(attend(attention, self.own.pad(q), self.seen.pad(kv), self.seen.mask[:, None]))


class Beams:
    """The last words of all beams, a word a step: what is looked at is computed once and kept.

    No beam owns a copy: a study's beams ask the same memory and the words that any of them said, and a mask tells a beam which
    of these are its own.
    """

    def __init__(self, decoder: Decoder, memory: Sequence[Tokens], beams: int, max_tokens: int) -> None:
        self.blocks, self.beams, self.step = decoder.layers.layers, beams, 0
        seen = Padding(*(t.mask for t in memory))
        rows = torch.cat([take(t.values, places_of(t.mask)) for t in memory])
        self.mask = seen.mask[:, None]  # [B, 1, S]
        none = rows[:0]
        self.seen = [
            seen.pad(project(block.multihead_attn, none, rows)[1]) for block in self.blocks
        ]  # [B, S, 2 D] each
        batch, _, width = self.seen[0].shape
        self.said = [rows.new_zeros(batch, max_tokens, beams, width) for _ in self.blocks]
        self.own = self.mask.new_zeros(batch, beams, max_tokens, beams)  # the words each beam is made of

    def begin(self, step: int) -> None:
        """Every beam has said another word."""
        self.step = step
        self.own[:, range(self.beams), step, range(self.beams)] = True

    def back(self, number: int, words: Tensor) -> Tensor:
        attention, said, end = self.blocks[number].self_attn, self.said[number], self.step + 1
        q, kv = project(attention, words, words)
        said[:, self.step] = kv.view(*said[:, self.step].shape)
        mask = self.own[:, :, :end].flatten(2)  # [B, beams, words that any of them said]
        return self._look(attention, q, said[:, :end].flatten(1, 2), mask)

    def around(self, number: int, words: Tensor) -> Tensor:
        attention = self.blocks[number].multihead_attn
        q, _ = project(attention, words, words[:0])
        return self._look(attention, q, self.seen[number], self.mask)

    def _look(self, attention: nn.MultiheadAttention, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return attend(attention, queries.view(len(keys), self.beams, -1), keys, mask).flatten(0, 1)

    def follow(self, parent: Tensor) -> None:
        """Each beam goes on from the words of its [B, beams] parent."""
        self.own = _of(parent, self.own.flatten(2)).view_as(self.own)

    def keep(self, studies: Tensor) -> None:
        """Only these go on: [B] bool."""
        self.mask, self.own = self.mask[studies], self.own[studies]
        self.seen, self.said = [x[studies] for x in self.seen], [x[studies] for x in self.said]


def _extend(logits: Tensor, ids: Tensor, scores: Tensor, done: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best texts one word longer, best first: their scores, the beam each goes on from, and the word, [B, beams] each.

    [B * beams, V] logits of the next word, [B, beams, t] ids so far, [B, beams] their scores and which are at their end.
    """
    beams = scores.shape[1]
    # the best of a study are among the best of each beam; a text at its end goes on as it is
    top = logits.topk(min(beams, logits.shape[1]), dim=1)
    word = top.indices.view(*scores.shape, -1).masked_fill(done[..., None], PAD)  # [B, beams, k]
    gain = (top.values - logits.logsumexp(dim=1, keepdim=True)).view_as(word)
    gain = gain.masked_fill(done[..., None], -torch.inf)
    gain[..., 0].masked_fill_(done, 0.0)
    total = scores[..., None] + gain
    # a text at its end keeps its score; dividing by length lets short and long ones compete
    length = torch.where(done, (ids != PAD).sum(dim=2) - 1, ids.shape[2]).clamp(min=1)
    chosen = (total / length[..., None]).flatten(1).topk(beams, dim=1).indices  # sorted
    return total.flatten(1).gather(1, chosen), chosen // word.shape[2], word.flatten(1).gather(1, chosen)


def _of(parent: Tensor, x: Tensor) -> Tensor:
    """[B, beams, n] of each beam's [B, beams] parent."""
    return x.gather(1, parent[..., None].expand(-1, -1, x.shape[2]))


def _ban_repeated_trigrams(logits: Tensor, ids: Tensor) -> None:
    """In place: a word that would complete a trigram already said gets -inf. [n, V] logits, [n, t] ids."""
    if ids.shape[1] < 4:
        return
    pairs = ids[:, 1:-1] * 2**31 + ids[:, 2:]  # pairs at positions 1..t-2; <bos> takes no part
    last = pairs[:, -1:]
    rows, at = torch.nonzero(pairs[:, :-1] == last, as_tuple=True)
    said = ids[rows, at + 3]
    keep = (said != PAD) & (said != EOS)
    logits[rows[keep], said[keep]] = -torch.inf
