"""The signatures say shapes, and a call that breaks them is an error in tests."""

import jaxtyping
import pytest
import torch

from chiasm.models import attention
from chiasm.objectives import alignment, grounding, outcome
from chiasm.study import Kind

WRONG = jaxtyping.TypeCheckError


def test_a_map_of_other_cells_than_its_truth_is_caught() -> None:
    maps, mask = torch.zeros(2, 1, 3, 4, 4), torch.ones(2, 1, 3, dtype=torch.bool)
    grounding.map_loss(maps, maps, mask)
    with pytest.raises(WRONG):
        grounding.map_loss(maps, torch.zeros(2, 1, 3, 4, 5), mask)


def test_labels_of_another_width_than_the_logits_are_caught() -> None:
    """Broadcasting would make a loss of it."""
    logits, mask = torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(WRONG):
        outcome.target_loss(logits, torch.zeros(4, 1), mask, Kind.BINARY)


def test_a_mask_of_numbers_is_caught() -> None:
    vectors, same = torch.eye(3), torch.eye(3, dtype=torch.bool)
    who = torch.ones(3, dtype=torch.bool)
    alignment.contrast(vectors, vectors, same, who, who, 0.1)
    with pytest.raises(WRONG):
        alignment.contrast(vectors, vectors, same, who.float(), who, 0.1)


def test_keys_without_their_values_are_caught() -> None:
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    queries = torch.zeros(1, 3, 8)
    attention.attend(layer, queries, torch.zeros(1, 5, 16), None)
    with pytest.raises(WRONG):
        attention.attend(layer, queries, torch.zeros(1, 5, 8), None)
