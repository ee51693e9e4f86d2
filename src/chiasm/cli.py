"""The command line. Every command imports what it needs when it runs, so `chiasm --help` answers at once.

A command returns an `Answer`; `--json`, `--debug`, exit codes and error messages are the same for all of them and live in
`_command`: 0 done, 1 the work failed (one message), 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import inspect
import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chiasm.errors import ChiasmError, InputError

if TYPE_CHECKING:
    from chiasm.report.texts import Text
    from chiasm.study import Rejected

app = typer.Typer(
    name="chiasm",
    help="Train, evaluate and use models that read a medical image, the report and the chart together. "
    "Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@dataclass(frozen=True)
class Answer:
    """What a command has to say: a JSON document, the same for people, and the exit code."""

    document: dict[str, Any]
    text: str
    code: int = 0


class Split(StrEnum):
    """How an import splits patients."""

    AUTO = "auto"
    PUBLISHED = "published"
    HASH = "hash"
    BOXES = "boxes-to-test"


class Scheme(StrEnum):
    """The columns of `chiasm label`."""

    STATES = "states"
    CHESTXRAY14 = "chestxray14"
    CHEXPERT = "chexpert"


class Kind(StrEnum):
    """What `chiasm write` writes."""

    STRUCTURED = "structured-report"
    DESCRIPTION = "image-description"


class Doubt(StrEnum):
    """What a hedged finding counts as."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


_COMMON = [
    inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    inspect.Parameter(
        "as_json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")],
    ),
    inspect.Parameter(
        "debug",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
    ),
]


def _command(name: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Make a function a command, with the options and the error messages that all commands share."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(function)
        def run(*, context: typer.Context, as_json: bool, debug: bool, **arguments: Any) -> None:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints, standard output is the answer
                    answer = function(**arguments)
                shown = (
                    json.dumps(answer.document, indent=1, allow_nan=False)
                    if as_json
                    else answer.text * (not answer.code)
                )
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                if debug or context.obj:
                    traceback.print_exc()
                answer = _failure(error, function)
                shown = json.dumps(answer.document, indent=1) if as_json else ""
            if os.environ.get("LOCAL_RANK", "0") != "0":
                raise typer.Exit(answer.code)  # a further process of one training: the first one speaks for all
            if shown:
                typer.echo(shown)
            if answer.code:
                typer.echo(answer.text, err=True)
                raise typer.Exit(answer.code)

        signature = inspect.signature(function, eval_str=True)
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *_COMMON])  # type: ignore[attr-defined]
        app.command(name)(run)
        return function

    return register


def _failure(error: BaseException, command: Callable[..., Answer]) -> Answer:
    """One message. A fault of chiasm's own shows where it was raised, but not its words: they may hold patient data."""
    if isinstance(error, KeyboardInterrupt):
        again = shlex.join(["chiasm", *sys.argv[1:], *(["--resume"] if "--resume" not in sys.argv else [])])
        text = f"interrupted, resume with: {again}" if command is train_command else "interrupted"
        return Answer({"error": {"kind": "Interrupted", "what": text}}, text, 130)
    if isinstance(error, ChiasmError):
        facts = {key: getattr(error, key) for key in ("what", "expected", "got", "where", "remedy")}
        return Answer({"error": {"kind": type(error).__name__, **facts}}, f"error: {error}", 1)
    if isinstance(error, OSError) and error.strerror:
        facts = {"what": error.strerror, "where": str(error.filename or "")}
        return Answer({"error": {"kind": "OSError", **facts}}, f"error: {facts['what']}\n  where: {facts['where']}", 1)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(__file__).parent)]
    what = f"this is a bug in chiasm: {type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}"
    return Answer(
        {"error": {"kind": "Bug", "what": what}}, f"{what}\n  what to do: report it with the output of --debug", 1
    )


