"""The program `chiasm` in this process."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from chiasm.cli import app


def run(*arguments: object) -> Result:
    """A command with its arguments, and what it printed."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answered(*arguments: object) -> Any:
    """The JSON document of a command that must succeed."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)
