"""Report tokens to report features: a BiLSTM, or any Hugging Face text model by name."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from chiasm.errors import RecipeError
from chiasm.models.attention import places_of, take
from chiasm.recipe import TextInput
from chiasm.tensors import Tokens


class AttentionPool(nn.Module):
    """Additive attention over tokens (Bahdanau 2015; Yang et al. 2016): u_t = tanh(W h_t + b), a_t = softmax(u_t . u_w)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """-> the weighted sum [B, D] (zeros for a study without tokens) and the weights [B, T]."""
        mask, places = tokens.mask, places_of(tokens.mask)
        rows = take(tokens.values, places)  # [n, D]: only real tokens are computed
        each = self.query(torch.tanh(self.project(rows)))[:, 0]
        scores = each.new_full((mask.numel(),), torch.finfo(each.dtype).min).index_copy_(0, places, each)
        # all masked: softmax is uniform, the mask makes it zero
        weights = scores.view(mask.shape).softmax(dim=1) * mask  # [B, T]
        weighted = weights.flatten()[places][:, None] * rows
        study = places // max(1, mask.shape[1])
        return weighted.new_zeros(len(mask), rows.shape[1]).index_add_(0, study, weighted), weights


class BiLSTM(nn.Module):
    """h_t = [forward; backward], each of width D / 2 (Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997).

    Two LSTMs over padded tokens, one of them over each report turned around, instead of torch's packed sequences: those
    run word by word on a CPU, fifty times slower.
    """

    def __init__(self, vocabulary_size: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.ahead = nn.LSTM(dim, dim // 2, batch_first=True)
        self.back = nn.LSTM(dim, dim // 2, batch_first=True)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tokens:
        """[B, T] -> [B, T, D]; real tokens come first, so padding behind them reaches no real state."""
        here = token_mask.any(dim=1)
        here[:1] |= ~here.any()  # at least one row is computed: torch's LSTM takes no empty batch
        length = token_mask[here].sum(dim=1, keepdim=True)
        step = torch.arange(max(1, int(length.max())), device=token_ids.device)
        ids = token_ids[here, : len(step)].masked_fill(step >= length, 0)
        words = self.dropout(self.embedding(ids))
        turned = torch.where(step < length, length - 1 - step, step)[..., None]  # its own inverse
        ahead, _ = self.ahead(words)
        back, _ = self.back(words.gather(1, turned.expand_as(words)))
        states = torch.cat([ahead, back.gather(1, turned.expand_as(back))], dim=2)
        values = states.new_zeros(*token_ids.shape, states.shape[2])
        values[here, : len(step)] = states
        return Tokens(values, token_mask)


_STATES: dict[tuple[str, bytes], Tensor] = {}
_KEPT = 4096
"""States of so many texts, by model and text, stay in memory: epochs, folds and arms read the same ones."""


class FrozenText(nn.Module):
    """The last hidden states of a pretrained text model, of its own width. Reports are few, its weights many.

    Each text is read once in a process, and by itself: its states do not depend on what else is in the batch.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        from transformers import AutoModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self.net = AutoModel.from_pretrained(name)
        except OSError as error:
            raise RecipeError(
                "the Hugging Face model cannot be loaded",
                expected="a model id of the hub or a local folder",
                got=name,
                where="inputs.text.encoder",
                remedy=f"check the name and the connection ({type(error).__name__})",
            ) from None
        self.net.requires_grad_(False)
        self.width = int(self.net.config.hidden_size)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tokens:
        """[B, T] -> [B, T, width]."""
        states = torch.zeros(*token_ids.shape, self.width, device=token_ids.device)
        for row, ids, mask in zip(states, token_ids, token_mask, strict=True):
            if mask.any():
                row[mask] = self._read(ids[mask]).to(row)
        return Tokens(states, token_mask)

    @torch.no_grad()
    def _read(self, ids: Tensor) -> Tensor:
        """[T] of one text -> [T, width]."""
        key = (self.name, ids.cpu().numpy().tobytes())
        if key not in _STATES:
            states: Tensor = self.net(input_ids=ids[None]).last_hidden_state[0].cpu()
            if len(_STATES) >= _KEPT:
                return states
            _STATES[key] = states
        return _STATES[key]


class HuggingFaceText(FrozenText):
    """A frozen text model whose states are projected to D."""

    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name)
        self.project = nn.Linear(self.width, dim)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tokens:
        return Tokens(self.project(super().forward(token_ids, token_mask).values), token_mask)


def build_text_encoder(options: TextInput, vocabulary_size: int, dim: int, dropout: float) -> nn.Module:
    """The encoder of a recipe's `inputs.text.encoder`."""
    name = options.pretrained
    return BiLSTM(vocabulary_size, dim, dropout) if name is None else HuggingFaceText(name, dim)
