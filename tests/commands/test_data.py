"""The commands on data: what they print, and what they say of inputs that cannot be read."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import answered, run


def test_sources_and_recipes_are_listed() -> None:
    from chiasm.recipe import recipe_names
    from chiasm.registry import SOURCES

    assert [s["name"] for s in answered("sources")["sources"]] == list(SOURCES)
    assert [r["name"] for r in answered("recipes")["recipes"]] == recipe_names()
    assert all(name in run("sources").stdout for name in SOURCES)


def test_import_of_a_phantom_passes_options_and_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "c"
    options = ["--option", "studies=12", "--option", "size=64"]
    document = answered("import", "phantom-chest", "--out", out, "--size", 64, "--seed", 3, *options)
    meta = json.loads((out / "cohort.json").read_text("utf-8"))
    assert (meta["counts"]["studies"], meta["size"], meta["seed"]) == (12, 64, 3)
    assert document == {"cohort": str(out), "hash": meta["hash"], "counts": meta["counts"]}
    again = run("import", "phantom-chest", "--out", out)
    assert again.exit_code == 1
    assert str(out) in again.stderr


def test_import_of_a_table_with_a_map_counts_what_it_skipped(tmp_path: Path) -> None:
    rows = ["pid,txt,dead", "p1,No effusion.,0", "p2,Mass.,1", ",Lost.,0"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", "utf-8")
    columns = {"patient": "pid", "report": "txt", "outcomes": [{"column": "dead"}]}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(columns), "utf-8")
    arguments = ["import", "table", tmp_path / "t.csv", "--map", tmp_path / "map.yaml", "--out", tmp_path / "c"]
    result = run(*arguments, "--split", "hash")
    assert result.exit_code == 0, result.stderr
    assert "2 studies" in result.stdout
    assert "1 inputs were skipped" in result.stdout
    assert "rejected.csv" in result.stdout
    strict = run(*arguments[:-1], tmp_path / "d", "--strict")
    assert strict.exit_code == 1
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel", "x"], "did you mean table?"),
        (["openi", "no/such/folder"], "no/such/folder"),
        (["phantom-chest", "--option", "studeis=3"], "did you mean studies?"),
        (["phantom-chest", "--option", "studies"], "--option needs KEY=VALUE"),
        (["phantom-chest", "--option", "studies=["], "not YAML"),
        (["phantom-chest", "--volume-size", "64,64"], "needs three numbers"),
    ],
)
def test_import_says_what_it_cannot_import_and_leaves_no_folder(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run("import", *arguments, "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "c").exists()


def test_inspect_prints_a_document_and_text_and_refuses_what_is_no_cohort(phantom) -> None:
    document = answered("inspect", phantom.path)
    assert document
    assert run("inspect", phantom.path).stdout.strip()
    assert run("inspect", "no-cohort").exit_code == 1


def test_label_reads_a_text_and_a_cohort(tmp_path: Path, phantom) -> None:
    (tmp_path / "r.txt").write_text("FINDINGS: No effusion.", "utf-8")
    document = answered("label", tmp_path / "r.txt", "--out", tmp_path / "l.csv")
    assert document == {
        "labels": str(tmp_path / "l.csv"),
        "details": None,
        "notes": None,
        "reports": 1,
        "silent": 0,
        "repeated": 0,
        "rejected": 0,
    }
    document = answered("label", phantom.path, "--out", tmp_path / "l.csv", "--scheme", "chestxray14")
    assert document["reports"] == phantom.meta["counts"]["reports"]
    assert document["reports"] + document["rejected"] == len(phantom), "a study without a report is said to have none"
    lines = (tmp_path / "l.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("filename,Atelectasis,")
    assert {line.split(",")[0] for line in lines[1:]} <= set(phantom.studies["study_id"])
    assert run("label", tmp_path / "no.txt", "--out", tmp_path / "l.csv").exit_code == 1


def test_label_says_which_reports_it_did_not_understand(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("A dog.", "utf-8")
    said = run("label", tmp_path / "r.txt", "--out", tmp_path / "l.csv").stdout
    assert "labels of 1 report in" in said and "1 mention no finding" in said
    assert f"the reasons are in {tmp_path / 'l.notes.csv'}" in said
    (tmp_path / "l.csv").unlink()
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "text": "Mass."}\n{"id": 1, "text": "No mass."}\n{\n', "utf-8")
    said = run("label", tmp_path / "twice.jsonl", "--out", tmp_path / "l.csv").stdout
    assert "1 have an id that another row has too; 1 inputs were not labelled" in said


def test_write_says_what_became_of_every_text(phantom, tmp_path) -> None:
    cohort = shutil.copytree(phantom.path, tmp_path / "cohort")
    document = json.loads(run("write", str(cohort), "--limit", "5", "--json").stdout)
    assert (document["kind"], document["written"], document["acceptance"]) == ("structured-report", 5, 1.0)
    text = run("write", str(cohort)).stdout
    assert f"{len(phantom)} of {len(phantom)} studies have a text of this writer" in text
    assert f"studies processed now: {len(phantom) - 5}; done before: 5" in text
    assert f"accepted: {len(phantom)} of {len(phantom)} (100%)" in text, "the rate is of all that stand"
    again = json.loads(run("write", str(cohort), "--json").stdout)
    assert (again["written"], again["acceptance"]) == (0, 1.0)
    described = run("write", str(cohort), "--kind", "image-description")
    assert "have no text: there is nothing to write from (no region drawn" in described.stdout
    silent = int(described.stdout.split("silent: ")[1].split()[0])
    assert silent > 0 and f"{len(phantom) - silent} of {len(phantom)} studies have a text" in described.stdout


def test_write_refuses_what_is_no_cohort_and_unknown_kinds(tmp_path) -> None:
    assert "this is no cohort" in run("write", str(tmp_path)).stderr
    assert run("write", str(tmp_path), "--kind", "poem").exit_code == 2
