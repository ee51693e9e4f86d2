"""Is the first run better than the others, on the same patients? Computed from what their evaluations stored.

Two paired tests of every figure that two runs share, and each says what it is:

    over patients  the difference of the pooled answers, its interval and p from resampling patients; always there, and
                   what the verdict rests on
    over folds     the corrected resampled t-test of the folds' own scores, where both runs were trained on the same folds;
                   it asks about other trainings as well

Where the first run is compared with several, p is adjusted by Holm over the others, for each figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import CohortError, RunError
from chiasm.evaluate import evaluate, publish
from chiasm.evaluate.again import member_values
from chiasm.evaluate.evidence import Arm, Evidence, Truth, read_truth
from chiasm.evaluate.files import read_evidence, write_json
from chiasm.evaluate.protocol import to_metrics, who_answered
from chiasm.evaluate.score import Scores, score, score_arm
from chiasm.members import open_recorded, read_run
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.metric import LOWER_IS_BETTER, NEITHER_IS_BETTER, Metric, parse_name
from chiasm.metrics.paired import FoldTest, bootstrap_p, corrected_t, holm
from chiasm.progress import say
from chiasm.recipe import Recipe, parse_recipe, read_recipe
from chiasm.summary.comparison import write_comparison_page
from chiasm.summary.tables import TITLES, leading, number, pretty
from chiasm.train import train

SCHEMA = 1
BASELINES = ("baseline-record", "baseline-frozen")
ALPHA = 0.05


# --- what was answered -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """An evaluated run.

    Attributes:
        path: the run; folder: what `evaluate` wrote.
        document: the content of evaluation.json.
    """

    name: str
    path: Path
    folder: Path
    document: Mapping[str, Any]
    evidence: Evidence

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.path / "recipe.yaml")

    @cached_property
    def keys(self) -> list[tuple[str, str]]:
        """[n] content hash of the cohort and study: the same study in any run."""
        pool = self.evidence.pool
        hashes = [cohort.hash for cohort in pool.cohorts]
        return [(hashes[c], study) for c, study in zip(pool.cohort, pool.column("study_id"), strict=True)]

    def at(self, keys: Sequence[tuple[str, str]]) -> Answered:
        """Of these studies alone, in this order."""
        place = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([place[key] for key in keys], np.int64)
        return Answered(self.name, self.path, self.folder, self.document, restrict(self.evidence, rows))


def read_answers(path: Path, name: str) -> Answered:
    """A run's evaluation, made first where there is none, or the folder of one.

    Raises:
        RunError, CohortError: no run, or its evidence or cohort is damaged or gone.
    """
    folder = path if (path / "evaluation.json").is_file() else path / "evaluation"
    if not (folder / "evaluation.json").is_file():
        say(f"{name} was not evaluated yet")
        evaluate(path)
    document = json.loads((folder / "evaluation.json").read_text("utf-8"))
    cohorts = [open_recorded(entry) for entry in document["cohorts"]]
    run = Path(document["run"]) if folder == path else path
    return Answered(name, run, folder, document, read_evidence(folder / "predictions", cohorts))


def restrict(evidence: Evidence, rows: NDArray[np.int64]) -> Evidence:
    """The same evidence about some of its studies, without controls."""
    pool = evidence.pool
    arms = {
        prefix: take_rows(arm, rows)
        for prefix, arm in evidence.arms.items()
        if parse_name(f"{prefix}:a/b/c" if prefix else "a/b/c").control is None
    }
    maps = evidence.maps
    if maps is not None:
        place = {int(row): new for new, row in enumerate(rows)}
        kept = np.array([i for i, study in enumerate(maps.study) if int(study) in place], np.int64)
        maps = replace(
            maps,
            values=maps.values[kept],
            study=np.array([place[int(study)] for study in maps.study[kept]], np.int64),
            image_row=maps.image_row[kept],
            geometry=[maps.geometry[i] for i in kept],
        )
    own = evidence.descriptions.get("")
    return replace(
        evidence,
        pool=replace(pool, cohort=pool.cohort[rows], row=pool.row[rows], member=pool.member[rows]),
        arms=arms,
        maps=maps if maps is not None and len(maps.study) else None,
        descriptions={} if own is None else {"": [own[i] for i in rows]},
    )


def take_rows(arm: Arm, rows: NDArray[np.int64]) -> Arm:
    """The same arm about some of its studies."""
    parts = {field.name: getattr(arm, field.name) for field in fields(arm)}
    by_target = {k: {t: each[rows] for t, each in v.items()} for k, v in parts.items() if isinstance(v, Mapping)}
    return replace(arm, **by_target, shown=None if arm.shown is None else arm.shown[rows])


def common_studies(runs: Sequence[Answered]) -> tuple[list[tuple[str, str]], list[str]]:
    """Studies that all runs answered, and a sentence for each run that answered others as well.

    Raises:
        RunError: there are none.
    """
    shared = sorted(set.intersection(*(set(run.keys) for run in runs)))
    if not shared:
        raise RunError(
            "the runs answered no study in common",
            expected="runs evaluated on the same cohort and split",
            got=", ".join(f"{run.name}: {len(run.keys)} studies of cohort {run.keys[0][0][:12]}" for run in runs),
            remedy="train them on the same cohort, with the same --folds, --repeats and seed",
        )
    notes = [
        f"{len(run.keys) - len(shared)} of {len(run.keys)} studies that {run.name} answered are left out: not every run did."
        for run in runs
        if len(run.keys) > len(shared)
    ]
    return shared, notes


# --- the comparison ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """First minus other, of one figure.

    Attributes:
        values: of the first and of the other. difference, p: over patients; folds: over folds, or why not.
        p_adjusted, folds_p_adjusted: by Holm, where there are several others.
        better: "first" or "other" where the interval over patients is clear of 0 and p_adjusted below .05; else "neither".
    """

    values: tuple[Metric, Metric]
    difference: Metric
    p: float | None
    folds: FoldTest | str
    better: str = "neither"
    p_adjusted: float | None = None
    folds_p_adjusted: float | None = None

    def to_json(self) -> dict[str, Any]:
        folds = {"reason": self.folds} if isinstance(self.folds, str) else self.folds.to_json()
        return {
            **self.difference.to_json(),
            "of": [metric.value for metric in self.values],
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "better": self.better,
            "folds": folds | ({} if "reason" in folds else {"p_adjusted": self.folds_p_adjusted}),
        }


@dataclass(frozen=True)
class Comparison:
    """What `compare` found and wrote.

    Attributes:
        runs: the first and the others. metrics: of the first, on the common studies.
        others: name of another run -> name of a figure -> difference.
        notes: what was left out, and why; warnings: the baselines that the first run does not beat.
    """

    runs: Sequence[Answered]
    facts: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    others: Mapping[str, Mapping[str, Difference]]
    notes: Sequence[str]
    warnings: Sequence[str]
    out: Path

    @property
    def page(self) -> Path:
        return self.out / "compare.html"

    def lines(self) -> list[str]:
        """For people: what stands for each target, first minus other."""
        lines = []
        for other, found in self.others.items():
            for target, label, metric in leading({parse_name(name): d.difference for name, d in found.items()}):
                name = f"{target}/{label}/{metric}"
                d, (ours, theirs) = found[name].difference, found[name].values
                interval = f" [{d.low:+.3f}, {d.high:+.3f}]" if d.low is not None and d.high is not None else ""
                p = "" if found[name].p_adjusted is None else f"  p={found[name].p_adjusted:.3f}"
                values = f"{number(ours.value)} - {number(theirs.value)}"
                if d.value is not None:
                    lines.append(f"{f'{name}, minus {other}':48}  {values} = {d.value:+.3f}{interval}{p}  n={d.n}")
        return lines

    def document(self) -> dict[str, Any]:
        """The content of compare.json; no identifiers."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "comparisons": {
                other: {name: difference.to_json() for name, difference in found.items()}
                for other, found in self.others.items()
            },
        }


