"""Which sentences of a report an answer rests on: what changes when one of them is left out (Zeiler & Fergus 2014, occlusion).

The sentence is taken from the text, and the text is read again: hidden among the tokens of an encoder, its neighbours would
still know it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.encoding.plan import Layout
from chiasm.metrics.attribution import Values, additive, numbers
from chiasm.report.phrases import find_sentences
from chiasm.report.tokenizer import PretrainedTokenizer, Tokenizer
from chiasm.run.fold_model import FoldModelOver
from chiasm.study import Statement

_END, _WORD = re.compile(r"[.!?;]*"), re.compile(r"\w+|[^\w\s]")


def read_texts(fold_models: Sequence[FoldModelOver], indices: NDArray[np.int64]) -> list[str]:
    """The text that the models read of each study, of a longer one as far as all of them read it; "" of one without."""
    loader = fold_models[0].loader
    if not loader.plan.text_sections:
        return [""] * len(indices)
    texts = [loader.texts(cohort)[row] for cohort, row in map(loader.cohort_of, indices.tolist())]
    for place, index in enumerate(indices.tolist()):
        for each in fold_models:
            if each.loader.truncated_reports[index] and each.reader is not None:
                texts[place] = truncate(texts[place], each.reader, each.plan.max_tokens)
    return texts


def truncate(text: str, reader: Tokenizer | PretrainedTokenizer, longest: int) -> str:
    """The most words from the beginning of a text that are not more than so many tokens."""
    ends = [match.end() for match in _WORD.finditer(text)]
    fit = bisect_right(ends, longest, key=lambda end: len(reader.encode_batch([text[:end]])[0]))
    return text[: ends[fit - 1]] if fit else ""


def split(text: str) -> list[tuple[int, int]]:
    """Characters start to end of the sentences that hold a word, their full stops included.

    >>> split("No effusion.\\nMass of 3.5 cm")
    [(0, 12), (13, 27)]
    """
    spans = [(start, _END.match(text, end).end()) for start, end in find_sentences(text)]  # type: ignore[union-attr]
    return [(start, end) for start, end in spans if any(map(str.isalnum, text[start:end]))]


def leave_out(texts: Sequence[str]) -> list[list[str]]:
    """[sentence][text]: each text without its first sentence, its second, and so on, as long as any has so many.

    >>> leave_out(["One. Two.", "", "Three."])
    [[' Two.', '', ''], ['One. ', '', 'Three.']]
    """
    spans = [split(text) for text in texts]
    return [
        [
            text[: own[k][0]] + text[own[k][1] :] if k < len(own) else text
            for text, own in zip(texts, spans, strict=True)
        ]
        for k in range(max(map(len, spans), default=0))
    ]


def weigh(
    texts: Sequence[str], whole: Values, without: Sequence[Values], layout: Layout
) -> list[tuple[Statement, ...]]:
    """[n] the sentences of each text, and what each changes.

    Args:
        whole: the answers to all that is there. without: [sentence] of `leave_out`, the answers to that.
    """
    said, others = additive(whole, layout), [additive(each, layout) for each in without]
    places = list(numbers(layout))

    def changes(i: int, other: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        return {p.name: float(said[p.target][i, p.column] - other[p.target][i, p.column]) for p in places}

    return [
        tuple(
            Statement(start, end, changes(i, other)) for (start, end), other in zip(split(text), others, strict=False)
        )
        for i, text in enumerate(texts)
    ]
