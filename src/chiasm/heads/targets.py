"""Targets: findings, outcomes and scores, from the evidence of every modality and of their union. Logits only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.encoding.levels import NEVER
from chiasm.encoding.plan import Plan
from chiasm.heads.head import Loss, Shape
from chiasm.models.fusion.late import LateHeads, Rule
from chiasm.models.text.encoder import AttentionPool
from chiasm.objectives.outcome import known, target_loss
from chiasm.recipe import Recipe
from chiasm.study import Kind
from chiasm.tensors import Batch, Fused, Outputs, Tokens


class TargetLayers(nn.Module):
    """{modality: Tokens}, Fused and evidence of other heads -> logits of every target, and those of each modality alone.

    Args:
        rule: how late fusion combines what each modality says alone; None where modalities are fused before.
        teach: share of the gradient of answers of single modalities that reaches the encoders.

    Attributes:
        unimodal: heads of each modality alone, where fusion is late or the model is watched.
    """

    def __init__(self, plan: Plan, shape: Shape, rule: Rule | None, teach: float) -> None:
        super().__init__()
        self.levels = Levels(plan)
        self.sizes = {name: self.levels.size(name) for name in plan.targets}  # numbers of evidence on each target
        self.shape, self.teach = shape, teach
        self.unimodal: UnimodalHeads | None = None
        self.joint: FusedHeads | LateHeads
        if rule is not None:
            self.watch()
            self.joint = LateHeads(self.sizes, shape.modalities, rule)
        else:
            self.joint = FusedHeads(shape.dim, self.sizes, shape.modalities, shape.dropout)
            self._start(plan)
        self.terms = nn.ModuleDict({m: Terms(shape.dim, self.sizes, m != "record") for m in shape.modalities})

    def _start(self, plan: Plan) -> None:
        """Begin with what training says of a patient of whom nothing is known; of leveled targets `levels` does."""
        assert isinstance(self.joint, FusedHeads)
        for name, head in self.joint.heads.items():
            last = cast(nn.Linear, cast(nn.Sequential, head)[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if name in plan.prevalence:
                last.bias.data += torch.tensor(plan.prevalence[name]).clamp(1e-3, 1 - 1e-3).logit()
            for own in cast(nn.ModuleDict, self.joint.own[name]).values():
                nn.init.zeros_(cast(nn.Linear, own).weight)

    def watch(self) -> None:
        """Let each modality answer alone as well: for monitoring and balance, for as long as training lasts."""
        if self.unimodal is None:
            self.unimodal = UnimodalHeads(self.shape.dim, self.sizes, self.shape.modalities, self.teach)

    def forward(
        self, tokens: dict[str, Tokens], fused: Fused, evidence: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """-> target -> logits, and modality -> target -> logits. `evidence`: target -> [B, L], what the image's maps say."""
        own: dict[str, dict[str, Tensor]] = {m: terms(tokens[m]) for m, terms in self.terms.items()}
        if evidence:
            own["image"] |= {name: own["image"][name] + x for name, x in evidence.items()}
        unimodal = self.unimodal(tokens, own) if self.unimodal is not None else {}
        if isinstance(self.joint, LateHeads):
            logits = self.joint(unimodal, torch.stack([t.mask.any(dim=1) for t in tokens.values()], dim=1))
        else:
            logits = self.joint(fused)
            for each in own.values():
                logits |= {name: logits[name] + x for name, x in each.items()}
        return self.levels(logits), {m: self.levels(x, watched=True) for m, x in unimodal.items()}


class TargetsHead:
    """The head that every recipe with targets has; its options are `targets`, its state is the plan's."""

    name = "targets"

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self.recipe, self.plan = recipe, plan

    def build(self, shape: Shape, rule: Rule | None) -> TargetLayers:
        return TargetLayers(self.plan, shape, rule, self.recipe.train.unimodal_weight)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """`TARGET_loss`, and `TARGET_from_MODALITY_loss` of a watched model or a late one; weights applied."""
        losses = {}
        for name, target in self.recipe.targets.items():
            mask = batch.label_mask[name]
            loss = target_loss(outputs.logits[name], batch.labels[name], mask, self.plan.kinds[name])
            losses[f"{name}_loss"] = Loss(target.weight * loss, mask.sum())
        for m, logits in outputs.unimodal_logits.items():
            for name, values in logits.items():
                mask = known(outputs, batch, m, name)
                loss = target_loss(values, batch.labels[name], mask, self.plan.kinds[name])
                weighted = self.recipe.targets[name].weight * loss
                losses[f"{name}_from_{m}_loss"] = Loss(weighted, mask.sum(), judges=False, watched=True)
        return losses


