"""Score a run, write the evidence and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.atomic import write_json
from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError, RunError
from chiasm.evaluation.arms import collect
from chiasm.evaluation.cases import draw_cases
from chiasm.evaluation.present import draw_confusions, draw_curves, draw_glass
from chiasm.evaluation.protocol import to_metrics, who_answered
from chiasm.evaluation.score import Scores, score
from chiasm.evaluation.spec import Evidence, read_truth
from chiasm.evaluation.store import SCHEMA, file_hash, read_evidence, write_evidence
from chiasm.evaluation.warnings import compute_warnings, leading_arms, report_leaks, tell_added
from chiasm.heads.head import Head, Section, open_heads
from chiasm.heads.spec import Case
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.metric import Metric
from chiasm.progress import Progress
from chiasm.recipe import Recipe, read_recipe
from chiasm.run.cohorts import open_recorded, record_cohort
from chiasm.run.fold_model import load_fold_models
from chiasm.run.folder import read_run
from chiasm.summary.page import Summary, write_page


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found and wrote.

    Attributes:
        metrics: by the names of `chiasm.metrics.metric`; warnings: sentences, the gravest first.
        facts: run, cohorts, counts, hashes; no identifier and no report text.
        out: the folder that holds evaluation.json, predictions/ and the page.
    """

    metrics: Mapping[str, Metric]
    warnings: Sequence[str]
    facts: Mapping[str, Any]
    out: Path

    @property
    def page(self) -> Path:
        return self.out / "summary.html"

    def to_json(self) -> str:
        """The content of evaluation.json."""
        return json.dumps(self.document(), indent=1, allow_nan=False)

    def document(self) -> dict[str, Any]:
        metrics = {name: metric.to_json() for name, metric in self.metrics.items()}
        return {"schema": SCHEMA, **self.facts, "warnings": list(self.warnings), "metrics": metrics}


def evaluate(run: Path | str, cohort: Path | str | None = None, out: Path | str | None = None) -> Evaluation:
    """Score a run on patients it has not seen, against its controls, and write figures, predictions and the page.

    Args:
        run: of `chiasm train`. Each fold model answers the patients of its own test split; folds are pooled, repeats averaged.
        cohort: another cohort (external validation): all its studies, the mean over the fold models. A cohort the run was
            trained on is taken by its test split, as if none were named.
        out: default RUN/evaluation, and RUN/evaluation-NAME for another cohort.

    Raises:
        RunError, CohortError: see the message; also where no study can be scored.
    """
    run = Path(run)
    info = read_run(run)
    other = None if cohort is None else Cohort.open(Path(cohort))
    if other is not None and other.hash in {entry["hash"] for entry in info["cohorts"]}:
        other = None
    name = "evaluation" if other is None else f"evaluation-{other.path.resolve().name}"
    folder = run / name if out is None else Path(out)
    fold_models = load_fold_models(run, None if other is None else [other])
    notes = list(info.get("notes", []))
    if cut := int(fold_models[0].loader.cut_reports.sum()):
        notes.append(f"{cut} reports are read only up to their word or sign {fold_models[0].plan.max_tokens}.")
    try:
        taught = fold_models if other is None else load_fold_models(run)
    except CohortError:
        taught = None
        notes.append("The cohort of the training is gone: there are no controls that need its patients.")
    evidence, shared = collect(fold_models, taught)
    return write_evaluation(run, evidence, fold_models[0].recipe, folder, notes, shared)


def write_evaluation(
    run: Path,
    evidence: Evidence,
    recipe: Recipe,
    folder: Path,
    notes: Sequence[str] = (),
    shared: Sequence[str] = (),
) -> Evaluation:
    """Store the evidence, score what was stored, and write evaluation.json and the page.

    Args:
        notes: what was switched off; shared: what training and test have in common, and should not.
    """
    _check(evidence, recipe, run)
    folder.mkdir(parents=True, exist_ok=True)
    write_evidence(evidence, folder / "predictions")
    facts = {**_facts(run, read_run(run), evidence, recipe, folder), "notes": list(notes), "shared": list(shared)}
    return _publish(run, evidence.pool.cohorts, recipe, folder, facts)


