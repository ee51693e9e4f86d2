"""Findings of many reports as one CSV file, in the columns of a published label set or in the project's own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from chiasm.atomic import CsvWriter, whole_file, write_csv
from chiasm.errors import InputError
from chiasm.report.attributes import ATTRIBUTES, describe_findings
from chiasm.report.files import NamedReport, find_other_language
from chiasm.report.findings import HELPER, Mention, count_labels, find_passages, read_mentions, take_strongest
from chiasm.study import Rejected, Report, State
from chiasm.vocabulary import FINDINGS, scheme

_SHOWN = 500  # characters of a sentence on either side of the words: a text without full stops is one sentence
SCHEMES = ("states", "chestxray14", "chexpert")
_CHEXPERT = {State.PRESENT: "1.0", State.ABSENT: "0.0", State.UNCERTAIN: "-1.0", State.NOT_MENTIONED: ""}
_DETAILS = (
    "id",
    "finding",
    "state",
    "cue",
    "section",
    "start",
    "end",
    "words",
    "sentence_start",
    "sentence_end",
    "sentence",
)


def write_labels(
    texts: Iterable[NamedReport],
    out: Path,
    name: Literal["states", "chestxray14", "chexpert"] = "states",
    uncertain: Literal["positive", "negative"] = "negative",
    details: Path | None = None,
    rejected: Sequence[Rejected] = (),
) -> dict[str, int]:
    """Write one row a report and return counts: `reports`, `silent` (rows that say nothing), `repeated` (rows whose id
    another row has had) and `rejected` (no row).

    Why a report has no row, or one that says nothing, stands in `OUT.notes.csv` beside `out`; without such there is none.

    Args:
        name: "states": a column `id`, and for each finding of the vocabulary present, absent, uncertain or not_mentioned;
            "chestxray14": `filename` and 0 or 1 for its 14 names and `normal`; "chexpert": `id` and 1.0, 0.0, -1.0
            (uncertain) or nothing (not mentioned) for its 14 names.
        uncertain: what an uncertain finding counts as in chestxray14.
        details: also write one row a statement here: the words and the sentence that say so (report text!), where they
            stand in their section, the kind of cue, and the attributes.
        rejected: what could not be read; it may still grow while `texts` are drawn.

    Raises:
        InputError: not one report can be labelled; or `out` or `details` is no place for a CSV file.
    """
    beside = notes_file(out)
    _check_places(out, beside, details)
    notes: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    labelled = silent = repeated = 0
    with ExitStack() as stack:
        writer = stack.enter_context(_replacing(out))
        describer = stack.enter_context(_replacing(details)) if details else None
        writer.writerow(_header(name))
        if describer:
            describer.writerow([*_DETAILS, *ATTRIBUTES])
        for identity, report in texts:
            if language := find_other_language(report.text):
                notes.append((identity, "no", f"the report is not in English, judging by its words: {language}"))
                continue
            mentions = read_mentions(report)
            labelled += 1
            if identity in seen:
                repeated += 1
                notes.append((identity, "yes", "another row above has the same id"))
            seen.add(identity)
            if not mentions:
                silent += 1
                notes.append((identity, "yes", _why_silent(report)))
            writer.writerow([identity, *_row(mentions, name, uncertain)])
            if describer:
                describer.writerows(_details(identity, report))
        notes += [(lost.where, "no", lost.reason) for lost in rejected]
        if not labelled:
            reason = notes[0][2] if notes else ""  # and no id: errors hold none
            got = f"{len(notes)} inputs; the first: {reason}" if len(notes) > 1 else reason
            raise InputError("no report can be labelled", expected="reports in English", got=got)
    beside.unlink(missing_ok=True)
    if notes:
        write_csv(beside, [("report", "labelled", "reason"), *notes])
    lost = len(notes) - silent - repeated
    return {"reports": labelled, "silent": silent, "repeated": repeated, "rejected": lost}


def notes_file(out: Path) -> Path:
    """Where `write_labels` notes why reports have no row or no label: `labels.notes.csv` beside `labels.csv`."""
    return out.with_suffix(".notes.csv")


def _check_places(out: Path, beside: Path, details: Path | None) -> None:
    """Refuse to write anything but CSV files, each of its own: a report that was given is never overwritten."""
    for file in (out, details) if details else (out,):
        if file.suffix.lower() != ".csv":
            raise InputError("labels are written as CSV", expected="a name that ends in .csv", where=str(file))
        if not file.parent.is_dir():
            raise InputError("the folder does not exist", where=str(file.parent), remedy="create it first")
    if details and details.resolve() in (out.resolve(), beside.resolve()):
        raise InputError("the details would overwrite the labels", expected="another --details", where=str(details))


@contextmanager
def _replacing(out: Path) -> Iterator[CsvWriter]:
    """A CSV file that takes its place when it is whole."""
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield CsvWriter(file)


def _header(name: str) -> list[str]:
    if name == "states":
        return ["id", *FINDINGS]
    if name == "chexpert":
        return ["id", *scheme(name).values()]
    return ["filename", *(own if finding != "normal" else "normal" for finding, own in scheme(name).items())]


def _row(mentions: Sequence[Mention], name: str, uncertain: str) -> list[object]:
    if name == "chestxray14":
        return list(count_labels(mentions, name, uncertain).values())
    strongest = take_strongest(mentions, "chiasm" if name == "states" else name)
    findings = FINDINGS if name == "states" else scheme(name)
    states = [strongest[f].state if f in strongest else State.NOT_MENTIONED for f in findings]
    return [_CHEXPERT[state] for state in states] if name == "chexpert" else [state.value for state in states]


def _details(identity: str, report: Report) -> Iterator[list[object]]:
    text = report.text
    for described in describe_findings(report):
        finding, state, start, end, cue = described.mention
        if finding != HELPER:
            name, origin, _ = described.section
            left, right = described.sentence
            left, right = max(left, start - _SHOWN), min(right, end + _SHOWN)
            words = [start - origin, end - origin, text[start:end]]
            sentence = [left - origin, right - origin, " ".join(text[left:right].split())]
            attributes = ["; ".join(described.values(kind)) for kind in ATTRIBUTES]
            yield [identity, finding, state.value, cue, name, *words, *sentence, *attributes]


def _why_silent(report: Report) -> str:
    if not report.text.strip():
        return "the report is empty"
    if not find_passages(report):
        return "the report has no section that is labelled (findings, impression, addendum, caption)"
    return "the report mentions no finding that chiasm knows"
