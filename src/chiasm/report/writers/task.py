"""What a writer is given and what it gives back; and the template, which every other writer falls back on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from chiasm.report.description import ImageDescription, describe
from chiasm.report.facts import Facts
from chiasm.report.structured import StructuredReport, build_report, unlike

KINDS = ("structured-report", "image-description")
FILES = ("lexicon/entities.yaml", "lexicon/wording.yaml", "prompts/stroke.txt.j2", "prompts/regions.txt.j2")

Document = StructuredReport | ImageDescription


@dataclass(frozen=True)
class Task:
    """One text to be written.

    Attributes:
        kind: one of `KINDS`. facts: all that the text may say.
        report: the report, masked, where the facts come from one. pictures: PNG files, for writers that see.
        withheld: why a report that there is was not handed over.
    """

    kind: str
    facts: Facts
    report: str = ""
    pictures: tuple[bytes, ...] = ()
    withheld: str = ""

    @property
    def hash(self) -> str:
        """Of all that a writer is given: another one asks for another text."""
        digest = hashlib.sha256("\0".join((self.kind, self.facts.to_json(), self.report)).encode())
        for picture in self.pictures:
            digest.update(hashlib.sha256(picture).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class Written:
    """A text, and how it came about.

    Attributes:
        text: None if nothing is known of the study. structure: the `Document` as JSON.
        accepted: it reads as the facts do. Where a language model was asked: the text is the model's own.
        attempts: answers that were asked for. answered: False if the model gave none, and should be asked again.
        reason: why it was not accepted; no word of a report stands in it.
    """

    text: str | None
    structure: str | None
    accepted: bool
    attempts: int = 0
    answered: bool = True
    reason: str = ""


class Writer(Protocol):
    """Writes one text at a time, and may be asked by several threads.

    Attributes:
        name: as it was asked for, without anything secret. model: which one, "" for the template.
        parallel: the most texts it can work on at a time. sees: whether it takes pictures.
    """

    name: str
    model: str
    parallel: int
    sees: bool

    def write(self, task: Task) -> Written: ...

    def prompt_hash(self, kind: str) -> str:
        """Of the files that shape its texts."""
        ...


class Template:
    """The same facts, the same text."""

    name, model, parallel, sees = "template", "", 1, False

    def write(self, task: Task) -> Written:
        document = draft(task)
        if document is None:
            return Written(None, None, accepted=False, reason=task.withheld or "nothing is known to write from")
        reasons = unlike(document.text, task.facts.states)
        return Written(document.text, document.model_dump_json(), accepted=not reasons, reason="; ".join(reasons))

    def prompt_hash(self, kind: str) -> str:
        return hash_files(FILES)


def draft(task: Task) -> Document | None:
    """The template's document, or None if nothing is known."""
    if task.kind == "image-description":
        return describe(task.facts)
    return build_report(task.facts) if task.facts else None


def hash_files(files: Sequence[str]) -> str:
    """SHA-256 over files of `chiasm/report`."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(resources.files("chiasm.report").joinpath(file).read_bytes())
    return digest.hexdigest()
