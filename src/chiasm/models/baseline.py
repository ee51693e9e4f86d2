"""Plain classifiers with the face of a model: what a network has to beat.

After HAIM (Soenksen et al. 2022): a frozen encoder makes each modality a vector of numbers, and every subset of the
modalities has classifiers of its own, fitted on the training studies that show all of it. A study is answered by those of
what it shows, so nothing that is missing is ever filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor, nn

from chiasm.encoding.levels import NEVER
from chiasm.encoding.plan import Plan
from chiasm.errors import RunError
from chiasm.models.classifiers import (
    FITS,
    Chosen,
    Classifier,
    Floats,
    Hazards,
    Linear,
    Problem,
    at_interval,
    from_array,
    inner_folds,
)
from chiasm.models.image.encoder import Extractor, build_backbone
from chiasm.models.text.encoder import TextExtractor
from chiasm.recipe import Recipe
from chiasm.study import Kind
from chiasm.tensors import MODALITIES, Batch, Fused, Outputs, Tokens

ENOUGH = 20
"""Training studies below which a subset has no classifiers of its own: a smaller subset then answers."""
BLOCKS = 4
"""Volumes without facts come in as means over BLOCKS ** 3 blocks: there is no pretrained encoder of volumes."""
Subset = tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """One line of what was fitted: a question of a label (or all intervals of a time), from some inputs.

    The strength is a penalty, a number of trees or the share of the trees; the loss is cross-validated, None if it was not.
    """

    target: str
    label: str
    question: int
    inputs: str
    studies: int
    strength: float
    loss: float | None


class Baseline(nn.Module):
    """Batch -> Outputs, by classifiers that `fit` makes. The encoders are frozen and are not kept with the run.

    Attributes:
        modalities: those it takes, in the order of `MODALITIES`.
        classifiers: "target/label" -> subset -> a classifier for each question; the empty subset answers by the training
            share alone.
    """

    map_head = None
    decoder = None

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        super().__init__()
        assert recipe.baseline is not None
        self.options, self.plan = recipe.baseline, plan
        self.modalities = tuple(m for m in MODALITIES if getattr(recipe.inputs, m) is not None)
        self.encoders = nn.ModuleDict()
        if recipe.inputs.image is not None and len(plan.image_shape or ()) == 2:
            self.encoders["image"] = Extractor(
                build_backbone(recipe.inputs.image.encoder, 2, len(plan.channels)), levels=1, frozen=True
            )
        if recipe.inputs.text is not None:
            self.encoders["text"] = TextExtractor(str(recipe.inputs.text.weights), frozen=True)
        self.requires_grad_(False)
        self.subsets = [s for size in range(len(self.modalities) + 1) for s in combinations(self.modalities, size)]
        self.classifiers: dict[str, dict[Subset, list[Classifier]]] = {}

    @property
    def image_encoder(self) -> Extractor | None:
        """The encoder of pictures, whose maps can be cached."""
        encoder = dict(self.encoders.items()).get("image")
        return encoder if isinstance(encoder, Extractor) else None

    # --- a study as numbers --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, batch: Batch, modalities: Collection[str] = MODALITIES) -> dict[str, Floats]:
        """Modality -> [B, F] numbers; of a study that lacks the modality they mean nothing."""
        make = {"image": self._image, "text": self._text, "record": self._record}
        return {m: make[m](batch).astype(np.float64) for m in self.modalities if m in modalities}

    def _image(self, batch: Batch) -> NDArray[np.float32]:
        """The mean over a study's pictures of their pooled maps, beside facts; of volumes the facts alone, if there are any.

        There is no pretrained encoder of volumes, and block means of a lesion say less than what was measured on it.
        """
        assert batch.image_mask is not None
        encoder, real = self.image_encoder, batch.image_mask  # [B, N]
        facts = [] if batch.facts is None else [batch.facts.cpu().numpy()]
        if encoder is None and facts:
            return facts[0]
        if batch.features is not None:
            vectors = batch.features[-1].float().flatten(3).mean(dim=3)  # [B, N, c]
        else:
            assert batch.images is not None
            flat = batch.images.flatten(0, 1)
            if encoder is None:
                flat = F.adaptive_avg_pool3d(flat.float(), BLOCKS).flatten(1) / 255
            else:
                flat = encoder.extract(flat)[-1].flatten(2).mean(dim=2)
            vectors = flat.view(*real.shape, -1)
        share = real / real.sum(dim=1, keepdim=True).clamp(min=1)
        mean = torch.einsum("bn,bnc->bc", share, vectors.masked_fill(~real[..., None], 0)).cpu().numpy()
        return np.concatenate([mean, *facts], axis=1)

    def _text(self, batch: Batch) -> NDArray[np.float32]:
        """The mean of a report's token states, of length 1 (Reimers & Gurevych 2019)."""
        assert batch.token_ids is not None and batch.token_mask is not None
        encoder, states = self.encoders["text"], batch.token_states
        if states is None:
            assert isinstance(encoder, TextExtractor)
            states = encoder.extract(batch.token_ids, batch.token_mask)
        mean = (states.float() * batch.token_mask[..., None]).sum(dim=1)
        vectors: NDArray[np.float32] = F.normalize(mean, dim=1).cpu().numpy()
        return vectors

    def _record(self, batch: Batch) -> NDArray[np.float32]:
        """Standardized numbers beside whether each was observed, and words one-hot."""
        assert batch.record_values is not None and batch.record_observed is not None and batch.record_codes is not None
        parts = [batch.record_values.masked_fill(~batch.record_observed, 0), batch.record_observed.float()]
        for k, words in enumerate(self.plan.categories.values()):
            parts.append(F.one_hot(batch.record_codes[:, k], len(words) + 1)[:, 1:].float())
        return torch.cat(parts, dim=1).cpu().numpy()

    # --- answering -----------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outputs:
        return self.answer(self.encode(batch), batch)

    def encode(self, batch: Batch, modalities: Collection[str] = MODALITIES) -> dict[str, Tokens]:
        """Each modality, or those of `modalities`, as one token: its numbers in float64."""
        present = batch.present()
        return {
            m: Tokens(torch.from_numpy(values)[:, None], present[m].cpu()[:, None])
            for m, values in self.features(batch, modalities).items()
            if m in present
        }

    def answer(self, encoded: Mapping[str, Tokens], batch: Batch) -> Outputs:
        """What the classifiers say of encoded studies; a modality whose token is hidden takes no part."""
        x = {m: tokens.values[:, 0].numpy() for m, tokens in encoded.items()}
        present = {m: tokens.mask[:, 0] for m, tokens in encoded.items()}
        shown = np.stack([here.numpy() for here in present.values()], axis=1)
        logits = {}
        for target, labels in self.plan.targets.items():
            answers = np.zeros((len(batch), *self.plan.shape(target)))
            for row in np.unique(shown, axis=0):
                here = (shown == row).all(axis=1)
                subset = tuple(m for m, there in zip(present, row, strict=True) if there)
                for k, label in enumerate(labels):
                    answers[here, k] = self._answer(
                        target, label, {m: v[here] for m, v in x.items()}, subset, here.sum()
                    )
            logits[target] = torch.from_numpy(answers).float().to(batch.indices.device)
        vectors = {m: torch.from_numpy(v).float() * present[m][:, None] for m, v in x.items()}
        return Outputs(logits, Fused(torch.cat(list(vectors.values()), dim=1), vectors, {}), present=present)

    def _answer(self, target: str, label: str, x: Mapping[str, Floats], shown: Subset, n: int) -> Floats:
        """[n] or [n, Q]: by the classifiers of the most modalities among those that these n studies show."""
        known = self.classifiers.get(f"{target}/{label}", {(): []})
        best = max((s for s in known if set(s) <= set(shown)), key=len)
        own = _join(x, best, n)
        asked = np.array([classifier.answer(own) for classifier in known[best]]).reshape(-1, n).T
        return to_logits(asked, self.plan.kinds[target], self.plan.shape(target)[1:])

    # --- fitting -------------------------------------------------------------------------------------------------------

    def fit(
        self,
        batches: Iterable[Batch],
        patients: NDArray[np.str_],
        seed: int,
        progress: Callable[[int], None] | None = None,
    ) -> list[Fit]:
        """Fit every classifier on training studies.

        Args:
            batches: all training studies; patients: [n] of each study, for the folds that choose the strength.
            progress: called with 1 after each label and subset.
        """
        seen = [(self.features(batch), batch) for batch in batches]
        x = {m: np.concatenate([part[m] for part, _ in seen]) for m in self.modalities}
        here = {m: np.concatenate([b.present()[m].cpu().numpy() for _, b in seen]) for m in self.modalities}
        signs = {m: self._signs(m, values.shape[1]) for m, values in x.items()}
        log = []
        for target, labels in self.plan.targets.items():
            truth, mask = (
                np.concatenate([getattr(b, name)[target].cpu().numpy() for _, b in seen])
                for name in ("labels", "label_mask")
            )
            for k, label in enumerate(labels):
                found: dict[Subset, list[Classifier]] = {}
                for subset in self.subsets:
                    rows = np.flatnonzero(np.all([mask[:, k], *(here[m] for m in subset)], axis=0))
                    if len(rows) >= ENOUGH or not subset:
                        own = _join({m: v[rows] for m, v in x.items()}, subset, len(rows))
                        rising = np.concatenate([np.zeros(0, np.int64), *(signs[m] for m in subset)])
                        fits = self._fit_one(target, k, own, truth[rows, k], patients[rows], seed, rising)
                        found[subset] = [classifier for classifier, _, _ in fits]
                        log += [
                            Fit(target, label, q, "+".join(subset), n, chosen.strength, chosen.loss)
                            for q, (_, n, chosen) in enumerate(fits)
                        ]
                    if progress is not None:
                        progress(1)
                self.classifiers[f"{target}/{label}"] = found
        return log

    def _signs(self, modality: str, width: int) -> NDArray[np.int64]:
        """[F] with which numbers of a modality an answer may only rise (1) or fall (-1)."""
        signs = np.zeros(width, np.int64)
        if modality == "record":
            rising, falling = self.options.rising, self.options.falling
            signs[: len(self.plan.numeric)] = [(n in rising) - (n in falling) for n in self.plan.numeric]
        return signs

    def _fit_one(
        self,
        target: str,
        label: int,
        x: Floats,
        truth: Floats,
        patients: NDArray[np.str_],
        seed: int,
        signs: NDArray[np.int64],
    ) -> list[tuple[Classifier, int, Chosen]]:
        """A classifier, its studies, strength and loss for each question of a label, from one subset's numbers [n, F]."""
        kind = self.plan.kinds[target]
        levels = len(self.plan.levels[target][label]) if target in self.plan.levels else 1
        if kind is Kind.SURVIVAL:
            return [self._fit_hazards(x, truth, levels, patients, seed, signs)]
        binary = kind is not Kind.REGRESSION
        rising = None if kind is Kind.MULTICLASS else signs  # a class has no order, so nothing rises with it
        return [self._fit_question(x, y, patients, binary, seed, rising) for y in to_questions(truth, kind, levels)]

    def _fit_question(
        self,
        x: Floats,
        y: Floats,
        patients: NDArray[np.str_],
        binary: bool,
        seed: int,
        signs: NDArray[np.int64] | None,
        copies: float = 1,
    ) -> tuple[Classifier, int, Chosen]:
        """Args: copies: rows of a study."""
        n = round(len(y) / copies)
        if not x.shape[1] or len(np.unique(y)) < 2:
            share = (y.sum() + 0.5) / (len(y) + 1) if binary else y.mean() if n else 0.0
            return Linear.constant(float(logit(share) if binary else share), x.shape[1]), n, Chosen(0.0, None)
        folds = inner_folds(y, patients, binary, seed)
        problem = Problem(x, y, folds, binary, seed, self.options, signs, copies)
        classifier, chosen = FITS[self.options.model](problem)
        return classifier, n, chosen

    def _fit_hazards(
        self,
        x: Floats,
        truth: Floats,
        intervals: int,
        patients: NDArray[np.str_],
        seed: int,
        signs: NDArray[np.int64],
    ) -> tuple[Classifier, int, Chosen]:
        """An event in this interval? Asked of every study in each interval it came to, by one classifier (Brown 1975)."""
        k = np.arange(intervals)[:, None]
        asked = (np.abs(truth) > k) | (truth == k)  # [Q, n]
        if not x.shape[1]:
            share = logit(((truth == k).sum(axis=1) + 0.5) / (asked.sum(axis=1) + 1))
            own = Linear(np.concatenate([share[1:] - share[0], [0.0], share[:1]]))
            return Hazards(intervals, own), len(truth), Chosen(0.0, None)
        numbers, rows = np.nonzero(asked)
        repeated = at_interval(x[rows], numbers, intervals)
        copies = len(rows) / max(1, len(truth))
        rising = np.pad(signs, (0, intervals))  # of the columns; an interval is free
        events = (truth[rows] == numbers).astype(np.float64)
        each, _, chosen = self._fit_question(repeated, events, patients[rows], True, seed, rising, copies)
        return Hazards(intervals, each), len(truth), chosen

    # --- on disk -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """What was fitted, as arrays: "target/label/subset/question"; and a digest of the encoders it was fitted with."""
        state = {"encoders": torch.from_numpy(self._digest())}
        for name, by_subset in self.classifiers.items():
            for subset, asked in by_subset.items():
                for q, classifier in enumerate(asked):
                    array = classifier.to_array()
                    state[f"{name}/{'+'.join(subset)}/{q}"] = torch.from_numpy(np.array(array))
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            RunError: the encoders are other ones than those it was fitted with.
        """
        if not np.array_equal(state["encoders"].numpy(), self._digest()):
            raise RunError(
                "the frozen encoders are not those that the baseline was fitted with",
                expected="the weights that the recipe's inputs named when it was trained",
                remedy="restore the model folder or package, or train again",
            )
        self.classifiers = {}
        for key in sorted(state.keys() - {"encoders"}, key=lambda key: int(key.rpartition("/")[2])):
            name, subset, _ = key.rsplit("/", 2)
            by_subset = self.classifiers.setdefault(name, {})
            by_subset.setdefault(tuple(filter(None, subset.split("+"))), []).append(from_array(state[key].numpy()))

    def _digest(self) -> NDArray[np.uint8]:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoders.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return np.frombuffer(digest.digest(), np.uint8).copy()


def _join(x: Mapping[str, Floats], subset: Subset, n: int) -> Floats:
    """[n, sum of F] the numbers of some modalities side by side."""
    return np.concatenate([np.zeros((n, 0)), *(x[m] for m in subset)], axis=1)


# --- every kind of target as questions with one answer -----------------------------------------------------------------


def to_questions(truth: Floats, kind: Kind, levels: int) -> list[Floats]:
    """[n] truths as a loss takes them (`chiasm.encoding.levels.encode`) -> [n] answers to each question.

    A number is one question. Else each is a yes or no: above level k? (Frank & Hall 2001); of class k?
    """
    k = np.arange(levels)[:, None]
    if kind is Kind.ORDINAL:
        return list((truth > k[:-1]).astype(np.float64))
    if kind is Kind.MULTICLASS:
        return list((truth == k).astype(np.float64))
    return [truth.astype(np.float64)]


def to_logits(asked: Floats, kind: Kind, shape: tuple[int, ...]) -> Floats:
    """[n, questions] answers -> [n], or [n, Q] log-probabilities of levels or logits of hazards, as `Outputs` has them."""
    if not shape:
        return asked[:, 0]
    if kind is Kind.SURVIVAL:
        own = asked
    elif kind is Kind.MULTICLASS:
        share = expit(asked)
        own = np.log(share / share.sum(axis=1, keepdims=True))
    else:
        above = np.minimum.accumulate(expit(asked), axis=1)  # above a level is above all below it
        n = len(asked)
        share = -np.diff(np.concatenate([np.ones((n, 1)), above, np.zeros((n, 1))], axis=1), axis=1)
        own = np.log(np.maximum(share, 1e-6))
    return np.pad(own, ((0, 0), (0, shape[0] - own.shape[1])), constant_values=NEVER)
