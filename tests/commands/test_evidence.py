"""The commands on evidence: how they print metrics, warnings and differences."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from command_line import answered, run


def test_evaluate_prints_the_leading_metrics_and_the_warnings(monkeypatch) -> None:
    figure = {"value": 0.81234, "low": 0.7, "high": 0.9, "n": 12, "protocol": "p"}
    undefined = {"value": None, "low": None, "high": None, "n": 12, "protocol": "p", "reason": "one class"}
    names = ["mass/auroc", "hernia/auroc", "macro/auroc", "mass/ece", "macro/ece", "mass/brier", "mass/auroc@sex=f"]
    metrics: dict[str, Any] = {f"findings/{name}": figure for name in names}
    metrics |= {"findings/hernia/auroc": undefined, "image:findings/mass/auroc": figure, "outcome/event/ece": figure}
    evaluation = SimpleNamespace(
        document=lambda: {"metrics": metrics},
        record=SimpleNamespace(lead=["The question is a mass."]),
        warnings=["a shortcut comes close"],
        page=Path("r/evaluation/summary.html"),
    )
    monkeypatch.setattr("chiasm.evaluation.evaluate.evaluate", lambda *_: evaluation)
    assert answered("evaluate", "r")["metrics"] == metrics
    assert [" ".join(line.split()) for line in run("evaluate", "r").stdout.splitlines()] == [
        "The question is a mass.",
        "",
        "findings/mass/auroc 0.812 [0.700, 0.900] n=12",
        "findings/macro/auroc 0.812 [0.700, 0.900] n=12",
        "findings/macro/ece 0.812 [0.700, 0.900] n=12",
        "outcome/event/ece 0.812 [0.700, 0.900] n=12",
        "undefined metrics: 1 (one class)",
        "warning: a shortcut comes close",
        "the page: r/evaluation/summary.html",
    ]


def test_a_run_of_another_schema_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 99, "versions": {"chiasm": "9.9"}}', "utf-8")
    result = run("evaluate", tmp_path)
    assert result.exit_code == 1
    assert "schema 99" in result.stderr


def test_verify_fails_on_a_difference(monkeypatch) -> None:
    monkeypatch.setattr("chiasm.evaluation.verify.verify", lambda _: ["findings/mass/auroc: 0.8 is 0.7"])
    result = run("verify", "r", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"differences": ["findings/mass/auroc: 0.8 is 0.7"]}
    assert "1 metrics differ" in result.stderr
    assert run("verify", "r").stdout == ""
