import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from chiasm.metrics import description as d
from chiasm.metrics.bootstrap import Resamples

word = st.sampled_from(["no", "effusion", "left", "lung", "mass", "in", "the"])
sentence = st.lists(word, max_size=14)
reference = st.lists(word, min_size=1, max_size=14)
pairs = st.lists(st.tuples(sentence, reference), min_size=1, max_size=8)

CANDIDATES = [
    "The heart is normal in size. No pleural effusion.",
    "No acute disease.",
    "no no no no effusion",
    "",
    "Opacity in the right lower lobe, the right lower lobe is dense.",
]
REFERENCES = [
    "Heart size is normal; there is no pleural effusion or pneumothorax.",
    "No acute disease.",
    "No effusion.",
    "Lungs are clear.",
    "There is an opacity in the right lower lobe of 2.5 cm.",
]


def published(pairs_: list[tuple[list[str], list[str]]]) -> dict[str, np.ndarray]:
    """The scorers everyone uses, on the same tokens."""
    said = {i: [" ".join(c)] for i, (c, _) in enumerate(pairs_)}
    truth = {i: [" ".join(r)] for i, (_, r) in enumerate(pairs_)}
    return {
        "bleu": np.array(Bleu(4).compute_score(truth, said, verbose=0)[0]),
        "rouge_l": Rouge().compute_score(truth, said)[1],
        "cider": Cider().compute_score(truth, said)[1],
    }


def test_tokens_are_words_and_numbers_in_lower_case():
    assert d.tokenize("  Größe: 3.5x2 cm, ___ (RLL) -- won't\n1. ") == [
        *["größe", "3.5", "x2", "cm", "rll", "won", "t", "1"],
    ]
    assert d.tokenize("... ___ !") == []


@given(pairs)
def test_scores_equal_those_of_pycocoevalcap(pairs_):
    candidates, references = [c for c, _ in pairs_], [r for _, r in pairs_]
    slow = published(pairs_)
    assert d.bleu_of(d.bleu_counts(candidates, references).sum(axis=1, keepdims=True))[:, 0] == pytest.approx(
        slow["bleu"], abs=1e-9
    )
    assert d.rouge_l(candidates, references) == pytest.approx(slow["rouge_l"], abs=1e-12)
    assert d.cider(candidates, references) == pytest.approx(slow["cider"], abs=1e-9)


def test_whole_texts_score_as_pycocoevalcap_says():
    resamples = Resamples.draw(["v", "w", "x", "y", "z"], 20)
    found = {name: e.draws[0] for name, e in d.describe(CANDIDATES, REFERENCES, resamples).items()}
    slow = published([(d.tokenize(c), d.tokenize(r)) for c, r in zip(CANDIDATES, REFERENCES, strict=True)])
    assert [found[f"bleu{n}"] for n in (1, 2, 3, 4)] == pytest.approx(slow["bleu"], abs=1e-6)
    assert found["rouge_l"] == pytest.approx(slow["rouge_l"].mean(), abs=1e-6)
    assert found["cider"] == pytest.approx(slow["cider"].mean(), abs=1e-6)
    assert 0.1 < found["bleu4"] < found["bleu1"] < 1


def test_a_resample_scores_as_the_corpus_it_draws():
    """BLEU and ROUGE-L of the drawn texts; CIDEr keeps the document frequencies of the sample."""
    patients = np.array(["a", "b", "b", "c", "d"])
    resamples = Resamples.draw(patients, 12, seed=2)
    found = d.describe(CANDIDATES, REFERENCES, resamples)
    tokens = [(d.tokenize(c), d.tokenize(r)) for c, r in zip(CANDIDATES, REFERENCES, strict=True)]
    whole = published(tokens)
    for r in range(13):
        drawn = np.repeat(np.arange(5), resamples.weights[resamples.patients, r])
        slow = published([tokens[i] for i in drawn])
        assert [found[f"bleu{n}"].draws[r] for n in (1, 2, 3, 4)] == pytest.approx(slow["bleu"], abs=1e-9)
        assert found["rouge_l"].draws[r] == pytest.approx(slow["rouge_l"].mean())
        assert found["cider"].draws[r] == pytest.approx(whole["cider"][drawn].mean())


