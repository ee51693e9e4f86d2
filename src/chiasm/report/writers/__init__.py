"""Writers: from the facts of a study to a text, by the template or by a language model.

    template            deterministic, the default
    local:PATH          a GGUF file or a Hugging Face folder, through transformers
    openai:MODEL@URL    any server that speaks OpenAI's protocol

A language model's answer is read again before it is taken; one that says another thing than the facts is asked again, and
in the end replaced by the template.
"""

from __future__ import annotations

from pathlib import Path

from chiasm.errors import InputError
from chiasm.report.writers.ask import Asking
from chiasm.report.writers.task import KINDS, Task, Template, Writer, Written

__all__ = ["KINDS", "Asking", "Task", "Template", "Writer", "Written", "open_writer"]

_FORMS = "template, local:PATH or openai:MODEL@URL"


def open_writer(name: str, *, seed: int = 0, allow_remote: bool = False) -> Writer:
    """The writer of a name as it is typed.

    Args:
        allow_remote: let a server outside this machine have patient data.

    Raises:
        InputError: no such writer, or a server outside this machine without `allow_remote`.
        WriterError: the model cannot be loaded. MissingExtraError: the extra `llm` is not installed.
    """
    kind, _, rest = name.partition(":")
    if name == "template":
        return Template()
    if kind == "local" and rest:
        from chiasm.report.writers.local import LocalModel

        return Asking(LocalModel(Path(rest)), seed)
    if kind == "openai" and rest:
        from chiasm.report.writers.server import Server

        return Asking(Server.parse(rest, allow_remote), seed)
    raise InputError("there is no such writer", expected=_FORMS, got=kind)