class _Log(logging.Handler):
    """The log of chiasm's own rooms, one line a record, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """What comes before the command."""
    context.obj = debug
    log = logging.getLogger("chiasm")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Log) for handler in log.handlers):
        log.addHandler(_Log())
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"chiasm {version_of('chiasm')}")
        raise typer.Exit()


@_command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for cohort, run, predictions and page.")] = Path("demo"),
) -> Answer:
    """The whole road on a phantom cohort, in minutes."""
    from chiasm.demo import run_demo

    document = run_demo(out)
    return Answer(document, document.pop("text"))


@_command("sources")
def sources_command() -> Answer:
    """What can be imported."""
    from chiasm.sources.registry import SOURCES

    listed = [{"name": n, "about": s.about, "options": list(s.options)} for n, s in SOURCES.items()]
    width = max(map(len, SOURCES))
    lines = []
    for name, source in SOURCES.items():
        options = f". Options: {', '.join(source.options)}." if source.options else ""
        lines.append(f"{name:{width}}  {source.about}{options}")
    return Answer({"sources": listed}, "\n".join(lines))


@_command("recipes")
def recipes_command() -> Answer:
    """What can be trained."""
    from chiasm.recipe import read_recipe, recipe_names

    listed = [{"name": name, "about": read_recipe(name).about} for name in recipe_names()]
    width = max(len(recipe["name"]) for recipe in listed)
    return Answer({"recipes": listed}, "\n".join(f"{r['name']:{width}}  {r['about']}" for r in listed))


@_command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="One of `chiasm sources`.")],
    path: Annotated[Path | None, typer.Argument(help="The source's folder or file; phantoms have none.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="The new cohort.")],
    size: Annotated[int, typer.Option(min=16, help="Pixels of a stored image, size x size.")] = 224,
    volume_size: Annotated[str, typer.Option(metavar="D,H,W", help="Voxels of a stored volume.")] = "64,64,64",
    split: Annotated[
        Split, typer.Option(help="auto: as published, else 70/10/20 by a hash of the patient.")
    ] = Split.AUTO,
    seed: Annotated[int, typer.Option(help="Of the split, and of a phantom.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Make the first rejected input an error.")] = False,
    map: Annotated[Path | None, typer.Option(help="YAML file that names the columns (source `table`).")] = None,
    window: Annotated[
        str | None, typer.Option(metavar="CENTER,WIDTH[;...]", help="Of CT, in HU; several become channels.")
    ] = None,
    intensity: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=RULE", help="percentile, bits, stored, mask, or a window; docs/cohort.md."),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the source.")] = None,
) -> Answer:
    """Read studies and write them as a cohort."""
    from chiasm.cohort.imports import import_cohort
    from chiasm.progress import Progress

    options: dict[str, Any] = dict(_parse_option(text) for text in option or [])
    if map is not None:
        options["map"] = map
    rules = {} if window is None else {"CT": window}
    rules |= dict(text.partition("=")[::2] for text in intensity or [])
    with Progress(f"importing {source}", None) as bar:
        cohort = import_cohort(
            source,
            path,
            out,
            size=size,
            volume_size=_parse_sides(volume_size),
            split=str(split),
            seed=seed,
            strict=strict,
            options=options,
            intensity=rules,
            progress=lambda seen: bar.advance(seen - bar.done),
        )
    counts = cohort.meta["counts"]
    lost = f"; {counts['rejected']} inputs were not taken, see {out / 'rejected.csv'}" if counts["rejected"] else ""
    text = f"{counts['studies']} studies, {counts['images']} images in {out}{lost}\nnext: chiasm inspect {out}"
    return Answer({"cohort": str(out), "hash": cohort.hash, "counts": counts}, text)


@_command("inspect")
def inspect_command(cohort: Annotated[Path, typer.Argument(help="A cohort.")]) -> Answer:
    """Counts, missing values, and leakage between the splits."""
    from chiasm.audit.leakage import inspect_cohort, render_inspection
    from chiasm.cohort.store import Cohort

    document = inspect_cohort(Cohort.open(cohort))
    return Answer(document, render_inspection(document))


@_command("label")
def label_command(
    path: Annotated[Path, typer.Argument(help="Text file, JSONL, folder or zip of texts or Open-i XML, or a cohort.")],
    out: Annotated[Path, typer.Option(help="The CSV file.")],
    scheme: Annotated[Scheme, typer.Option(help="Which columns.")] = Scheme.STATES,
    uncertain: Annotated[Doubt, typer.Option(help="What a hedged finding counts as in chestxray14.")] = Doubt.NEGATIVE,
    details: Annotated[
        Path | None, typer.Option(help="Also a CSV of every statement: its words, sentence, side, lobe, severity ...")
    ] = None,
) -> Answer:
    """Findings of report texts."""
    from chiasm.report.tables import write_labels
    from chiasm.report.texts import read_texts

    rejected: list[Rejected] = []
    texts = _cohort_texts(path, rejected) if (path / "cohort.json").is_file() else read_texts(path, rejected)
    counts = write_labels(texts, out, scheme.value, uncertain.value, details, rejected)
    remarks = {
        "silent": "say nothing of any finding (all their labels are empty)",
        "repeated": "have an id that another row has too",
        "rejected": "inputs were not labelled",
    }
    said = "".join(f"; {counts[name]} {remark}" for name, remark in remarks.items() if counts[name])
    notes = str(out.with_suffix(".notes.csv")) if said else None
    document = {"labels": str(out), "details": str(details) if details else None, "notes": notes, **counts}
    reports = f"{counts['reports']} report{'s' if counts['reports'] != 1 else ''}"
    return Answer(document, f"labels of {reports} in {out}{said}{f': why stands in {notes}' if notes else ''}")


_NOTHING = {
    Kind.STRUCTURED: "no finding in a report that the labeler reads, no label, no measurement",
    Kind.DESCRIPTION: "no region drawn in an image, no measurement; --pictures lets a model that sees try",
}


@_command("write")
def write_command(
    cohort: Annotated[Path, typer.Argument(help="A cohort.")],
    writer: Annotated[str, typer.Option(help="template, local:PATH or openai:MODEL@URL")] = "template",
    kind: Annotated[Kind, typer.Option(help="What to write of each study.")] = Kind.STRUCTURED,
    seed: Annotated[int, typer.Option(min=0, help="Of a language model.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="The most questions to a server at a time.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="The most texts to write now.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Of each study, for a model that sees.")] = 0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let a server outside this machine have patient data.")
    ] = False,
) -> Answer:
    """Structured reports, or texts from images, by the template or a language model."""
    from chiasm.cohort.compose import write_texts
    from chiasm.cohort.store import Cohort
    from chiasm.report.writers import open_writer

    opened = Cohort.open(cohort)
    counts = write_texts(
        opened,
        open_writer(writer, seed=seed, allow_remote=allow_remote),
        kind.value,
        seed=seed,
        concurrency=concurrency,
        limit=limit,
        pictures=pictures,
    )
    asked = counts["finished"] + counts["written"] - counts["silent"]
    rate = counts["accepted"] / asked if asked else None
    said = [f"{asked} of {counts['studies']} studies have a text of this writer in {cohort / 'texts.parquet'}"]
    said += [f"studies worked at now: {counts['written']}; done before: {counts['finished']}"]
    said += [f"accepted: {counts['accepted']} of {asked} ({rate:.0%})"] if rate is not None else []
    reasons = {
        "replaced": "by the template's text, because the writer's own said another thing than the facts, or could not be asked",
        "unanswered": "got no answer: they have the template's text for now, and are asked again by the same command",
        "silent": f"have none: nothing is known to write from ({_NOTHING[kind]})",
    }
    said += [f"{name}: {counts[name]} {why}" for name, why in reasons.items() if counts[name]]
    return Answer({"cohort": str(cohort), "kind": kind.value, "acceptance": rate, **counts}, "\n".join(said))


@_command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="One of `chiasm recipes`, or a YAML file.")],
    cohorts: Annotated[list[Path], typer.Argument(help="Cohorts; a target that one lacks is masked there.")],
    out: Annotated[Path, typer.Option(help="The new run.")],
    set: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    folds: Annotated[int, typer.Option(min=1, help="Patient folds instead of the cohort's split.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="How often the folds are drawn anew.")] = 1,
) -> Answer:
    """Train a recipe on cohorts."""
    from chiasm.recipe import read_recipe

    chosen = read_recipe(recipe, set or [])  # before torch is imported: a wrong key is answered at once
    from chiasm.training.train import train

    try:
        document = train(chosen, cohorts, out, resume=resume, folds=folds, repeats=repeats)
    except SystemExit:  # so Lightning ends a fit that was interrupted
        raise KeyboardInterrupt from None
    return Answer(document, f"the run is in {out}\nnext: chiasm evaluate {out}")


@_command("evaluate")
def evaluate_command(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    cohort: Annotated[Path | None, typer.Argument(help="Another cohort: external validation.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page and figures; default RUN/evaluation.")] = None,
) -> Answer:
    """Score a run on patients it has not seen."""
    from chiasm.evaluation.evaluate import evaluate

    evaluation = evaluate(run, cohort, out)
    document = evaluation.document()
    warnings = [f"warning: {sentence}" for sentence in evaluation.warnings]
    table = _render_metrics(document["metrics"])
    return Answer(document, "\n".join([*table, *warnings, f"the page: {evaluation.page}"]))


@_command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated runs, the one in question first.")],
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also train the plain baselines on the first run's patients and folds.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page and figures; default RUN/comparison, which RUN's page reads.")
    ] = None,
) -> Answer:
    """Test whether the first run is better than others on the same patients."""
    from chiasm.comparison.baselines import train_baselines
    from chiasm.comparison.compare import compare

    others = train_baselines(runs[0]) if baselines else []
    comparison = compare([*runs, *(home for home in others if home not in runs)], out)
    warnings = [f"warning: {sentence}" for sentence in comparison.warnings]
    return Answer(comparison.document(), "\n".join([*comparison.lines(), *warnings, f"the page: {comparison.page}"]))


@_command("predict")
def predict_command(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, DICOM or NIfTI files, study folders, or a cohort.")],
    out: Annotated[Path, typer.Option(help="Folder for JSON and overlays.")],
    report: Annotated[Path | None, typer.Option(help="Text file of the report of the one input.")] = None,
    record: Annotated[Path | None, typer.Option(help="JSON file of the record of the one input.")] = None,
) -> Answer:
    """Answer images, studies or a cohort."""
    from chiasm.prediction.folder import predict_inputs, to_json

    predictions = [to_json(p) for p in predict_inputs(run, inputs, out, report=report, record=record)]
    lines = [f"{p['study_id']}: {_render_findings(p)}" for p in predictions]
    lines += dict.fromkeys(f"not used: {reason}" for p in predictions for reason in p.get("ignored", ()))
    lines += dict.fromkeys(f"note: {note}" for p in predictions for note in p.get("notes", ()))
    rejected = _count_rejected(out / "rejected.csv")
    lost = f"; {rejected} inputs were not taken, see {out / 'rejected.csv'}" if rejected else ""
    document = {"predictions": predictions, "out": str(out), "rejected": rejected}
    return Answer(document, "\n".join([*lines, f"all of it in {out}{lost}"]))


def _count_rejected(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


@_command("verify")
def verify_command(run: Annotated[Path, typer.Argument(help="An evaluated run.")]) -> Answer:
    """Compute every metric of a run again; fail on a difference."""
    from chiasm.evaluation.verify import verify

    differences = [str(difference) for difference in verify(run)]
    if not differences:
        return Answer({"differences": []}, "every metric is as recorded")
    text = "\n".join([f"error: {len(differences)} metrics differ from the record", *(f"  {d}" for d in differences)])
    return Answer({"differences": differences}, text, 1)


def _parse_option(text: str) -> tuple[str, Any]:
    """`key=value` of --option; the value is YAML, so 3 is a number and [a, b] a list."""
    import yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InputError("--option needs key=value", got=text)
    try:
        return key.replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError("the value of --option is not YAML", got=text) from None


def _parse_sides(text: str) -> tuple[int, int, int]:
    """`64,64,64` of --volume-size."""
    try:
        depth, height, width = (int(side) for side in text.split(","))
    except ValueError:
        raise InputError("--volume-size does not fit", expected="three numbers D,H,W", got=text) from None
    return depth, height, width


def _cohort_texts(path: Path, rejected: list[Rejected]) -> Iterator[Text]:
    """Study id and report of every study that has one; the others are rejected."""
    from chiasm.cohort.store import Cohort
    from chiasm.report.texts import Text
    from chiasm.study import Rejected, Report

    cohort = Cohort.open(path)
    columns = {section: cohort.studies[f"report.{section}"] for section in cohort.sections}
    for row, study in enumerate(cohort.studies["study_id"]):
        sections = {
            name: text for name, column in columns.items() if isinstance(text := column.iloc[row], str) and text
        }
        if sections:
            yield Text(str(study), Report(sections))
        else:
            rejected.append(Rejected(str(study), "the study has no report"))


_SHOWN = ("auroc", "auprc", "ece", "mae", "r", "miou", "pointing", "cider", "finding_f1")


def _render_metrics(metrics: dict[str, Any]) -> list[str]:
    """The figures one looks for first: AUROC of each label, the others averaged over the labels of their target.

    All of them, with controls, modality subsets and subgroups, are in the page and --json.
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
        lines.append(f"figures that are undefined: {len(undefined)} ({'; '.join(dict.fromkeys(undefined))})")
    return lines


