"""The commands that measure models: evaluate, compare, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from chiasm.commands.answer import Answer
from chiasm.commands.check import CHECK_HELP, Check, check_fully


def evaluate(
    run: Annotated[Path, Argument(help="Folder of a trained run.")],
    cohort: Annotated[
        Path | None, Argument(help="Another cohort, for external validation. Default: the run's own test patients.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder for the summary page, metrics and predictions. Default: RUN/evaluation.")
    ] = None,
    check: Annotated[Check, Option(help=CHECK_HELP)] = Check.FAST,
) -> Answer:
    """Measure performance on patients the model was not trained on.

    Writes the metrics, the predictions and a summary page.
    """
    if check is Check.FULL:
        check_fully([run, *([cohort] if cohort else [])])
    from chiasm.evaluation.evaluate import evaluate
    from chiasm.evaluation.render import render_metrics

    evaluation = evaluate(run, cohort, out)
    document = evaluation.document()
    warnings = [f"warning: {sentence}" for sentence in evaluation.warnings]
    lines = [
        *evaluation.record.lead,
        "",
        *render_metrics(document["metrics"]),
        *warnings,
        f"the page: {evaluation.page}",
    ]
    return Answer(document, "\n".join(lines))


def compare(
    runs: Annotated[
        list[Path], Argument(help="Folders of evaluated runs. The first is compared with each of the others.")
    ],
    baselines: Annotated[
        bool,
        Option("--baselines", help="Also train simple baseline models on the first run's patients and folds."),
    ] = False,
    out: Annotated[
        Path | None,
        Option(help="Folder for the page and the metrics. Default: RUN/comparison, which RUN's own page refers to."),
    ] = None,
) -> Answer:
    """Test whether one model performs better than others.

    The first run is compared with each other one on the same patients.
    """
    from chiasm.comparison.compare import compare

    comparison = compare(runs, out, baselines=baselines)
    warnings = [f"warning: {sentence}" for sentence in comparison.warnings]
    return Answer(comparison.document(), "\n".join([*comparison.lines(), *warnings, f"the page: {comparison.page}"]))


def verify(run: Annotated[Path, Argument(help="Folder of an evaluated run, or of a cohort.")]) -> Answer:
    """Recompute every metric of a run, and fail if one differs.

    The stored predictions are read; no model runs. Of a cohort the hashes of pixels and tables are computed again.
    """
    if (run / "cohort.json").is_file():
        check_fully([run])
        return Answer({"differences": []}, "pixels and tables are as they were imported")
    from chiasm.evaluation.verify import verify

    differences = [str(difference) for difference in verify(run)]
    if not differences:
        return Answer({"differences": []}, "every metric is as recorded")
    text = "\n".join([f"error: {len(differences)} metrics differ from the record", *(f"  {d}" for d in differences)])
    return Answer({"differences": differences}, text, 1)
