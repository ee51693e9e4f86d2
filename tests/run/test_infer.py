"""A study is encoded once, whatever is asked of it."""

from collections import Counter

import numpy as np
import pytest
import torch

from chiasm.evaluation.arms import collect
from chiasm.models.image.encoder import Extractor
from chiasm.run.calibrate import calibrate
from chiasm.run.ensemble import predict_members
from chiasm.run.fold_model import load_members
from chiasm.run.infer import Ask, infer


@pytest.fixture
def member(tiny_run):
    return load_members(tiny_run)[0]


@pytest.fixture
def encoded(monkeypatch):
    """How often the image encoder was given each image."""
    seen: Counter[bytes] = Counter()
    real = Extractor.extract

    def extract(self, pixels):
        seen.update(image.numpy().tobytes() for image in pixels)
        return real(self, pixels)

    monkeypatch.setattr(Extractor, "extract", extract)
    return seen


def _images(member, rows):
    return {
        member.loader.batch([row]).images[0, n].numpy().tobytes()
        for row in rows
        for n in range(len(member.loader.image_rows(int(row))))
    }


@pytest.mark.parametrize("use", ["evaluate", "predict", "calibrate"])
def test_each_image_is_encoded_once_for_all_subsets_arms_and_the_description(member, encoded, use):
    rows = member.split["validation" if use == "calibrate" else "test"]
    images = _images(member, rows)
    assert len(images) > len(rows) / 2
    encoded.clear()
    if use == "evaluate":
        collect([member], [member])
    elif use == "predict":
        predict_members([member], rows)
    else:
        calibrate(member)
    assert {encoded[image] for image in images} == {1}


def test_one_pass_gives_the_bits_of_a_pass_for_each_question(member):
    rows = member.split["test"]
    asks = [Ask(maps=True, describe=True), Ask(("image",)), Ask(("text", "record")), Ask(()), Ask(shuffled="text")]
    for together, ask in zip(infer(member, rows, asks), asks, strict=True):
        (alone,) = infer(member, rows, [ask])
        for target, logits in alone.logits.items():
            np.testing.assert_array_equal(together.logits[target], logits)
        np.testing.assert_array_equal(together.shown, alone.shown)
        assert together.descriptions == alone.descriptions


@pytest.mark.parametrize("hidden", ["image", "text", "record"])
def test_hidden_tokens_are_a_modality_that_was_not_given(member, hidden):
    """Bit for bit what the model says where the batch itself lacks the modality."""
    batch = member.loader.batch(member.split["test"])
    kept = {m: torch.full((len(batch),), m != hidden) for m in member.model.modalities}
    with torch.no_grad():
        expected = member.model(batch.keep(kept)).logits
    (said,) = infer(member, member.split["test"], [Ask(tuple(m for m in member.model.modalities if m != hidden))])
    for target, logits in expected.items():
        np.testing.assert_array_equal(said.logits[target], logits.numpy())
