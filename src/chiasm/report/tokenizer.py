"""Tokenizers: the words of reports as numbers, and back.

Word-level on purpose: the language of reports is small, every token is a word a reader knows (attention over tokens is
shown to people), and a vocabulary of a few thousand covers all but names and misspellings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from chiasm.errors import RecipeError, RunError
from chiasm.recipe import TextInput

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
PAD, UNK, BOS, EOS = range(4)
MIN_COUNT = 2

# A word (digits and an apostrophe may follow its first letter), a number, a run of underscores (MIMIC's mark of a
# removed name), or one other character.
_TOKEN = r"[^\W\d_][^\W_]*(?:'[^\W\d_]+)?|\d+(?:\.\d+)?|_+|[^\w\s]"
_TIGHT_BEFORE = re.compile(r"\s+([.,;:!?%)\]}/-])")
_TIGHT_AFTER = re.compile(r"([(\[{/-])\s+")


class Tokenizer:
    """Lower-cased words, numbers and punctuation marks; `<pad>` 0, `<unk>` 1, `<bos>` 2, `<eos>` 3, then by frequency.

    The marks of the specials inside a text are ordinary characters: no report can forge an `<eos>`.

    >>> tokenizer = Tokenizer.train(["No effusion. Heart size 5.2 cm."] * 2)
    >>> tokenizer.decode(tokenizer.encode("Effusion: heart size, 5.2 CM (moderate)."))
    'effusion <unk> heart size <unk> 5.2 cm <unk> <unk> <unk>.'
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if tuple(vocabulary[: len(SPECIALS)]) != SPECIALS or len(set(vocabulary)) != len(vocabulary):
            raise RunError(
                "this is not a vocabulary of chiasm",
                expected=f"distinct words that begin with {', '.join(SPECIALS)}",
                got=f"{len(vocabulary)} words, {len(set(vocabulary))} of them distinct",
            )
        self._words = tuple(vocabulary)
        self._backend = _backend({word: i for i, word in enumerate(vocabulary)})

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int = 4000) -> Tokenizer:
        """The most frequent words of `texts` that occur at least twice; equal counts in alphabetical order.

        A word seen once teaches nothing but its own name, and the model must meet `<unk>` in training.
        """
        split = _backend({}).pre_tokenizer.pre_tokenize_str
        normal = _backend({}).normalizer.normalize_str
        counts = Counter(word for text in texts for word, _ in split(normal(text)))
        kept = sorted((word for word, n in counts.items() if n >= MIN_COUNT), key=lambda word: (-counts[word], word))
        return cls((*SPECIALS, *kept[: max(vocabulary_size - len(SPECIALS), 0)]))

    def __len__(self) -> int:
        return len(self._words)

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """The ids of a text, without specials; at most the first `max_tokens`."""
        ids: list[int] = self._backend.encode(text).ids
        return ids[:max_tokens]

    def encode_batch(self, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """`encode` of every text at once."""
        return [encoding.ids[:max_tokens] for encoding in self._backend.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """Lower-case text of ids up to the first `<eos>`; punctuation closes up, `<unk>` is shown as such.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        words = []
        for i in ids:
            if i == EOS:
                break
            if not 0 <= i < len(self._words):
                raise IndexError(f"token id must be in [0, {len(self._words)}). Got {i} instead.")
            if i not in (PAD, BOS):
                words.append(self._words[i])
        return _TIGHT_AFTER.sub(r"\1", _TIGHT_BEFORE.sub(r"\1", " ".join(words)))

    def to_json(self) -> str:
        """The `tokenizers` library's own JSON, so that other programs can read it."""
        text: str = self._backend.to_str()
        return text

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The inverse of `to_json`.

        Raises:
            RunError: the text is not the JSON of a tokenizer of chiasm.
        """
        try:
            vocabulary = tokenizers.Tokenizer.from_str(text).get_vocab()
        except Exception as error:  # noqa: BLE001  the library raises bare Exception
            raise RunError("the tokenizer file is damaged", got=type(error).__name__) from None
        return cls(sorted(vocabulary, key=lambda word: vocabulary[word]))


class PretrainedTokenizer:
    """The tokenizer of a Hugging Face text model, with the part of `Tokenizer`'s interface that reading needs.

    Args:
        name: a model id of the hub or a local folder with its tokenizer files.

    Raises:
        RecipeError: no tokenizer can be loaded from there.
    """

    def __init__(self, name: str) -> None:
        self._backend = read_tokenizer(name)
        list(
            self._encode(["a"])
        )  # what its file says of cutting and padding is set aside: later calls change nothing of it

    def __len__(self) -> int:
        return len(self._backend)

    def _encode(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
        """The ids of whole texts, and which of them are special (1)."""
        found = self._backend(
            list(texts), truncation=False, padding=False, return_special_tokens_mask=True, verbose=False
        )
        yield from zip(found["input_ids"], found["special_tokens_mask"], strict=True)

    def encode_batch(self, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """The ids of each text with the model's own special tokens; an empty text has none: no report is no token.

        What is cut is words: the special tokens at the end stay. The library could cut too, but by a state that threads share.
        """
        kept = [i for i, text in enumerate(texts) if text.strip()]
        ids: list[list[int]] = [[] for _ in texts]
        if kept:
            for i, (row, special) in zip(kept, self._encode([texts[i] for i in kept]), strict=True):
                last = len(row) if 0 not in special else special[::-1].index(0)  # special tokens at the end
                cut = len(row) if max_tokens is None else max_tokens
                ids[i] = row if len(row) <= cut else [*row[: cut - last], *row[len(row) - last :]]
        return ids


def read_tokenizer(name: str, vocabulary_size: int | None = None) -> Any:
    """The tokenizer of a Hugging Face text model, as the library has it.

    Args:
        vocabulary_size: tokens that the model knows.

    Raises:
        RecipeError: none can be loaded from there, it knows no word, or words that the model does not know.
    """
    from transformers import AutoTokenizer

    remedy = "save the model's tokenizer into the folder: AutoTokenizer.from_pretrained(ID).save_pretrained(FOLDER)"
    try:
        backend = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  a folder can be wrong in any way, and the library raises as many kinds
        raise RecipeError(
            "the tokenizer of the Hugging Face model cannot be loaded",
            expected="a model id of the hub or a local folder with tokenizer.json",
            got=f"{name} ({type(error).__name__})",
            where="inputs.text.encoder",
            remedy=remedy,
        ) from None
    words = backend.get_vocab()
    if not words.keys() - set(backend.all_special_tokens):
        raise RecipeError(
            "the tokenizer of the Hugging Face model knows no word",
            expected="tokenizer.json, or the vocabulary files of its kind",
            got=f"{len(words)} special tokens",
            where=f"inputs.text.encoder: {name}",
            remedy=remedy,
        )
    if vocabulary_size is not None and max(words.values()) >= vocabulary_size:
        raise RecipeError(
            "the tokenizer of the Hugging Face model is another model's",
            expected=f"tokens up to {vocabulary_size - 1}, which the model knows",
            got=f"tokens up to {max(words.values())}",
            where=f"inputs.text.encoder: {name}",
            remedy=remedy,
        )
    return backend


def build_tokenizer(options: TextInput, words: Tokenizer) -> Tokenizer | PretrainedTokenizer:
    """What reads the reports for a recipe's text input: `words`, or the tokenizer of its pretrained encoder."""
    name = options.weights
    return words if name is None else PretrainedTokenizer(name)


def _backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[UNK]))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), behavior="removed", invert=True)
    return backend
