"""The commands that make and use models: recipes, train, predict."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from chiasm.commands.answer import Answer, align
from chiasm.commands.check import CHECK_HELP, Check, check_fully


def recipes() -> Answer:
    """List the recipes: the models that can be trained."""
    from chiasm.recipe import read_recipe, recipe_names

    about = {name: read_recipe(name).about for name in recipe_names()}
    listed = [{"name": name, "about": text} for name, text in about.items()]
    return Answer({"recipes": listed}, align(about.items()))


def train(
    recipe: Annotated[str, Argument(help="A recipe that `chiasm recipes` lists, or a YAML file of your own.")],
    cohorts: Annotated[
        list[Path], Argument(help="Folders of one or more cohorts. A label that one of them lacks is ignored there.")
    ],
    out: Annotated[Path, Option(help="Folder to create for the run: the trained models and what they were made from.")],
    set: Annotated[
        list[str] | None,
        Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of the recipe, as train.epochs=5. May be repeated."
        ),
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Continue a training that was interrupted.")] = False,
    folds: Annotated[
        int, Option(min=1, help="Number of cross-validation folds, split by patient. 1: use the cohort's own split.")
    ] = 1,
    repeats: Annotated[int, Option(min=1, help="How many times to repeat the cross-validation with new folds.")] = 1,
    init: Annotated[
        Path | None, Option(metavar="RUN", help="A finished run whose encoders this training starts from.")
    ] = None,
    check: Annotated[Check, Option(help=CHECK_HELP)] = Check.FAST,
) -> Answer:
    """Train a model on one or more cohorts."""
    from chiasm.recipe import read_recipe

    if check is Check.FULL:
        check_fully([*cohorts, *([init] if init else [])])
    chosen = read_recipe(recipe, set or [])  # before torch is imported: a wrong key is answered at once
    from chiasm.documents import to_json
    from chiasm.training.train import train

    try:
        made = train(chosen, cohorts, out, resume=resume, folds=folds, repeats=repeats, init=init)
    except (KeyboardInterrupt, SystemExit):  # Lightning leaves an interrupted fit with SystemExit
        again = shlex.join(["chiasm", *sys.argv[1:], *(["--resume"] if "--resume" not in sys.argv else [])])
        raise KeyboardInterrupt(f"resume with: {again}") from None
    return Answer(to_json(made), f"the run is in {out}\nnext: chiasm evaluate {out}")


def tune(
    recipes: Annotated[
        list[str], Argument(help="One or more recipes to choose from. The first says what is read and answered.")
    ],
    cohort: Annotated[Path, Argument(help="The cohort's folder.")],
    out: Annotated[Path, Option(help="Folder for the run. The same command continues what is there.")],
    space: Annotated[
        Path | None, Option(help="YAML file with the settings to choose from (docs/tune.md). Default: chiasm's own.")
    ] = None,
    set: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Change a setting of every recipe named. May be repeated."),
    ] = None,
    trials: Annotated[int, Option(min=1, help="Number of configurations that each outer fold tries.")] = 20,
    folds: Annotated[int, Option(min=2, help="Number of outer folds, which measure performance.")] = 5,
    repeats: Annotated[int, Option(min=1, help="How many times to repeat the outer folds with new ones.")] = 1,
    inner_folds: Annotated[int, Option(min=2, help="Number of inner folds, which choose a configuration.")] = 3,
    metric: Annotated[
        str | None, Option(help="Metric of the first target to choose by. Default: auroc, r, qwk or c_index.")
    ] = None,
    baselines: Annotated[
        bool, Option("--baselines/--no-baselines", help="Also tune simple baseline models in the same way.")
    ] = True,
    part: Annotated[int | None, Option(min=0, help="Do this outer fold alone. The first is 0.")] = None,
    budget_minutes: Annotated[
        float | None, Option(min=0, help="Start no further training after this many minutes.")
    ] = None,
) -> Answer:
    """Choose settings and recipes, and measure without bias.

    Each outer fold chooses by inner folds of its own training patients. Its test patients take no part in the choice.
    """
    from chiasm.recipe import read_recipe

    chosen = [read_recipe(recipe, set or []) for recipe in recipes]  # before torch is imported
    from chiasm.tuning.tune import render_tuned, tune

    options = {"trials": trials, "folds": folds, "repeats": repeats, "inner_folds": inner_folds, "metric": metric}
    again = shlex.join(["chiasm", *sys.argv[1:]])
    try:
        tuned = tune(
            chosen,
            cohort,
            out,
            space=space,
            baselines=baselines,
            part=part,
            budget_minutes=budget_minutes,
            **options,  # type: ignore[arg-type]
        )
    except (KeyboardInterrupt, SystemExit):  # Lightning leaves an interrupted fit with SystemExit
        raise KeyboardInterrupt(f"continue with: {again}") from None
    return Answer(tuned.document(), render_tuned(tuned))


def predict(
    run: Annotated[Path, Argument(help="Folder of a trained run.")],
    inputs: Annotated[
        list[Path],
        Argument(help="Images, DICOM or NIfTI files, study folders (images/, report.txt, record.json), or cohorts."),
    ],
    out: Annotated[
        Path,
        Option(help="Folder for the results: of each study a page and a JSON file, and pictures of what was located."),
    ],
    report: Annotated[
        Path | None, Option(help="Text file with the radiology report, where there is a single input.")
    ] = None,
    record: Annotated[
        Path | None, Option(help="JSON file with the clinical record, where there is a single input.")
    ] = None,
    strict: Annotated[
        bool, Option("--strict", help="Refuse studies that are unlike the training data; exit with 1 if there are any.")
    ] = False,
    phrase: Annotated[
        list[str] | None,
        Option(help='Words to find on the images, as "left lower lobe consolidation". May be repeated.'),
    ] = None,
    check: Annotated[Check, Option(help=CHECK_HELP)] = Check.FAST,
) -> Answer:
    """Predict for images, study folders or a cohort."""
    if check is Check.FULL:
        check_fully([run, *inputs])
    from chiasm.prediction.folder import answer_inputs
    from chiasm.prediction.render import count_rejected, render_predictions

    answered = answer_inputs(run, inputs, out, report=report, record=record, strict=strict, phrases=phrase or ())
    predictions = [each.document for each in answered]
    rejected = count_rejected(out)
    document = {"predictions": predictions, "out": str(out), "rejected": rejected}
    return Answer(document, render_predictions(predictions, rejected, out))
