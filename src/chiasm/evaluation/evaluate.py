"""Score a run, write the evidence and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from chiasm.atomic import write_json
from chiasm.cohort.store import Cohort, CohortLike, open_cohorts
from chiasm.errors import CohortError, RunError
from chiasm.evaluation.arms import collect
from chiasm.evaluation.case_maps import map_cases
from chiasm.evaluation.cases import choose_cases, draw_cases
from chiasm.evaluation.frames import metrics_frame, predictions_frame
from chiasm.evaluation.lead import Lead, tell_lead
from chiasm.evaluation.ledger import count_configurations, record_evaluation
from chiasm.evaluation.present import draw_confusions, draw_curves, draw_glass
from chiasm.evaluation.protocol import to_metrics
from chiasm.evaluation.score import Scores, score
from chiasm.evaluation.selected import selected_metrics, tell_selection, tell_tried
from chiasm.evaluation.shift import find_shift, tell_shift
from chiasm.evaluation.spec import Evidence, read_truth
from chiasm.evaluation.store import read_evidence, write_evidence
from chiasm.evaluation.warnings import (
    column_leaks,
    compute_warnings,
    few_in_training,
    leading_arms,
    report_leaks,
    tell_added,
)
from chiasm.heads.head import Head, Section, open_heads
from chiasm.heads.spec import Case
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.progress import Progress
from chiasm.recipe import Recipe, read_recipe
from chiasm.run.cohorts import open_recorded, record_cohort
from chiasm.run.ensemble import predict_together
from chiasm.run.fold_model import FoldModelOver, load_fold_models, over_own_cohorts
from chiasm.run.folder import Run, RunLike, folder_of, read_run
from chiasm.run.records import Compared, Difference, Evaluated, read_compared, read_evaluated
from chiasm.run.seen import count_seen
from chiasm.run.selection import Selection, read_selection
from chiasm.run.split import read_split
from chiasm.seals import file_hash
from chiasm.study import html_table
from chiasm.summary.page import Selected, Summary, write_page
from chiasm.summary.tables import Names, leading, number


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found and wrote.

    Attributes:
        record: the content of evaluation.json. out: the folder that holds it, predictions/ and the page.
    """

    record: Evaluated
    out: Path

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """By the names of `chiasm.metrics.name`."""
        return self.record.metrics

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences, the gravest first."""
        return self.record.warnings

    @property
    def page(self) -> Path:
        return self.out / "summary.html"

    def __repr__(self) -> str:
        lead = self.record.lead[0] if self.record.lead else f"{len(self.metrics)} figures"
        return f"<Evaluation of {self.record.recipe} on {self.record.patients} patients: {lead}>"

    def _repr_html_(self) -> str:
        named = {parse_name(name): m for name, m in self.metrics.items()}
        rows = [
            (name, number(m.value), "" if m.low is None else f"{number(m.low)} to {number(m.high)}", m.n)
            for name in leading(named)
            for m in [named[name]]
        ]
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in (*self.record.lead, *self.warnings))
        return said + html_table(str(self.page), ("figure", "value", "95% interval", "patients"), rows)

    def frame(self) -> pd.DataFrame:
        """Every figure, as `chiasm.evaluation.frames.metrics_frame`."""
        return metrics_frame(self.metrics)

    def predictions(self, arm: str = "") -> pd.DataFrame:
        """What an arm said of each tested study, beside the truth, as `chiasm.evaluation.frames.predictions_frame`.

        Raises:
            CohortError: a cohort of the evaluation is gone or has changed. InputError: no such arm.
        """
        cohorts = [open_recorded(recorded) for recorded in self.record.cohorts]
        return predictions_frame(read_evidence(self.out / "predictions", cohorts), arm)

    def document(self) -> dict[str, Any]:
        """The content of evaluation.json, as JSON has it."""
        return self.record.to_json()


def evaluate(run: RunLike, cohort: CohortLike | None = None, out: Path | str | None = None) -> Evaluation:
    """Score a run on patients it has not seen, against its controls, and write figures, predictions and the page.

    Args:
        run: of `chiasm train`. Each fold model answers the patients of its own test split; folds are pooled, repeats averaged.
        cohort: another cohort (external validation): all its studies, the mean over the fold models. A cohort the run was
            trained on is taken by its test split, as if none were named.
        out: default RUN/evaluation, and RUN/evaluation-NAME for another cohort.

    Raises:
        RunError, CohortError: see the message; also where no study can be scored.
    """
    run = folder_of(run)
    info = read_run(run)
    (other,) = [None] if cohort is None else open_cohorts(cohort, on_disk=True)
    if other is not None and other.hash in {recorded.hash for recorded in info.cohorts}:
        other = None
    name = "evaluation" if other is None else f"evaluation-{other.path.resolve().name}"
    folder = run / name if out is None else Path(out)
    loaded = load_fold_models(run)
    fold_models = over_own_cohorts(run, loaded) if other is None else [each.over([other]) for each in loaded]
    notes = list(info.notes)
    if truncated := int(fold_models[0].loader.truncated_reports.sum()):
        notes.append(f"{truncated} reports are read only up to their word or sign {fold_models[0].plan.max_tokens}.")
    try:
        taught = fold_models if other is None else over_own_cohorts(run, loaded)
    except CohortError:
        taught = None
        notes.append("The cohort of the training is gone: there are no controls that need its patients.")
    evidence, shared = collect(fold_models, taught)
    evidence = _explain_cases(fold_models, evidence, fold_models[0].recipe)
    if other is not None and info.init is not None:
        before: set[str] = set().union(*(read_split(run / name).seen_before for name in info.fold_models))
        if patients := count_seen([other], [np.arange(len(other))], before):
            shared = [*shared, f"{patients} of the tested patients were seen by the run that the encoders begin with."]
    shift = find_shift(fold_models, taught) if other is not None and taught is not None else ()
    if unwritten := record_evaluation(run, evidence.pool):
        notes.append(unwritten)
    few = few_in_training(evidence.question, taught) if taught is not None else []
    return write_evaluation(run, evidence, read_recipe(run / "recipe.yaml"), folder, notes, shared, few, shift)


def _explain_cases(fold_models: Sequence[FoldModelOver], evidence: Evidence, recipe: Recipe) -> Evidence:
    """With what each column of the record and each place of the image added, of the example cases, by who answered them."""
    truth = read_truth(evidence.question, evidence.pool, recipe.evaluate.age_bands)
    number, places = choose_cases(evidence, truth)
    pool, offsets = evidence.pool, fold_models[0].loader.offsets
    found: dict[int, list[tuple[str, float, float]]] = {}
    for place in places:
        index = np.array([offsets[pool.cohort[place]] + pool.row[place]], np.int64)
        (told,) = predict_together([fold_models[m] for m in pool.fold_model[place]], index)
        own = {
            column: (each[number], told.record_errors[column][number])
            for column, each in told.record_contributions.items()
            if number in each
        }
        if own:
            found[place] = [(column, share, error) for column, (share, error) in own.items()]
    return replace(evidence, columns=found, maps=map_cases(fold_models, evidence, number, places))


def write_evaluation(
    run: Path,
    evidence: Evidence,
    recipe: Recipe,
    folder: Path,
    notes: Sequence[str] = (),
    shared: Sequence[str] = (),
    few: Sequence[str] = (),
    shift: Sequence[Difference] = (),
) -> Evaluation:
    """Store the evidence, score what was stored, and write evaluation.json and the page.

    Args:
        notes: what was switched off; shared: what training and test have in common, and should not; few: what training or
            calibration had too few patients of. shift: in what the studies of another cohort differ from those of training.
    """
    _check(evidence, recipe, run)
    folder.mkdir(parents=True, exist_ok=True)
    write_evidence(evidence, folder / "predictions")
    record = _record(run, read_run(run), evidence, recipe, folder)
    record = replace(
        record,
        notes=tuple(notes),
        shared=tuple(shared),
        few=tuple(few),
        shift=tuple(shift),
        internal=_internal(run, record),
    )
    return _publish(run, evidence.pool.cohorts, recipe, folder, record)


def _internal(run: Path, record: Evaluated) -> dict[str, Metric]:
    """Of an external cohort, the leading figures of the same weights on the run's own patients; none before they are made."""
    if not record.external or not (run / "evaluation" / "evaluation.json").is_file():
        return {}
    own = read_evaluated(run / "evaluation")
    if own.weights != record.weights:
        return {}
    names = {parse_name(name): metric for name, metric in own.metrics.items()}
    return {str(name): names[name] for name in leading(names)}


