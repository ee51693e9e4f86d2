"""Generated texts against the whole, untruncated reference: BLEU, ROUGE-L, CIDEr, finding F1, distinct share.

The scores equal pycocoevalcap's `Bleu`, `Rouge` and `Cider` on the same tokens with one reference a study; here they are
made of counts per study, so that a resample of patients is a sum.

>>> tokenize("No pleural effusion; 3.5 cm NODULE (T2-weighted).")
['no', 'pleural', 'effusion', '3.5', 'cm', 'nodule', 't2', 'weighted']
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from chiasm.metrics.bootstrap import Estimate, Floats, Resamples
from chiasm.study import State

Tokens = Sequence[str]
TOKENIZATION = "lower case, words and numbers, no punctuation"
N = 4  # longest n-gram
_TOKEN = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")
_BETA = 1.2  # ROUGE-L: recall weighs beta^2 times precision
_SIGMA = 6.0  # CIDEr-D: width of the penalty on a difference in length


def tokenize(text: str) -> list[str]:
    """Words and numbers in lower case; punctuation and underscores (the blanks of a de-identified text) are dropped."""
    return _TOKEN.findall(text.lower())


def describe(candidates: Sequence[str], references: Sequence[str], resamples: Resamples) -> dict[str, Estimate]:
    """`bleu1`..`bleu4`, `rouge_l`, `cider` and `distinct_ratio` of generated texts.

    Args:
        candidates, references: [n] texts as they are; the references neither truncated nor cut to a vocabulary.
        resamples: over the same n rows.

    A study whose reference holds no word cannot be scored: it is left out, and the protocols count it.
    """
    if not len(candidates) == len(references) == len(resamples):
        lengths = (len(candidates), len(references), len(resamples))
        raise ValueError(f"candidates, references and resamples of one length expected, got {lengths}")
    tokens = [(tokenize(c), tokenize(r)) for c, r in zip(candidates, references, strict=True)]
    kept = np.array([bool(reference) for _, reference in tokens], bool)
    said, truth = [c for c, r in tokens if r], [r for _, r in tokens if r]
    rows, lost = resamples.at(kept), int(np.sum(~kept))
    detail = f"left out because their reference holds no word: {lost:,}" if lost else ""
    against = f"against the untruncated reference; tokens: {TOKENIZATION}"

    bleu = rows.draws(bleu_counts(said, truth), bleu_of)
    longest, found = max(map(len, truth), default=0), {}
    for n, draws in enumerate(bleu, start=1):
        known = draws if n <= longest else np.full_like(draws, np.nan)  # no n-gram to find is not none found
        why = f"no reference has {n} words"
        found[f"bleu{n}"] = rows.estimate(known, f"BLEU-{n} of the corpus {against}", detail=detail, undefined=why)
    mean = rows.draws(np.stack([rouge_l(said, truth), cider(said, truth), np.ones(len(rows))]), lambda s: s[:2] / s[2])
    texts = f"CIDEr-D, document frequencies of these references, mean over studies {against}"
    found["rouge_l"] = rows.estimate(mean[0], f"ROUGE-L, beta 1.2, mean over studies {against}", detail=detail)
    alike = "one reference, or all hold the same n-grams: none of them tells one study from another, and all weigh 0"
    weighed = mean[1] if informative(truth) else np.full_like(mean[1], np.nan)
    found["cider"] = rows.estimate(weighed, texts, detail=detail, undefined=alike)
    distinct = np.full_like(mean[0], np.nan)
    distinct[0] = len(set(map(tuple, said))) / len(said) if said else np.nan
    texts = f"share of distinct texts among the generated; tokens: {TOKENIZATION}"
    found["distinct_ratio"] = rows.estimate(distinct, texts, detail=detail, interval="none")
    return found


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> Floats:
    """[2 + 2 N, n]: words said, words of the reference, n-grams said (by length), n-grams of them that are right.

    An n-gram is right as often as the reference has it (clipped counts; Papineni et al. 2002).
    """
    counts = [(c[: len(candidates)], c[len(candidates) :]) for c in ngram_counts([*candidates, *references])]
    lengths = [[len(text) for text in texts] for texts in (candidates, references)]
    said = [c.sum(axis=1) for c, _ in counts]
    right = [c.minimum(r).sum(axis=1) for c, r in counts]
    return np.array([*lengths, *said, *right], np.float64)


def bleu_of(sums: Floats) -> Floats:
    """BLEU-1..N [N, r] of a corpus from sums [2 + 2 N, r] of `bleu_counts`, smoothed as pycocoevalcap does."""
    tiny, small = 1e-15, 1e-9
    said, reference, guesses, right = sums[0], sums[1], sums[2 : 2 + N], sums[2 + N :]
    precision = np.cumprod((right + tiny) / (guesses + small), axis=0) ** (1 / np.arange(1, N + 1)[:, None])
    brevity = np.exp(np.minimum(0, 1 - (reference + small) / (said + tiny)))
    return np.where(reference > 0, precision * brevity, np.nan)


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> Floats:
    """[n] F measure of the longest common subsequence (Lin 2004), beta 1.2; 0 for a text without a word."""
    scores = np.zeros(len(candidates))
    for i, (said, truth) in enumerate(zip(candidates, references, strict=True)):
        if common := _longest_common(said, truth):
            precision, recall = common / len(said), common / len(truth)
            scores[i] = (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
    return scores


def cider(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> Floats:
    """[n] CIDEr-D (Vedantam et al. 2015): clipped cosine of tf-idf n-grams, times a penalty on a difference in length.

    Document frequencies are those of the given references and stay so in every resample.
    """
    n = len(candidates)
    words = np.array([[len(text) for text in texts] for texts in (candidates, references)], np.float64)
    penalty = np.exp(-((words[0] - words[1]) ** 2) / (2 * _SIGMA**2))
    cosines = np.zeros(n)
    for counts in ngram_counts([*candidates, *references]):
        documents = (counts[n:] > 0).sum(axis=0)
        weighted = (counts * (np.log(max(n, 1)) - np.log(np.maximum(documents, 1)))).tocsr()
        said, truth = weighted[:n], weighted[n:]
        norms = np.sqrt((said**2).sum(axis=1) * (truth**2).sum(axis=1))
        overlap = (said.minimum(truth) * truth).sum(axis=1)
        cosines += np.divide(overlap, norms, out=np.zeros(n), where=norms > 0)
    return np.asarray(10 * penalty * cosines / N)


def informative(references: Sequence[Tokens]) -> bool:
    """Is there an n-gram that not every reference holds? CIDEr weighs those alone."""
    held = [np.asarray((counts > 0).sum(axis=0)) for counts in ngram_counts(references)]
    return any(((each > 0) & (each < len(references))).any() for each in held)


def finding_f1(predicted: NDArray[np.str_], reference: NDArray[np.str_], resamples: Resamples) -> Estimate:
    """Micro F1 of the findings that two texts call present.

    Args:
        predicted, reference: [n, L] states (`chiasm.study.State` values) that one labeler reads in both texts.

    Undefined where no reference calls a finding present.
    """
    said, truth = predicted == State.PRESENT.value, reference == State.PRESENT.value
    sums = np.stack([(said & truth).sum(axis=1), said.sum(axis=1) + truth.sum(axis=1), truth.sum(axis=1)])
    draws = resamples.draws(sums.astype(np.float64), lambda s: np.where(s[2] > 0, 2 * s[0] / s[1], np.nan))
    protocol = "micro F1 of findings present in the text; absent, uncertain and not mentioned count alike"
    return resamples.estimate(draws, protocol, undefined="no finding is present in any reference")


def ngram_counts(texts: Sequence[Tokens]) -> list[sparse.csr_array]:
    """For each length 1..N: [texts, n-grams] how often each n-gram occurs in each text."""
    numbers: dict[str, int] = {}
    word = np.array([numbers.setdefault(token, len(numbers)) for text in texts for token in text], np.int64)
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    gram, counts = word, []
    for size in range(1, N + 1):
        _, gram = np.unique(gram, return_inverse=True)  # numbered anew, so that the product below never overflows
        starts, ends = text_of[: len(gram)], text_of[size - 1 :]
        ones, places = (starts == ends) * 1.0, (starts, gram)  # what runs over the end of a text is none: a zero
        counts.append(sparse.csr_array((ones, places), (len(texts), int(gram.max(initial=0)) + 1)))
        gram = gram[:-1] * len(numbers) + word[size:]
    return counts


def _longest_common(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence, a word of `b` a step, all of `a` at once in the bits of an integer
    (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    everywhere = (1 << len(a)) - 1
    open_ = everywhere
    for token in b:
        match = open_ & places.get(token, 0)
        open_ = ((open_ + match) | (open_ - match)) & everywhere
    return len(a) - open_.bit_count()
