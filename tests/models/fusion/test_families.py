"""Each family against its formula, computed slowly by hand."""

import math

import pytest
import torch

from chiasm.models.fusion.daft import DAFT
from chiasm.models.fusion.early import Early
from chiasm.models.fusion.experts import Experts
from chiasm.models.fusion.film import FiLM
from chiasm.models.fusion.gated import Gated
from chiasm.models.fusion.late import LateHeads
from chiasm.models.fusion.low_rank import LowRank
from chiasm.models.fusion.sequential import Sequential
from chiasm.models.fusion.vectors import mean_token
from chiasm.models.fusion.vision_conditioned import VisionConditioned
from chiasm.tensors import MODALITIES, Tokens

DIM = 8


def _make(family, modalities=MODALITIES):
    torch.manual_seed(0)
    fusion = family(modalities, DIM, 2, 0.0).double().eval()
    for parameter in fusion.parameters():  # what starts at zero would hide a mistake
        if parameter.ndim == 2 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.5)
    return fusion


def _tokens(absent=None, modalities=MODALITIES):
    """One study."""
    torch.manual_seed(1)
    tokens = {}
    for m, n in (("image", 4), ("text", 3), ("record", 2)):
        values = torch.randn(1, n, DIM, dtype=torch.float64)
        tokens[m] = Tokens(values, torch.full((1, n), m != absent), (2, 2) if m == "image" else ())
    return {m: tokens[m] for m in modalities}


def _logits():
    """Two studies, two labels: modality -> target -> [B, L]; the second study has no text."""
    values = {
        "image": [[1.0, -2.0], [0.5, 3.0]],
        "text": [[4.0, 1.0], [99.0, 99.0]],
        "record": [[-2.0, 0.5], [1.5, -1.0]],
    }
    present = torch.tensor([[True, True, True], [True, False, True]])
    return {m: {"outcome": torch.tensor(x)} for m, x in values.items()}, present


