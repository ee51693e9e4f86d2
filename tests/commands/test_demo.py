"""The command `demo`."""

from pathlib import Path

import pytest
from command_line import answered, run


def test_demo_prints_its_metrics_and_where_its_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    metric = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 12}
    document = {"metrics": {"findings/macro/auroc": metric}, "page": "out/summary.html", "predictions": ["out/p.json"]}
    seen: list[Path] = []

    def run_demo(out: Path) -> dict[str, object]:
        seen.append(out)
        return document

    monkeypatch.setattr("chiasm.demo.run_demo", run_demo)
    assert answered("demo", "--out", tmp_path) == document
    lines = run("demo", "--out", tmp_path).stdout.splitlines()
    assert "findings, mean AUROC" in lines[2] and lines[2].endswith("0.800 (0.700 to 0.900)")
    assert lines[3:] == ["predictions of three new studies:", "out/p.json", "the page: out/summary.html"]
    assert seen == [tmp_path, tmp_path]