def _render_findings(prediction: dict[str, Any]) -> str:
    """The answers of one study, the likeliest first; of levels or classes which one is.

    >>> outcomes = [{"name": "died", "kind": "binary", "value": 0.0, "probability": 0.1},
    ...             {"name": "mrs", "kind": "ordinal", "value": 3.0, "probability": 0.4},
    ...             {"name": "nihss", "kind": "regression", "value": 7.25, "probability": None}]
    >>> _render_findings({"findings": [], "outcomes": outcomes})
    'mrs = 3 0.40, died 0.10, nihss 7.25'
    """
    answers = [*prediction["findings"], *prediction["outcomes"]]
    likely = sorted((a for a in answers if a["probability"] is not None), key=lambda a: -a["probability"])[:5]
    values = [f"{a['name']} {a['value']:.3g}" for a in prediction["outcomes"] if a["probability"] is None]
    return ", ".join([*(f"{_render_level(a)} {a['probability']:.2f}" for a in likely), *values])


def _render_level(answer: dict[str, Any]) -> str:
    if answer.get("kind") not in ("ordinal", "multiclass"):
        return str(answer["name"])
    value = answer["value"]
    return f"{answer['name']} = {value if isinstance(value, str) else format(value, 'g')}"


def main() -> None:
    """The entry point of the program `chiasm`."""
    # OpenMP's threads spin while they wait for each other; on a machine that is busy otherwise each wait then costs a
    # time slice, and the many small steps of an LSTM run fifty times as long. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="chiasm")
