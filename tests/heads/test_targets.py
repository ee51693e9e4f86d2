"""Findings, outcomes and scores: levels, evidence, and what each modality says alone."""

import math

import pytest
import torch

from chiasm.encoding.levels import NEVER
from chiasm.encoding.plan import Plan
from chiasm.heads.head import Shape
from chiasm.heads.targets import Levels, TargetLayers, TargetsHead, Terms, UnimodalHeads
from chiasm.recipe import parse_recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Fused, Outputs, Tokens


@pytest.mark.parametrize("teach", [0.0, 0.25, 1.0])
def test_the_heads_of_single_modalities_learn_whole_and_teach_the_encoders_a_share(teach):
    grads = []
    for share in (teach, 1.0):
        torch.manual_seed(0)
        heads = UnimodalHeads(8, {"findings": 3, "outcome": 1}, ("image", "record"), share)
        tokens = {m: Tokens(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)) for m in ("image", "record")}
        maps = torch.randn(2, 3, requires_grad=True)
        for t in tokens.values():
            t.values.requires_grad_(True)
        logits = heads(tokens, {"image": {"findings": maps}})
        sum(x.square().sum() for each in logits.values() for x in each.values()).backward()
        assert all(p.grad.abs().sum() > 0 for p in heads.parameters())
        own = [p.grad for p in heads.parameters()]
        grads.append((own, [x.grad for x in (maps, *(t.values for t in tokens.values()))]))
    (own, reached), (own_whole, whole) = grads
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(own, own_whole, strict=True))
    if not teach:
        assert all(x is None for x in reached)
    else:
        assert all(torch.allclose(a, teach * b, atol=1e-5) for a, b in zip(reached, whole, strict=True))


def test_each_modality_answers_from_its_own_tokens_alone():
    torch.manual_seed(0)
    heads = UnimodalHeads(8, {"outcome": 1}, ("image", "record"), 0.0)
    tokens = {m: Tokens(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)) for m in ("image", "record")}
    before = heads(tokens, {})
    after = heads({**tokens, "image": Tokens(tokens["image"].values + 1, tokens["image"].mask)}, {})
    assert torch.equal(before["record"]["outcome"], after["record"]["outcome"])
    assert not torch.allclose(before["image"]["outcome"], after["image"]["outcome"])


def test_the_terms_of_columns_add_up_over_what_was_observed_and_begin_at_nothing():
    terms, tokens = Terms(8, {"outcome": 1}, many=False), torch.randn(3, 4, 8)
    everything = torch.ones(3, 4, dtype=torch.bool)
    assert not terms(Tokens(tokens, everything))["outcome"].any()
    torch.nn.init.normal_(terms.terms["outcome"].weight)
    alone = [terms(Tokens(tokens, torch.arange(4).eq(k).expand(3, 4)))["outcome"] for k in range(4)]
    assert torch.allclose(sum(alone), terms(Tokens(tokens, everything))["outcome"], atol=1e-5)
    assert not terms(Tokens(tokens, ~everything))["outcome"].any(), "a hidden record adds nothing"
    many = Terms(8, {"outcome": 1}, many=True)
    many.load_state_dict(terms.state_dict())
    half = torch.arange(4).lt(2).expand(3, 4)
    expected = terms(Tokens(tokens, half))["outcome"] / 2**0.5
    assert torch.allclose(many(Tokens(tokens, half))["outcome"], expected)


def test_before_the_first_step_the_answer_is_the_prevalence():
    plan = Plan(
        None, {"x": (0.0, 1.0)}, {}, (), 0, (), 0, {"t": ("a", "b")}, {"t": Kind.BINARY}, {}, {}, (), None,
        prevalence={"t": (0.2, 0.9)},
    )  # fmt: skip
    layers = TargetLayers(plan, Shape(8, 2, 0.0, ("record",), 0), None, 0.0)
    tokens = {"record": Tokens(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool))}
    vectors = {"record": torch.randn(3, 8)}
    logits, _ = layers(tokens, Fused(vectors["record"], vectors, tokens), {})
    assert torch.allclose(logits["t"].sigmoid(), torch.tensor([0.2, 0.9]).expand(3, 2))