class FusedHeads(nn.Module):
    """Logits of each target: the evidence of every modality, and what only their union says.

    Log-odds of independent evidence add up, so each present modality adds a linear term of its own; a hidden layer on the
    fused vector adds what depends on several. A gate is an average and cannot say how much was there to average: which
    modalities are present stands beside the vector.
    """

    def __init__(self, dim: int, targets: dict[str, int], modalities: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.own = nn.ModuleDict(
            {
                name: nn.ModuleDict({m: nn.Linear(dim, labels, bias=False) for m in modalities})
                for name, labels in targets.items()
            }
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(dim + len(modalities), dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, labels)
                )
                for name, labels in targets.items()
            }
        )

    def forward(self, fused: Fused) -> dict[str, Tensor]:
        present = torch.stack([t.mask.any(dim=1) for t in fused.tokens.values()], dim=1).to(fused.vector.dtype)
        x = torch.cat([fused.vector, present], dim=1)
        logits = {}
        for name, head in self.heads.items():
            own = cast(nn.ModuleDict, self.own[name])
            # an absent modality's vector is zeros, and a linear map without bias leaves them so
            logits[name] = head(x) + sum(own[m](vector) for m, vector in fused.vectors.items())
        return logits


class Terms(nn.Module):
    """What each token of a modality says by itself, added up: a curve for each column, a step for each word in its place.

    Where parts of the evidence are independent given the answer, their log-odds add up, and what adds up is learned from a few
    hundred patients; attention and the gate, which average, must first find where to look. It begins at nothing.

    Args:
        many: the sum over n tokens is divided by the root of n, for words and cells of an image are many; columns are few, and
            one that is missing must not make the others louder.
    """

    def __init__(self, dim: int, targets: dict[str, int], many: bool) -> None:
        super().__init__()
        self.many = many
        self.terms = nn.ModuleDict({name: nn.Linear(dim, labels, bias=False) for name, labels in targets.items()})
        for term in self.terms.values():
            nn.init.zeros_(cast(nn.Linear, term).weight)

    def forward(self, tokens: Tokens) -> dict[str, Tensor]:
        """[B, T, D] -> target -> [B, L]."""
        total = tokens.values.masked_fill(~tokens.mask[..., None], 0.0).sum(dim=1)
        if self.many:
            total = total / tokens.mask.sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype).sqrt()
        return {name: term(total) for name, term in self.terms.items()}