def publish(run: Path) -> Evaluation:
    """Write RUN/evaluation/evaluation.json and its page again from what is stored there: no model is asked.

    Raises:
        RunError, CohortError: it was not evaluated, or a cohort is gone or has changed.
    """
    folder = run / "evaluation"
    if not (folder / "evaluation.json").is_file():
        raise RunError("nothing was evaluated here", where=str(run), remedy=f"chiasm evaluate {run}")
    record = read_evaluated(folder)
    cohorts = [open_recorded(recorded) for recorded in record.cohorts]
    return _publish(run, cohorts, read_recipe(run / "recipe.yaml"), folder, record)


def _publish(run: Path, cohorts: Sequence[Cohort], recipe: Recipe, folder: Path, record: Evaluated) -> Evaluation:
    evidence = read_evidence(folder / "predictions", cohorts)  # what is scored is what is stored
    case, heads = read_case(evidence, recipe), open_heads(evidence.question)
    truth = case.truth
    with Progress("scoring", 1):
        scores = score(evidence, case, heads)
    question, pool = evidence.question, evidence.pool
    leaks = report_leaks(question, truth, pool)
    selection = None if record.external else read_selection(run)
    metrics = to_metrics(scores, evidence, record)
    metrics |= selected_metrics(selection, metrics)
    leads, columns = leading_arms(question, leaks), column_leaks(question, pool.cohorts)
    compared, unbeaten = _compared(run, record)
    lead = tell_lead(evidence, scores, leads, columns, compared)
    record = replace(
        record,
        tried=count_configurations(run, pool),
        lead=tuple(sentence for each in lead for sentence in each.sentences),
        leads=leads,
        data_notes=_data_notes(run, cohorts),
        added=tuple(tell_added(question, pool, scores)),
        warnings=(
            *record.shared,
            *unbeaten,
            *compute_warnings(evidence, truth, scores, leaks, columns, leads),
            *record.few,
        ),
        metrics={str(name): metric for name, metric in metrics.items()},
    )
    evaluation = Evaluation(record, folder)
    write_json(folder / "evaluation.json", evaluation.document())
    sections = _sections(evidence, case, heads, scores)
    selected = tell_selection(selection, metrics) if selection is not None else Selected([tell_tried(record.tried)])
    summary = _summarize(evaluation, metrics, evidence, case, recipe, sections, lead)
    write_page(replace(summary, selected=selected, commands=_commands(record, folder, selection)), evaluation.page)
    return evaluation


