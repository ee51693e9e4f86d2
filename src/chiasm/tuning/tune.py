"""Nested cross-validation: each outer fold chooses by its inner folds, and its model is trained by what it chose.

OUT is a run like any other, beside which stands how it came about:

    OUT/selection.json             what each fold chose (`chiasm.run.selection`)
    OUT/tuning/asked.json          what was asked; the same command goes on with it
    OUT/tuning/fold-R-K/           journal.log, the trials; configurations/NUMBER/inner-K/score.json
    OUT/baselines/NAME/            the plain baselines, tuned alike
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from chiasm.atomic import locked, whole_folder, write_json
from chiasm.cohort.store import Cohort, CohortLike, listed, open_cohorts
from chiasm.comparison.baselines import BASELINES
from chiasm.documents import Document, read_document, to_json
from chiasm.encoding.fit import fit_plan
from chiasm.encoding.strata import find_strata
from chiasm.errors import RecipeError, RunError, TrainingError
from chiasm.evaluation.evaluate import evaluate
from chiasm.metrics.metric import LOWER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName, parse_name
from chiasm.progress import Progress, say
from chiasm.recipe import Recipe, parse_recipe, read_recipe, write_recipe
from chiasm.run.folder import read_run, seal_run, write_run
from chiasm.run.selection import Chosen, Selection, read_selection, write_selection
from chiasm.training.folds import Parts, begin_fold, split_patients
from chiasm.training.train import calibrate_folds, fit_fold, new_run, one_training
from chiasm.tuning.inner import choose_metric, inner_folds, mean_figure, score_configuration
from chiasm.tuning.space import Space, baseline_space, read_space
from chiasm.tuning.trials import Trial, Trials, digest_recipe, recover


@dataclass(frozen=True)
class Asked(Document):
    """What a tuning was asked: a killed one goes on only where it is asked the same.

    Attributes:
        recipes: as they stand, in order. space, metric, trials, folds, repeats, inner_folds: as of `tune`. cohort: its hash.
    """

    SCHEMA: ClassVar[int] = 1

    recipes: tuple[dict[str, Any], ...]
    space: dict[str, Any]
    metric: str
    trials: int
    folds: int
    repeats: int
    inner_folds: int
    cohort: str


@dataclass(frozen=True)
class Tuned:
    """What `tune` did.

    Attributes:
        out: the run. missing: what is still to be done, a clause each; the same command does it. selection, metrics: of the run
            once nothing is missing: what each fold chose, and the figures by which it chose: outer, inner, optimism.
    """

    out: Path
    missing: tuple[str, ...]
    selection: Selection | None = None
    metrics: dict[str, Metric] | None = None

    def document(self) -> dict[str, Any]:
        return {
            "run": str(self.out),
            "missing": list(self.missing),
            "selection": None if self.selection is None else to_json(self.selection),
            "metrics": {name: metric.to_json() for name, metric in (self.metrics or {}).items()},
        }


def render_tuned(tuned: Tuned) -> str:
    """For people: the figures and what each fold chose, or what is missing."""
    if tuned.selection is None:
        lines = [f"missing in {tuned.out}, which the same command does:", *(f"  {clause}" for clause in tuned.missing)]
        return "\n".join(lines)
    lines = []
    for name, m in (tuned.metrics or {}).items():
        interval = f" [{m.low:.3f}, {m.high:.3f}]" if m.low is not None and m.high is not None else ""
        lines.append(f"{name:40}  {'undefined' if m.value is None else f'{m.value:.3f}'}{interval}  n={m.n}")
    for fold, chosen in tuned.selection.folds.items():
        settings = ", ".join(f"{key}={value}" for key, value in chosen.settings.items()) or "as it stands"
        lines.append(f"{fold}: {chosen.recipe}, {settings}")
    return "\n".join([*lines, f"the run is in {tuned.out}", f"next: chiasm compare {tuned.out}"])


class _Spent(Exception):
    """The budget is spent: what is done stands on disk."""


@dataclass(frozen=True)
class Job:
    """One run that is tuned: the recipe's, or that of a plain baseline beside it. `asked`: what stands in asked.json."""

    out: Path
    space: Space
    asked: Asked
    cohorts: Sequence[Cohort]

    @property
    def recipe(self) -> Recipe:
        return self.space.first

    @property
    def metric(self) -> MetricName:
        return parse_name(self.asked.metric)

    def trials(self, fold: str) -> Trials:
        journal = self.out / "tuning" / fold / "journal.log"
        return Trials(journal, self.space, self.recipe.train.seed, higher=self.metric.metric not in LOWER_IS_BETTER)

    def trained(self, fold: str) -> bool:
        return (self.out / fold / "weights.safetensors").is_file()


