"""The command line. A command imports what it needs when it runs, so `chiasm --help` answers at once.

A command is a plain function that returns an `Answer`; what all of them share is added here: `--json`, `--debug`, error
messages, and exit codes: 0 done, 1 the work failed (one message), 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from chiasm.commands import data, demo, evidence, models
from chiasm.commands.answer import Answer
from chiasm.errors import ChiasmError

app = typer.Typer(
    name="chiasm",
    help="Train, evaluate and use models that read a medical image, the radiology report and the patient's record "
    "together. Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS: dict[str, Callable[..., Answer]] = {
    "demo": demo.demo,
    "sources": data.sources,
    "recipes": models.recipes,
    "import": data.import_,
    "inspect": data.inspect,
    "label": data.label,
    "write": data.write,
    "train": models.train,
    "tune": models.tune,
    "evaluate": evidence.evaluate,
    "compare": evidence.compare,
    "predict": models.predict,
    "verify": evidence.verify,
}
"""The name of each command -> its function, in the order of the help."""

Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
_SHARED = [
    inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
    inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug),
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Options that stand before the command."""
    context.obj = debug
    log = logging.getLogger("chiasm")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Log) for handler in log.handlers):
        log.addHandler(_Log())
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"chiasm {version_of('chiasm')}")
        raise typer.Exit()


class _Log(logging.Handler):
    """The log of chiasm's own packages on standard error, one line a record."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def _framed(function: Callable[..., Answer]) -> Callable[..., None]:
    """A command with the options, error messages and exit codes that all commands share."""

    @functools.wraps(function)
    def run(*, context: typer.Context, as_json: bool, debug: bool, **arguments: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints, standard output is the answer
                answer = function(**arguments)
            printed = json.dumps(answer.document, indent=1, allow_nan=False) if as_json else answer.text
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, BrokenPipeError):
                raise
            if debug or context.obj:
                traceback.print_exc()
            answer = _failure(error)
            printed = json.dumps(answer.document, indent=1)
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise typer.Exit(answer.code)  # a further process of one training: the first one speaks for all
        if as_json or not answer.code:
            typer.echo(printed)
        if answer.code:
            typer.echo(answer.text, err=True)
            raise typer.Exit(answer.code)

    signature = inspect.signature(function, eval_str=True)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *_SHARED])  # type: ignore[attr-defined]
    return run


def _failure(error: BaseException) -> Answer:
    """One message. A fault of chiasm's own shows where it was raised, but not its words: they may hold patient data."""
    if isinstance(error, KeyboardInterrupt):
        text = ", ".join(["interrupted", *map(str, error.args)])
        return Answer({"error": {"kind": "Interrupted", "what": text}}, text, 130)
    if isinstance(error, ChiasmError):
        details = {key: getattr(error, key) for key in ("what", "expected", "got", "where", "remedy")}
        return Answer({"error": {"kind": type(error).__name__, **details}}, f"error: {error}", 1)
    if isinstance(error, OSError) and error.strerror:
        details = {"what": error.strerror, "where": str(error.filename or "")}
        return Answer(
            {"error": {"kind": "OSError", **details}}, f"error: {details['what']}\n  where: {details['where']}", 1
        )
    home = Path(__file__).parent
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(home)][-1]
    place = f"{Path(own.filename).relative_to(home).as_posix()}:{own.lineno}"
    what = f"this is a bug in chiasm: {type(error).__name__} at {place}"
    text = f"{what}\n  what to do: report it with the output of --debug"
    return Answer({"error": {"kind": "Bug", "what": what}}, text, 1)


for _name, _function in COMMANDS.items():
    app.command(_name)(_framed(_function))


def main() -> None:
    """The entry point of the program `chiasm`."""
    # OpenMP's threads spin while they wait for each other; on a machine that is busy otherwise each wait then costs a
    # time slice, and the many small steps of an LSTM run fifty times as long. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is unfinished is removed, as after Ctrl-C
    app(prog_name="chiasm")
