"""A description, word by word, from the tokens of a pass in which the report is masked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

    def memory(self, tokens: list[Tokens]) -> tuple[Tensor, Tensor]:
        """Join the tokens of several modalities -> [B, S, D] and the padding mask [B, S] (True = hidden)."""
        values = [t.values.masked_fill(~t.mask[..., None], 0.0) for t in tokens]
        batch = len(values[0])
        hidden = [~t.mask for t in tokens]
        return (
            torch.cat([self.null.expand(batch, 1, -1), *values], dim=1),
            torch.cat([hidden[0].new_zeros(batch, 1), *hidden], dim=1),
        )

    def forward(self, ids: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """[B, T] ids so far -> [B, T, V] logits of the next word."""
        length = ids.shape[1]
        x = self.dropout(self.embedding(ids) * self.scale + self.position[:length])
        future = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        x = self.layers(x, memory, tgt_mask=future, memory_key_padding_mask=hidden)
        logits: Tensor = x @ self.embedding.weight.T
        return logits

    @torch.no_grad()
    def search(self, memory: Tensor, hidden: Tensor, beams: int, max_tokens: int) -> Tensor:
        """Beam search without repeated trigrams (Paulus et al. 2018), scores divided by length.

        -> [B, max_tokens] ids of the best text of each study, without <bos>, ended by <eos> and padding.
        """
        batch = len(memory)
        memory, hidden = memory.repeat_interleave(beams, 0), hidden.repeat_interleave(beams, 0)
        ids = torch.full((batch * beams, 1), BOS, device=memory.device)
        # all beams start alike: only the first may speak at the first step
        scores = torch.full((batch, beams), -torch.inf, device=memory.device)
        scores[:, 0] = 0.0
        done = torch.zeros(batch * beams, dtype=torch.bool, device=memory.device)
        for _ in range(max_tokens):
            logits = self(ids, memory, hidden)[:, -1].float()
            logits[:, [PAD, UNKNOWN, BOS]] = -torch.inf
            _ban_repeated_trigrams(logits, ids)
            step = logits.log_softmax(dim=1)
            step[done] = -torch.inf
            step[done, PAD] = 0.0
            # a finished text keeps its score; dividing by length lets short and long ones compete
            total = (scores.flatten()[:, None] + step).view(batch, -1)
            length = torch.where(done, (ids != PAD).sum(dim=1) - 1, ids.shape[1]).view(batch, beams, 1)
            ranked = (total.view(batch, beams, -1) / length.clamp(min=1)).view(batch, -1)
            best = ranked.topk(beams, dim=1).indices
            scores = total.gather(1, best)
            parent = best // step.shape[1] + torch.arange(batch, device=ids.device)[:, None] * beams
            word = best % step.shape[1]
            ids = torch.cat([ids[parent.flatten()], word.view(-1, 1)], dim=1)
            done = done[parent.flatten()] | (word.flatten() == EOS)
            if done.all():
                break
        first = ids.view(batch, beams, -1)[:, 0, 1:]  # topk sorts: the first beam is the best
        return torch.nn.functional.pad(first, (0, max_tokens - first.shape[1]), value=PAD)


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