def tune(
    recipes: Recipe | str | Path | Sequence[Recipe | str | Path],
    cohort: CohortLike,
    out: Path | str,
    *,
    space: Path | str | None = None,
    trials: int = 20,
    folds: int = 5,
    repeats: int = 1,
    inner_folds: int = 3,
    metric: str | None = None,
    baselines: bool = True,
    part: int | None = None,
    budget_minutes: float | None = None,
) -> Tuned:
    """Choose inside each outer fold, and write a run whose figures are blind to the choice. The same call goes on with it.

    Args:
        recipes: the first is what is asked; it and the others as they stand are the first configurations.
        space: as of `read_space`. trials: configurations that each outer fold tries.
        folds, repeats: outer patient folds, the very ones of `chiasm train --folds K --repeats R`. inner_folds: of each.
        metric: as of `choose_metric`.
        baselines: tune the plain baselines in OUT/baselines alike; a recipe that is one has none beside it.
        part: the number of one outer fold, which alone is done. budget_minutes: no training is begun after so many.

    Returns:
        what is missing; and once nothing is, what was chosen and what it is worth.

    Raises:
        RunError: another thread trains; `out` is no such tuning, or one that was asked otherwise, or another process does this part.
        RecipeError: space and recipes do not fit. MissingExtraError: Optuna, or what a recipe needs, is not installed.
    """
    begun, out = time.monotonic(), Path(out)
    opened = open_cohorts(cohort, on_disk=True)
    given = [read_recipe(recipe) for recipe in listed(recipes)]
    space = None if space is None else Path(space)
    jobs = _open_jobs(given, opened, out, space, (trials, folds, repeats, inner_folds), metric, baselines)
    outer = list(_parts(jobs[0]))
    if part is not None and not 0 <= part < len(outer):
        raise RunError("there is no such part", expected=f"0 to {len(outer) - 1}, an outer fold each", got=str(part))

    def check() -> None:
        if budget_minutes is not None and time.monotonic() - begun >= 60 * budget_minutes:
            raise _Spent

    try:
        with one_training():
            for number, (fold, parts, seed) in enumerate(outer):
                for job in jobs if part in (None, number) else ():
                    tune_fold(job, fold, parts, seed, check)
    except _Spent:
        say(f"the budget of {budget_minutes:g} minutes is spent")
    missing = tuple(clause for job in jobs for clause in _missing(job))
    if missing:
        return Tuned(out, missing)
    for job in jobs:
        _finish(job)
    figures = [evaluate(job.out).metrics for job in reversed(jobs)][-1]
    own = {name: m for name, m in figures.items() if name.startswith(jobs[0].asked.metric) and "@" not in name}
    return Tuned(out, (), read_selection(out), own)


def _open_jobs(
    recipes: Sequence[Recipe],
    cohorts: Sequence[Cohort],
    out: Path,
    file: Path | None,
    counts: tuple[int, int, int, int],
    metric: str | None,
    baselines: bool,
) -> list[Job]:
    """The runs to tune, each with what was asked written down."""
    space = read_space(file, recipes)
    spaces = {out: space}
    if baselines and space.first.baseline is None:
        for name in BASELINES:
            own = baseline_space(space, read_recipe(name))
            if own is None:
                say(f"{name} is left out: the recipe has none of its inputs")
            else:
                spaces[out / "baselines" / name] = own
    trials, folds, repeats, inner = counts
    chosen_by = str(choose_metric(space.first, cohorts, metric))
    jobs = []
    for home, own in spaces.items():
        raw = tuple(recipe.model_dump(mode="json") for recipe in own.recipes.values())
        asked = Asked(raw, dict(own.raw), chosen_by, trials, folds, repeats, inner, cohorts[0].hash)
        jobs.append(Job(home, own, asked, cohorts))
    for job in jobs:
        _begin(job)
    return jobs


def _begin(job: Job) -> None:
    file = job.out / "tuning" / "asked.json"
    if file.is_file():
        known = to_json(read_document(file, Asked, "tune into another --out"))
        now = json.loads(json.dumps(to_json(job.asked)))
        if changed := [key for key in now if json.loads(json.dumps(known[key])) != now[key]]:
            raise RunError(
                "this tuning was asked otherwise when it was begun",
                got=f"other {', '.join(changed)}",
                where=str(file),
                remedy="give the same command to go on with it, or choose another --out",
            )
        return
    if job.out.is_dir() and any(job.out.iterdir()):
        raise RunError(
            "the run folder is not empty",
            expected="a new folder, or one that chiasm tune has begun",
            where=str(job.out),
            remedy="choose another --out",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, to_json(job.asked))


def _parts(job: Job) -> Iterator[tuple[str, Parts, int]]:
    """The outer folds: those that `train` makes of the recipe."""
    strata, _ = find_strata(job.recipe, job.cohorts)
    return split_patients(job.cohorts, job.asked.folds, job.asked.repeats, job.recipe.train.seed, strata)


# --- one outer fold ----------------------------------------------------------------------------------------------------