def _data_notes(run: Path, cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    """What users of the cohorts must know: of those the run was trained on, and of those it is tested on."""
    return tuple(dict.fromkeys([*read_run(run).data_notes, *(note for cohort in cohorts for note in cohort.notes)]))


def _compared(run: Path, record: Evaluated) -> tuple[Compared | None, tuple[str, ...]]:
    """The comparison of these very weights, and the plain baselines that it found unbeaten; or that it is of other weights."""
    folder = run / "comparison"
    if record.external or not (folder / "compare.json").is_file():
        return None, ()
    compared = read_compared(folder)
    if compared.runs[0].weights == record.weights:
        return compared, compared.warnings
    return None, (
        f"The comparison in {folder.name} is of an earlier training: chiasm compare {run.name} makes it again.",
    )


def read_case(evidence: Evidence, recipe: Recipe) -> Case:
    """What is true of the evidence's studies, and the resamples that the recipe asks for."""
    question, pool = evidence.question, evidence.pool
    truth = read_truth(question, pool, recipe.evaluate.age_bands)
    return Case(question, pool, truth, Resamples.draw(pool.patients, recipe.evaluate.resamples, seed=0))


def _sections(evidence: Evidence, case: Case, heads: Mapping[str, Head], scores: Scores) -> list[Section]:
    """The heads' parts of the page."""
    found = [heads[name].section(by_control, case, scores) for name, by_control in evidence.heads.items()]
    return [section for section in found if section is not None]


def _record(run: Path, info: Run, evidence: Evidence, recipe: Recipe, folder: Path) -> Evaluated:
    pool, question = evidence.pool, evidence.question
    sections = (*question.text_sections, *question.description_sections)
    return Evaluated(
        recipe=info.recipe,
        run=str(run.resolve()),
        cohorts=tuple(record_cohort(cohort, sections) for cohort in pool.cohorts),
        external=question.external,
        fold_models=len(info.fold_models),
        folds=info.folds,
        repeats=info.repeats,
        modalities=tuple(question.modalities),
        studies=len(pool),
        patients=len(np.unique(pool.patients)),
        resamples=recipe.evaluate.resamples,
        seed=info.seed,
        versions=info.versions,
        init=info.init.path if info.init is not None else "",
        made=datetime.now(UTC).date().isoformat(),
        weights={name: file_hash(run / name / "weights.safetensors") for name in info.fold_models},
        predictions={
            str(path.relative_to(folder / "predictions")): file_hash(path)
            for path in sorted((folder / "predictions").rglob("*"))
            if path.is_file()
        },
    )


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
    metrics: Names,
    evidence: Evidence,
    case: Case,
    recipe: Recipe,
    sections: Sequence[Section],
    lead: Sequence[Lead],
) -> Summary:
    """What the page shows."""
    record, leads, truth = evaluation.record, evaluation.record.leads, case.truth
    cases, cases_chosen = draw_cases(evidence, truth)
    return Summary(
        title=recipe.name,
        about=recipe.about,
        facts=_shown(record),
        protocol=_protocol(record),
        metrics=metrics,
        warnings=evaluation.warnings,
        notes=record.notes,
        leads=leads,
        lead={each.name: each.sentences for each in lead},
        beside={each.name: each.beside for each in lead},
        metadata=evidence.arms["metadata_only"].detail("", "") if "metadata_only" in evidence.arms else "",
        curves=draw_curves(evidence, truth, case.resamples, leads[0]),
        confusions=draw_confusions(evidence, truth, leads[0]),
        sections=sections,
        data_notes=record.data_notes,
        added=record.added,
        opted_in=evidence.question.opted_in,
        cases=cases,
        cases_chosen=cases_chosen,
        glass=draw_glass(evidence),
        shift=tell_shift(record.shift, record.internal, record.metrics) if record.external else None,
        coverage=evidence.question.coverage if any(name.metric == "coverage" for name in metrics) else None,
    )


