"""Stacked cross-attention of every image and report of a batch at once, against a loop over pairs: one run, forward and backward.

    python benchmarks/grounding_speed.py [--batch 64] [--regions 64] [--words 24] [--dim 64]

Writes benchmarks/results/grounding_speed.json: seconds, their ratio, and the largest difference in float64.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.objectives.cross_attention import SLOPE, stacked_relevance


def pair_by_pair(text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
    """[B, B], each pair by itself: the same formula without padding."""
    rows = []
    for regions, here in zip(image, image_mask, strict=True):
        v = F.normalize(regions[here], dim=1)
        row = []
        for words, there in zip(text, text_mask, strict=True):
            e = F.normalize(words[there], dim=1)
            s = F.normalize(F.leaky_relu(v @ e.T, SLOPE), dim=1)
            attended = (9.0 * s).softmax(dim=0).T @ v
            row.append(torch.logsumexp(6.0 * F.cosine_similarity(attended, e, dim=1), dim=0) / 6.0)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def seconds(function: Callable[..., Tensor], given: list[Tensor], times: int) -> float:
    """The fastest of `times` passes, forward and backward."""
    found = []
    for _ in range(times):
        text, image = (x.clone().requires_grad_() for x in (given[0], given[2]))
        begun = time.perf_counter()
        function(text, given[1], image, given[3]).sum().backward()
        found.append(time.perf_counter() - begun)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("batch", 64), ("regions", 64), ("words", 24), ("dim", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    text, image = (torch.randn(given.batch, n, given.dim) for n in (given.words, given.regions))
    length = torch.randint(given.words // 2, given.words + 1, (given.batch, 1))
    tensors = [text, torch.arange(given.words) < length, image, torch.ones(image.shape[:2], dtype=torch.bool)]
    double = [x.double() if x.is_floating_point() else x for x in tensors]
    difference = (pair_by_pair(*double) - stacked_relevance(*double)).abs().max()
    slow, fast = seconds(pair_by_pair, tensors, 2), seconds(stacked_relevance, tensors, 4)
    result = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/grounding_speed.py",
        **vars(given),
        "loop_seconds": round(slow, 4),
        "batched_seconds": round(fast, 4),
        "ratio": round(slow / fast, 2),
        "largest_difference": float(difference),
    }
    out = Path(__file__).parent / "results" / "grounding_speed.json"
    out.write_text(json.dumps(result, indent=1), "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
