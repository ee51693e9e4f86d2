"""The first run and each other one: every figure they share, its difference, two tests of it, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.atomic import write_json
from chiasm.cohort.store import listed
from chiasm.comparison.answered import Answered, common_studies, read_answers
from chiasm.comparison.baselines import train_baselines, trained_baselines
from chiasm.comparison.folds import fold_scores
from chiasm.errors import RunError
from chiasm.evaluation.evaluate import publish
from chiasm.evaluation.ledger import count_configurations
from chiasm.evaluation.protocol import to_metrics, who_answered
from chiasm.evaluation.score import Scores, score, within_folds
from chiasm.evaluation.selected import tell_selection, tell_tried
from chiasm.heads.head import open_heads
from chiasm.heads.spec import Case
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.metric import LOWER_IS_BETTER, NEITHER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName
from chiasm.metrics.paired import FoldTest, bootstrap_p, corrected_t, holm
from chiasm.progress import say
from chiasm.registry import HEADS
from chiasm.run.folder import RunLike, folder_of
from chiasm.run.records import Compared, ComparedRun
from chiasm.run.selection import read_selection
from chiasm.summary.comparison import write_comparison_page
from chiasm.summary.tables import TITLES, leading, number, pretty

ALPHA = 0.05


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
        record: the content of compare.json. others: name of another run -> name of a figure -> difference.
        out: the folder that holds compare.json and the page.
    """

    record: Compared
    others: Mapping[str, Mapping[MetricName, Difference]]
    out: Path

    @property
    def warnings(self) -> Sequence[str]:
        """The baselines that the first run does not beat."""
        return self.record.warnings

    @property
    def notes(self) -> Sequence[str]:
        """What was left out, and why."""
        return self.record.notes

    @property
    def page(self) -> Path:
        return self.out / "compare.html"

    def __repr__(self) -> str:
        return "\n".join([f"<Comparison of {self.record.runs[0].name}>", *self.lines()[:20]])

    def lines(self) -> list[str]:
        """For people: what stands for each target, first minus other."""
        lines = []
        for other, found in self.others.items():
            for name in leading({name: d.difference for name, d in found.items()}):
                d, (ours, theirs) = found[name].difference, found[name].values
                interval = f" [{d.low:+.3f}, {d.high:+.3f}]" if d.low is not None and d.high is not None else ""
                p = "" if found[name].p_adjusted is None else f"  p={found[name].p_adjusted:.3f}"
                values = f"{number(ours.value)} - {number(theirs.value)}"
                if d.value is not None:
                    lines.append(f"{f'{name}, minus {other}':48}  {values} = {d.value:+.3f}{interval}{p}  n={d.n}")
        return lines

    def document(self) -> dict[str, Any]:
        """The content of compare.json, as JSON has it; no identifiers."""
        return self.record.to_json()


