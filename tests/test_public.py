"""The public names, and that importing them costs nothing until one is used."""

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import chiasm

NAMES = [
    *("ChiasmError", "Cohort", "Finding", "Geometry", "Image", "Kind", "Note", "Outcome", "Prediction", "Recipe"),
    *("Record", "Region", "Report", "State", "Study", "View"),
    *("cohort_from_studies", "compare", "embed", "evaluate", "import_cohort", "label_report", "load_predictor"),
    *("predict", "read_recipe", "register", "train", "train_baselines", "verify", "write_cohort", "write_texts"),
]

HEAVY = ("torch", "pandas", "numpy", "pyarrow", "lightning", "transformers", "pydantic", "yaml", "scipy")


def modules_after(code: str) -> set[str]:
    """The modules a fresh Python has loaded after running some code."""
    report = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_all_is_the_public_names() -> None:
    assert chiasm.__all__ == [*NAMES, "__version__"]
    assert chiasm.__version__ == version("chiasm")
    assert set(NAMES) <= set(dir(chiasm))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_is_no_module(name: str) -> None:
    assert callable(getattr(chiasm, name))


def test_type_checkers_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING bind exactly the public names."""
    tree = ast.parse(Path(chiasm.__file__).read_text("utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    bound = {
        alias.asname or alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert bound == set(NAMES)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = chiasm.no_such_name


def test_importing_chiasm_loads_none_of_its_rooms() -> None:
    loaded = modules_after("import chiasm")
    assert [name for name in loaded if name.startswith("chiasm.")] == []
    assert sorted(loaded & set(HEAVY)) == []


def test_the_command_line_loads_nothing_heavy_for_its_help() -> None:
    code = """
import contextlib, io, sys
from chiasm.cli import main
for command in ([], ["train"], ["import"]):
    sys.argv = ["chiasm", *command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()"""
    loaded = modules_after(code)
    assert "typer" in loaded
    assert sorted(loaded & set(HEAVY) - {"pydantic"}) == []  # typer itself reads options by pydantic
    own = {name for name in loaded if name.startswith("chiasm.")}
    assert {name for name in own if not name.startswith("chiasm.commands")} == {"chiasm.cli", "chiasm.errors"}


def test_the_labeler_needs_no_torch() -> None:
    assert modules_after("import chiasm; chiasm.label_report('No effusion.')") & {"torch", "pandas"} == set()
