"""docs/python.md runs from its first line to its last and names what is public; each notebook runs."""

import json
import re
from pathlib import Path

import pytest

import chiasm
from chiasm.recipe import recipe_names

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def test_the_page_runs_one_block_after_the_other_to_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(names["joined"]) == len(names["answers"]) > 0
    assert names["ours"] == pytest.approx(names["theirs"])
    assert [p.used for p in names["many"]][1] == ("image",)
    assert names["one"].used == ("image", "text", "record")
    assert len(names["vectors"]) == 200


def test_the_page_names_every_public_name():
    told = set(re.findall(r"`(\w+)`", PAGE.split("## In a notebook")[1]))
    assert set(chiasm.__all__) <= told


def cells(notebook: Path) -> list[str]:
    """The code of a notebook, as nbformat 4 keeps it."""
    document = json.loads(notebook.read_text("utf-8"))
    assert document["nbformat"] == 4
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells(notebook):
        exec(compile(cell, notebook.name, "exec"), names)
    assert names["evaluation"].metrics


def test_each_system_has_a_notebook_without_outputs():
    used = {notebook.stem: "\n".join(cells(notebook)) for notebook in NOTEBOOKS}
    assert set(used) == {"report-fusion", "fusion-families", "report-grounding", "stroke-prognosis"}
    for name, code in used.items():
        assert any(f'"{recipe}"' in code for recipe in recipe_names()), name
        document = json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
        assert not any(cell.get("outputs") for cell in document["cells"])
