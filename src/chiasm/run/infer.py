"""What a fold model says of studies, as arrays: each modality is encoded once, and every question hides or swaps tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.encoding.batches import Ragged
from chiasm.encoding.plan import Plan
from chiasm.heads.head import Reading
from chiasm.models.baseline import Baseline
from chiasm.models.text.encoder import TextExtractor
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
        heads: whose answers are kept beside those of the targets.
        tell: the heads among them that write, in a pass of its own.
        texts: of each study, read in place of its own.
    """

    subset: tuple[str, ...] | None = None
    shuffled: str | None = None
    hidden_columns: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    tell: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None


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
    blocks = np.array_split(np.arange(len(indices)), max(1, -(-len(indices) // BLOCK)))
    with torch.no_grad():
        for places_here in blocks:
            block = indices[places_here]
            encoded = [_encode(fold_model, block[i : i + BATCH], device) for i in range(0, len(block), BATCH)]
            swapped = {a.shuffled: _swapped(fold_model, block, encoded, a.shuffled) for a in asks if a.shuffled}
            for number, (batch, tokens) in enumerate(encoded):
                for places in _together(asks, max(1, BATCH // len(batch))):
                    some = [asks[place] for place in places]
                    others = [each[number] if (each := swapped.get(ask.shuffled or "")) else None for ask in some]
                    own = places_here[number * BATCH : (number + 1) * BATCH]
                    records = _records(fold_model, batch, some)
                    shown = [
                        _shown(fold_model, tokens, batch, a, o, own, records) for a, o in zip(some, others, strict=True)
                    ]
                    for place, part in zip(places, _ask(fold_model, batch, shown, some), strict=True):
                        parts[place].append(part)
                    if progress is not None:
                        progress(len(batch) * len(some))
    return [_join(fold_model, indices, ask, found) for ask, found in zip(asks, parts, strict=True)]


def _together(asks: Sequence[Ask], most: int) -> Iterator[list[int]]:
    """Places of the questions that are put at once: at most so many, and one by itself in which a head also writes."""
    plain = [place for place, ask in enumerate(asks) if not ask.tell]
    yield from (plain[start : start + most] for start in range(0, len(plain), most))
    yield from ([place] for place, ask in enumerate(asks) if ask.tell)


# --- what is shown -----------------------------------------------------------------------------------------------------


def _encode(
    fold_model: FoldModelOver, rows: NDArray[np.int64], device: torch.device
) -> tuple[Batch, dict[str, Tokens]]:
    batch = fold_model.loader.batch(rows).to(device)
    return batch, fold_model.model.encode(batch)


def _shown(
    fold_model: FoldModelOver,
    tokens: dict[str, Tokens],
    batch: Batch,
    ask: Ask,
    swapped: Tokens | None,
    places: NDArray[np.int64],
    records: Mapping[tuple[str, ...], Tokens],
) -> dict[str, Tokens]:
    """The tokens of a batch as a question shows them. `places`: of its studies among all that are asked; `records`: `_records`."""
    if swapped is not None and ask.shuffled in tokens:
        tokens = {**tokens, ask.shuffled: swapped}
    if ask.hidden_columns in records:
        tokens = {**tokens, "record": records[ask.hidden_columns]}
    if ask.texts is not None and "text" in tokens:
        told = _with_texts(batch, fold_model, [ask.texts[place] for place in places.tolist()])
        tokens = {**tokens, **fold_model.model.encode(told, ("text",))}
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


def _records(fold_model: FoldModelOver, batch: Batch, asks: Sequence[Ask]) -> dict[tuple[str, ...], Tokens]:
    """Columns that some questions hide -> the record's tokens without them, all of them encoded at once."""
    sets = list(dict.fromkeys(ask.hidden_columns for ask in asks if ask.hidden_columns))
    if not sets or "record" not in fold_model.model.modalities:
        return {}
    each = [_without_columns(batch, fold_model.plan, hidden) for hidden in sets]

    def joined(name: str) -> torch.Tensor | None:
        parts = [getattr(part, name) for part in each]
        return None if parts[0] is None else torch.cat(parts)

    whole = Batch(
        batch.indices.repeat(len(sets)),
        record_values=joined("record_values"),
        record_observed=joined("record_observed"),
        record_codes=joined("record_codes"),
    )
    tokens, n = fold_model.model.encode(whole, ("record",))["record"], len(batch)
    own = [slice(number * n, (number + 1) * n) for number in range(len(sets))]
    return {
        hidden: replace(tokens, values=tokens.values[part], mask=tokens.mask[part])
        for hidden, part in zip(sets, own, strict=True)
    }


def _without_columns(batch: Batch, plan: Plan, hidden: Sequence[str]) -> Batch:
    """A copy in which these columns of the record were not observed."""
    observed, codes = batch.record_observed, batch.record_codes
    if observed is not None:
        observed = observed & torch.tensor([name not in hidden for name in plan.numeric], device=observed.device)
    if codes is not None:
        codes = codes * torch.tensor([int(name not in hidden) for name in plan.categories], device=codes.device)
    return replace(batch, record_observed=observed, record_codes=codes)


def _with_texts(batch: Batch, fold_model: FoldModelOver, texts: Sequence[str]) -> Batch:
    """A copy in which each study has another text."""
    assert fold_model.reader is not None
    ids, mask = Ragged([fold_model.reader.encode_batch(texts, fold_model.plan.max_tokens)]).padded(
        np.arange(len(texts))
    )
    ids, mask, states = ids.to(batch.indices.device), mask.to(batch.indices.device), None
    if batch.token_states is not None:  # of a frozen encoder, in the precision of those that it was trained on
        encoder = fold_model.model.encoders["text"]
        assert isinstance(encoder, TextExtractor)
        states = encoder.extract(ids, mask).to(batch.token_states.dtype)
    return replace(batch, token_ids=ids, token_mask=mask, token_states=states)


# --- what is said ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The answers of one batch."""

    logits: Mapping[str, NDArray[np.float32]]
    shown: list[str]
    heads: Mapping[str, Any]


def _ask(
    fold_model: FoldModelOver, batch: Batch, shown: Sequence[dict[str, Tokens]], asks: Sequence[Ask]
) -> list[_Part]:
    """The answers of one batch to some questions, which are put as one batch: a single study is answered in one pass."""
    n, model = len(batch), fold_model.model
    together = {m: Tokens.join([tokens[m] for tokens in shown]) for m in shown[0]} if len(shown) > 1 else shown[0]
    untaught = Batch(batch.indices.repeat(len(shown)))
    if isinstance(model, Baseline):
        outputs = model.answer(together, untaught)
    else:
        outputs = model.answer(together, untaught, [name for name in asks[0].tell if name in model.heads])
    logits = {target: values.float().cpu().numpy() for target, values in outputs.logits.items()}
    loader, decode = fold_model.loader, fold_model.describer.decode
    parts = []
    for number, ask in enumerate(asks):
        own = slice(number * n, (number + 1) * n)
        tokens = {m: replace(t, values=t.values[own], mask=t.mask[own]) for m, t in together.items()}
        reading = Reading(tokens, batch.indices.cpu().numpy(), loader.image_rows, decode)
        heads = {} if isinstance(model, Baseline) else {k: head for k, head in model.parts.items() if k in model.heads}
        kept = {
            name: head.read({key: values[own] for key, values in outputs.heads[name].items()}, reading)
            for name, head in heads.items()
            if name in ask.heads
        }
        parts.append(_Part({t: each[own] for t, each in logits.items()}, inputs_shown(tokens), kept))
    return parts


def inputs_shown(tokens: Mapping[str, Tokens]) -> list[str]:
    """What each study of a batch shows of a model's inputs, as the prefix of an arm: "image+record"."""
    flags = torch.stack([t.mask.any(dim=1) for t in tokens.values()], dim=1)
    return ["+".join(m for m, there in zip(tokens, row, strict=True) if there) for row in flags.tolist()]


def _join(fold_model: FoldModelOver, indices: NDArray[np.int64], ask: Ask, parts: Sequence[_Part]) -> Answers:
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
