import torch

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
    hidden = torch.nn.functional.gelu(-1.5 * encoder.slope[1] + encoder.bias[1])
    assert torch.allclose(tokens.values[0, 1], hidden @ encoder.mix[1] + encoder.column[1])
