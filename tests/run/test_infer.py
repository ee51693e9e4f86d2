"""A study is encoded once, whatever is asked of it."""

from collections import Counter

import numpy as np
import pytest
import torch
from asking import fold_models_over

from chiasm.evaluation.arms import collect
from chiasm.models.image.encoder import Extractor
from chiasm.run.calibrate import judge
from chiasm.run.ensemble import predict_together
from chiasm.run.infer import Ask, infer


@pytest.fixture
def fold_model(tiny_run):
    return fold_models_over(tiny_run)[0]


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


def _images(fold_model, rows):
    return {
        fold_model.loader.batch([row]).images[0, n].numpy().tobytes()
        for row in rows
        for n in range(len(fold_model.loader.image_rows(int(row))))
    }


@pytest.mark.parametrize("use", ["evaluate", "predict", "calibrate"])
def test_each_image_is_encoded_once_for_all_subsets_arms_and_the_description(fold_model, encoded, use):
    rows = fold_model.split["validation" if use == "calibrate" else "test"]
    images = _images(fold_model, rows)
    assert len(images) > len(rows) / 2
    encoded.clear()
    if use == "evaluate":
        collect([fold_model], [fold_model])
    elif use == "predict":
        predict_together([fold_model], rows)
    else:
        judge(fold_model)
    assert {encoded[image] for image in images} == {1}


@pytest.mark.parametrize("studies", [1, 2, None])
def test_questions_put_together_get_the_answers_of_each_alone(fold_model, studies):
    """Few studies are asked everything in one batch, with a padding that no question alone has."""
    rows = fold_model.split["test"][:studies]
    asks = [
        Ask(heads=("localization", "description"), tell=("description",)),
        Ask(heads=("localization",)),
        Ask(("image",)),
        Ask(("text", "record")),
        Ask(()),
        Ask(shuffled="text"),
        Ask(shuffled="image"),
    ]
    for together, ask in zip(infer(fold_model, rows, asks), asks, strict=True):
        (alone,) = infer(fold_model, rows, [ask])
        for target, logits in alone.logits.items():
            np.testing.assert_allclose(together.logits[target], logits, atol=1e-5)
        if "localization" in ask.heads:
            maps, own = together.heads["localization"], alone.heads["localization"]
            np.testing.assert_allclose(maps.values.astype(float), own.values.astype(float), atol=5e-3)
            np.testing.assert_array_equal(maps.index, own.index)
        np.testing.assert_array_equal(together.shown, alone.shown)
        assert together.heads.get("description") == alone.heads.get("description")


@pytest.mark.parametrize("hidden", ["image", "text", "record"])
def test_hidden_tokens_are_a_modality_that_was_not_given(fold_model, hidden):
    """Bit for bit what the model says where the batch itself lacks the modality."""
    batch = fold_model.loader.batch(fold_model.split["test"])
    kept = {m: torch.full((len(batch),), m != hidden) for m in fold_model.model.modalities}
    with torch.no_grad():
        expected = fold_model.model(batch.keep(kept)).logits
    (said,) = infer(
        fold_model, fold_model.split["test"], [Ask(tuple(m for m in fold_model.model.modalities if m != hidden))]
    )
    for target, logits in expected.items():
        np.testing.assert_array_equal(said.logits[target], logits.numpy())