def plan_of(kind: Kind, rates: tuple[tuple[float, ...], ...]) -> Plan:
    levels = tuple(tuple(map(float, range(len(own)))) for own in rates)
    labels = tuple("abc"[: len(rates)])
    return Plan(None, {}, {}, (), 0, (), 0, {"t": labels}, {"t": kind}, {}, {}, (), None, levels={"t": levels}, rates={"t": rates})  # fmt: skip


def test_an_ordinal_head_is_mccullaghs_proportional_odds():
    heads = Levels(plan_of(Kind.ORDINAL, ((0.2, 0.5, 0.2, 0.1),))).double()
    assert heads.size("t") == 1
    x = torch.tensor([[0.0], [1.5], [-40.0]], dtype=torch.float64)
    log_p = heads({"t": x})["t"]
    # without evidence the shares of training; evidence shifts every cumulative logit alike
    torch.testing.assert_close(
        log_p[0].exp(), torch.tensor([[0.2, 0.5, 0.2, 0.1]], dtype=torch.float64), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(log_p.exp().sum(dim=2), torch.ones(3, 1, dtype=torch.float64))
    above = log_p.exp().flip(2).cumsum(2).flip(2)[..., 1:]  # P(y > level)
    torch.testing.assert_close(above.logit()[1] - above.logit()[0], torch.full((1, 3), 1.5, dtype=torch.float64))
    assert torch.isfinite(log_p).all(), "forty logits away the digits are still there"
    assert abs(float(log_p[2, 0, 3].detach()) - (-40 + math.log(0.1 / 0.9))) < 1e-4


def test_labels_with_fewer_levels_never_say_what_they_do_not_have():
    shares = ((0.3, 0.3, 0.4), (0.25, 0.75))
    for kind in (Kind.ORDINAL, Kind.MULTICLASS, Kind.SURVIVAL):
        heads = Levels(plan_of(kind, shares))
        x = torch.zeros(2, heads.size("t"), requires_grad=True)
        logits = heads({"t": x})["t"]
        assert logits.shape == (2, 2, 3)
        assert (logits[:, 1, 2] == NEVER).all()
        said = logits.sigmoid() if kind is Kind.SURVIVAL else logits.softmax(dim=2)
        torch.testing.assert_close(said[0, 0], torch.tensor(shares[0]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(said[0, 1, :2], torch.tensor(shares[1]), rtol=1e-4, atol=1e-5)
        said[..., 0].sum().backward()
        assert torch.isfinite(x.grad).all()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in heads.parameters())


def test_what_is_only_watched_does_not_move_the_start():
    heads = Levels(plan_of(Kind.ORDINAL, ((0.3, 0.3, 0.4),)))
    heads({"t": torch.zeros(1, 1, requires_grad=True)}, watched=True)["t"][..., 0].sum().backward()
    assert all(p.grad is None for p in heads.parameters())


def test_a_modality_is_scored_over_the_known_labels_of_the_studies_that_have_it():
    logits = {"image": {"outcome": torch.tensor([[2.0], [0.0], [-1.0]])}, "text": {"outcome": torch.zeros(3, 1)}}
    outputs = Outputs(
        {},
        Fused(torch.zeros(3, 4), {}, {}),
        unimodal_logits=logits,
        present={"image": torch.tensor([True, False, True]), "text": torch.tensor([False, False, False])},
    )
    batch = Batch(
        torch.arange(3),
        labels={"outcome": torch.tensor([[1.0], [1.0], [1.0]])},
        label_mask={"outcome": torch.tensor([[True], [True], [True]])},
    )
    recipe = parse_recipe({"name": "x", "targets": {"outcome": {"weight": 3}}}, "here")
    plan = Plan(None, {}, {}, (), 0, (), 0, {"outcome": ("outcome",)}, {"outcome": Kind.BINARY}, {}, {}, (), None)
    outputs.logits["outcome"] = torch.zeros(3, 1)
    losses = {name: loss.value for name, loss in TargetsHead(recipe, plan).losses(outputs, batch).items()}
    by_hand = 3 * (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    assert abs(float(losses["outcome_from_image_loss"]) - by_hand) < 1e-6
    assert float(losses["outcome_from_text_loss"]) == 0
