"""What a fold model says of studies, as arrays: each modality is encoded once, and every question hides or swaps tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.encoding.plan import Plan
from chiasm.heads.head import Reading
from chiasm.models.baseline import Baseline
from chiasm.run.answers import Answers
from chiasm.run.fold_model import FoldModel
from chiasm.tensors import Batch, Tokens

BATCH, BLOCK = 64, 1024
"""Studies that are encoded together, and studies whose tokens are held together."""


@dataclass(frozen=True)
class Ask:
    """One way to ask about a study.

    Attributes:
        subset: the modalities that are shown, all if None; the others are hidden, never a black image.
        shuffled: "text" or "image": each study shows that modality of another patient (a control).
        hidden_columns: of the record, taken as not observed.
        heads: whose answers are kept beside those of the targets.
        tell: the heads among them that write, in a pass of its own.
    """

    subset: tuple[str, ...] | None = None
    shuffled: str | None = None
    hidden_columns: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    tell: tuple[str, ...] = ()


def infer(
    fold_model: FoldModel,
    indices: NDArray[np.int64],
    asks: Sequence[Ask],
    progress: Callable[[int], None] | None = None,
) -> list[Answers]:
    """The answers to each of `asks`, of the studies at `indices` of the model's loader.

    Args:
        progress: called with the number of studies that a question was put to.
    """
    device = next((p.device for p in fold_model.model.parameters()), torch.device("cpu"))
    parts: list[list[_Part]] = [[] for _ in asks]
    blocks = np.array_split(indices, max(1, -(-len(indices) // BLOCK)))
    with torch.no_grad():
        for block in blocks:
            encoded = [_encode(fold_model, block[i : i + BATCH], device) for i in range(0, len(block), BATCH)]
            for ask, found in zip(asks, parts, strict=True):
                swapped = _swapped(fold_model, block, encoded, ask.shuffled) if ask.shuffled else None
                for number, (batch, tokens) in enumerate(encoded):
                    shown = _shown(fold_model, tokens, batch, ask, swapped[number] if swapped else None)
                    found.append(_ask(fold_model, batch, shown, ask))
                    if progress is not None:
                        progress(len(batch))
    return [_join(fold_model, indices, ask, found) for ask, found in zip(asks, parts, strict=True)]


# --- what is shown -----------------------------------------------------------------------------------------------------


def _encode(fold_model: FoldModel, rows: NDArray[np.int64], device: torch.device) -> tuple[Batch, dict[str, Tokens]]:
    batch = fold_model.loader.batch(rows).to(device)
    return batch, fold_model.model.encode(batch)


def _shown(
    fold_model: FoldModel, tokens: dict[str, Tokens], batch: Batch, ask: Ask, swapped: Tokens | None
) -> dict[str, Tokens]:
    """The tokens of a batch as a question shows them."""
    if swapped is not None and ask.shuffled in tokens:
        tokens = {**tokens, ask.shuffled: swapped}
    if ask.hidden_columns and "record" in tokens:
        tokens = {
            **tokens,
            **fold_model.model.encode(_without_columns(batch, fold_model.plan, ask.hidden_columns), ("record",)),
        }
    if ask.subset is None:
        return tokens
    return {m: t if m in ask.subset else t.hidden() for m, t in tokens.items()}


def _swapped(
    fold_model: FoldModel, block: NDArray[np.int64], encoded: Sequence[tuple[Batch, dict[str, Tokens]]], modality: str
) -> list[Tokens] | None:
    """That modality of each batch's partners; None of a model that does not read it."""
    if not encoded or modality not in encoded[0][1]:
        return None
    whole = Tokens.join([tokens[modality] for _, tokens in encoded])
    partner = torch.from_numpy(find_partners(fold_model.loader.patient_ids[block])).to(whole.mask.device)
    return [whole.take(partner[i : i + BATCH]) for i in range(0, len(partner), BATCH)]


def find_partners(patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """[n] for each study the place of one of another patient; of a lone patient, another of its own.

    Patients stand in random order, and each study moves back by the largest number of studies of a patient, but, where one
    patient has more than half of them, never once around to itself.
    """
    names, number = np.unique(patients, return_inverse=True)
    rank = np.random.default_rng(0).permutation(len(names))[number]
    order = np.argsort(rank, kind="stable")
    n, sizes = len(patients), np.bincount(rank, minlength=1)
    own = sizes[rank[order]]
    last = (np.cumsum(sizes) - sizes)[rank[order]] - 1  # of the patient who stands before
    back = (last - np.arange(n) + sizes.max()) % np.maximum(1, n - own)
    partner = np.empty(n, np.int64)
    partner[order] = order[(last - back) % max(1, n)]
    return partner


def _without_columns(batch: Batch, plan: Plan, hidden: Sequence[str]) -> Batch:
    """A copy in which these columns of the record were not observed."""
    observed, codes = batch.record_observed, batch.record_codes
    if observed is not None:
        observed = observed & torch.tensor([name not in hidden for name in plan.numeric], device=observed.device)
    if codes is not None:
        codes = codes * torch.tensor([int(name not in hidden) for name in plan.categories], device=codes.device)
    return replace(batch, record_observed=observed, record_codes=codes)


# --- what is said ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The answers of one batch."""

    logits: Mapping[str, NDArray[np.float32]]
    shown: list[str]
    heads: Mapping[str, Any]


def _ask(fold_model: FoldModel, batch: Batch, tokens: dict[str, Tokens], ask: Ask) -> _Part:
    model, untaught = fold_model.model, replace(batch, description_ids=None, description_mask=None, teachers={})
    if isinstance(model, Baseline):
        outputs, parts = model.answer(tokens, untaught), {}
    else:
        parts = {name: head for name, head in model.parts.items() if name in ask.heads and name in model.heads}
        outputs = model.answer(tokens, untaught, [name for name in ask.tell if name in parts])
    logits = {target: values.float().cpu().numpy() for target, values in outputs.logits.items()}
    loader, decode = fold_model.loader, fold_model.describer.decode
    reading = Reading(tokens, batch.indices.cpu().numpy(), loader.image_rows, decode)
    kept = {name: head.read(outputs.heads[name], reading) for name, head in parts.items()}
    return _Part(logits, inputs_shown(tokens), kept)


def inputs_shown(tokens: Mapping[str, Tokens]) -> list[str]:
    """What each study of a batch shows of a model's inputs, as the prefix of an arm: "image+record"."""
    flags = torch.stack([t.mask.any(dim=1) for t in tokens.values()], dim=1)
    return ["+".join(m for m, there in zip(tokens, row, strict=True) if there) for row in flags.tolist()]


def _join(fold_model: FoldModel, indices: NDArray[np.int64], ask: Ask, parts: Sequence[_Part]) -> Answers:
    plan, model = fold_model.plan, fold_model.model
    heads = {} if isinstance(model, Baseline) else {n: h for n, h in model.parts.items() if n in ask.heads}
    return Answers(
        indices,
        {
            t: np.concatenate([p.logits[t] for p in parts]) if parts else np.zeros((0, *plan.shape(t)), np.float32)
            for t in plan.targets
        },
        np.array([inputs for part in parts for inputs in part.shown], np.str_),
        {name: head.join([part.heads[name] for part in parts if name in part.heads]) for name, head in heads.items()},
    )
