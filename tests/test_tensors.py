"""Batches: what is present, and that what is kept out is out."""

from dataclasses import fields

import torch

from chiasm.tensors import MODALITIES, Batch


def batch() -> Batch:
    """Three studies: everything; a record with one category alone; a report alone."""
    return Batch(
        torch.arange(3),
        images=torch.full((3, 2, 4, 4), 7, dtype=torch.uint8),
        image_mask=torch.tensor([[True, False], [False, False], [False, False]]),
        token_ids=torch.full((3, 2), 5),
        token_mask=torch.tensor([[True, True], [False, False], [True, False]]),
        facts=torch.tensor([[1.5, 1.0], [0.0, 0.0], [0.0, 0.0]]),
        record_values=torch.tensor([[0.5], [0.0], [0.0]]),
        record_observed=torch.tensor([[True], [False], [False]]),
        record_codes=torch.tensor([[1], [2], [0]]),
        labels={"outcome": torch.ones(3, 1)},
        label_mask={"outcome": torch.ones(3, 1, dtype=torch.bool)},
    )


def test_a_study_has_what_is_under_no_mask():
    found = batch().present()
    assert {m: found[m].tolist() for m in MODALITIES} == {
        "image": [True, False, False],
        "text": [True, False, True],
        "record": [True, True, False],
    }


def test_what_no_cohort_has_is_not_there_at_all():
    assert Batch(torch.arange(2)).present() == {}
    assert Batch(torch.arange(2), record_observed=torch.zeros(2, 0, dtype=torch.bool)).present() == {}
    both = Batch(torch.arange(2), record_observed=torch.zeros(2, 1, dtype=torch.bool), record_codes=torch.zeros(2, 0))
    assert both.present()["record"].tolist() == [False, False], "a column that is empty is still a column"


def test_keep_hides_a_modality_of_some_studies_and_with_an_image_what_was_measured_on_it():
    whole = batch()
    for m in MODALITIES:
        kept = whole.keep({m: torch.tensor([False, True, True])})
        found = {name: x.tolist() for name, x in kept.present().items()}
        assert found == {
            name: [x[0] and name != m, *x[1:]] for name, x in ((k, v.tolist()) for k, v in whole.present().items())
        }
        assert kept.facts.tolist() == ([[0.0, 0.0]] * 3 if m == "image" else whole.facts.tolist())
    assert whole.present()["image"].tolist() == [True, False, False], "the batch itself is as it was"


def test_keep_never_brings_back_what_a_study_does_not_have():
    whole = batch()
    kept = whole.keep({m: torch.ones(3, dtype=torch.bool) for m in MODALITIES})
    for name in ("image_mask", "token_mask", "facts", "record_observed", "record_codes"):
        assert torch.equal(getattr(kept, name), getattr(whole, name)), name


def test_labels_are_no_input_and_stay():
    kept = batch().keep({m: torch.zeros(3, dtype=torch.bool) for m in MODALITIES})
    assert not any(x.any() for x in kept.present().values())
    assert kept.labels["outcome"].all() and kept.label_mask["outcome"].all()


def test_moving_a_batch_moves_every_tensor():
    moved = batch().to("meta")
    for f in fields(moved):
        value = getattr(moved, f.name)
        tensors = value.values() if isinstance(value, dict) else [] if value is None else [value]
        assert all(t.device.type == "meta" for t in tensors), f.name
    features = Batch(torch.arange(1), features=[torch.zeros(1), torch.zeros(1)]).to("meta").features
    assert [t.device.type for t in features] == ["meta", "meta"]