def publish(run: Path) -> Evaluation:
    """Write RUN/evaluation/evaluation.json and its page again from what is stored there: no model is asked.

    Raises:
        RunError, CohortError: it was not evaluated, or a cohort is gone or has changed.
    """
    folder = run / "evaluation"
    if not (folder / "evaluation.json").is_file():
        raise RunError("nothing was evaluated here", where=str(run), remedy=f"chiasm evaluate {run}")
    document = json.loads((folder / "evaluation.json").read_text("utf-8"))
    facts = {key: value for key, value in document.items() if key not in ("schema", "warnings", "metrics")}
    cohorts = [open_recorded(entry) for entry in facts["cohorts"]]
    return _publish(run, cohorts, read_recipe(run / "recipe.yaml"), folder, facts)


def _publish(
    run: Path, cohorts: Sequence[Cohort], recipe: Recipe, folder: Path, facts: Mapping[str, Any]
) -> Evaluation:
    evidence = read_evidence(folder / "predictions", cohorts)  # what is scored is what is stored
    case, heads = read_case(evidence, recipe), open_heads(evidence.question)
    truth = case.truth
    with Progress("scoring", 1):
        scores = score(evidence, case, heads)
    question, pool = evidence.question, evidence.pool
    leaks = report_leaks(question, truth, pool)
    leads = leading_arms(question, leaks)
    evaluation = Evaluation(
        to_metrics(scores, question, who_answered(facts), evidence.neighbour),
        [*facts["shared"], *_unbeaten(run, facts), *compute_warnings(evidence, truth, scores, leaks)],
        {
            **facts,
            "leads": list(leads),
            "data_notes": _data_notes(run, cohorts),
            "added": tell_added(question, pool, scores),
        },
        folder,
    )
    write_json(folder / "evaluation.json", evaluation.document())
    write_page(
        _summarize(evaluation, evidence, case, recipe, _sections(evidence, case, heads, scores)), evaluation.page
    )
    return evaluation


def _data_notes(run: Path, cohorts: Sequence[Cohort]) -> list[str]:
    """What users of the cohorts must know: of those the run was trained on, and of those it is tested on."""
    trained = [note for entry in read_run(run)["cohorts"] for note in entry.get("notes", ())]
    return list(dict.fromkeys([*trained, *(note for cohort in cohorts for note in cohort.notes)]))


def _unbeaten(run: Path, facts: Mapping[str, Any]) -> list[str]:
    """The plain baselines that a comparison of these very weights found the run not to beat."""
    path = run / "comparison" / "compare.json"
    if facts["external"] or not path.is_file():
        return []
    document = json.loads(path.read_text("utf-8"))
    if document["runs"][0]["weights"] != facts["weights"]:
        return [
            f"The comparison in {path.parent.name} is of an earlier training: chiasm compare {run.name} makes it again."
        ]
    return list(document["warnings"])


def read_case(evidence: Evidence, recipe: Recipe) -> Case:
    """What is true of the evidence's studies, and the resamples that the recipe asks for."""
    question, pool = evidence.question, evidence.pool
    truth = read_truth(question, pool, recipe.evaluate.age_bands)
    return Case(question, pool, truth, Resamples.draw(pool.patients, recipe.evaluate.resamples, seed=0))


def _sections(evidence: Evidence, case: Case, heads: Mapping[str, Head], scores: Scores) -> list[Section]:
    """The heads' parts of the page."""
    found = [heads[name].section(by_control, case, scores) for name, by_control in evidence.heads.items()]
    return [section for section in found if section is not None]


def _facts(run: Path, info: Mapping[str, Any], evidence: Evidence, recipe: Recipe, folder: Path) -> dict[str, Any]:
    pool, question = evidence.pool, evidence.question
    return {
        "recipe": info["recipe"],
        "run": str(run.resolve()),
        "cohorts": [record_cohort(c, (*question.text_sections, *question.description_sections)) for c in pool.cohorts],
        "external": question.external,
        "fold_models": len(info["fold_models"]),
        "folds": info["folds"],
        "repeats": info["repeats"],
        "modalities": list(question.modalities),
        "studies": len(pool),
        "patients": len(np.unique(pool.patients)),
        "resamples": recipe.evaluate.resamples,
        "seed": info["seed"],
        "versions": info["versions"],
        "made": datetime.now(UTC).date().isoformat(),
        "weights": {name: file_hash(run / name / "weights.safetensors") for name in info["fold_models"]},
        "predictions": {
            str(path.relative_to(folder / "predictions")): file_hash(path)
            for path in sorted((folder / "predictions").rglob("*"))
            if path.is_file()
        },
    }


