"""Reports teach maps, the image alone answers, and no box is read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chiasm.cohort.store import Cohort
from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.errors import RecipeError
from chiasm.heads.grounding import ATTRIBUTES, MASS, STUDY, WORDS, GroundingHead
from chiasm.recipe import read_recipe
from chiasm.run.model import build_model
from chiasm.tensors import Batch

SMALL = [
    "inputs.image.encoder=small-cnn",
    "inputs.image.size=64",
    "fusion.dim=32",
    "fusion.heads=2",
    "heads.localization.stride=8",
]


@pytest.fixture(scope="module")
def taught(phantom):
    """Model, batch of 12 studies with what teaches them, and the loader."""
    rows = phantom.rows("train")
    plan, recipe, _ = fit_plan(read_recipe("report-grounding", SMALL), [phantom], [rows])
    torch.manual_seed(0)
    model = build_model(recipe, plan, 0, 0).eval()
    loader = Loader([phantom], plan, None, teachers={"grounding": model.parts["grounding"].teach([phantom])})
    return model, loader.batch(rows[:12]), loader


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("inputs.text={}", "inputs.text=null"),
        ("heads.localization.weight=1", "heads.localization.weight=0"),
        ("heads.localization=null", "heads.localization"),
    ],
)
def test_a_recipe_in_which_the_report_is_an_input_or_boxes_teach_is_refused(override, said):
    with pytest.raises(RecipeError) as error:
        read_recipe("report-grounding", [override])
    assert said in str(error.value)


def test_the_report_reaches_no_answer(taught):
    """With other words, other statements or none at all, everything that is kept of a study is the same."""
    model, batch, _ = taught
    own = batch.teachers["grounding"]
    other = {"grounding": {key: values.flip(0) for key, values in own.items()}}
    with torch.no_grad():
        first, second, third = (model(replace(batch, teachers=given)) for given in (batch.teachers, other, {}))
    assert {WORDS, STUDY} <= set(first.heads["grounding"])
    assert set(third.heads["grounding"]) == {ATTRIBUTES, MASS}
    for outputs in (second, third):
        for name in (ATTRIBUTES, MASS):
            assert torch.equal(outputs.heads["grounding"][name], first.heads["grounding"][name])
        assert torch.equal(outputs.heads["localization"]["map_logits"], first.heads["localization"]["map_logits"])
        assert all(torch.equal(x, first.logits[target]) for target, x in outputs.logits.items())


def test_boxes_reach_no_loss(taught):
    model, batch, _ = taught
    moved = replace(batch, lesion_mask=torch.rand_like(batch.lesion_mask), lesion_label_mask=~batch.lesion_label_mask)
    with torch.no_grad():
        outputs = model(batch)
        own, other = ({n: x.value for n, x in model.losses(outputs, b).items()} for b in (batch, moved))
    assert own == other


def test_the_mass_of_a_map_is_dealt_out_to_the_parts_of_real_images(taught):
    model, batch, _ = taught
    with torch.no_grad():
        mass = model(batch).heads["grounding"][MASS]
    assert torch.allclose(mass.sum(dim=(1, 3)), torch.ones(mass.shape[0], mass.shape[2]), atol=1e-5)
    assert (mass[~batch.image_mask] == 0).all()


def test_words_of_place_are_not_asked_of_a_lateral_image():
    mass = torch.tensor([[[[0.5, 0.1]], [[0.3, 0.1]]]])  # [B 1, N 2, C 1, parts 2]
    frontal = GroundingHead._frontal(mass, Batch(torch.arange(1), view=torch.tensor([[0, 2]])))
    assert torch.equal(frontal, mass[:, 0])


def test_a_study_without_a_report_teaches_nothing(taught):
    model, batch, _ = taught
    silent = {key: torch.zeros_like(values) for key, values in batch.teachers["grounding"].items()}
    with torch.no_grad():
        given = replace(batch, teachers={"grounding": silent})
        losses = model.losses(model(given), given)
    for name in ("word_loss", "study_loss", "stated_loss", "attribute_loss", "place_loss"):
        assert float(losses[name].value) == 0
        assert int(losses[name].number) == 0


@pytest.mark.parametrize("contrast", ["infonce", "hardest"])
def test_either_contrast_draws_a_study_to_its_own_report(taught, contrast):
    model, _, _ = taught
    head = model.parts["grounding"]
    given = GroundingHead(head.given.model_copy(update={"contrast": contrast}), head.state, head.plan)
    alike, mask = torch.eye(12), torch.ones(12, dtype=torch.bool)
    good, bad = (given._contrast(scores, alike, mask) for scores in (torch.eye(12), 1 - torch.eye(12)))
    assert good < bad


def test_what_reports_state_is_what_teaches(phantom, taught):
    _, _, loader = taught
    own = loader.teachers["grounding"]
    texts = Cohort.open(phantom.path).texts(["findings", "impression"])
    assert own["words_mask"].any(axis=1).tolist() == [bool(text) for text in texts]
    assert (own["present"] <= own["stated_mask"]).all()
    assert not own["attributes"][~own["present"]].any()
    assert not own["place"][~own["present"]].any()
    assert own["attributes"].any()
    assert own["place"].any()
    assert not own["place"].all(axis=2).any()  # all of the image is no place
    assert own["words_mask"].sum(axis=1).max() <= 64
    assert np.array_equal(own["words"] > 0, own["words_mask"])


def test_without_a_weight_images_and_reports_are_not_compared_and_have_no_layers(phantom):
    rows = phantom.rows("train")
    alone = ["heads.grounding.word_weight=0", "heads.grounding.study_weight=0"]
    plan, recipe, _ = fit_plan(read_recipe("report-grounding", [*SMALL, *alone]), [phantom], [rows])
    model = build_model(recipe, plan, 0, 0).eval()
    batch = Loader([phantom], plan, None, teachers={"grounding": model.parts["grounding"].teach([phantom])}).batch(
        rows[:4]
    )
    with torch.no_grad():
        outputs = model(batch)
        losses = model.losses(outputs, batch)
    assert set(outputs.heads["grounding"]) == {ATTRIBUTES, MASS}
    assert not [name for name, _ in model.named_parameters() if name.startswith("heads.grounding.words")]
    assert float(losses["word_loss"].value) == float(losses["study_loss"].value) == 0
    assert float(losses["place_loss"].value) > 0


def test_a_report_is_compared_with_the_frontal_image_of_its_study(taught):
    """What stands on a lateral image changes no comparison; where it is the only one, it is compared."""
    model, batch, _ = taught
    assert batch.image_mask[:, 1].any()
    other = batch.images.clone()
    other[:, 1] = 255 - other[:, 1]
    swapped = replace(batch, images=batch.images.flip(1), image_mask=batch.image_mask.flip(1), view=batch.view.flip(1))
    with torch.no_grad():
        first, second, third = (
            model(b).heads["grounding"][WORDS] for b in (batch, replace(batch, images=other), swapped)
        )
    assert torch.allclose(first, second, atol=1e-5)
    assert torch.allclose(first, third, atol=1e-4)
    alone = replace(batch, image_mask=torch.tensor([[False, True]]) & batch.image_mask)
    with torch.no_grad():
        lateral = model(alone).heads["grounding"][WORDS]
    there = batch.image_mask[:, 1]
    assert (lateral[:, there] != 0).any()
    assert (lateral[:, ~there] == 0).all()
