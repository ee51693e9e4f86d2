"""The metrics of an evaluation as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = ("auroc", "auprc", "ece", "mae", "r", "miou", "pointing", "cider", "finding_f1")


def render_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics one looks for first: AUROC of each label, the others averaged over the labels of their target.

    All of them, with controls, modality subsets and subgroups, are in the page and in `--json`.

    Args:
        metrics: name -> {"value", "low", "high", "n", ...}, as `Evaluation.document` has them.
    """
    own = {tuple(name.split("/")): metric for name, metric in metrics.items() if ":" not in name and "@" not in name}
    averaged = {target for target, label, _ in own if label == "macro"}
    lines, undefined = [], []
    for (target, label, kind), metric in own.items():
        if kind not in _SHOWN or (kind != "auroc" and target in averaged and label != "macro"):
            continue
        value, low, high = (metric.get(key) for key in ("value", "low", "high"))
        if value is None:
            undefined.append(metric.get("reason", ""))
            continue
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
        lines.append(f"{f'{target}/{label}/{kind}':36}  {value:.3f}{interval}  n={metric['n']}")
    if undefined:
        lines.append(f"undefined metrics: {len(undefined)} ({'; '.join(dict.fromkeys(undefined))})")
    return lines
