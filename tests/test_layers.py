"""Imports only go down the layers, and no two files import each other: every `import` is read, wherever it stands."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import chiasm

ROOT = Path(chiasm.__file__).parent

# From below. A package may use those of every lower layer, and itself; `errors` and `study` serve the other names beside them.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "vocabulary", "geometry", "splits"),
    ("study", "progress", "atomic", "documents", "registry"),
    ("recipe", "seals"),
    ("tensors", "checkpoint"),
    ("formats",),
    ("domains", "report"),
    ("sources",),
    ("cohort",),
    ("encoding",),
    ("metrics", "objectives"),
    ("audit",),
    ("models",),
    ("heads",),
    ("runtime", "summary"),
    ("run",),
    ("training", "prediction"),
    ("evaluation",),
    ("comparison",),
    ("tuning",),
    ("demo",),
    ("commands",),
    ("cli",),
)
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py")  # its names come from everywhere


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(("chiasm", *parts)).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path) -> Iterator[str]:
    """The modules of chiasm that a file imports, `from chiasm import x` and imports under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write chiasm.<package> instead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name.startswith("chiasm.") and name not in MODULES:
                name = name.rpartition(".")[0]
            if name.startswith("chiasm."):
                yield name


def package_of(module: str) -> str:
    return module.split(".")[1]


def test_every_package_has_its_layer() -> None:
    assert {package_of(module) for module in MODULES} == set(LAYER)


def test_imports_only_go_down_the_layers() -> None:
    upward = [
        f"{module} uses {used}"
        for module, file in MODULES.items()
        for used in imported(file)
        if package_of(used) != package_of(module)
        and LAYER[package_of(used)] >= LAYER[package_of(module)]
        and (module, package_of(used)) != ("chiasm.run.model", "heads")
    ]
    assert not upward


def test_no_files_import_each_other_in_a_circle() -> None:
    uses = {module: set(imported(file)) - {module} for module, file in MODULES.items()}
    left = dict(uses)
    while free := [module for module, used in left.items() if not used & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("module", MODULES)
def test_no_public_name_hides_a_module(module: str) -> None:
    """`import chiasm.a.b as x` gives the module, though a package might have another thing of that name."""
    found = importlib.import_module("chiasm")
    importlib.import_module(module)
    for part in module.split(".")[1:]:
        found = getattr(found, part)
    assert found is importlib.import_module(module)


@pytest.mark.parametrize("file", [ROOT / "__init__.py", *FILES], ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_is_of_one_operating_system_alone(file: Path) -> None:
    own = {"fcntl", "grp", "msvcrt", "posix", "pwd", "resource", "termios", "winreg"}
    tree = ast.walk(ast.parse(file.read_text("utf-8")))
    names = [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
    tree = ast.walk(ast.parse(file.read_text("utf-8")))
    names += [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
    assert not own & {name.partition(".")[0] for name in names}
