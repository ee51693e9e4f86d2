"""From the fused vector and the image tokens to logits. Probabilities exist only in predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.encoding.levels import NEVER
from chiasm.encoding.plan import Plan
from chiasm.models.fusion.vectors import Vectors
from chiasm.models.text.encoder import AttentionPool
from chiasm.study import Kind
from chiasm.tensors import Fused, Tokens


class MapHead(nn.Module):
    """Localization from image tokens alone: one logit per label and grid cell."""

    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        last = nn.Linear(dim, labels)
        nn.init.constant_(last.bias, -2.0)  # most of an image is not lesion
        self.net = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), last)

    def forward(self, tokens: Tokens) -> Tensor:
        """[B, N * cells, D] -> [B, N, C, *grid]."""
        cells = math.prod(tokens.grid)
        logits: Tensor = self.net(tokens.values)
        batch, _, channels = logits.shape
        return logits.view(batch, -1, cells, channels).transpose(2, 3).reshape(batch, -1, channels, *tokens.grid)


def pool_maps(map_logits: Tensor, image_mask: Tensor, sharpness: float = 5.0) -> Tensor:
    """The evidence of the best places: log-mean-exp over the cells of all images (Pinheiro & Collobert 2015).

    [B, N, C, *grid] and [B, N] -> [B, C]; zero where a study has no image.
    """
    flat = map_logits.flatten(3).transpose(1, 2)  # [B, C, N, cells]
    flat = flat.masked_fill(~image_mask[:, None, :, None], -torch.inf).flatten(2)
    real = image_mask.sum(dim=1) * map_logits[0, 0, 0].numel()
    any_real = real > 0
    flat = flat.masked_fill(~any_real[:, None, None], 0.0)
    pooled = (torch.logsumexp(sharpness * flat, dim=2) - real.clamp(min=1).to(flat.dtype).log()[:, None]) / sharpness
    return pooled * any_real[:, None]


class TargetHeads(nn.Module):
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

    def forward(self, tokens: dict[str, Tokens], evidence: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """-> modality -> target -> [B, L]. `evidence`: target -> [B, L] of the maps, which are the image's own."""
        logits: dict[str, dict[str, Tensor]] = {}
        for m, pool in self.pool.items():
            x = self.hidden[m](pool(Tokens(self._part(tokens[m].values), tokens[m].mask))[0])
            logits[m] = {name: head(x) for name, head in cast(nn.ModuleDict, self.heads[m]).items()}
        for name, values in evidence.items():
            logits["image"][name] = logits["image"][name] + self._part(values)
        return logits

    def _part(self, x: Tensor) -> Tensor:
        """x, through which only the share `teach` of a gradient goes back."""
        return x.detach() if not self.teach else self.teach * x + (1 - self.teach) * x.detach()


class AlignmentHead(nn.Module):
    """Modalities before fusion, and the fused vector, as unit vectors of one space.

    Args:
        names: what is to be compared: modalities, "fused".
    """

    def __init__(self, dim: int, names: Sequence[str]) -> None:
        super().__init__()
        self.vectors = Vectors([name for name in names if name != "fused"], dim)
        self.project = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in names})

    def forward(self, tokens: dict[str, Tokens], fused: Fused) -> dict[str, Tensor]:
        """-> name -> [B, D]; zeros for an absent modality."""
        vectors = {**self.vectors(tokens), "fused": fused.vector}
        return {name: F.normalize(project(vectors[name]), dim=1) for name, project in self.project.items()}
