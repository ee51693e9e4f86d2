"""The tokenizer: hand-made vocabularies and ids, and the round trips a run folder relies on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.errors import RunError
from chiasm.report.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer

TEXTS = ["No effusion. T1-weighted, 5.2 cm (mild).", "No effusion. T1-weighted, 5.2 cm (mild). Once"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS)


def test_vocabulary_is_specials_then_frequency_then_alphabet() -> None:
    made = Tokenizer.train(["b b b a a c"])
    assert [made.decode([i]) for i in range(4, len(made))] == ["b", "a"]  # c occurs once


def test_vocabulary_size_counts_the_specials() -> None:
    assert len(Tokenizer.train(["a a a b b b c c"], vocabulary_size=6)) == 6
    assert len(Tokenizer.train(["a a"], vocabulary_size=2)) == len(SPECIALS)


def test_a_text_is_split_into_words_numbers_and_marks(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("NO effusion, t1 5.2cm")
    assert [tokenizer.decode([i]) for i in ids] == ["no", "effusion", ",", "t1", "5.2", "cm"]
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == "no effusion. t1-weighted, 5.2 cm (mild)."


def test_rare_and_unseen_words_are_unknown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("once pneumothorax") == [UNK, UNK]
    assert tokenizer.decode([UNK]) == "<unk>"


def test_a_text_cannot_forge_a_special(tokenizer: Tokenizer) -> None:
    assert not {PAD, BOS, EOS} & set(tokenizer.encode("<eos> <pad> <bos> effusion"))


def test_decode_skips_padding_and_stops_at_the_end(tokenizer: Tokenizer) -> None:
    (no,) = tokenizer.encode("no")
    assert tokenizer.decode([BOS, PAD, no, EOS, no]) == "no"


@pytest.mark.parametrize("bad", [-1, 10**6])
def test_decode_rejects_ids_outside_the_vocabulary(tokenizer: Tokenizer, bad: int) -> None:
    with pytest.raises(IndexError, match=str(bad)):
        tokenizer.decode([bad])


def test_max_tokens_keeps_the_first(tokenizer: Tokenizer) -> None:
    whole = tokenizer.encode(TEXTS[0])
    assert tokenizer.encode(TEXTS[0], 3) == whole[:3]
    assert tokenizer.encode_batch([TEXTS[0], ""], 3) == [whole[:3], []]


@given(st.lists(st.text(), max_size=5))
def test_json_round_trip_is_exact(texts: list[str]) -> None:
    made = Tokenizer.train([*texts, *texts])
    back = Tokenizer.from_json(made.to_json())
    assert back.to_json() == made.to_json()
    assert len(back) == len(made)
    assert back.encode_batch(texts) == made.encode_batch(texts)
    assert all(UNK not in ids for ids in made.encode_batch(texts))  # every character of a text is in some token


@given(st.data())
def test_decode_is_undone_by_encode(data: st.DataObject) -> None:
    made = Tokenizer.train([*TEXTS, *TEXTS])
    ids = data.draw(st.lists(st.integers(len(SPECIALS), len(made) - 1), max_size=20))
    assert made.encode(made.decode(ids)) == ids


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"model": 1})])
def test_damaged_json_is_one_error(text: str) -> None:
    with pytest.raises(RunError, match="tokenizer file is damaged"):
        Tokenizer.from_json(text)


def test_a_foreign_vocabulary_is_refused() -> None:
    with pytest.raises(RunError, match="not a vocabulary"):
        Tokenizer(["a", "b", "c", "d"])
