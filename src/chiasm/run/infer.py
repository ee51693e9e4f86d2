"""What a fold model says of studies, as arrays: each modality is encoded once, and every question hides or swaps tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiasm.encoding.batches import Loader
from chiasm.encoding.plan import Plan
from chiasm.models.assemble import Model
from chiasm.run.answers import Answers
from chiasm.run.fold_model import FoldModelOver
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
        describe: also generate descriptions.
        maps: also keep the localization maps.
    """

    subset: tuple[str, ...] | None = None
    shuffled: str | None = None
    hidden_columns: tuple[str, ...] = ()
    describe: bool = False
    maps: bool = False


FULL = Ask(maps=True)


def infer(
    fold_model: FoldModelOver,
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
            swapped = {a.shuffled: _swapped(fold_model, block, encoded, a.shuffled) for a in asks if a.shuffled}
            for number, (batch, tokens) in enumerate(encoded):
                for start in range(0, len(asks), together := max(1, BATCH // len(batch))):
                    some = asks[start : start + together]
                    others = [each[number] if (each := swapped.get(ask.shuffled or "")) else None for ask in some]
                    shown = [_shown(fold_model, tokens, batch, a, o) for a, o in zip(some, others, strict=True)]
                    for found, part in zip(
                        parts[start : start + together], _ask(fold_model, batch, shown, some), strict=True
                    ):
                        found.append(part)
                    if progress is not None:
                        progress(len(batch) * len(some))
    return [_join(fold_model, indices, ask, found) for ask, found in zip(asks, parts, strict=True)]


# --- what is shown -----------------------------------------------------------------------------------------------------


def _encode(
    fold_model: FoldModelOver, rows: NDArray[np.int64], device: torch.device
) -> tuple[Batch, dict[str, Tokens]]:
    batch = fold_model.loader.batch(rows).to(device)
    return batch, fold_model.model.encode(batch)


def _shown(
    fold_model: FoldModelOver, tokens: dict[str, Tokens], batch: Batch, ask: Ask, swapped: Tokens | None
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
    fold_model: FoldModelOver,
    block: NDArray[np.int64],
    encoded: Sequence[tuple[Batch, dict[str, Tokens]]],
    modality: str,
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
    """The answers of one batch; `places`: [m, 2] study and row in `images` of each map."""

    logits: Mapping[str, NDArray[np.float32]]
    shown: list[str]
    maps: NDArray[np.float16] | None = None
    places: NDArray[np.int64] | None = None
    descriptions: Sequence[str] = ()


def _ask(
    fold_model: FoldModelOver, batch: Batch, shown: Sequence[dict[str, Tokens]], asks: Sequence[Ask]
) -> list[_Part]:
    """The answers of one batch to some questions, which are put as one batch: a single study is answered in one pass."""
    n, model = len(batch), fold_model.model
    together = {m: Tokens.join([tokens[m] for tokens in shown]) for m in shown[0]} if len(shown) > 1 else shown[0]
    outputs = model.answer(together, Batch(batch.indices.repeat(len(shown))))
    logits = {target: values.float().cpu().numpy() for target, values in outputs.logits.items()}
    parts = []
    for number, (ask, tokens) in enumerate(zip(asks, shown, strict=True)):
        own = slice(number * n, (number + 1) * n)
        maps = places = None
        if ask.maps and outputs.map_logits is not None:
            mask = tokens["image"].units()  # [B, N]; images of other questions may be more
            maps = outputs.map_logits[own, : mask.shape[1]][mask].cpu().half().numpy()
            places = _places(fold_model.loader, batch.indices.cpu().numpy(), mask.cpu())
        texts = _describe(fold_model, tokens) if ask.describe else []
        parts.append(_Part({t: each[own] for t, each in logits.items()}, inputs_shown(tokens), maps, places, texts))
    return parts


def _describe(fold_model: FoldModelOver, tokens: dict[str, Tokens]) -> list[str]:
    """A generated text a study, none of a model without that head."""
    model, head = fold_model.model, fold_model.recipe.heads.description
    if not isinstance(model, Model) or model.decoder is None or head is None:
        return []
    ids = model.describe(tokens, head.beams, head.max_tokens).cpu()
    return [fold_model.describer.decode(row) for row in ids.tolist()]


def _places(loader: Loader, rows: NDArray[np.int64], mask: Tensor) -> NDArray[np.int64]:
    """[m, 2] study and row in `images` of the real images of a batch."""
    study, slot = torch.nonzero(mask, as_tuple=True)
    images = [loader.image_rows(int(rows[s]))[int(n)] for s, n in zip(study, slot, strict=True)]
    return np.stack([rows[study.numpy()], np.array(images, np.int64)], axis=1)


def inputs_shown(tokens: Mapping[str, Tokens]) -> list[str]:
    """What each study of a batch shows of a model's inputs, as the prefix of an arm: "image+record"."""
    flags = torch.stack([t.mask.any(dim=1) for t in tokens.values()], dim=1)
    return ["+".join(m for m, there in zip(tokens, row, strict=True) if there) for row in flags.tolist()]


def _join(fold_model: FoldModelOver, indices: NDArray[np.int64], ask: Ask, parts: Sequence[_Part]) -> Answers:
    plan, model = fold_model.plan, fold_model.model
    maps = [part.maps for part in parts if part.maps is not None]
    places = [part.places for part in parts if part.places is not None]
    return Answers(
        indices,
        {
            t: np.concatenate([p.logits[t] for p in parts]) if parts else np.zeros((0, *plan.shape(t)), np.float32)
            for t in plan.targets
        },
        np.array([inputs for part in parts for inputs in part.shown], np.str_),
        np.concatenate(maps) if maps else None,
        np.concatenate(places) if places else None,
        [t for p in parts for t in p.descriptions] if ask.describe and model.decoder is not None else None,
    )
