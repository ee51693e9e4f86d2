"""A writer that asks a language model for JSON of a schema, checks the answer, and names to it what differs from the facts."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from chiasm.report.description import ImageDescription, StrictModel, render_prompt
from chiasm.report.structured import Judgement
from chiasm.report.writers.check import check_document, complete_report
from chiasm.report.writers.task import FILES, Document, Task, TemplateWriter, Written, fill_template, hash_files

ATTEMPTS = 3
LONGEST_REPORT = 20_000
"""Characters of a report that a model is given; the longest of Open-i has three thousand."""

Message = dict[str, Any]
"""{"role": "user", "content": text or a list of parts}, as in OpenAI's protocol."""


class Unanswered(Exception):
    """The model gave no answer this time. The words are chiasm's own: never the server's, which may repeat the report."""


class LanguageModel(Protocol):
    """Something that answers messages.

    Attributes:
        name: of the writer; model: of the model. parallel: the most questions at a time. reads_images: whether it takes pictures.
    """

    name: str
    model: str
    parallel: int
    reads_images: bool

    def reply(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> str:
        """The answer's text, which should be JSON of the schema.

        Raises:
            Unanswered: none this time. WriterError: there will be none.
        """
        ...


class Observed(StrictModel):
    """What a model is asked for of a structured report: definition and appearance come from the lexicon."""

    observations: tuple[str, ...]
    verdict: tuple[Judgement, ...]


_SCHEMAS: dict[str, type[Observed] | type[ImageDescription]] = {
    "structured-report": Observed,
    "image-description": ImageDescription,
}


class LanguageModelWriter:
    """Asks a language model at most `ATTEMPTS` times, and falls back on the template."""

    def __init__(self, model: LanguageModel, seed: int = 0) -> None:
        self._model, self._seed = model, seed
        self.name, self.model, self.parallel, self.reads_images = (
            model.name,
            model.model,
            model.parallel,
            model.reads_images,
        )

    def prompt_hash(self, kind: str) -> str:
        files = (
            f"prompts/{kind}.md.j2",
            "prompts/again.md.j2",
            "lexicon/guarded.yaml",
            "lexicon/neutral.yaml",
            "lexicon/identifiers.yaml",
        )
        return hash_files((*FILES, *files))

    def write(self, task: Task) -> Written:
        own = fill_template(task)
        if task.withheld or (own is None and not task.pictures):
            return _fall_back(task, task.withheld, 0)
        schema = _SCHEMAS[task.kind]
        first = _question(task, own, schema.model_json_schema())
        messages, reasons = [first], [""]
        for attempt in range(ATTEMPTS):
            try:
                answer = self._model.reply(messages, schema.model_json_schema(), self._seed + attempt)
            except Unanswered as error:
                return _fall_back(task, str(error), attempt + 1, answered=False)
            answer = answer.encode("utf-8", "replace").decode()  # half a character can be neither sent again nor kept
            document, reasons = read_answer(answer, task, own)
            if document is not None and not reasons:
                return Written(document.text, document.model_dump_json(), accepted=True, attempts=attempt + 1)
            again = render_prompt("again.md", reasons=reasons)
            messages = [
                first,
                {"role": "assistant", "content": answer[:LONGEST_REPORT]},
                {"role": "user", "content": again},
            ]
        return _fall_back(task, "; ".join(reasons), ATTEMPTS)


def read_answer(answer: str, task: Task, own: Document | None) -> tuple[Document | None, list[str]]:
    """The document of an answer, or None; and the reasons against it: what does not fit the schema, or differs from the facts."""
    start, end = answer.find("{"), answer.rfind("}") + 1  # models like to wrap JSON in words or ```
    try:
        found = _SCHEMAS[task.kind].model_validate_json(answer[start:end] if start >= 0 else answer)
    except ValidationError as error:
        if any(e["type"] == "json_invalid" for e in error.errors()):
            return None, ["it is not one JSON object"]
        places = {
            ".".join(str(part) for part in e["loc"] if isinstance(part, int) or part in _KEYS) for e in error.errors()
        }
        return None, [f"it does not fit the schema at {place or 'its top'}" for place in sorted(places)]
    document = complete_report(found.observations, found.verdict, task) if isinstance(found, Observed) else found
    return document, check_document(document, task, own)


_KEYS = {"observations", "verdict", "finding", "state", "findings", "impression"}


def _question(task: Task, own: Document | None, schema: dict[str, Any]) -> Message:
    shown = {"report": task.report, "pictures": len(task.pictures), "example": own.text if own else ""}
    text = render_prompt(f"{task.kind}.md", facts=task.content.to_json(), schema=json.dumps(schema), **shown)
    if not task.pictures:
        return {"role": "user", "content": text}
    urls = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in task.pictures]
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": text},
            *({"type": "image_url", "image_url": {"url": url}} for url in urls),
        ],
    }


def _fall_back(task: Task, reason: str, attempts: int, answered: bool = True) -> Written:
    """The template's text in place of the model's."""
    own = TemplateWriter().write(task)
    return Written(own.text, own.structure, False, attempts, answered, reason or own.reason)
