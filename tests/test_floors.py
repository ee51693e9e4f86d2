"""The house has floors, and imports only go down. Every `import` of every module is read, wherever it stands in the file."""

import ast
from pathlib import Path

import chiasm

ROOT = Path(chiasm.__file__).parent

# From the ground up. A room may use the rooms of every lower floor and itself.
FLOORS: tuple[set[str], ...] = (
    {"errors", "vocabulary", "geometry", "study", "recipe", "progress"},
    {"tensors", "plan", "levels", "checkpoint"},
    {"cohort", "report", "models", "metrics"},
    {"objectives", "summary"},
    {"members"},
    {"predict", "calibrate"},
    {"evaluate"},
    {"train"},
    {"demo", "compare"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
BESIDE = {("cohort", "report"), ("study", "geometry"), ("plan", "levels"), ("recipe", "errors"), ("progress", "errors")}


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    """The rooms of chiasm a file imports from, `from chiasm import x` and relative imports included."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write chiasm.<room> instead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("chiasm.")}
    return rooms


def test_imports_only_go_down() -> None:
    files = [
        file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py"
    ]  # the public names come from everywhere
    assert {room_of(file) for file in files} == set(FLOOR), "every room has its floor, and every floor its rooms"
    upward = [
        f"{file.relative_to(ROOT)} uses {used}"
        for file in files
        for used in imported_rooms(file) - {room_of(file)}
        if FLOOR.get(used, 99) >= FLOOR[room_of(file)] and (room_of(file), used) not in BESIDE
    ]
    assert not upward