def compare(runs: Sequence[Path | str], out: Path | str | None = None) -> Comparison:
    """Compare the first run with each of the others, and write compare.json and compare.html.

    Args:
        runs: two or more, counting the baselines in FIRST/baselines, which always take part where `out` is the default; one
            that was not evaluated yet is evaluated first.
        out: default FIRST/comparison; from there the first run's own page says which baselines it does not beat.

    Raises:
        RunError, CohortError: see the message; also where the runs answered no study in common.
    """
    paths = [Path(run) for run in runs]
    if out is None and paths:
        paths += [home for home in trained_baselines(paths[0]) if home.resolve() not in {p.resolve() for p in paths}]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise RunError(
            "a comparison needs two runs or more, each named once",
            got=", ".join(map(str, paths)),
            remedy="name another run, or train the plain baselines beside it: chiasm compare RUN --baselines",
        )
    answered = [read_answers(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    keys, notes = common_studies(answered)
    answered = [run.at(keys) for run in answered]
    for note in notes:
        say(note)
    first, *others = answered
    resamples = Resamples.draw(_patients(first), first.recipe.evaluate.resamples, seed=0)
    scored = {run.name: _score(run, resamples) for run in answered}
    found: dict[str, dict[str, Difference]] = {}
    for other in others:
        found[other.name], said = _compare_two(first, other, scored)
        notes += said
    found = adjust(found)
    folder = first.path / "comparison" if out is None else Path(out)
    comparison = Comparison(
        answered, _facts(answered, resamples), scored[first.name][1], found, notes, _unbeaten(answered, found), folder
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", comparison.document())
    write_comparison_page(comparison.document(), comparison.page)
    if out is None and first.folder == first.path / "evaluation":
        publish(first.path)
    return comparison


def _names(paths: Sequence[Path]) -> list[str]:
    """Folder names where they tell the runs apart, else whole paths."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _patients(run: Answered) -> list[str]:
    """[n] hash of the cohort and patient: intervals resample these, alike for every run."""
    patients = run.evidence.pool.column("patient_id")
    return [f"{cohort}/{patient}" for (cohort, _), patient in zip(run.keys, patients, strict=True)]


def _truth(run: Answered) -> Truth:
    return replace(read_truth(run.evidence.question, run.evidence.pool, ()), groups={}, bayes={})


def _score(run: Answered, resamples: Resamples) -> tuple[Scores, dict[str, Metric]]:
    """Every figure of the run and of its modality subsets."""
    every = score(run.evidence, _truth(run), resamples)
    scores = {n: e for n, e in every.items() if parse_name(n).control is None and parse_name(n).subgroup is None}
    return scores, to_metrics(scores, run.evidence.question, who_answered(run.document))


def _compare_two(
    first: Answered, other: Answered, scored: Mapping[str, tuple[Scores, Mapping[str, Metric]]]
) -> tuple[dict[str, Difference], list[str]]:
    (ours, our_metrics), (theirs, their_metrics) = scored[first.name], scored[other.name]
    alike, notes = _asked_alike(first, other)
    folds, test_share, why_not = _fold_scores(first, other)
    found, unlike = {}, []
    for name in (name for name in ours if name in theirs):
        if (target := parse_name(name).target) not in alike and target not in ("localization", "description"):
            continue
        if ours[name].protocol != theirs[name].protocol:
            unlike.append(name)
            continue
        difference = ours[name] - theirs[name]
        test = (
            corrected_t(folds[0][name] - folds[1][name], test_share) if name in folds[0] and name in folds[1] else None
        )
        found[name] = Difference(
            (our_metrics[name], their_metrics[name]),
            difference.metric(),
            bootstrap_p(difference.draws[1:]),
            test or why_not or "it has no score of a single fold",
        )
    if unlike:
        notes.append(f"Not compared with {other.name}, for they follow other protocols: {', '.join(unlike)}.")
    return found, notes


def _asked_alike(first: Answered, other: Answered) -> tuple[set[str], list[str]]:
    """Targets that mean the same in two runs, and a sentence about those that do not."""
    a, b = first.evidence.question, other.evidence.question
    shared = [target for target in a.targets if target in b.targets]

    def meaning(question: Any, target: str) -> tuple[Any, ...]:
        return question.kinds[target], question.uncertain.get(target), question.levels.get(target)

    alike = {target for target in shared if meaning(a, target) == meaning(b, target)}
    unlike = [target for target in shared if target not in alike]
    return alike, [
        f"{', '.join(unlike)}: not compared with {other.name}, where kind, levels or hedged findings are another matter."
    ] * bool(unlike)


# --- over folds --------------------------------------------------------------------------------------------------------

FoldScores = dict[str, NDArray[np.float64]]
"""Name of a figure -> [members] of each fold's own test studies; NaN where it is undefined."""


def _fold_scores(first: Answered, other: Answered) -> tuple[tuple[FoldScores, FoldScores], float, str]:
    """Both runs' scores of each fold, n_test / n_train, and "" or why there are none."""
    splits, theirs = list(_splits(first)), list(_splits(other))
    if len(splits) < 2 or len(theirs) < 2:
        return ({}, {}), 0.0, "a run without folds has one training"
    if first.document["external"] or other.document["external"] or _tests(splits) != _tests(theirs):
        return ({}, {}), 0.0, "the runs were not trained on the same folds"
    test = np.mean([len(split["test"]) for split in splits])
    learned = np.mean([len(split["train"]) + len(split["validation"]) for split in splits])
    return (_by_fold(first), _by_fold(other)), float(test / learned), ""


def _splits(run: Answered) -> Iterator[dict[str, list[str]]]:
    """Of each member: "train", "validation", "test" -> sorted studies."""
    info = read_run(run.path)
    hashes = [entry["hash"] for entry in info["cohorts"]]
    for name in info["members"]:
        split = json.loads((run.path / name / "split.json").read_text("utf-8"))
        yield {
            part: sorted(f"{hashes[int(key.partition('/')[0])]}/{key.partition('/')[2]}" for key in split[part])
            for part in ("train", "validation", "test")
        }


def _tests(splits: Sequence[Mapping[str, list[str]]]) -> list[list[str]]:
    return [split["test"] for split in splits]


def _by_fold(run: Answered) -> FoldScores:
    """Each member scored by itself on the studies it tested: no answer of a repeat is averaged with another's."""
    evidence, truth = run.evidence, _truth(run)
    members = read_run(run.path)["members"]
    found: FoldScores = {}
    for prefix, values in member_values(run.path, members, evidence).items():
        for member in range(len(members)):
            rows, slot = np.nonzero(evidence.pool.member == member)
            own = Arm({target: each[rows, slot] for target, each in values.items()})
            here = replace(
                truth,
                labels={t: each[rows] for t, each in truth.labels.items()},
                mask={t: each[rows] for t, each in truth.mask.items()},
            )
            alone = Resamples.draw(np.arange(len(rows)), resamples=0)
            for name, estimate in score_arm(evidence.question, here, own, alone, prefix).items():
                found.setdefault(name, np.full(len(members), np.nan))[member] = estimate.draws[0]
    everything = "+".join(evidence.question.modalities)
    whole = {str(parse_name(name)._replace(subset=everything)): each for name, each in found.items() if ":" not in name}
    return whole | found


# --- verdicts ----------------------------------------------------------------------------------------------------------


def adjust(others: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, Difference]]:
    """p of each figure adjusted over the other runs that share it, and who is better by it."""
    result: dict[str, dict[str, Difference]] = {other: dict(found) for other, found in others.items()}
    for name in dict.fromkeys(name for found in others.values() for name in found):
        having = [other for other in others if name in others[other]]
        tested = [other for other in having if others[other][name].p is not None]
        for other, p in zip(tested, holm([others[o][name].p or 0.0 for o in tested]), strict=True):
            result[other][name] = replace(result[other][name], p_adjusted=p)
        folded = [(o, test) for o in having if isinstance(test := others[o][name].folds, FoldTest)]
        for (other, _), p in zip(folded, holm([test.p for _, test in folded]), strict=True):
            result[other][name] = replace(result[other][name], folds_p_adjusted=p)
        for other in having:
            result[other][name] = replace(result[other][name], better=_better(name, result[other][name]))
    return result


def _better(name: str, found: Difference) -> str:
    low, high, p, metric = found.difference.low, found.difference.high, found.p_adjusted, parse_name(name).metric
    if low is None or high is None or p is None or p >= ALPHA or low <= 0 <= high or metric in NEITHER_IS_BETTER:
        return "neither"
    return "first" if (low > 0) != (metric in LOWER_IS_BETTER) else "other"


def _unbeaten(runs: Sequence[Answered], others: Mapping[str, Mapping[str, Difference]]) -> list[str]:
    """A sentence for each baseline and target on which the first run, itself no baseline, is not better."""
    first, *rest = runs
    if first.recipe.baseline is not None:
        return []
    found = []
    for run in rest:
        if run.recipe.baseline is None:
            continue
        differences = others[run.name]
        for target, label, metric in leading({parse_name(name): d.difference for name, d in differences.items()}):
            d = differences[f"{target}/{label}/{metric}"]
            if d.better == "first" or d.difference.value is None:
                continue
            interval = (
                f", {number(d.difference.low)} to {number(d.difference.high)}" if d.difference.low is not None else ""
            )
            verdict = "is worse than the plain" if d.better == "other" else "does not beat the plain"
            found.append(
                f"{pretty(target, label).capitalize()}: the model {verdict} {run.recipe.name} "
                f"({TITLES.get(metric, metric)} {number(d.values[0].value)} against {number(d.values[1].value)}: difference "
                f"{number(d.difference.value)}{interval}, on the same {d.difference.n:,} patients)."
            )
    return found


def _facts(runs: Sequence[Answered], resamples: Resamples) -> dict[str, Any]:
    return {
        "made": datetime.now(UTC).date().isoformat(),
        "runs": [
            {
                "name": run.name,
                "path": str(run.path.resolve()),
                "recipe": run.recipe.name,
                "baseline": run.recipe.baseline is not None,
                "modalities": run.document["modalities"],
                "protocol": who_answered(run.document),
                "weights": run.document["weights"],
            }
            for run in runs
        ],
        "cohorts": runs[0].document["cohorts"],
        "studies": len(runs[0].evidence.pool),
        "patients": len(np.unique(resamples.patients)),
        "resamples": resamples.weights.shape[1] - 1,
    }


# --- plain baselines on the same folds ---------------------------------------------------------------------------------


def trained_baselines(run: Path) -> list[Path]:
    """The finished baselines in RUN/baselines."""
    homes = [run / "baselines" / name for name in BASELINES]
    return [home for home in homes if (home / "run.json").is_file() and read_run(home)["status"] == "finished"]


def train_baselines(run: Path | str, names: Sequence[str] = BASELINES) -> list[Path]:
    """Train the plain baselines on a run's cohorts, inputs, targets and folds, and return their runs in RUN/baselines.

    One that stands there already is taken as it is, or finished where it was cut off. A baseline none of whose inputs the
    run has is left out, and said so.

    Raises:
        RunError, CohortError: see the message; MissingExtraError: lightgbm or the sentence encoder is not installed.
    """
    run = Path(run)
    info = read_run(run)
    asked = parse_recipe(info["requested"], where=str(run / "run.json"))  # what decided the folds
    found = []
    for name in names:
        recipe = match_baseline(read_recipe(name), asked)
        if recipe is None:
            say(f"{name} is left out: the run has none of its inputs")
            continue
        home = run / "baselines" / name
        if home not in trained_baselines(run):
            say(f"{name} on the same patients and folds")
            home.parent.mkdir(exist_ok=True)
            cohorts = [Path(entry["path"]) for entry in info["cohorts"]]
            resume = (home / "run.json").is_file()
            train(recipe, cohorts, home, resume=resume, folds=info["folds"], repeats=info["repeats"])
        found.append(home)
    if not found:
        raise CohortError("no baseline can be trained", got=f"inputs of the run: {asked.inputs}")
    return found


def match_baseline(baseline: Recipe, asked: Recipe) -> Recipe | None:
    """A baseline that is given what a run was given: its inputs (sections, columns, size), targets, labels and seed."""
    inputs: dict[str, Any] = {}
    for modality, own in baseline.inputs:
        theirs = getattr(asked.inputs, modality)
        taken = {"image": ("size",), "text": ("sections",), "record": ("columns", "opt_in")}[modality]
        inputs[modality] = own and theirs and own.model_copy(update={key: getattr(theirs, key) for key in taken})
    if not any(inputs.values()):
        return None
    return baseline.model_copy(
        update={
            "inputs": baseline.inputs.model_copy(update=inputs),
            "targets": asked.targets,
            "train": baseline.train.model_copy(update={"seed": asked.train.seed}),
            "evaluate": asked.evaluate,
        }
    )
