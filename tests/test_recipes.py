"""Every shipped recipe, found by its file: it learns, and nothing in it is dead."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chiasm
from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.heads.targets import TargetsHead
from chiasm.recipe import read_recipe, recipe_names
from chiasm.report.tokenizer import Tokenizer, build_tokenizer
from chiasm.run.model import build_model

FILES = sorted(path.stem for path in (Path(chiasm.__file__).parent / "recipes").glob("*.yaml"))
BASELINES = [name for name in FILES if read_recipe(name).baseline]


def test_some_recipes_are_shipped_and_the_command_lists_exactly_them():
    assert FILES
    assert recipe_names() == FILES
    found = subprocess.run(
        [str(Path(sys.executable).with_name("chiasm")), "recipes", "--json"], check=True, capture_output=True, text=True
    )
    import json

    listed = json.loads(found.stdout)
    assert sorted(entry["name"] for entry in listed["recipes"]) == FILES


@pytest.mark.parametrize("name", [name for name in FILES if name not in BASELINES])
def test_a_recipe_lowers_its_loss_on_one_batch_and_every_parameter_has_a_gradient(name, request, small):
    shipped = read_recipe(name)
    brain = shipped.inputs.image is not None and shipped.inputs.image.tokens == "territories"
    phantom = request.getfixturevalue("strokes" if brain else "phantom")
    # an override would switch on a head that the recipe leaves off
    own = [o for o in small if not o.startswith("heads.") or o.split(".")[1] in shipped.active_heads]
    own = [o for o in own if not (brain and o.startswith("inputs.image"))]
    own = [o for o in own if not o.startswith("inputs.") or getattr(shipped.inputs, o.split(".")[1]) is not None]
    recipe = read_recipe(name, [*own, "fusion.dropout=0.0"])
    rows = phantom.rows("train")
    plan, recipe, _ = fit_plan(recipe, [phantom], [rows])
    texts = phantom.texts(plan.text_sections) + phantom.texts(plan.description_sections)
    tokenizer = Tokenizer.train(texts)
    torch.manual_seed(0)
    model = build_model(recipe, plan, len(tokenizer), len(tokenizer))
    if brain:
        model.image_encoder.backbone.place(phantom.atlas)
    model.targets.watch()
    teachers = {head: own for head, part in model.parts.items() if (own := part.teach([phantom]))}
    batch = Loader([phantom], plan, tokenizer, teachers=teachers).batch(rows[:24])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    course = []
    # words take longer to learn, and a contrast that starts at nothing longer still
    for _ in range(80 if brain else 25 if recipe.heads.get("description") else 12):
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        total = torch.stack([loss.value for loss in losses.values()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        course.append({name: loss.value.item() for name, loss in losses.items() if not loss.watched})
    dead = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert not dead
    for loss, first in course[0].items():
        assert course[-1][loss] < first or first == 0, loss  # a loss of no weight teaches nothing


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_tells_its_training_studies_better_than_their_share_does(name, phantom):
    size = ["inputs.image.size=64"] * (read_recipe(name).inputs.image is not None)
    recipe = read_recipe(name, [*size, "targets=[outcome]"])
    rows = phantom.rows("train")
    plan, recipe, _ = fit_plan(recipe, [phantom], [rows])
    model = build_model(recipe, plan, 0, 0).eval()
    text = recipe.inputs.text
    loader = Loader([phantom], plan, build_tokenizer(text, Tokenizer.train([])) if text else None)
    batch = loader.batch(rows)
    model.fit([batch], loader.patient_ids[rows], seed=0)
    nothing = batch.keep({m: torch.zeros(len(rows), dtype=torch.bool) for m in model.modalities})
    head = TargetsHead(recipe, plan)
    own, share = (head.losses(model(b), batch)["outcome_loss"].value for b in (batch, nothing))
    assert own < share - 0.02
    assert set(model.modalities) == {m for m, options in recipe.inputs if options}
