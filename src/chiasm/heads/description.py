"""Description: a text from the tokens of a pass in which the report is masked, written word by word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from chiasm.atomic import write_json
from chiasm.encoding.fit import Learned, Off
from chiasm.heads.decoder import Decoder
from chiasm.heads.head import Answered, Asked, Head, Loss, Reading, Said, Section, Seen, Shape, Text
from chiasm.heads.spec import Case, Pool, Question
from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.description import cider, describe, finding_f1, tokenize
from chiasm.metrics.name import MetricName, metric_name, split_prefix
from chiasm.objectives.description import description_loss
from chiasm.recipe import Count, Options
from chiasm.report.findings import label_reports
from chiasm.tensors import Batch, Fused, Outputs, Tokens
from chiasm.vocabulary import FINDINGS

COLUMNS = ("cider", "bleu1", "bleu4", "rouge_l", "finding_f1", "distinct_ratio")
IDS = "ids"


class DescriptionOptions(Options):
    """A text of these sections, from the tokens of a pass in which the report is masked."""

    sections: tuple[str, ...] = ("findings", "impression", "caption")
    max_tokens: Count = 80
    layers: Count = 2
    beams: Count = 3
    weight: Annotated[float, Field(ge=0)] = 0.5


class DescriptionLayers(nn.Module):
    """A decoder over what fusion makes of a study whose report is masked."""

    def __init__(self, decoder: Decoder, beams: int, max_tokens: int) -> None:
        super().__init__()
        self.decoder, self.beams, self.max_tokens = decoder, beams, max_tokens

    def forward(self, seen: Seen) -> Said:
        """-> logits [n, V] of the n words of the taught texts, study after study; nothing where none is taught."""
        ids, mask = seen.batch.description_ids, seen.batch.description_mask
        if ids is None or mask is None:
            return {}
        real = mask[:, 1:]
        return {"logits": self.decoder(ids[:, :-1], real, self._memory(seen, real.any(dim=1)))}

    @torch.no_grad()
    def tell(self, seen: Seen) -> Said:
        """-> ids [B, T] of a text of each study; its report takes no part in it."""
        others = _others(seen.fuse(_without_report(seen.tokens)))
        return {IDS: self.decoder.search(self.decoder.memory(list(others.values())), self.beams, self.max_tokens)}

    def _memory(self, seen: Seen, told: Tensor) -> list[Tokens]:
        """What fusion makes of studies whose report is masked.

        `seen.fused` is that already of a study without a report; a second pass takes the others of `told` [B], those to be
        described.
        """
        tokens, memory = seen.tokens, _others(seen.fused)
        read = tokens["text"].mask.any(dim=1) if "text" in tokens else torch.zeros_like(told)
        again = (told & read).nonzero()[:, 0]
        if len(again):
            rows = {m: Tokens(t.values[again], t.mask[again], t.grid) for m, t in _without_report(tokens).items()}
            for m, t in _others(seen.fuse(rows)).items():
                memory[m] = Tokens(memory[m].values.index_copy(0, again, t.values), memory[m].mask, t.grid)
        return self.decoder.memory(list(memory.values()))


def _without_report(tokens: dict[str, Tokens]) -> dict[str, Tokens]:
    """The same studies with a text of no words."""
    if "text" not in tokens:
        return tokens
    text = tokens["text"]
    return {**tokens, "text": Tokens(text.values[:, :0].detach(), text.mask[:, :0])}


def _others(fused: Fused) -> dict[str, Tokens]:
    return {m: t for m, t in fused.tokens.items() if m != "text"}


class DescriptionHead(Head):
    """A text of each study. The description of a control is another text for the same study."""

    name = "description"
    options = DescriptionOptions
    inputs = ("image",)
    teachers = ("text",)
    given: DescriptionOptions

    @classmethod
    def fit(cls, options: DescriptionOptions, learned: Learned) -> Any:
        """No state: the plan names the sections.

        Raises:
            Off: there are no images, or no training study has a text under the sections.
        """
        if learned.recipe.inputs.image is None:
            raise Off("Description is switched off: there are no images to describe.")
        if not learned.any_text(options.sections):
            raise Off(f"Description is switched off: no training study has text under {' or '.join(options.sections)}.")

    def build(self, shape: Shape) -> nn.Module:
        options = self.given
        decoder = Decoder(shape.vocabulary, shape.dim, shape.heads, options.layers, options.max_tokens, shape.dropout)
        return DescriptionLayers(decoder, options.beams, options.max_tokens)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """`description_loss`, over the words."""
        assert batch.description_ids is not None and batch.description_mask is not None
        loss = description_loss(outputs.heads[self.name]["logits"], batch.description_ids, batch.description_mask)
        return {"description_loss": Loss(self.given.weight * loss, batch.description_mask[:, 1:].sum())}

    # --- evidence ------------------------------------------------------------------------------------------------------

    def read(self, said: Said, reading: Reading) -> list[str]:
        return [reading.decode(row) for row in said[IDS].cpu().tolist()] if IDS in said else []

    def join(self, parts: Sequence[list[str]]) -> list[str]:
        return [text for part in parts for text in part]

    @classmethod
    def pool(cls, pool: Pool, asked: Sequence[Asked]) -> list[str]:
        """A text a study, of the first fold model that answers it: a mean of texts does not exist."""
        texts = [""] * len(pool)
        for one in reversed(asked):
            for place, text in zip(one.places, one.kept, strict=False):
                texts[place] = text
        return texts

    @classmethod
    def write(cls, evidence: Sequence[str], stem: Path, pool: Pool) -> None:
        """STEM.json: a text a study, in the order of the pool."""
        write_json(stem.with_name(f"{stem.name}.json"), list(evidence))

    @classmethod
    def load(cls, stem: Path) -> list[str] | None:
        file = stem.with_name(f"{stem.name}.json")
        if not file.is_file():
            return None
        texts: list[str] = json.loads(file.read_text("utf-8"))
        return texts

    @classmethod
    def take(cls, evidence: Sequence[str], rows: NDArray[np.int64]) -> list[str]:
        return [evidence[i] for i in rows]

    # --- figures and page ----------------------------------------------------------------------------------------------

    @classmethod
    def protocol(cls, question: Question) -> str:
        return f"the report is hidden; written from {' and '.join(m for m in question.modalities if m != 'text')}"

    def score(self, evidence: Sequence[str], case: Case, control: str = "") -> dict[MetricName, Estimate]:
        """Against whole references; findings of both texts where the cohort's findings are chest findings."""
        question, references = case.question, list(case.truth.references)
        found = describe(list(evidence), references, case.resamples)
        names = sorted({label for target in question.findings for label in question.targets[target]} & set(FINDINGS))
        if names:
            told = np.array([bool(text.strip()) for text in references])
            said, stated = (
                label_reports([t for t, kept in zip(texts, told, strict=True) if kept], names)
                for texts in (evidence, references)
            )
            found["finding_f1"] = finding_f1(said, stated, case.resamples.at(told))
        prefix = split_prefix(control)
        return {metric_name("description", None, metric, **prefix): estimate for metric, estimate in found.items()}

    def section(
        self, evidence: Mapping[str, Sequence[str]], case: Case, scores: Mapping[MetricName, Estimate]
    ) -> Section:
        """The best, the median and the worst description by CIDEr, beside its reference and the neighbour's report."""
        said, references = evidence[""], case.truth.references
        told = [i for i, text in enumerate(references) if tokenize(text)]
        value = cider([tokenize(said[i]) for i in told], [tokenize(references[i]) for i in told])
        ranked = [(told[i], float(value[i])) for i in np.argsort(-value, kind="stable")]
        texts = []
        for which, (i, score) in at_ranks(ranked):
            shown = {"the model": said[i], "reference": references[i]}
            if "nearest" in evidence:
                shown["nearest neighbour's report"] = evidence["nearest"][i]
            caption = f"CIDEr {score:.2f} · study {case.pool.column('study_id')[i]}"
            texts.append(Text(which, caption, shown, _first_image(case.pool, i)))
        return Section(
            title="Generated descriptions",
            arm="the report is hidden from the model",
            target="description",
            columns=COLUMNS,
            texts=texts,
            chosen="Best, median and worst description by CIDEr.",
        )

    # --- predictions ---------------------------------------------------------------------------------------------------

    @classmethod
    def answer(cls, asked: Sequence[Asked], index: int, place: int, present: set[tuple[str, str]]) -> Answered:
        return Answered(description=asked[0].kept[place] if asked[0].kept else None)


def _first_image(pool: Pool, study: int) -> NDArray[np.uint8] | None:
    """The first image of a study, as stored; of a volume, its middle slice."""
    cohort = pool.cohorts[pool.cohort[study]]
    rows = cohort.image_rows(int(pool.row[study]))
    if not rows:
        return None
    pixels = cohort.pixels(rows[0])
    return np.asarray(pixels if pixels.ndim == 2 else pixels[len(pixels) // 2])


def at_ranks(ranked: Sequence[Any]) -> list[tuple[str, Any]]:
    """The first, the middle and the last as best, median and worst; fewer where there are fewer."""
    places = dict.fromkeys([0, len(ranked) // 2, len(ranked) - 1]) if ranked else {}
    return [(which, ranked[place]) for which, place in zip(("best", "median", "worst"), places, strict=False)]
