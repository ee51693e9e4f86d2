"""The whole model: what may not matter does not matter."""

from dataclasses import replace

import pytest
import torch

from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.recipe import read_recipe
from chiasm.report.tokenizer import Tokenizer
from chiasm.run.model import build_model

FAMILIES = ("co-attention", "late-stacked", "early", "daft", "vision-conditioned")


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, phantom, small):
    recipe = read_recipe("report-fusion", [*small, f"fusion.name={request.param}", "train.unimodal_weight=1.0"])
    rows = phantom.rows("train")
    plan, recipe, _ = fit_plan(recipe, [phantom], [rows])
    tokenizer = Tokenizer.train(phantom.texts(plan.text_sections) + phantom.texts(plan.description_sections))
    torch.manual_seed(0)
    model = build_model(recipe, plan, len(tokenizer), len(tokenizer)).eval()
    return model, Loader([phantom], plan, tokenizer).batch(rows[:12])


def _change_report(batch):
    ids = torch.randint(4, 60, batch.token_ids.shape, generator=torch.Generator().manual_seed(3))
    return replace(batch, token_ids=ids, token_mask=torch.ones_like(batch.token_mask))


def test_changing_the_report_changes_no_logit_of_the_description(made):
    model, batch = made
    with torch.no_grad():  # answers begin with the prevalence, whatever is shown
        for parameter in model.targets.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before, after = model(batch), model(_change_report(batch))
    assert not torch.allclose(before.logits["findings"], after.logits["findings"])
    assert torch.equal(before.heads["description"]["logits"], after.heads["description"]["logits"])
    told = [model.answer(model.encode(each), each, ["description"]) for each in (batch, _change_report(batch))]
    a, b = (outputs.heads["description"]["ids"] for outputs in told)
    assert torch.equal(a, b)


def test_a_study_is_described_as_if_no_study_of_the_batch_had_a_report(made):
    model, batch = made
    without = batch.keep({"text": torch.zeros(len(batch), dtype=torch.bool)})
    assert torch.allclose(*(model(b).heads["description"]["logits"] for b in (batch, without)), atol=1e-5)


def test_only_what_teaches_a_description_is_fused_twice(made, monkeypatch):
    """Studies with a description and a report that it must not see."""
    model, batch = made
    sizes, real = [], model.fusion.forward
    monkeypatch.setattr(model.fusion, "forward", lambda t: sizes.append(len(t["image"].mask)) or real(t))
    told = batch.description_mask[:, 1:].any(dim=1)
    told[0] = False
    batch = replace(batch, description_mask=batch.description_mask & told[:, None])
    again = int((told & batch.token_mask.any(dim=1)).sum())
    assert 0 < again < len(batch) - 1
    assert len(model(batch).heads["description"]["logits"]) == int(batch.description_mask[:, 1:].sum())
    model(batch.keep({"text": torch.zeros(len(batch), dtype=torch.bool)}))
    assert sizes == [len(batch), again, len(batch)]


def test_changing_the_report_changes_no_map(made):
    model, batch = made
    assert torch.equal(*(model(b).heads["localization"]["map_logits"] for b in (batch, _change_report(batch))))


@pytest.mark.parametrize("absent", ["image", "text", "record"])
def test_what_an_absent_modality_holds_changes_no_output(made, absent):
    model, batch = made
    hidden = batch.keep({absent: torch.zeros(len(batch), dtype=torch.bool)})
    changed = replace(
        hidden,
        images=255 - hidden.images,
        token_ids=hidden.token_ids.flip(1),
        record_values=hidden.record_values + 5,
    )
    if absent != "image":
        changed = replace(changed, images=hidden.images)
    if absent != "text":
        changed = replace(changed, token_ids=hidden.token_ids)
    if absent != "record":
        changed = replace(changed, record_values=hidden.record_values)
    a, b = model(hidden), model(changed)
    assert torch.isfinite(a.logits["outcome"]).all()
    for target in a.logits:
        assert torch.equal(a.logits[target], b.logits[target])
    assert torch.equal(a.heads["description"]["logits"], b.heads["description"]["logits"])


def test_a_study_is_answered_alike_in_any_company(made):
    model, batch = made
    several = model(batch).logits["outcome"]
    fewer = {name: value[2:5] if isinstance(value, torch.Tensor) else value for name, value in vars(batch).items()}
    fewer["labels"] = fewer["label_mask"] = {}
    assert torch.allclose(several[2:5], model(type(batch)(**fewer)).logits["outcome"], atol=1e-5)


def test_the_evidence_of_the_maps_is_the_images_own(made):
    """The logit of a localized label moves with its map, in the answer and in the image's alone, and in no other."""
    model, batch = made
    model.targets.watch()
    with torch.no_grad():
        before = model(batch)
        model.heads["localization"].net[-1].bias += 1.0
        after = model(batch)
        model.heads["localization"].net[-1].bias -= 1.0
    moved = {m: (after.unimodal_logits[m]["findings"] - x["findings"]) for m, x in before.unimodal_logits.items()}
    has_image = batch.image_mask.any(dim=1)
    assert torch.allclose(moved["image"][has_image], torch.ones(()), atol=1e-5)
    assert (moved["image"][~has_image] == 0).all()
    assert (moved["text"] == 0).all()
    answer = after.logits["findings"] - before.logits["findings"]
    assert (answer[has_image] > 0.1).all()
    assert (answer[~has_image] == 0).all()
    assert torch.equal(after.logits["outcome"], before.logits["outcome"])
