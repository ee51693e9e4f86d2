"""What a page says first: the question, the answer, and what carries it; each sentence from figures with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chiasm.evaluation.spec import FULL, WITHOUT_OPT_IN, Evidence
from chiasm.evaluation.verdicts import Scores, against, against_chance, gain, near, say, say_difference
from chiasm.heads.spec import Question
from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.metric import LOWER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName
from chiasm.registry import CONTROLS
from chiasm.run.records import Compared
from chiasm.study import Kind
from chiasm.summary.tables import Row, leading, number, pretty, title_of

RECORD_COLUMN = "record_column"
_NEARNESS = ("", "unclear", "close", "beats")


@dataclass(frozen=True)
class Lead:
    """What is said of one target.

    Attributes:
        name: its leading figure. beside: rows of what stands beside the model, the nearest control and the best baseline.
    """

    name: MetricName
    sentences: tuple[str, ...]
    beside: tuple[Row, ...] = ()


def tell_lead(
    evidence: Evidence,
    scores: Scores,
    leads: Sequence[str],
    leaks: Sequence[Mapping[str, Any]] = (),
    compared: Compared | None = None,
) -> list[Lead]:
    """The question, the answer against chance, what carries it, what comes close to it: of each target.

    Args:
        leads: prefixes of the arms that lead the page. leaks: of `chiasm.audit.record.record_leaks`, among the inputs.
        compared: the run's comparison, for its plain baselines.
    """
    found = []
    for name in leading(scores):
        own = scores.get(name.of_arm(leads[0]))
        if own is None:
            continue
        said = [_tell_question(evidence.question, name, own, leads[0])]
        if own.undefined:
            said.append(f"It has no answer: {own.undefined}.")
        else:
            said += _tell_answers(evidence.question, scores, name, leads)
            said += _tell_leaks(evidence.question, name, leaks)
            said += _tell_inputs(scores, name, inputs_of(evidence.question, leads[0]), own)
            said += _tell_baseline(name, compared)
            said += _tell_control(evidence, scores, name, leads[0])
        beside = [*_control_row(scores, name, leads[0]), *_baseline_row(name, compared)]
        found.append(Lead(name, tuple(said), tuple(beside)))
    return found


def inputs_of(question: Question, prefix: str) -> list[str]:
    """The modalities that an arm is shown."""
    return list(question.modalities) if prefix in (FULL, WITHOUT_OPT_IN) else prefix.split("+")


def words_of(name: MetricName) -> str:
    """A label, or its target, as words."""
    return pretty(name.target if name.label in ("all", "macro") else name.label)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _tell_question(question: Question, name: MetricName, own: Estimate, prefix: str) -> str:
    labels, kind, what = question.targets[name.target], question.kinds[name.target], words_of(name)
    if name.label == "macro":
        asked = f"{len(labels)} labels of {what}"
    else:
        asks = {
            Kind.MULTICLASS: "the class of ",
            Kind.ORDINAL: "the level of ",
            Kind.REGRESSION: "the value of ",
            Kind.SURVIVAL: "the time to ",
        }
        asked = asks.get(kind, "") + what
    events = ""
    if own.classes and kind is Kind.BINARY and name.label != "macro":
        events = f" ({own.classes[0]:,} with it)"
    return (
        f"The question: {asked} in {len(own.patients):,} patients{events}, from {_listed(inputs_of(question, prefix))}."
    )


def _tell_answers(question: Question, scores: Scores, name: MetricName, leads: Sequence[str]) -> Iterator[str]:
    """The figure of each leading arm, against chance."""
    for prefix in leads:
        if (own := scores.get(name.of_arm(prefix))) is None or own.undefined:
            continue
        who = "The model"
        if len(leads) > 1:
            columns = ", ".join(column.replace("_", " ") for column in question.opted_in)
            less = columns if prefix == WITHOUT_OPT_IN else "the report"
            who = "With all inputs the model" if prefix == FULL else f"Without {less} the model"
        over = _over_labels(question, scores, name.of_arm(prefix))
        verdict = against_chance(scores, name.of_arm(prefix))
        if name.metric in LOWER_IS_BETTER:
            yield f"{who} errs by {say(own)} on average{over}{_than_prior(scores, name, own)}."
            continue
        against_it = {
            "better": "above chance (0.5)",
            "worse": "below chance (0.5): it ranks patients the wrong way round",
            "unclear": "which cannot be told from chance (0.5)",
        }[verdict or "unclear"]
        yield f"{who} reaches {say(own, name.metric)}{over}, {against_it}."


def _over_labels(question: Question, scores: Scores, name: MetricName) -> str:
    if name.label != "macro":
        return ""
    own = [name._replace(label=question.name_of(name.target, label).lower()) for label in question.targets[name.target]]
    every = [scores[n] for n in own if n in scores]
    kept = [each for each in every if not each.undefined]
    few = f" of {len(every)}" if len(kept) < len(every) else ""
    return f", the mean over {len(kept)}{few} labels" + " (the others have too few patients)" * bool(few)


def _than_prior(scores: Scores, name: MetricName, own: Estimate) -> str:
    prior = scores.get(name.of_arm("prior"))
    gained = gain(own, prior, name.metric)
    if gained is None or prior is None:
        return ""
    verdict = against(own, prior, name.metric)
    less = {"better": "less than", "worse": "more than"}.get(verdict, "which cannot be told apart from")
    return f", {less} the prior, the mean of training for everybody ({number(float(prior.draws[0]))}; {say_difference(gained, name.metric)})"


def _tell_leaks(question: Question, name: MetricName, leaks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for leak in leaks:
        if leak["target"] == name.target and name.label in ("macro", question.name_of(leak["target"], leak["label"])):
            yield (
                f"The record column {leak['column']} alone tells {pretty(leak['label'])} "
                f"(AUROC {leak['auroc']:.2f} in the cohort): the answer may be the label under another name."
            )


def _tell_inputs(scores: Scores, name: MetricName, inputs: Sequence[str], own: Estimate) -> Iterator[str]:
    """Which input carries the answer, which is at chance, and what each adds to the others."""
    alone = {m: each for m in inputs if (each := scores.get(name.of_arm(m))) is not None and not each.undefined}
    if len(inputs) < 2 or not alone:
        return
    sign = -1 if name.metric in LOWER_IS_BETTER else 1
    best = max(alone, key=lambda m: sign * float(alone[m].draws[0]))
    gained, chance = gain(own, alone[best], name.metric), "the prior" if sign < 0 else "chance"
    if gained is None:
        return
    against_best = against(own, alone[best], name.metric) or "unclear"
    difference, others = say_difference(gained, name.metric), f"the {_listed([m for m in inputs if m != best])}"
    told = {m: against_chance(scores, name.of_arm(m)) for m in alone}
    if "better" not in told.values():
        every = "; ".join(f"the {m} {say(one, name.metric)}" for m, one in alone.items())
        verdict = {"better": "are better than", "worse": "are worse than", "unclear": "are not told apart from"}[
            against_best
        ]
        yield f"No input alone is told from {chance}: {every}. All together {verdict} the {best} alone ({difference})."
    else:
        add, harm = ("adds", "harms") if len(inputs) == 2 else ("add", "harm")
        verdict = {
            "better": f"with {others} the model is better ({difference})",
            "worse": f"all inputs together do worse ({difference}), so {others} {harm}",
            "unclear": f"the answer comes from it, and what {others} {add} cannot be told from nothing ({difference})",
        }[against_best]
        yield f"The {best} alone reaches {say(alone[best], name.metric)}: {verdict}."
        for m, one in alone.items():
            if m != best and told[m] in ("unclear", "worse"):
                is_at = "cannot be told from" if told[m] == "unclear" else "is worse than"
                yield f"The {m} alone {is_at} {chance}: {say(one, name.metric)}."
    if len(inputs) > 2:
        added = []
        for m in inputs:
            rest = scores.get(name.of_arm("+".join(other for other in inputs if other != m)))
            if (gained := gain(own, rest, name.metric)) is not None and rest is not None:
                does = {"better": "adds", "worse": "harms", "unclear": "adds nothing that can be told from chance"}
                added.append(
                    f"the {m} {does[against(own, rest, name.metric) or 'unclear']} ({say_difference(gained, name.metric)})"
                )
        if added:
            yield f"To all other inputs {'; '.join(added)}."


def best_baseline(name: MetricName, compared: Compared | None) -> tuple[str, Mapping[str, Any]] | None:
    """Name of the recipe and comparison of the plain baseline whose figure is best; None where none was compared."""
    if compared is None:
        return None
    sign = -1 if name.metric in LOWER_IS_BETTER else 1
    found = [
        (run.recipe, raw)
        for run in compared.runs[1:]
        if run.baseline and (raw := compared.comparisons.get(run.name, {}).get(str(name))) and raw["of"][1] is not None
    ]
    return max(found, key=lambda each: sign * each[1]["of"][1], default=None)


def _tell_baseline(name: MetricName, compared: Compared | None) -> Iterator[str]:
    if (found := best_baseline(name, compared)) is None:
        return
    recipe, raw = found
    verdict = {"first": "the model with all inputs beats it", "other": "it beats the model with all inputs"}
    interval = f", {number(raw['low'])} to {number(raw['high'])}" if raw["low"] is not None else ""
    yield (
        f"The strongest plain baseline is {recipe}, with {title_of(name.metric)} {number(raw['of'][1])} on the same patients: "
        f"{verdict.get(raw['better'], 'the model does not beat it')} (model minus baseline {number(raw['value'])}{interval})."
    )


def _baseline_row(name: MetricName, compared: Compared | None) -> Iterator[Row]:
    if (found := best_baseline(name, compared)) is not None:
        recipe, raw = found
        m = Metric(raw["of"][1], None, None, raw["n"], "of the comparison; its interval is that of the difference")
        yield Row(f"best baseline: {recipe}", [m], quiet=True)


def _control_row(scores: Scores, name: MetricName, prefix: str) -> Iterator[Row]:
    if (found := strongest_control(scores, name, prefix)) is not None:
        control = found[0]
        yield Row(f"nearest control: {CONTROLS[control].title}", [scores[name.of_arm(control)].metric()], quiet=True)


def strongest_control(scores: Scores, name: MetricName, prefix: str) -> tuple[str, str] | None:
    """The control that comes nearest to what it stands against, and the arm that is: the image alone for a sign of how images
    were made, the leading arm for a record column. None where no control answered."""
    asked = [(c, "image") for c, control in CONTROLS.items() if control.shortcut] + [(RECORD_COLUMN, prefix)]
    found = []
    for control, against_arm in asked:
        own = scores.get(name.of_arm(control))
        if own is not None and not own.undefined and name.metric == "auroc":
            nearness = _NEARNESS.index(near(scores.get(name.of_arm(against_arm)), own))
            found.append((nearness, float(own.draws[0]), control, against_arm))
    return max(found)[2:] if found else None


def _tell_control(evidence: Evidence, scores: Scores, name: MetricName, prefix: str) -> Iterator[str]:
    if (found := strongest_control(scores, name, prefix)) is None:
        return
    control, arm = found
    own, model = scores[name.of_arm(control)], scores.get(name.of_arm(arm))
    detail = evidence.arms[control].detail(name.target, name.label) if control in evidence.arms else ""
    called = f"{CONTROLS[control].title}{f' ({detail})' if detail else ''}"
    begin = f"The control that comes nearest is {called}, with {say(own, name.metric)}"
    whose = "the image alone" if arm == "image" else "the model"
    gained = None if model is None else gain(model, own, name.metric)
    if model is None or gained is None:
        yield f"{begin}."
        return
    ahead = float(model.draws[0] - own.draws[0])
    of = f"{whose} ({number(float(model.draws[0]))}; {say_difference(gained, name.metric)})"
    verdict = {
        "beats": f"it beats {of}",
        "close": f"it comes close to {of}" if ahead >= 0 else f"it lies above {of}, though not beyond doubt",
        "unclear": f"it cannot be told apart from {of}",
    }.get(near(model, own))
    if verdict is None:
        at_chance = against_chance(scores, name.of_arm(control)) != "better"
        verdict = "it cannot be told from chance" if at_chance else f"it stays below {of}"
    yield f"{begin}: {verdict}."
