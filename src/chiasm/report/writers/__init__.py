"""Writers of texts from what is known of a study: the template or a language model.

    template            deterministic, the default
    local:PATH          a GGUF file or a Hugging Face folder, through transformers
    openai:MODEL@URL    any server that speaks OpenAI's protocol

A language model's answer is checked by the labeler before it is accepted; one that differs from the facts is asked for
again, and in the end replaced by the template's text.
"""

from __future__ import annotations

from pathlib import Path

from chiasm.errors import InputError
from chiasm.report.writers.ask import LanguageModelWriter
from chiasm.report.writers.task import TEXT_KINDS, Task, TemplateWriter, Writer, Written

__all__ = ["TEXT_KINDS", "LanguageModelWriter", "Task", "TemplateWriter", "Writer", "Written", "open_writer"]

_FORMS = "template, local:PATH or openai:MODEL@URL"


def open_writer(name: str, *, seed: int = 0, allow_remote: bool = False) -> Writer:
    """The writer with a name as the user types it.

    Args:
        allow_remote: let a server outside this machine have patient data.

    Raises:
        InputError: no such writer, or a server outside this machine without `allow_remote`.
        WriterError: the model cannot be loaded. MissingExtraError: the extra `llm` is not installed.
    """
    kind, _, rest = name.partition(":")
    if name == "template":
        return TemplateWriter()
    if kind == "local" and rest:
        from chiasm.report.writers.local import LocalModel

        return LanguageModelWriter(LocalModel(Path(rest)), seed)
    if kind == "openai" and rest:
        from chiasm.report.writers.server import Server

        return LanguageModelWriter(Server.parse(rest, allow_remote), seed)
    raise InputError("unknown writer", expected=_FORMS, got=kind)