def _check(evidence: Evidence, recipe: Recipe, run: Path) -> None:
    """Is there anything to score?"""
    if not len(evidence.pool):
        raise RunError(
            "there is no study to evaluate", got="0 test studies", where=str(run), remedy="train with --folds"
        )
    truth = read_truth(evidence.question, evidence.pool, recipe.evaluate.age_bands)
    if not any(mask.any() for mask in truth.mask.values()) and not any(truth.references) and not evidence.heads:
        raise CohortError(
            "no tested study has a known value of any target of the run",
            expected=", ".join(f"{t} ({', '.join(labels)})" for t, labels in evidence.question.targets.items()),
            got=", ".join(sorted({t for c in evidence.pool.cohorts for t in c.targets})) or "no target",
            where=", ".join(str(cohort.path) for cohort in evidence.pool.cohorts),
            remedy="evaluate on a cohort with one of these targets",
        )


def _summarize(
    evaluation: Evaluation,
    evidence: Evidence,
    case: Case,
    recipe: Recipe,
    sections: Sequence[Section],
) -> Summary:
    """What the page shows."""
    facts, leads, truth = evaluation.facts, tuple(evaluation.facts["leads"]), case.truth
    cases, cases_chosen = draw_cases(evidence, truth)
    return Summary(
        title=recipe.name,
        about=recipe.about,
        facts=_shown(facts),
        protocol=_protocol(facts),
        metrics=evaluation.metrics,
        warnings=evaluation.warnings,
        notes=facts["notes"],
        commands=_commands(facts, evaluation.out),
        leads=leads,
        curves=draw_curves(evidence, truth, case.resamples, leads[0]),
        confusions=draw_confusions(evidence, truth, leads[0]),
        sections=sections,
        data_notes=facts["data_notes"],
        added=facts["added"],
        opted_in=evidence.question.opted_in,
        cases=cases,
        cases_chosen=cases_chosen,
        glass=draw_glass(evidence),
        coverage=evidence.question.coverage if any(n.endswith("/coverage") for n in evaluation.metrics) else None,
    )


def _protocol(facts: Mapping[str, Any]) -> str:
    """The sentence under the title."""
    who = f"{facts['patients']:,} patients ({facts['studies']:,} studies)"
    if facts["external"]:
        many = f"; answers are the mean of {facts['fold_models']} models" if facts["fold_models"] > 1 else ""
        return f"External validation: {who} of a cohort that took no part in training{many}."
    if facts["fold_models"] > 1:
        many = f"the mean of {facts['repeats']} models" if facts["repeats"] > 1 else "a model"
        return f"{who}, each answered by {many} that never saw the patient: {facts['folds']} patient folds, pooled."
    return f"{who} of the test split: no part of training, calibration or the choice of a threshold saw them."


def _shown(facts: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the header of the page."""
    cohorts = {f"{c['source']} · {c['hash'][:12]}": None for c in facts["cohorts"]}
    weights = [digest[:12] for digest in facts["weights"].values()]
    return {
        "Cohort": ", ".join(cohorts),
        "Inputs": ", ".join(facts["modalities"]),
        "Models": f"{facts['fold_models']} · weights {weights[0]}" + (" …" if len(weights) > 1 else ""),
        "Intervals": f"95%, {facts['resamples']:,} resamples of patients",
        "Made": facts["made"],
        "Versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "Seed": str(facts["seed"]),
    }


def _commands(facts: Mapping[str, Any], out: Path) -> list[str]:
    run, cohorts = facts["run"], " ".join(entry["path"] for entry in facts["cohorts"])
    verify = f"chiasm verify {run if out.resolve().parent == Path(run) else out.resolve()}"
    folds = f" --folds {facts['folds']} --repeats {facts['repeats']}" if facts["fold_models"] > 1 else ""
    if facts["external"]:
        return [f"chiasm evaluate {run} {cohorts}", verify]
    train = f"chiasm train {run}/recipe.yaml {cohorts} --out NEW_RUN{folds}"
    return [train, "chiasm evaluate NEW_RUN", verify]
