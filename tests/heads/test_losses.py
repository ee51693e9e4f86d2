"""The total loss by hand: each part once, times its weight, and none that the recipe switched off."""

import math

import pytest
import torch

from chiasm.encoding.plan import Plan
from chiasm.heads.targets import TargetsHead
from chiasm.recipe import read_recipe
from chiasm.run.model import build_heads
from chiasm.study import Kind
from chiasm.tensors import Batch, Fused, Outputs

KINDS = {"findings": Kind.BINARY, "severity": Kind.REGRESSION}
ALONE = ("heads.localization=null", "heads.description=null")
BOTH = ("targets=[findings, severity]", *ALONE)


def compute_losses(outputs, batch, recipe) -> dict[str, float]:
    targets = dict.fromkeys(recipe.targets, ("a",))
    plan = Plan(None, {}, {}, (), 0, (), 0, targets, KINDS, {}, {}, (("findings", "a"),), None)
    heads = [TargetsHead(recipe, plan), *build_heads(recipe, plan).values()]
    return {name: float(loss.value) for head in heads for name, loss in head.losses(outputs, batch).items()}


@pytest.fixture
def batch() -> Batch:
    return Batch(
        torch.arange(2),
        labels={"findings": torch.tensor([[1.0], [0.0]]), "severity": torch.tensor([[2.0], [9.0]])},
        label_mask={"findings": torch.ones(2, 1, dtype=torch.bool), "severity": torch.tensor([[True], [False]])},
        lesion_mask=torch.tensor([[[[[1.0, 0.0]]]], [[[[0.0, 0.0]]]]]),
        lesion_label_mask=torch.tensor([[[True]], [[False]]]),
        description_ids=torch.tensor([[1, 3, 2], [1, 2, 0]]),
        description_mask=torch.tensor([[True, True, True], [True, True, False]]),
    )


@pytest.fixture
def outputs() -> Outputs:
    return Outputs(
        {"findings": torch.zeros(2, 1), "severity": torch.tensor([[1.6], [0.0]])},
        Fused(torch.zeros(2, 4), {}, {}),
        heads={
            "localization": {
                "map_logits": torch.zeros(2, 1, 1, 1, 2),
                "label_logits": torch.tensor([[5.0], [1.0]]),
            },
            "description": {"logits": torch.zeros(3, 5)},
        },
        present={m: torch.ones(2, dtype=torch.bool) for m in ("image", "text", "record")},
    )


def test_each_target_counts_with_its_weight(outputs, batch):
    recipe = read_recipe("report-fusion", [*BOTH, "targets.findings.weight=3", "targets.severity.weight=0.5"])
    losses = compute_losses(outputs, batch, recipe)
    assert losses == pytest.approx(
        {"findings_loss": 3 * math.log(2), "severity_loss": 0.5 * 0.4**2 / 2}  # Huber of .4; the other is not known
    )


def test_heads_count_with_their_weight_where_the_recipe_has_them(outputs, batch):
    def parts(*overrides: str) -> dict[str, float]:
        recipe = read_recipe("report-fusion", ["targets=[findings]", *overrides])
        return compute_losses(outputs, batch, recipe)

    plain = parts("heads.localization.weight=1", "heads.description.weight=1")
    assert set(plain) == {"findings_loss", "localization_loss", "map_label_loss", "description_loss"}
    assert plain["map_label_loss"] == pytest.approx(math.log(1 + math.e))  # a reader drew in the other one
    every = parts("heads.localization.weight=0")["map_label_loss"]  # regions do not count, so the label teaches both
    assert every == pytest.approx((math.log(1 + math.e) + math.log(1 + math.exp(-5))) / 2)
    assert plain["description_loss"] == pytest.approx(math.log(5))  # three words to come, each one of five
    weighted = parts(
        "heads.localization.weight=0.25", "heads.localization.label_weight=3", "heads.description.weight=2"
    )
    assert weighted == pytest.approx(
        {
            "findings_loss": plain["findings_loss"],
            "localization_loss": plain["localization_loss"] / 4,
            "map_label_loss": plain["map_label_loss"] * 3,
            "description_loss": 2 * plain["description_loss"],
        }
    )
    assert set(parts(*ALONE)) == {"findings_loss"}