def _protocol(record: Evaluated) -> str:
    """The sentence under the title."""
    who = f"{record.patients:,} patients ({record.studies:,} studies)"
    if record.external:
        many = f"; answers are the mean of {record.fold_models} models" if record.fold_models > 1 else ""
        return f"External validation: {who} of a cohort that took no part in training{many}."
    if record.fold_models > 1:
        many = f"{record.repeats} models" if record.repeats > 1 else "a model"
        return (
            f"{who}, each answered by {many} that never saw the patient: {record.folds} patient folds. Ranking is measured "
            "among patients whom one model answered; all else of the answers put together. Intervals are of these models: they leave "
            "out how much other training patients would have changed them."
        )
    return f"{who} of the test split: no part of training, calibration or the choice of a threshold saw them."


def _shown(record: Evaluated) -> dict[str, str]:
    """What stands in the header of the page."""
    cohorts = {f"{c.source} · {c.hash[:12]}": None for c in record.cohorts}
    weights = [digest[:12] for digest in record.weights.values()]
    return {
        "Cohort": ", ".join(cohorts),
        "Inputs": ", ".join(record.modalities),
        "Models": f"{record.fold_models} · weights {weights[0]}" + (" …" if len(weights) > 1 else ""),
        "Intervals": f"95%, {record.resamples:,} resamples of patients",
        "Made": record.made,
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "Seed": str(record.seed),
    }


def _commands(record: Evaluated, out: Path, selection: Selection | None) -> list[str]:
    run, cohorts = record.run, " ".join(entry.path for entry in record.cohorts)
    verify = f"chiasm verify {run if out.resolve().parent == Path(run) else out.resolve()}"
    folds = f" --folds {record.folds} --repeats {record.repeats}" if record.fold_models > 1 else ""
    if record.external:
        return [f"chiasm evaluate {run} {cohorts}", verify]
    if selection is not None:
        counts = f" --trials {selection.trials} --inner-folds {selection.inner_folds}{folds}"
        again = f"{' '.join(selection.recipes)} {cohorts} --space SPACE{counts} --metric {selection.metric.rpartition('/')[2]}"
        return [f"chiasm tune {again} --out NEW_RUN", verify]
    start = f" --init {record.init}" if record.init else ""
    train = f"chiasm train {run}/recipe.yaml {cohorts} --out NEW_RUN{folds}{start}"
    return [train, "chiasm evaluate NEW_RUN", verify]