def test_bleu_and_rouge_by_hand():
    said, truth = ["the", "left", "lung"], ["the", "left", "lower", "lung", "lobe"]
    counts = d.bleu_counts([said], [truth])[:, 0]
    assert counts.tolist() == [3, 5, 3, 2, 1, 0, 3, 1, 0, 0]
    assert d.bleu_of(counts[:, None])[1, 0] == pytest.approx(np.sqrt(1 * 1 / 2) * np.exp(1 - 5 / 3))
    precision, recall = 3 / 3, 3 / 5
    assert d.rouge_l([said], [truth])[0] == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))


def test_cider_weighs_words_by_how_few_references_hold_them():
    """Words of every reference weigh nothing; the other word counts once, of one possible n-gram length in four."""
    truth = [["the", "mass"], ["the", "lung"]]
    scores = d.cider([["the", "mass"], ["the"]], truth)
    assert scores[0] == pytest.approx(10 * (1 + 1) / 4)  # word and bigram agree, no longer n-grams
    assert scores[1] == 0


@given(st.lists(word, max_size=30), st.lists(word, max_size=30))
def test_longest_common_subsequence_equals_the_table(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    assert d._longest_common(a, b) == d._longest_common(b, a) == table[-1, -1]


def test_a_longer_reference_is_not_forgotten():
    """Truncating the reference to the candidate's length would make this a perfect score."""
    found = d.describe(["no effusion"], ["no effusion but a large mass in the left lung"], Resamples.draw(["a"], 10))
    assert found["bleu1"].draws[0] < 0.05
    assert found["rouge_l"].draws[0] < 0.4


def test_a_reference_without_a_word_is_left_out_and_counted():
    resamples = Resamples.draw(["a", "b", "c"], 50)
    found = d.describe(["no mass", "no mass", "mass"], ["no mass", "___", "a mass"], resamples)
    assert found["rouge_l"].metric().n == 2
    for estimate in found.values():
        assert "left out because their reference holds no word: 1" in estimate.metric().protocol
        assert d.TOKENIZATION in estimate.metric().protocol
    nothing = d.describe(["a"], ["..."], resamples.at([0]))
    assert {estimate.metric().value for estimate in nothing.values()} == {None}
    with pytest.raises(ValueError, match="one length"):
        d.describe(["a"], ["a", "b"], resamples)


@pytest.mark.parametrize("n", [1, 5])
def test_where_no_word_tells_studies_apart_there_is_no_cider(n):
    found = d.describe(["the chest is normal"] * n, ["the chest is normal"] * n, Resamples.draw(range(n), 20))
    metric = found["cider"].metric()
    assert metric.value is None and metric.reason.startswith("one reference, or all hold the same n-grams")
    assert found["bleu4"].metric().value == pytest.approx(1)


def test_the_order_of_words_is_enough_for_cider():
    resamples = Resamples.draw(range(2), 20)
    assert d.describe(["left lung", "lung left"], ["left lung", "lung left"], resamples)["cider"].metric().value > 0


def test_no_reference_of_n_words_has_no_bleu_n():
    found = d.describe(["no mass", "mass"], ["no mass", "a mass"], Resamples.draw(range(2), 20))
    assert found["bleu2"].metric().value is not None
    assert found["bleu3"].metric().reason == "no reference has 3 words"


def test_distinct_ratio_has_no_interval():
    resamples = Resamples.draw(list("abcd"), 50)
    found = d.describe(["No mass.", "no mass", "Mass!", "no  MASS"], ["x"] * 4, resamples)["distinct_ratio"].metric()
    assert (found.value, found.low, found.high, found.n) == (0.5, None, None, 4)
    assert "no interval" in found.protocol


def test_finding_f1_by_hand():
    p, a, u, n = "present", "absent", "uncertain", "not_mentioned"
    said, truth = np.array([[p, a, n], [p, p, u]]), np.array([[p, a, p], [a, p, n]])
    estimate = d.finding_f1(said, truth, Resamples.draw(["a", "b"], 200))
    assert estimate.draws[0] == pytest.approx(2 * 2 / (3 + 3))
    only_first, only_second = 2 * 1 / (1 + 2), 2 * 1 / (2 + 1)
    assert set(np.round(estimate.draws, 9)) == set(np.round([2 / 3, only_first, only_second], 9))
    none = d.finding_f1(said, np.full((2, 3), a), Resamples.draw(["a", "b"], 200)).metric()
    assert (none.value, none.reason) == (None, "no finding is present in any reference")
