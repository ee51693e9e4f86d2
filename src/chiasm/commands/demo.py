"""The command that shows the whole road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from chiasm.commands.answer import Answer


def demo(
    out: Annotated[Path, Option(help="Folder to create for the cohort, run, predictions and summary page.")] = Path(
        "demo"
    ),
) -> Answer:
    """Train and test a model on a generated cohort, in minutes."""
    from chiasm.demo import render_demo, run_demo

    document = run_demo(out)
    return Answer(document, render_demo(document))