def tune_fold(job: Job, fold: str, parts: Parts, seed: int, check: Callable[[], None]) -> None:
    """Try what is not tried, and train what was chosen on the training patients of the outer fold. No test patient is looked at.

    Args:
        check: called before each training; what it raises ends the work, which can be gone on with.

    Raises:
        RunError: no configuration has a figure, or another process does this.
    """
    if job.trained(fold):
        return
    home = job.out / "tuning" / fold
    with locked(home.with_name(f"{fold}.lock"), RunError, "another process is tuning this part"):
        chosen = _choose(job, fold, parts, seed, check)
        if chosen is None:
            why = dict.fromkeys(trial.why for trial in job.trials(fold).done)
            raise RunError(
                "no configuration has a figure",
                expected=f"{job.asked.metric} in an inner fold",
                got="; ".join(why),
                where=str(home),
                remedy="take fewer inner folds, a larger cohort, or another space",
            )
        check()
        recipe = job.space.build(chosen.recipe, chosen.settings)
        if not (job.out / fold).is_dir():
            with whole_folder(job.out / fold, RunError) as partial:
                begin_fold(recipe, job.cohorts, partial, parts, seed)
        say(f"{job.out.name}, {fold}: configuration {chosen.number} of {chosen.recipe}, trained on all of the fold")
        fit_fold(job.out / fold, job.cohorts)


def _choose(job: Job, fold: str, outer: Parts, seed: int, check: Callable[[], None]) -> Trial | None:
    """The best trial of an outer fold, once all are done; None where all failed."""
    home = job.out / "tuning" / fold
    recover(home / "journal.log")
    trials = job.trials(fold)
    inner = list(inner_folds(job.recipe, job.cohorts, outer, seed, job.asked.inner_folds))
    with Progress(f"{job.out.name}, {fold}: configurations", job.asked.trials, len(trials)) as bar:
        while (number := len(trials)) < job.asked.trials:
            asked = trials.ask()
            try:
                recipe = job.space.build(asked.recipe, asked.settings)
            except RecipeError as error:
                trials.tell(asked, f"none {number}", None, [], error.what)
                continue
            digest = digest_recipe(recipe)
            known = next((trial for trial in trials.done if trial.digest == digest), None)
            if known is not None:  # nothing new to learn from it
                trials.tell(asked, digest, known.value, list(known.figures), known.why)
            else:
                work, why = home / "configurations" / str(number), ""
                try:
                    figures = score_configuration(recipe, job.cohorts, inner, seed, job.metric, work, check)
                except (RecipeError, TrainingError) as error:
                    figures, why = [], error.what
                value = mean_figure(figures)
                trials.tell(asked, digest, value, figures, why if value is None else "")
            best = trials.best()
            bar.advance(1, "" if best is None or best.value is None else f"best {best.value:.3f}")
    return trials.best()


# --- the run -----------------------------------------------------------------------------------------------------------


def _missing(job: Job) -> Iterator[str]:
    for number, (fold, *_) in enumerate(_parts(job)):
        if job.trained(fold):
            continue
        journal = job.out / "tuning" / fold / "journal.log"
        done = len(job.trials(fold)) if journal.is_file() else 0
        todo = f"{job.asked.trials - done} of {job.asked.trials} configurations and " if done < job.asked.trials else ""
        yield f"{job.out.name}, part {number}: {todo}the training of what is chosen"


def _finish(job: Job) -> None:
    """Calibrate the fold models, and write what makes them a run."""
    out, asked = job.out, job.asked
    if (out / "run.json").is_file():
        read_run(out)
        return
    strata, stratified = find_strata(job.recipe, job.cohorts)
    notes: list[str] = []
    chosen: dict[str, Chosen] = {}
    sections: set[str] = set()
    for fold, parts, _ in split_patients(job.cohorts, asked.folds, asked.repeats, job.recipe.train.seed, strata):
        trials = job.trials(fold)
        best = trials.best()
        assert best is not None and best.value is not None
        every = trials.done
        recipe = job.space.build(best.recipe, best.settings)
        plan, _, said = fit_plan(recipe, job.cohorts, [part["train"] for part in parts])
        notes += [note for note in said if note not in notes]
        sections |= {*plan.text_sections, *plan.description_sections}
        chosen[fold] = Chosen(
            number=best.number,
            recipe=best.recipe,
            settings=dict(best.settings),
            inner=best.value,
            as_given=every[0].value,
            tried=len({trial.digest for trial in every if trial.value is not None}),
            failed=len({trial.digest for trial in every if trial.value is None}),
        )
    if len({digest_recipe(read_recipe(out / fold / "recipe.yaml")) for fold in chosen}) > 1:
        notes.append("Folds chose different settings; temperatures and thresholds are fitted on all of them together.")
    selection = Selection(
        metric=asked.metric,
        recipes=tuple(job.space.recipes),
        space=asked.space,
        trials=asked.trials,
        inner_folds=asked.inner_folds,
        seed=job.recipe.train.seed,
        folds=chosen,
    )
    info = new_run(job.recipe, job.cohorts, asked.folds, asked.repeats, stratified, list(chosen), sections)
    write_recipe(parse_recipe(info.requested, job.recipe.name), out / "recipe.yaml")
    with locked(out.with_name(f"{out.name}.lock"), RunError, "another process is finishing this run"):
        notes += calibrate_folds(out, info, job.cohorts)
        write_selection(out, selection)
        info = replace(info, notes=tuple(dict.fromkeys(notes)), status="finished")
        write_run(out, info)
        seal_run(out, info)