def compare(runs: RunLike | Sequence[RunLike], out: Path | str | None = None, *, baselines: bool = False) -> Comparison:
    """Compare the first run with each of the others, and write compare.json and compare.html.

    Args:
        runs: one or several, two or more counting the baselines in FIRST/baselines, which always take part where `out` is the default; one
            that was not evaluated yet is evaluated first.
        out: default FIRST/comparison; from there the first run's own page says which baselines it does not beat.
        baselines: train those of `train_baselines` on the first run's patients and folds, and compare with them too.

    Raises:
        RunError, CohortError: see the message; also where the runs answered no study in common.
    """
    paths = [folder_of(run) for run in listed(runs)]
    if paths and (baselines or out is None):
        homes = train_baselines(paths[0]) if baselines else trained_baselines(paths[0])
        paths += [home for home in homes if home.resolve() not in {p.resolve() for p in paths}]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise RunError(
            "a comparison needs two runs or more, each named once",
            got=", ".join(map(str, paths)),
            remedy="name another run, or train the plain baselines beside it: chiasm compare RUN --baselines",
        )
    answered = [read_answers(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    chosen = [f"{run.name}: {how}" for run in answered if (how := _choice(run))]
    keys, notes = common_studies(answered)
    answered = [run.at(keys) for run in answered]
    for note in notes:
        say(note)
    first, *others = answered
    resamples = Resamples.draw(first.patients, first.recipe.evaluate.resamples, seed=0)
    pooled = any(within_folds(run.evidence) is None for run in answered)  # one of them has no folds to rank within
    scored = {run.name: _score(run, resamples, pooled) for run in answered}
    found: dict[str, dict[MetricName, Difference]] = {}
    for other in others:
        found[other.name], said = _compare_two(first, other, scored)
        notes += said
    notes += chosen
    found = adjust(found)
    notes += _at_odds(found)
    folder = first.path / "comparison" if out is None else Path(out)
    comparison = Comparison(_record(answered, resamples, scored[first.name][1], found, notes), found, folder)
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


def _score(run: Answered, resamples: Resamples, pooled: bool) -> tuple[Scores, dict[MetricName, Metric]]:
    """Every figure of the run and of its modality subsets."""
    case = Case(run.evidence.question, run.evidence.pool, run.truth, resamples)
    every = score(run.evidence, case, open_heads(run.evidence.question), pooled)
    scores = {n: e for n, e in every.items() if n.control is None and n.subgroup is None}
    return scores, to_metrics(scores, run.evidence, run.record)


def _compare_two(
    first: Answered, other: Answered, scored: Mapping[str, tuple[Scores, Mapping[MetricName, Metric]]]
) -> tuple[dict[MetricName, Difference], list[str]]:
    (ours, our_metrics), (theirs, their_metrics) = scored[first.name], scored[other.name]
    alike, notes = _asked_alike(first, other)
    folds, test_share, why_not = fold_scores(first, other)
    found, unlike = {}, []
    for name in (name for name in ours if name in theirs):
        if name.target not in alike and name.target not in HEADS:
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
            _tested(test, why_not),
        )
    if unlike:
        notes.append(f"Not compared with {other.name}, for they follow other protocols: {', '.join(map(str, unlike))}.")
    return found, notes


def _tested(test: FoldTest | None, why_not: str) -> FoldTest | str:
    """The test over folds, or why there is none."""
    if test is None:
        return why_not or "it has no score of a single fold"
    return test if test.p is not None else f"all folds differ by {test.value:.3g}: there is no spread to test by"


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


# --- verdicts ----------------------------------------------------------------------------------------------------------


def adjust(others: Mapping[str, Mapping[MetricName, Difference]]) -> dict[str, dict[MetricName, Difference]]:
    """p of each figure adjusted over the other runs that share it, and who is better by it."""
    result: dict[str, dict[MetricName, Difference]] = {other: dict(found) for other, found in others.items()}
    for name in dict.fromkeys(name for found in others.values() for name in found):
        having = [other for other in others if name in others[other]]
        tested = [other for other in having if others[other][name].p is not None]
        for other, p in zip(tested, holm([others[o][name].p or 0.0 for o in tested]), strict=True):
            result[other][name] = replace(result[other][name], p_adjusted=p)
        folded = [
            (o, test.p) for o in having if isinstance(test := others[o][name].folds, FoldTest) and test.p is not None
        ]
        for (other, _), p in zip(folded, holm([p for _, p in folded]), strict=True):
            result[other][name] = replace(result[other][name], folds_p_adjusted=p)
        for other in having:
            result[other][name] = replace(result[other][name], better=_better(name, result[other][name]))
    return result


def _better(name: MetricName, found: Difference) -> str:
    low, high, p = found.difference.low, found.difference.high, found.p_adjusted
    if low is None or high is None or p is None or p >= ALPHA or low <= 0 <= high or name.metric in NEITHER_IS_BETTER:
        return "neither"
    return "first" if (low > 0) != (name.metric in LOWER_IS_BETTER) else "other"


def _at_odds(others: Mapping[str, Mapping[MetricName, Difference]]) -> list[str]:
    """A sentence for each leading figure whose difference has one sign over patients and the other over folds."""
    found = []
    for other, differences in others.items():
        for name in leading({name: d.difference for name, d in differences.items()}):
            d, folds = differences[name].difference, differences[name].folds
            if d.value is not None and isinstance(folds, FoldTest) and d.value * folds.value < 0:
                found.append(
                    f"{pretty(*name[:2]).capitalize()}, minus {other}: {number(d.value)} over patients and {number(folds.value)} over "
                    "folds. Over patients a fold counts by its pairs of patients, over folds each counts the same: the "
                    "difference is too small to have a sign."
                )
    return found


def _unbeaten(runs: Sequence[Answered], others: Mapping[str, Mapping[MetricName, Difference]]) -> list[str]:
    """A sentence for each baseline and target on which the first run, itself no baseline, is not better."""
    first, *rest = runs
    if first.recipe.baseline is not None:
        return []
    found = []
    for run in rest:
        if run.recipe.baseline is None:
            continue
        differences = others[run.name]
        for name in leading({name: d.difference for name, d in differences.items()}):
            target, label, metric = name[:3]
            d = differences[name]
            if d.better == "first" or d.difference.value is None:
                continue
            interval = (
                f", {number(d.difference.low)} to {number(d.difference.high)}" if d.difference.low is not None else ""
            )
            verdict = "is worse than the plain" if d.better == "other" else "does not beat the plain"
            low, high, p = d.difference.low, d.difference.high, d.p_adjusted
            clear = low is not None and high is not None and not low <= 0 <= high
            corrected = (
                f", p = {p:.3f} after Holm's correction" if clear and d.better == "neither" and p is not None else ""
            )
            found.append(
                f"{pretty(target, label).capitalize()}: the model {verdict} {run.recipe.name} "
                f"({TITLES.get(metric, metric)} {number(d.values[0].value)} against {number(d.values[1].value)}: difference "
                f"{number(d.difference.value)}{interval}{corrected}, on the same {d.difference.n:,} patients)."
            )
    return found


def _choice(run: Answered) -> str:
    """How its configuration was chosen, where there was a choice."""
    selection = None if run.record.external else read_selection(run.path)
    if selection is None:
        return tell_tried(count_configurations(run.path, run.evidence.pool))
    return tell_selection(selection, {}).said[0]


def _record(
    runs: Sequence[Answered],
    resamples: Resamples,
    metrics: Mapping[MetricName, Metric],
    found: Mapping[str, Mapping[MetricName, Difference]],
    notes: Sequence[str],
) -> Compared:
    return Compared(
        made=datetime.now(UTC).date().isoformat(),
        runs=tuple(
            ComparedRun(
                name=run.name,
                path=str(run.path.resolve()),
                recipe=run.recipe.name,
                baseline=run.recipe.baseline is not None,
                modalities=run.record.modalities,
                protocol=who_answered(run.record),
                weights=run.record.weights,
            )
            for run in runs
        ),
        cohorts=runs[0].record.cohorts,
        studies=len(runs[0].evidence.pool),
        patients=len(np.unique(resamples.patients)),
        resamples=resamples.weights.shape[1] - 1,
        notes=tuple(notes),
        warnings=tuple(_unbeaten(runs, found)),
        metrics={str(name): metric for name, metric in metrics.items()},
        comparisons={
            other: {str(name): difference.to_json() for name, difference in own.items()} for other, own in found.items()
        },
    )