class Levels(nn.Module):
    """From the evidence on each target to the logits of its answers; what training says without any input is the start.

    multiclass  log-shares + evidence, [B, L Q] -> [B, L, Q]
    survival    log-odds of the hazards + evidence, [B, L Q] -> [B, L, Q]
    ordinal     P(y > level q) = sigmoid(evidence + theta_q), theta falling with q (proportional odds, McCullagh 1980): one
                number a label, [B, L] -> log-probabilities [B, L, Q]
    others      as they are, [B, L]
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.kinds = {target: plan.kinds[target] for target in plan.levels}
        self.shapes = {target: plan.shape(target) for target in plan.targets}
        self.start, self.gaps = nn.ParameterDict(), nn.ParameterDict()
        for target, labels in plan.rates.items():
            count, width = self.shapes[target]
            rates = torch.ones(count, width)  # a share of what is not there
            real = torch.zeros(count, width, dtype=torch.bool)
            for row, here, own in zip(rates, real, labels, strict=True):
                row[: len(own)], here[: len(own)] = torch.tensor(own), True
            self.register_buffer(f"real_{target}", real, persistent=False)
            if self.kinds[target] is Kind.ORDINAL:
                above = (1 - rates.where(real, torch.zeros(())).cumsum(dim=1)).clamp(1e-6, 1 - 1e-6).logit()
                self.start[target] = nn.Parameter(above[:, :1])
                self.gaps[target] = nn.Parameter((above[:, :-1] - above[:, 1:]).clamp(min=1e-3).log()[:, : width - 2])
            else:
                logits = rates.log() if self.kinds[target] is Kind.MULTICLASS else rates.logit()
                self.start[target] = nn.Parameter(logits.where(real, torch.zeros(())))

    def size(self, target: str) -> int:
        """How many numbers of evidence it takes."""
        return self.shapes[target][0] if self.kinds.get(target) is Kind.ORDINAL else math.prod(self.shapes[target])

    def forward(self, evidence: dict[str, Tensor], watched: bool = False) -> dict[str, Tensor]:
        """target -> [B, size] -> logits. `watched`: the start learns nothing of it."""
        return {name: self._logits(name, x, watched) if name in self.kinds else x for name, x in evidence.items()}

    def _logits(self, name: str, x: Tensor, watched: bool) -> Tensor:
        start, real = self.start[name], getattr(self, f"real_{name}")
        start = start.detach() if watched else start
        if self.kinds[name] is not Kind.ORDINAL:
            logits: Tensor = (start + x.view(len(x), *real.shape)).masked_fill(~real, NEVER)
            return logits
        gaps = self.gaps[name].detach() if watched else self.gaps[name]
        return ordinal_log_probabilities(x, start, gaps.exp(), real)


def ordinal_log_probabilities(x: Tensor, first: Tensor, gaps: Tensor, real: Tensor) -> Tensor:
    """[B, L] evidence -> [B, L, Q] log P(y = level q) = log(s(a) - s(b)), a = x + theta_(q-1), b = x + theta_q.

    s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)): in logs no digit is lost.

    Args:
        first: [L, 1] theta_0; gaps: [L, Q - 2] above 0, by which the next ones fall; real: [L, Q] the levels of a label.
    """
    theta = torch.cat([first, first - gaps.cumsum(dim=1)], dim=1)[:, : real.shape[1] - 1]
    theta = theta.where(real[:, 1:], torch.full_like(first, NEVER))  # above the last level there is nothing
    theta = F.pad(F.pad(theta, (1, 0), value=-NEVER), (0, 1), value=NEVER)  # [L, Q + 1]
    gap = (theta[:, :-1] - theta[:, 1:]).where(real, torch.ones_like(first))
    z = x[:, :, None] + theta
    logits = F.logsigmoid(z[..., :-1]) + F.logsigmoid(-z[..., 1:]) + torch.log(-torch.expm1(-gap))
    return logits.masked_fill(~real, NEVER)


class UnimodalHeads(nn.Module):
    """What each modality answers alone, from its tokens before any fusion.

    Args:
        teach: share of the gradient that reaches the encoders. At 0 these heads only watch: training is the same without
            them.
    """

    def __init__(self, dim: int, targets: dict[str, int], modalities: Sequence[str], teach: float) -> None:
        super().__init__()
        self.teach = teach
        self.pool = nn.ModuleDict({m: AttentionPool(dim) for m in modalities})
        self.hidden = nn.ModuleDict(
            {m: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU()) for m in modalities}
        )
        self.heads = nn.ModuleDict(
            {m: nn.ModuleDict({name: nn.Linear(dim, n) for name, n in targets.items()}) for m in modalities}
        )

    def forward(
        self, tokens: dict[str, Tokens], evidence: dict[str, dict[str, Tensor]]
    ) -> dict[str, dict[str, Tensor]]:
        """-> modality -> target -> [B, L]. `evidence`: modality -> target -> [B, L], what adds to its answers: maps, columns."""
        logits: dict[str, dict[str, Tensor]] = {}
        for m, pool in self.pool.items():
            x = self.hidden[m](pool(Tokens(self._part(tokens[m].values), tokens[m].mask))[0])
            logits[m] = {name: head(x) for name, head in cast(nn.ModuleDict, self.heads[m]).items()}
        for m, own in evidence.items():
            logits[m] |= {name: logits[m][name] + self._part(values) for name, values in own.items()}
        return logits

    def _part(self, x: Tensor) -> Tensor:
        """x, through which only the share `teach` of a gradient goes back."""
        return x.detach() if not self.teach else self.teach * x + (1 - self.teach) * x.detach()
