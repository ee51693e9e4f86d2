"""The check of a language model's text: the labeler must read the given content in it, and each sentence say nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from chiasm.report.content import finding_name, read_entities
from chiasm.report.description import ImageDescription
from chiasm.report.findings import label_report
from chiasm.report.sections import read_lexicon
from chiasm.report.structured import Judgement, StructuredReport, build_report, find_differences
from chiasm.report.writers.entailment import find_unsupported, read_given
from chiasm.report.writers.task import Document, Task
from chiasm.study import Report, State

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_WORD = re.compile(r"[a-z]+")


def complete_report(observations: tuple[str, ...], verdict: Sequence[Judgement], task: Task) -> StructuredReport:
    """A model's observations and verdict, completed by the lexicon."""
    report = build_report(task.content, tuple(" ".join(sentence.split()) for sentence in observations))
    return report.model_copy(update={"verdict": tuple(verdict)})


def check_document(document: Document, task: Task, own: Document | None) -> list[str]:
    """A sentence for each thing in which the document differs from the given content; none: it can be accepted.

    Args:
        own: the template's document of the same content.
    """
    if isinstance(document, StructuredReport):
        found = [*_verdict(document, task), *_observations(document, task)]
        text = " ".join(document.observations)
    else:
        found, text = [], " ".join((*document.findings, document.impression))
        if not all(sentence.strip() for sentence in (document.impression, *document.findings)) or not document.findings:
            found.append("it has an empty sentence")
    found += find_differences(document.text, task.content.states, closed=not task.pictures)
    found += _foreign(text, task, own)
    if own is not None and not task.pictures and not found:  # what pictures show stands in no fact
        said = (
            document.observations
            if isinstance(document, StructuredReport)
            else (*document.findings, document.impression)
        )
        found += find_unsupported(said, read_given(task, own))
    return found


def _verdict(report: StructuredReport, task: Task) -> list[str]:
    said, states = [(j.finding, State(j.state)) for j in report.verdict], task.content.states
    found = [f"the verdict does not name {name}" for name in states if name not in dict(said)]
    found += [
        f"the verdict names {finding_name(n)}, which is not among the facts"
        for n, _ in said
        if n in read_entities() and n not in states
    ]
    if any(n not in states and n not in read_entities() for n, _ in said):
        found.append("the verdict names something that is not among the facts")
    if len(said) > len(dict(said)):
        found.append("the verdict names a finding twice")
    return found + [
        f"{name} is {states[name].value} in the facts, but {state.value} in the verdict"
        for name, state in dict(said).items()
        if name in states and states[name] is not state
    ]


def _observations(report: StructuredReport, task: Task) -> list[str]:
    """Each sentence on its own: the verdict below must not hide that they say another thing."""
    observed = Report({"findings": " ".join(report.observations)})
    found = []
    for read in label_report(observed):
        state = task.content.states.get(read.name, State.NOT_MENTIONED)
        if read.name == "normal" or read.state is state:
            continue
        if read.state is State.NOT_MENTIONED:
            if state is not State.ABSENT:
                found.append(f"the observations do not say that {finding_name(read.name)} is {state.value}")
        elif not (read.state is State.ABSENT and state is State.NOT_MENTIONED):
            found.append(
                f"the observations say that {finding_name(read.name)} is {read.state.value}, which the facts do not"
            )
    return found


def _foreign(text: str, task: Task, own: Document | None) -> list[str]:
    """Numbers, sides and places that stand in no source; and of the draft's impression those that are left out."""
    if own is None:
        return []  # pictures alone: there is nothing to hold the words against
    draft = (
        " ".join(own.observations) if isinstance(own, StructuredReport) else own.text
    )  # a lexicon's words are no facts
    source = " ".join((task.content.to_json(), draft, task.report)).lower()
    text = text.lower()
    said, known = set(_WORD.findall(text)) & _guarded(), set(_WORD.findall(source))
    numbers, given = set(_NUMBER.findall(text)), set(_NUMBER.findall(source))
    found = [f"it says {word}, which the facts do not" for word in sorted(said - known)]
    found += [f"it holds the number {number}, which the facts do not" for number in sorted(numbers - given)]
    if isinstance(own, ImageDescription):
        core = own.impression.lower()
        missing = (set(_WORD.findall(core)) & _sides()) - said | set(_NUMBER.findall(core)) - numbers
        found += [f"it leaves out {word}" for word in sorted(missing)]
    return found


@cache
def _guarded() -> frozenset[str]:
    return frozenset(word for words in read_lexicon("guarded").values() for word in words.split())


@cache
def _sides() -> frozenset[str]:
    return frozenset(read_lexicon("guarded")["side"].split())