def test_the_mean_token_is_that_of_the_real_ones():
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]], [[7.0, 7.0], [99.0, 99.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_token(Tokens(values, mask)).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_late_mean_is_the_mean_of_the_logits_of_the_modalities_that_are_there():
    heads = LateHeads({"outcome": 2}, MODALITIES, "mean")
    found = heads(*_logits())["outcome"]
    assert torch.allclose(found, torch.tensor([[1.0, -0.5 / 3], [1.0, 1.0]]))
    nothing = heads(_logits()[0], torch.zeros(2, 3, dtype=torch.bool))["outcome"]
    assert torch.equal(nothing, torch.zeros(2, 2))


def test_late_weights_are_a_softmax_over_the_modalities_that_are_there():
    heads = LateHeads({"outcome": 2}, MODALITIES, "weighted")
    heads.weight["outcome"].data = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
    found = heads(*_logits())["outcome"]
    by_hand = [[(1 + 2 * 4 - 5 * 2) / 8, (-2 + 2 * 1 + 5 * 0.5) / 8], [(0.5 + 5 * 1.5) / 6, (3 - 5 * 1) / 6]]
    assert torch.allclose(found, torch.tensor(by_hand))


def test_stacking_is_linear_in_the_logits_and_in_which_modalities_are_there():
    heads = LateHeads({"outcome": 2}, MODALITIES, "stacked")
    heads.weight["outcome"].data = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    heads.shift["outcome"].data = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    heads.bias["outcome"].data = torch.tensor([10.0, 20.0])
    found = heads(*_logits())["outcome"]
    by_hand = [[1 + 12 - 10 + 0.9 + 10, -4 + 4 + 3 + 1.2 + 20], [0.5 + 7.5 + 0.6 + 10, 6 - 6 + 0.8 + 20]]
    assert torch.allclose(found, torch.tensor(by_hand))


def test_late_combination_teaches_no_modality():
    heads = LateHeads({"outcome": 2}, MODALITIES, "stacked")
    logits, present = _logits()
    for m in logits:
        logits[m]["outcome"].requires_grad_(True)
    heads(logits, present)["outcome"].sum().backward()
    assert all(logits[m]["outcome"].grad is None for m in logits)


@pytest.mark.parametrize("absent", [None, *MODALITIES])
def test_a_gated_unit_is_the_gate_times_the_candidate_of_each_modality(absent):
    fusion, tokens = _make(Gated), _tokens(absent)
    x = fusion.vectors(tokens)
    joined = torch.cat([x[m] for m in MODALITIES], dim=1)
    by_hand = 0
    for m in MODALITIES:
        if m != absent:
            h = torch.tanh(x[m] @ fusion.content[m].weight.T + fusion.content[m].bias)
            z = 1 / (1 + torch.exp(-(joined @ fusion.gate[m].weight.T + fusion.gate[m].bias)))
            by_hand = by_hand + z * h
    assert torch.allclose(fusion(tokens).vector, by_hand, atol=1e-12)


def test_low_rank_fusion_is_the_outer_product_under_its_full_weight():
    fusion, tokens = _make(LowRank), _tokens("text")
    x = {m: torch.cat([v[0], v.new_ones(1)]) for m, v in fusion.vectors(tokens).items()}
    outer = torch.einsum("i,j,k->ijk", *(x[m] for m in MODALITIES))
    weight = torch.einsum("r,rio,rjo,rko->ijko", fusion.mix, *(fusion.factors[m] for m in MODALITIES))
    by_hand = torch.einsum("ijk,ijko->o", outer, weight) + fusion.bias
    assert torch.allclose(fusion(tokens).vector[0], by_hand, atol=1e-12)


def test_film_scales_and_shifts_each_channel_by_the_record_alone():
    fusion, tokens = _make(FiLM), _tokens()
    record = torch.nn.functional.layer_norm(tokens["record"].values.mean(dim=1), (DIM,))
    first, _, second = fusion.condition
    out = torch.relu(record @ first.weight.T) @ second.weight.T
    by_hand = (1 + out[:, None, :DIM]) * tokens["image"].values + out[:, None, DIM:]
    assert first.weight.shape == (7, DIM)
    assert torch.allclose(fusion(tokens).tokens["image"].values, by_hand, atol=1e-12)


def test_daft_conditions_on_the_pooled_image_and_the_record():
    fusion, tokens = _make(DAFT, ("image", "record")), _tokens(modalities=("image", "record"))
    record = torch.nn.functional.layer_norm(tokens["record"].values.mean(dim=1), (DIM,))
    both = torch.cat([tokens["image"].values.mean(dim=1), record], dim=1)
    first, _, second = fusion.condition
    out = torch.relu(both @ first.weight.T) @ second.weight.T
    by_hand = (1 + out[:, None, :DIM]) * tokens["image"].values + out[:, None, DIM:]
    assert torch.allclose(fusion(tokens).tokens["image"].values, by_hand, atol=1e-12)


@pytest.mark.parametrize("family", [FiLM, DAFT])
def test_without_a_record_the_image_stays_as_it_is(family):
    fusion, tokens = _make(family), _tokens("record")
    assert torch.equal(fusion(tokens).tokens["image"].values, tokens["image"].values)


@pytest.mark.parametrize("absent", [None, *MODALITIES])
def test_the_sequence_holds_what_a_study_has(absent):
    fusion, tokens = _make(Sequential), _tokens(absent)
    x = fusion.vectors(tokens)
    steps = [x[m] if m == "record" else fusion.project[m](x[m]) for m in ("record", "image", "text") if m != absent]
    lstm = torch.nn.LSTM(DIM, DIM, batch_first=True).double()
    lstm.load_state_dict({f"{name}_l0": value for name, value in fusion.cell.state_dict().items()})
    _, (last, _) = lstm(torch.stack(steps, dim=1))
    assert torch.allclose(fusion(tokens).vector, last[0], atol=1e-12)


@pytest.mark.parametrize("absent", [None, *MODALITIES])
def test_the_product_of_experts_is_the_product_of_their_densities(absent):
    """The mean of prod_m N(z; mu_m, 1 / T_m) N(z; 0, 1), integrated on a fine line in one coordinate."""
    fusion, tokens = _make(Experts).requires_grad_(False), _tokens(absent)
    x, z = fusion.vectors(tokens), torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    log_density = -0.5 * z**2
    for m in MODALITIES:
        if m != absent:
            mean, precision = fusion.mean[m](x[m])[0, 0], fusion.log_precision[m](x[m]).exp()[0, 0]
            log_density = log_density - 0.5 * precision * (z - mean) ** 2
    density = (log_density - log_density.max()).exp()
    assert abs(float(fusion(tokens).vector[0, 0]) - float((z * density).sum() / density.sum())) < 1e-9


def test_of_nothing_the_experts_answer_the_prior():
    fusion, tokens = _make(Experts), _tokens()
    for t in tokens.values():
        t.mask[:] = False
    assert torch.equal(fusion(tokens).vector, torch.zeros(1, DIM, dtype=torch.float64))


def test_early_fusion_is_attention_among_the_tokens_that_are_there():
    """The vector of a study that lacks the report is that of a Transformer over its other tokens alone."""
    fusion, tokens = _make(Early), _tokens("text")
    kinds = dict(zip(MODALITIES, fusion.kind, strict=True))
    rest = [fusion.norm(tokens[m].values) + kinds[m] for m in ("image", "record")]
    x = torch.cat([fusion.start, *rest], dim=1)
    for layer in fusion.transformer.layers:
        y = layer.norm1(x)
        q, k, v = (y @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, dim=-1)
        looked = []
        for h in range(2):
            part = slice(h * DIM // 2, (h + 1) * DIM // 2)
            weights = (q[..., part] @ k[..., part].mT / math.sqrt(DIM / 2)).softmax(dim=-1)
            looked.append(weights @ v[..., part])
        x = x + layer.self_attn.out_proj(torch.cat(looked, dim=-1))
        x = x + layer.linear2(torch.nn.functional.gelu(layer.linear1(layer.norm2(x))))
    assert torch.allclose(fusion(tokens).vector, fusion.transformer.norm(x)[:, 0], atol=1e-10)


def test_the_text_is_read_under_the_prior_of_the_image():
    fusion, tokens = _make(VisionConditioned, ("image", "text")), _tokens(modalities=("image", "text"))
    read = {}
    fusion.cross_attention["text"].register_forward_pre_hook(
        lambda _, args: read.update(text=args[0].values, keys=args[1][0].values)
    )
    fusion.cross_attention["image"].register_forward_pre_hook(lambda _, args: read.update(image_keys=args[1][0].values))
    fused = fusion(tokens)
    v = torch.nn.functional.layer_norm(tokens["image"].values.mean(dim=1), (DIM,))
    delta, beta = fusion.prior(v).chunk(2, dim=1)
    by_hand = (1 + delta) * torch.nn.functional.layer_norm(tokens["text"].values, (DIM,)) + beta
    assert torch.allclose(read["text"], by_hand, atol=1e-12)
    assert torch.equal(read["image_keys"], read["text"])
    assert torch.equal(read["keys"], tokens["image"].values)
    x = fused.vectors
    for m, gain in fusion.gain.items():
        assert torch.allclose(x[m], gain * fused.tokens[m].values.sum(dim=1) / tokens[m].mask.sum(), atol=1e-12)
    assert torch.allclose(fused.vector, fusion.join(torch.cat([x["image"], x["text"]], dim=1)), atol=1e-12)


def test_the_record_comes_in_through_a_gate_and_without_it_the_pair_stands():
    fusion = _make(VisionConditioned)
    with_record, without = fusion(_tokens()), fusion(_tokens("record"))
    x = without.vectors
    pair = fusion.join(torch.cat([x["image"], x["text"]], dim=1))
    assert torch.allclose(without.vector, pair, atol=1e-12)
    record = _tokens()["record"]
    answer = fusion.ask(Tokens(pair[:, None], record.mask[:, :1]), [record]).values[:, 0]
    gate = torch.sigmoid(fusion.gate(torch.cat([pair, answer], dim=1)))
    assert torch.allclose(with_record.vector, pair + gate * answer, atol=1e-12)


def test_before_the_first_step_no_modality_has_changed_another():
    fusion, tokens = VisionConditioned(MODALITIES, DIM, 2, 0.0).double().eval(), _tokens()
    x = fusion(tokens).vectors
    read = torch.nn.functional.layer_norm(tokens["text"].values, (DIM,)).mean(dim=1)
    assert torch.allclose(x["image"], 3 * tokens["image"].values.mean(dim=1), atol=1e-12)
    assert torch.allclose(x["text"], 3 * read, atol=1e-12)


def test_without_an_image_the_text_is_only_normalized():
    fusion = _make(VisionConditioned, ("image", "text"))
    read = {}
    fusion.cross_attention["text"].register_forward_pre_hook(lambda _, args: read.update(text=args[0].values))
    tokens = _tokens("image", ("image", "text"))
    fusion(tokens)
    by_hand = torch.nn.functional.layer_norm(tokens["text"].values, (DIM,))
    assert torch.allclose(read["text"], by_hand, atol=1e-12)


@pytest.mark.parametrize("rule", ["mean", "weighted", "stacked"])
def test_a_combination_of_answers_learns_without_them_and_still_says_where_it_looks(rule):
    """In training no gradient reaches the answers; asked what it looked at, a model has one in its images."""
    heads = LateHeads({"outcome": 1}, ("image", "text"), rule)
    answers = {m: {"outcome": torch.ones(2, 1, requires_grad=True)} for m in ("image", "text")}
    present = torch.ones(2, 2, dtype=torch.bool)
    said = heads.train()(answers, present)["outcome"].sum()
    assert (
        not said.requires_grad or torch.autograd.grad(said, answers["image"]["outcome"], allow_unused=True)[0] is None
    )
    (gradient,) = torch.autograd.grad(heads.eval()(answers, present)["outcome"].sum(), answers["image"]["outcome"])
    assert (gradient > 0).all()
