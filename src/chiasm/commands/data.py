"""The commands that work on data: sources, import, inspect, label, write."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from chiasm.commands.answer import Answer, align
from chiasm.errors import InputError

if TYPE_CHECKING:
    from chiasm.study import Rejected


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


class Uncertain(StrEnum):
    """What an uncertain finding counts as where there is only 0 or 1."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


class Kind(StrEnum):
    """What `chiasm write` writes."""

    STRUCTURED = "structured-report"
    DESCRIPTION = "image-description"


def sources() -> Answer:
    """List the data sets and file layouts that can be imported."""
    from chiasm.registry import SOURCES

    listed = [
        {"name": name, "about": source.about, "options": list(source.options)} for name, source in SOURCES.items()
    ]
    options = {name: f". Options: {', '.join(s.options)}." if s.options else "" for name, s in SOURCES.items()}
    return Answer({"sources": listed}, align((name, s.about + options[name]) for name, s in SOURCES.items()))


def import_(
    source: Annotated[str, Argument(help="The kind of source, one of those that `chiasm sources` lists.")],
    path: Annotated[Path | None, Argument(help="The folder or file to import. A phantom source needs none.")] = None,
    *,
    out: Annotated[Path, Option(help="Folder to create for the cohort.")],
    size: Annotated[int, Option(min=16, help="Side of each stored image in pixels; images are stored square.")] = 224,
    volume_size: Annotated[
        str, Option(metavar="D,H,W", help="Size of each stored volume in voxels: depth, height, width.")
    ] = "64,64,64",
    split: Annotated[
        Split,
        Option(
            help="How patients are split. auto: the published split where there is one, else hash. "
            "hash: 70% of patients for training, 10% for validation, 20% for testing, drawn by a hash. "
            "boxes-to-test: every patient with marked regions goes to the test set."
        ),
    ] = Split.AUTO,
    seed: Annotated[int, Option(help="Random seed for splitting and phantom generation.")] = 0,
    strict: Annotated[bool, Option("--strict", help="Stop at the first input that cannot be read.")] = False,
    map: Annotated[
        Path | None, Option(help="YAML file that says what each column means (of a table, or of --labels).")
    ] = None,
    labels: Annotated[
        Path | None,
        Option(help="Table of labels, reports and chart values, joined to the studies of the source `dicom`."),
    ] = None,
    window: Annotated[
        str | None,
        Option(metavar="CENTER,WIDTH[;...]", help="Window of CT images in HU. Several windows become channels."),
    ] = None,
    intensity: Annotated[
        list[str] | None,
        Option(
            metavar="MODALITY=RULE",
            help="How gray values of a DICOM modality are stored: percentile, bits, stored, mask, or a window "
            "(docs/cohort.md). May be repeated.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        Option(metavar="KEY=VALUE", help="An option of the source, as `chiasm sources` lists them. May be repeated."),
    ] = None,
) -> Answer:
    """Import images, reports and records as a cohort.

    A cohort is a folder with tables and pixels; the other commands read it.
    """
    from chiasm.cohort.imports import import_cohort
    from chiasm.cohort.skipped import FILE, read_skipped, sum_up
    from chiasm.progress import Progress

    options: dict[str, Any] = dict(_parse_option(text) for text in option or [])
    options |= {name: path for name, path in (("map", map), ("labels", labels)) if path is not None}
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
    listed = read_skipped(cohort.path)
    lines = [f"{counts['studies']} studies, {counts['images']} images in {out}"]
    for taken, what in ((False, "were skipped"), (True, "were taken with a note")):
        if some := [item for item in listed if item.taken is taken]:
            lines += [f"{len(some)} inputs {what}, see {out / FILE}:", *sum_up(some)]
    document = {"cohort": str(out), "hash": cohort.hash, "counts": counts}
    return Answer(document, "\n".join([*lines, f"next: chiasm inspect {out}"]))


def inspect(cohort: Annotated[Path, Argument(help="The cohort's folder.")]) -> Answer:
    """Check a cohort: counts, missing values, leakage between splits."""
    from chiasm.audit.leakage import inspect_cohort, render_inspection
    from chiasm.cohort.store import Cohort

    document = inspect_cohort(Cohort.open(cohort))
    return Answer(document, render_inspection(document))


def label(
    path: Annotated[
        Path,
        Argument(help="Reports: a text file, a JSONL file, a folder or zip of text or Open-i XML files, or a cohort."),
    ],
    out: Annotated[Path, Option(help="CSV file to write, one row a report.")],
    scheme: Annotated[
        Scheme, Option(help="Columns of the CSV file: chiasm's own states, or those of a published label set.")
    ] = Scheme.STATES,
    uncertain: Annotated[
        Uncertain, Option(help="What an uncertain finding counts as in the scheme chestxray14.")
    ] = Uncertain.NEGATIVE,
    details: Annotated[
        Path | None,
        Option(
            help="Second CSV file, one row a statement: its words and sentence (report text), side, lobe, severity."
        ),
    ] = None,
) -> Answer:
    """Extract findings from report texts.

    Each finding is present, absent, uncertain or not mentioned.
    """
    from chiasm.cohort.reports import read_reports
    from chiasm.report.tables import notes_file, write_labels

    rejected: list[Rejected] = []
    counts = write_labels(read_reports(path, rejected), out, scheme.value, uncertain.value, details, rejected)
    remarks = {
        "silent": "mention no finding (all their labels are empty)",
        "repeated": "have an id that another row has too",
        "rejected": "inputs were not labelled",
    }
    said = "".join(f"; {counts[name]} {remark}" for name, remark in remarks.items() if counts[name])
    notes = str(notes_file(out)) if said else None
    document = {"labels": str(out), "details": str(details) if details else None, "notes": notes, **counts}
    reports = f"{counts['reports']} report{'s' if counts['reports'] != 1 else ''}"
    return Answer(document, f"labels of {reports} in {out}{said}{f': the reasons are in {notes}' if notes else ''}")


def write(
    cohort: Annotated[Path, Argument(help="The cohort's folder.")],
    writer: Annotated[
        str,
        Option(help="What writes: template, local:PATH (a model on disk) or openai:MODEL@URL (a model on a server)."),
    ] = "template",
    kind: Annotated[Kind, Option(help="What to write for each study.")] = Kind.STRUCTURED,
    seed: Annotated[int, Option(min=0, help="Random seed of a language model.")] = 0,
    concurrency: Annotated[int, Option(min=1, help="Largest number of requests to a server at the same time.")] = 4,
    limit: Annotated[int | None, Option(min=1, help="Largest number of texts to write in this call.")] = None,
    pictures: Annotated[
        int, Option(min=0, help="Number of images of each study to show to a model that can read images.")
    ] = 0,
    allow_remote: Annotated[
        bool, Option("--allow-remote", help="Allow patient data to be sent to a server outside this machine.")
    ] = False,
) -> Answer:
    """Write a structured report or an image description of each study.

    A template or a language model writes, and each text is checked against the facts it was written from.
    """
    from chiasm.cohort.compose import acceptance, render_counts, write_texts
    from chiasm.cohort.store import Cohort
    from chiasm.report.writers import open_writer

    opened = Cohort.open(cohort)
    model = open_writer(writer, seed=seed, allow_remote=allow_remote)
    counts = write_texts(opened, model, kind.value, seed=seed, concurrency=concurrency, limit=limit, pictures=pictures)
    document = {"cohort": str(cohort), "kind": kind.value, "acceptance": acceptance(counts), **counts}
    return Answer(document, render_counts(counts, kind.value, cohort))


def _parse_option(text: str) -> tuple[str, Any]:
    """`key=value` of --option; the value is YAML, so 3 is a number and [a, b] a list."""
    import yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InputError("--option needs KEY=VALUE", got=text)
    try:
        return key.replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError("the value of --option is not YAML", got=text) from None


def _parse_sides(text: str) -> tuple[int, int, int]:
    """`64,64,64` of --volume-size."""
    try:
        depth, height, width = (int(side) for side in text.split(","))
    except ValueError:
        raise InputError("--volume-size needs three numbers", expected="D,H,W, as 64,64,64", got=text) from None
    return depth, height, width
