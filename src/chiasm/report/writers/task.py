"""The task of a writer and its result; and the template, which every other writer falls back on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from chiasm.report.content import TextContent
from chiasm.report.description import ImageDescription, build_description
from chiasm.report.structured import StructuredReport, build_report, find_differences

TEXT_KINDS = ("structured-report", "image-description")
FILES = ("lexicon/entities.yaml", "lexicon/wording.yaml", "prompts/stroke.txt.j2", "prompts/regions.txt.j2")

Document = StructuredReport | ImageDescription


@dataclass(frozen=True)
class Task:
    """One text to be written.

    Attributes:
        kind: one of `TEXT_KINDS`. content: all that the text may say.
        report: the report, masked, where the content comes from one. pictures: PNG files, for writers that read images.
        withheld: why the study's report was not handed over.
    """

    kind: str
    content: TextContent
    report: str = ""
    pictures: tuple[bytes, ...] = ()
    withheld: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of all that a writer is given; where it differs, a new text is asked for."""
        digest = hashlib.sha256("\0".join((self.kind, self.content.to_json(), self.report)).encode())
        for picture in self.pictures:
            digest.update(hashlib.sha256(picture).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class Written:
    """A text, and how it came about.

    Attributes:
        text: None if nothing is known of the study. structure: the `Document` as JSON.
        accepted: the labeler reads in it what the content states. Where a language model was asked: the text is the model's own.
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
        parallel: the most texts it can work on at a time. reads_images: whether it takes pictures.
    """

    name: str
    model: str
    parallel: int
    reads_images: bool

    def write(self, task: Task) -> Written: ...

    def prompt_hash(self, kind: str) -> str:
        """SHA-256 of the files that shape its texts."""
        ...


class TemplateWriter:
    """Fills in a template: the same content gives the same text."""

    name, model, parallel, reads_images = "template", "", 1, False

    def write(self, task: Task) -> Written:
        document = fill_template(task)
        if document is None:
            return Written(None, None, accepted=False, reason=task.withheld or "nothing is known to write from")
        reasons = find_differences(document.text, task.content.states)
        return Written(document.text, document.model_dump_json(), accepted=not reasons, reason="; ".join(reasons))

    def prompt_hash(self, kind: str) -> str:
        return hash_files(FILES)


def fill_template(task: Task) -> Document | None:
    """The template's document, or None if there is nothing to write."""
    if task.kind == "image-description":
        return build_description(task.content)
    return build_report(task.content) if task.content else None


def hash_files(files: Sequence[str]) -> str:
    """SHA-256 over files of `chiasm/report`."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(resources.files("chiasm.report").joinpath(file).read_bytes())
    return digest.hexdigest()
