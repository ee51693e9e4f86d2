"""The demonstration: import, training, evaluation and prediction on a phantom cohort."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chiasm.atomic import write_json, write_text
from chiasm.cohort.imports import import_cohort
from chiasm.errors import RunError
from chiasm.evaluation.evaluate import evaluate
from chiasm.prediction.folder import answer_inputs
from chiasm.progress import Progress, say
from chiasm.recipe import read_recipe
from chiasm.sources.phantom_chest import read as make_phantoms
from chiasm.study import Study
from chiasm.training.train import train

STUDIES, SIZE = 4000, 64
"""Many small pictures: words are learned from many reports, more than from many epochs, and the signs show at 64 pixels too."""
OVERRIDES = (
    f"inputs.image.size={SIZE}",
    "inputs.text.max_tokens=100",
    "fusion.dim=64",
    "fusion.modality_dropout=0.25",
    "heads.localization.stride=8",
    "heads.description.layers=1",
    "train.epochs=6",
    "train.learning_rate=0.003",
    "evaluate.resamples=500",
)


def run_demo(out: Path) -> dict[str, Any]:
    """Make a phantom cohort, train `report-fusion` on it, evaluate, and predict three studies it has not seen.

    Returns:
        {"metrics", "page", "predictions"}: metrics by name, and the paths of the page of the evaluation and of each new study.

    Raises:
        RunError: `out` holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(
            "the demo folder is not empty",
            where=str(out),
            remedy="delete it, or choose another: chiasm demo --out FOLDER",
        )
    out.mkdir(parents=True, exist_ok=True)
    say("1 of 4: generate a phantom cohort, whose truth is known")
    with Progress("phantom studies", STUDIES) as bar:
        cohort = import_cohort(
            "phantom-chest", None, out / "cohort", size=SIZE, options={"studies": STUDIES, "missing": 0.05},
            progress=lambda seen: bar.advance(seen - bar.done),
        )  # fmt: skip
    say("2 of 4: train report-fusion (image + report + record)")
    train(read_recipe("report-fusion", OVERRIDES), [cohort.path], out / "run")
    say("3 of 4: evaluate on patients the model was not trained on")
    evaluation = evaluate(out / "run", None, out / "evaluation")
    say("4 of 4: predict three new studies")
    folders = [write_study(study, out / "new") for study in islice(make_phantoms(studies=3, size=SIZE, seed=1), 3)]
    answered = answer_inputs(out / "run", folders, out / "predictions")
    page = evaluation.page.rename(out / "summary.html")
    metrics = {name: metric.to_json() for name, metric in evaluation.metrics.items()}
    return {
        "metrics": metrics,
        "page": str(page),
        "predictions": [str(out / "predictions" / each.document["page"]) for each in answered],
    }


def render_demo(document: dict[str, Any]) -> str:
    """What `run_demo` returns, as lines of text."""
    lines = [*_render_metrics(document["metrics"]), "predictions of three new studies:", *document["predictions"]]
    return "\n".join([*lines, f"the page: {document['page']}"])


def write_study(study: Study, folder: Path) -> Path:
    """Write a study as a folder for `chiasm predict`: images/, report.txt, record.json."""
    home = folder / study.study_id
    (home / "images").mkdir(parents=True)
    for image in study.images:
        Image.fromarray(np.asarray(image.pixels, np.uint8)).save(home / "images" / f"{image.image_id}.png")
    if study.report is not None:
        sections = [f"{name.upper()}: {text}" for name, text in study.report.sections.items()]
        write_text(home / "report.txt", "\n\n".join(sections) + "\n")
    if study.record is not None:
        write_json(home / "record.json", dict(study.record.values))
    return home


def _render_metrics(metrics: dict[str, dict[str, Any]]) -> list[str]:
    """The metrics a person looks for first, the outcome's beside the best that can be reached."""
    lines = ["", "Not for clinical use. Test patients; 95% intervals by patient."]
    subsets = [name.split(":")[1] for name in metrics if name.startswith("bayes:") and name.endswith("/auroc")]
    for subset in sorted(set(subsets), key=lambda s: (s.count("+"), s)):
        own = metrics.get(f"{subset}:outcome/event/auroc")  # of the same inputs or of none
        best = metrics[f"bayes:{subset}:outcome/event/auroc"]
        lines.append(f"  outcome AUROC, {subset:18} {_render_metric(own)}   best reachable {_render_metric(best)}")
    for name, text in (
        ("findings/macro/auroc", "findings, mean AUROC"),
        ("image:findings/macro/auroc", "findings, image alone"),
        ("localization/macro/box_iou", "best box, mean IoU (image only)"),
        ("description/all/cider", "description, CIDEr"),
    ):
        if name in metrics:
            lines.append(f"  {text:33} {_render_metric(metrics[name])}")
    return lines


def _render_metric(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "undefined"
    if metric["low"] is None:
        return f"{metric['value']:.3f} (no interval)"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
