"""Grounding: reports teach the maps of `localization` where a finding lies and how it looks; the image alone answers.

After Bhalodia et al. (MICCAI 2021), rebuilt from published mechanisms: stacked cross-attention of regions and words in both
directions (Lee et al. 2018), a contrast of whole studies, and the attributes that reports state, which are read off what a
finding's map attends to. The report is a teacher: it comes by `teach`, and no answer sees it. Boxes teach nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from chiasm.cohort.store import Cohort
from chiasm.domains.chest.frame import PARTS, frame_parts, name_parts
from chiasm.encoding.batches import Ragged
from chiasm.encoding.fit import Learned, Off
from chiasm.heads.head import Answered, Asked, Head, Loss, Reading, Said, Section, Seen, Shape
from chiasm.heads.spec import Case, Pool, Question, mean_known
from chiasm.metrics import folds
from chiasm.metrics.bootstrap import Estimate, macro
from chiasm.metrics.name import MetricName, metric_name, split_prefix
from chiasm.models.text.encoder import BiLSTM
from chiasm.objectives.cross_attention import hardest_negatives, same_findings, soft_contrast, stacked_relevance
from chiasm.objectives.grounding import place_loss, value_loss
from chiasm.recipe import Count, Options, Recipe
from chiasm.report.statements import PLACE, attribute_values, statement_arrays
from chiasm.report.tokenizer import Tokenizer
from chiasm.study import View
from chiasm.tensors import Batch, Outputs
from chiasm.vocabulary import FINDINGS

KINDS = ("side", "zone", "lobe", "extent", "severity", "texture")
VALUES = {kind: attribute_values(kind) for kind in KINDS}
ATTRIBUTES, MASS, WORDS, STUDY = "attribute_logits", "part_mass", "relevance", "similarity"
_LATERAL = list(View).index(View.LATERAL)


class GroundingOptions(Options):
    """What reports of these sections teach: their first `max_words` words, and what they state of each finding.

    `contrast` is how an image is told from those of other studies: InfoNCE at `temperature`, or the hardest negative. Each loss has a
    weight: of words and regions, of whole studies, of presence, of attributes, and of the share of a map that lies on the stated
    side and zone.
    """

    sections: tuple[str, ...] = ("findings", "impression")
    max_words: Count = 64
    contrast: Literal["infonce", "hardest"] = "infonce"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    word_weight: Annotated[float, Field(ge=0)] = 0.5
    study_weight: Annotated[float, Field(ge=0)] = 0.5
    stated_weight: Annotated[float, Field(ge=0)] = 1.0
    attribute_weight: Annotated[float, Field(ge=0)] = 0.5
    place_weight: Annotated[float, Field(ge=0)] = 0.5


class GroundingLayers(nn.Module):
    """What each finding's map attends to, and its attributes; in training also how images and reports of the batch fit.

    Args:
        words: how many words are told apart, 0 where images and reports are not compared.
    """

    parts: Tensor  # [cells] number of the part of the frame in which a cell lies

    def __init__(self, dim: int, channels: int, words: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.words = BiLSTM(words, dim, 0.0) if words else None
        if words:
            self.regions, self.read = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.finding = nn.Embedding(channels, dim)
        values = sum(map(len, VALUES.values()))
        self.attributes = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, values))
        parts = torch.from_numpy(frame_parts(grid)).flatten()
        self.register_buffer("parts", F.one_hot(parts, len(PARTS)).float(), persistent=False)  # [cells, parts]

    def forward(self, seen: Seen) -> Said:
        """-> attribute_logits [B, C, A]; part_mass [B, N, C, parts], of sum 1 over images and parts; and of taught studies
        relevance [2, B, B] (words in regions, regions in words) and similarity [B, B]: of image i and report j."""
        tokens, maps = seen.encoded["image"], seen.said["localization"]["map_logits"]  # [B, N, C, *grid]
        batch, images, channels = maps.shape[:3]
        cells = math.prod(tokens.grid)
        least = torch.finfo(maps.dtype).min
        logits = maps.flatten(3).masked_fill(~tokens.units()[:, :, None, None], least)  # [B, N, C, cells]
        attention = logits.transpose(1, 2).flatten(2).softmax(dim=2)  # [B, C, N * cells]
        attended = attention @ tokens.values.masked_fill(~tokens.mask[..., None], 0.0)
        mass = attention.view(batch, channels, images, cells).transpose(1, 2) @ self.parts
        said = {ATTRIBUTES: self.attributes(attended + self.finding.weight), MASS: mass}
        taught = seen.batch.teachers.get(GroundingHead.name)
        if taught is None or self.words is None:
            return said
        return said | self._compare(self.words, seen, taught["words"], taught["words_mask"])

    def _compare(self, reader: BiLSTM, seen: Seen, ids: Tensor, mask: Tensor) -> Said:
        tokens = seen.tokens["image"]  # coarse: every word of the batch is compared with every region of the batch
        real = tokens.units()
        frontal = real if seen.batch.view is None else real & _is_frontal(seen.batch.view)
        studies, slot = torch.arange(len(real), device=real.device), (real.int() + frontal.int()).argmax(dim=1)
        # [B, cells, D] of one image, frontal if any is
        shown = tokens.values.view(*real.shape, -1, tokens.values.shape[2])[studies, slot]
        here = real.any(dim=1)[:, None].expand(shown.shape[:2])
        longest = max(1, int(mask.sum(dim=1).max()))
        ids, mask = ids[:, :longest].long(), mask[:, :longest]
        regions, words = self.regions(shown), self.read(reader(ids, mask).values)
        both = [stacked_relevance(words, mask, regions, here), stacked_relevance(regions, here, words, mask).T]
        means = [
            F.normalize((x * own[..., None]).sum(dim=1) / own.sum(dim=1, keepdim=True).clamp(min=1), dim=1, eps=1e-6)
            for x, own in ((regions, here), (words, mask))
        ]
        return {WORDS: torch.stack(both), STUDY: means[0] @ means[1].T}


def _is_frontal(view: Tensor) -> Tensor:
    """[B, N] numbers of views -> bool, whether words of place mean something there."""
    return view != _LATERAL


class GroundingHead(Head):
    """Reports as teachers of maps. It answers attributes of the findings that are present."""

    name = "grounding"
    options = GroundingOptions
    inputs = ("image",)
    given: GroundingOptions

    @classmethod
    def disagrees(cls, options: GroundingOptions, recipe: Recipe) -> str | None:
        before = list(recipe.active_heads)[: list(recipe.active_heads).index(cls.name)]
        if recipe.inputs.text is not None:
            return "heads.grounding is taught by the report, which therefore is no input: set inputs.text=null"
        if "localization" not in before:
            return "heads.grounding teaches the maps of heads.localization, which must stand before it"
        if getattr(recipe.heads["localization"], "weight", 0) > 0:
            return "heads.grounding is trained without boxes: set heads.localization.weight=0"
        return None

    @classmethod
    def fit(cls, options: GroundingOptions, learned: Learned) -> Any:
        """The words of training reports.

        Raises:
            Off: there are no radiographs, no findings with a known name, or no training study has such a report.
        """
        shape = learned.plan.image_shape
        findings = [label for _, label in learned.plan.localized if label in FINDINGS]
        if shape is None or len(shape) != 2 or not findings:
            raise Off("Grounding is switched off: it needs 2-D images and findings that reports name.")
        texts = [
            text
            for cohort, rows in zip(learned.cohorts, learned.rows, strict=True)
            for text in np.array(cohort.texts(options.sections), object)[rows].tolist()
            if text
        ]
        if not texts:
            raise Off(
                f"Grounding is switched off: no training study has a report with {' or '.join(options.sections)}."
            )
        return {"words": Tokenizer.train(texts).to_json()}

    @property
    def labels(self) -> list[str]:
        return [label for _, label in self.plan.localized]

    def teach(self, cohorts: Sequence[Cohort]) -> dict[str, NDArray[Any]]:
        """words [n, T]; present, stated_mask [n, C]; attributes [n, C, A]; place, place_mask [n, C, parts]."""
        texts = [text for cohort in cohorts for text in cohort.texts(self.given.sections)]
        found = self._state(texts, self.labels)
        ids = Tokenizer.from_json(self.state["words"]).encode_batch(texts, self.given.max_words)
        words, mask = (x.numpy() for x in Ragged([ids]).padded(np.arange(len(texts))))
        return {"words": words.astype(np.int32), "words_mask": mask, **found}

    def _state(self, texts: Sequence[str], labels: Sequence[str]) -> dict[str, NDArray[Any]]:
        present, known, attributes, words = statement_arrays(texts, labels, KINDS)
        place = np.zeros((len(texts), len(labels), len(PARTS)), bool)
        for i, own in enumerate(words):
            for c, said in enumerate(own):
                named = [parts for words in said if (parts := name_parts(*(words[kind] for kind in PLACE))) is not None]
                # each statement has parts of its own, "right upper" and "left lower"; together they may leave out none
                if named and not (union := np.any(named, axis=0)).all():
                    place[i, c] = union
        return {"present": present, "stated_mask": known, "attributes": attributes, "place": place}

    def build(self, shape: Shape) -> nn.Module:
        grid = self.plan.grid
        assert grid is not None
        compares = self.given.word_weight + self.given.study_weight > 0
        words = len(Tokenizer.from_json(self.state["words"])) if compares else 0
        return GroundingLayers(shape.dim, len(self.labels), words, (grid[0], grid[1]))

    # --- losses --------------------------------------------------------------------------------------------------------

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """What reports teach. Contrasts judge no epoch: they depend on who else is in the batch."""
        given, said, taught = self.given, outputs.heads[self.name], batch.teachers.get(self.name)
        if taught is None:
            names = ("word", "study", "stated", "attribute", "place")
            return {
                f"{name}_loss": Loss(said[MASS].sum() * 0, 0, judges=name not in ("word", "study")) for name in names
            }
        here = outputs.present["image"]
        stated = taught["stated_mask"] & here[:, None]
        logits = outputs.heads["localization"]["label_logits"]
        each = F.binary_cross_entropy_with_logits(logits, taught["present"].to(logits.dtype), reduction="none")
        shown = taught["present"] & here[:, None]
        values = [
            value_loss(x, y, shown)
            for x, y in zip(kinds_of(said[ATTRIBUTES]), kinds_of(taught["attributes"]), strict=True)
        ]
        placed = taught["place"] & shown[..., None]
        return {
            **self._contrasts(said, taught, here),
            "stated_loss": Loss(
                given.stated_weight * torch.where(stated, each, 0.0).sum() / stated.sum().clamp(min=1), stated.sum()
            ),
            "attribute_loss": Loss(
                given.attribute_weight * torch.stack(values).mean(),
                taught["attributes"].any(dim=2).sum(),
            ),
            "place_loss": Loss(
                given.place_weight * place_loss(self._frontal(said[MASS], batch), placed), placed.any(dim=2).sum()
            ),
        }

    def _contrasts(self, said: Said, taught: Mapping[str, Tensor], here: Tensor) -> dict[str, Loss]:
        if WORDS not in said:
            return {name: Loss(said[MASS].sum() * 0, 0, judges=False) for name in ("word_loss", "study_loss")}
        both = here & taught["words_mask"].any(dim=1)
        alike = same_findings(taught["present"], taught["stated_mask"]).to(said[STUDY].dtype)
        word = torch.stack([self._contrast(scores, alike, both) for scores in said[WORDS]]).mean()
        study = self._contrast(said[STUDY], alike, both)
        return {
            "word_loss": Loss(self.given.word_weight * word, both.sum(), judges=False),
            "study_loss": Loss(self.given.study_weight * study, both.sum(), judges=False),
        }

    def _contrast(self, scores: Tensor, alike: Tensor, mask: Tensor) -> Tensor:
        if self.given.contrast == "hardest":
            return hardest_negatives(scores, alike, mask)
        return soft_contrast(scores, alike, mask, self.given.temperature)

    @staticmethod
    def _frontal(mass: Tensor, batch: Batch) -> Tensor:
        """[B, N, C, parts] -> [B, C, parts], of the frontal images: words of place mean nothing on a lateral one."""
        if batch.view is None:
            return mass.sum(dim=1)
        return (mass * _is_frontal(batch.view)[..., None, None]).sum(dim=1)

    # --- answers -------------------------------------------------------------------------------------------------------

    def read(self, said: Said, reading: Reading) -> dict[str, NDArray[np.float32]]:
        """Probabilities of the values of each kind [B, C, A], and the share of each map in each part [B, C, parts]."""
        values = torch.cat([own.softmax(dim=2) for own in kinds_of(said[ATTRIBUTES].detach().float())], dim=2)
        return {"attributes": values.cpu().numpy(), "parts": said[MASS].detach().float().sum(dim=1).cpu().numpy()}

    @classmethod
    def pool(cls, pool: Pool, asked: Sequence[Asked]) -> dict[str, NDArray[np.float32]]:
        """name -> [n, M, C, ...]: each channel at its own place, NaN where a fold model does not know it or was not asked."""
        channels = list(dict.fromkeys(channel for one in asked for channel in one.head.plan.localized))
        found: dict[str, NDArray[np.float32]] = {}
        for one in asked:
            own = [channels.index(channel) for channel in one.head.plan.localized]
            slot = (pool.fold_model[one.places] == one.number).argmax(axis=1)
            for key, values in one.kept.items():
                shape = (*pool.fold_model.shape, len(channels), values.shape[2])
                whole = found.setdefault(key, np.full(shape, np.nan, np.float32))
                whole[one.places[:, None], slot[:, None], own] = values
        return found

    @classmethod
    def protocol(cls, question: Question) -> str:
        return "image only; truth is what the report states, of findings that it says are present"

    def truth(self, case: Case) -> dict[str, NDArray[Any]]:
        """`teach` without the words."""
        labels = [label for _, label in case.question.localized]
        parts = [self._state(cohort.texts(self.given.sections), labels) for cohort in case.pool.cohorts]
        return {key: case.pool.take([part[key] for part in parts]) for key in parts[0]}

    def score(self, evidence: Any, case: Case, control: str = "") -> dict[MetricName, Estimate]:
        """AUROC of each value among the findings of whose attribute the report speaks, and the share of a map that lies where the
        report says."""
        truth, scores = self.truth(case), {}
        arm = split_prefix(control)
        for kind, said, given in zip(
            KINDS, kinds_of(evidence["attributes"]), kinds_of(truth["attributes"]), strict=True
        ):
            study, channel = np.nonzero(given.any(axis=2))
            own: dict[str, Estimate] = {}
            for k, value in enumerate(VALUES[kind]):
                if given[study, channel, k].any():
                    answers = said[study, :, channel, k]
                    asked = np.where(np.isfinite(answers), case.pool.fold_model[study], -1)
                    rows = case.resamples.at(study)
                    own[value] = folds.ranking(given[study, channel, k], np.nan_to_num(answers), asked, rows)["auroc"]
                    scores[metric_name("grounding", f"{kind} {value}", "auroc", **arm)] = own[value]
            if len(own) > 1:
                scores[metric_name("grounding", kind, "auroc", **arm)] = macro(own)
        study, channel = np.nonzero(truth["place"].any(axis=2))
        shares = mean_known(evidence["parts"], axis=1)[study, channel]
        known = np.isfinite(shares).all(axis=1)
        if known.any():
            there = (shares * truth["place"][study, channel]).sum(axis=1)[known]
            share = case.resamples.at(study[known]).mean(there, "share of the map on the stated side and zone")
            scores[metric_name("grounding", "place", "map_share", **arm)] = share
        return scores

    def section(self, evidence: Mapping[str, Any], case: Case, scores: Mapping[MetricName, Estimate]) -> Section:
        return Section(
            title="Attributes that reports state",
            arm="image only",
            target="grounding",
            columns=("auroc", "map_share"),
            said=[
                "Where a finding lies and how it looks, from the image alone; reports were teachers, boxes were not."
            ],
        )

    @classmethod
    def answer(cls, asked: Sequence[Asked], index: int, place: int, present: set[tuple[str, str]]) -> Answered:
        """target/label -> kind -> value -> probability, of the findings that are present."""
        told: dict[str, dict[str, dict[str, list[float]]]] = {}
        for one in asked:
            for c, channel in enumerate(one.head.plan.localized):
                if channel in present:
                    own = told.setdefault("/".join(channel), {})
                    for kind, shares in zip(KINDS, kinds_of(one.kept["attributes"][place, c]), strict=True):
                        for name, share in zip(VALUES[kind], shares.tolist(), strict=True):
                            own.setdefault(kind, {}).setdefault(name, []).append(share)
        means = {
            finding: {kind: {v: float(np.mean(p)) for v, p in own.items()} for kind, own in kinds.items()}
            for finding, kinds in told.items()
        }
        return Answered(means)


def kinds_of(values: Any) -> list[Any]:
    """[..., A] of tensor or array -> of each of `KINDS` its own values."""
    edges = np.cumsum([0, *map(len, VALUES.values())])
    return [values[..., a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
