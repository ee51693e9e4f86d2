import numpy as np
import torch
from scipy.stats import norm

from chiasm.models.record.encoder import RecordEncoder


def test_a_missing_value_is_no_token_and_its_filler_changes_nothing():
    torch.manual_seed(0)
    encoder = RecordEncoder(2, [3], 8)
    observed = torch.tensor([[True, False], [True, True]])
    codes = torch.tensor([[0], [2]])
    a = encoder(torch.tensor([[1.0, 7.0], [1.0, 2.0]]), observed, codes)
    b = encoder(torch.tensor([[1.0, -9.0], [1.0, 2.0]]), observed, codes)
    assert a.mask.tolist() == [[True, False, False], [True, True, True]]
    assert torch.equal(a.values, b.values)


def test_a_number_token_by_hand():
    torch.manual_seed(0)
    encoder = RecordEncoder(2, [], 4)
    tokens = encoder(
        torch.tensor([[0.5, -1.5]]), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 0, dtype=torch.long)
    )
    # before training values are seen, the score of a standardized number is itself
    hidden = torch.nn.functional.gelu(-1.5 * (encoder.slope[1] + encoder.rank_slope[1]) + encoder.bias[1])
    assert torch.allclose(tokens.values[0, 1], hidden @ encoder.mix[1] + encoder.column[1])


def test_a_rank_is_that_among_training_values_whatever_their_scale():
    """A column over many orders of magnitude, one that is half zeros, and one that nobody has."""
    x = torch.linspace(-4, 4, 2001)
    values = torch.stack([x.exp(), x.clamp(min=0), torch.zeros(2001)], dim=1)
    observed = torch.ones(2001, 3, dtype=torch.bool)
    observed[:, 2] = False
    encoder = RecordEncoder(3, [], 4)
    encoder.standardize(values, observed)
    scores = encoder.rank(values)
    expected = norm.ppf((np.arange(2001) + 0.5) / 2001)
    inner = np.abs(expected) < 1.5
    assert np.allclose(scores[inner, 0], expected[inner], atol=0.1)
    assert torch.equal(scores[:1000, 1], scores[0, 1].expand(1000)), "a tie has one score"
    assert np.isclose(scores[0, 1], -np.sqrt(2 / np.pi), atol=0.05), "the mean of the lower half of a normal"
    wild = encoder.rank(torch.tensor([[1e9, -1e9, 0.0]]))
    assert torch.isfinite(wild).all()
    assert wild[0, 0] == scores[:, 0].max()


def test_the_ranks_of_training_are_kept_with_the_weights():
    encoder = RecordEncoder(1, [], 4)
    encoder.standardize(torch.randn(50, 1) ** 3, torch.ones(50, 1, dtype=torch.bool))
    again = RecordEncoder(1, [], 4)
    again.load_state_dict(encoder.state_dict())
    x = torch.randn(9, 1)
    assert torch.equal(again.rank(x), encoder.rank(x))
