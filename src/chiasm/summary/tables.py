"""What stands in which table of the page follows from the names of the metrics alone.

There is one kind of table: its cells are metrics as text, and the first column is drawn as a dot with its 95% whisker.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from chiasm.metrics.metric import LOWER_IS_BETTER, Metric
from chiasm.metrics.name import MetricName
from chiasm.registry import ARMS as REGISTERED_ARMS
from chiasm.registry import CONTROLS, HEADS
from chiasm.tensors import MODALITIES

T = TypeVar("T")

SCORES = (
    ("", ("auroc", "auroc_pooled", "auprc", "f1", "balanced_accuracy", "accuracy", "brier", "ece", "ece_uncalibrated")),
    ("", ("qwk", "mae", "balanced_accuracy", "r", "rps")),
    ("", ("mae", "r")),
    ("", ("c_index", "c_index_ipcw", "ibs")),
    ("above a level", ("auroc_gt_",)),
    ("at the threshold", ("sensitivity", "specificity", "ppv", "npv")),
    ("calibration and net benefit", ("calibration_slope", "calibration_intercept", "net_benefit_")),
    ("prediction sets", ("coverage", "set_size", "interval_width")),
)
"""Of each table of a target: what its title adds, and its columns; one that ends in _ stands for all that begin so."""
SUBGROUPS = {
    "auroc": ("auroc", "auprc", "f1", "coverage"),
    "mae": ("mae", "qwk", "r", "coverage"),
    "c_index": ("c_index", "ibs"),
}
"""The first figure of a label in subgroups -> those beside it."""
NOT_TARGETS = ("retrieval",)
UNBOUNDED = ("mae", "cider", "cnr", "calibration_slope")
COMPLETE = "inputs=complete"
WITHOUT_OPT_IN = "without_opt_in"
ARMS = {
    "": "all inputs",
    "image": "image only",
    "text": "text only",
    "record": "record only",
}
ADDED = {
    "image": "the image",
    "text": "the text",
    "record": "the record",
    "over_image": "all others to the image alone",
    "over_text": "all others to the text alone",
    "over_record": "all others to the record alone",
    "over_shuffled_text": "the own text instead of another's",
}
"""After `added_` in the name of a control -> what was added."""
TITLES = {
    "auroc": "AUROC",
    "auroc_pooled": "AUROC pooled",
    "auprc": "AUPRC",
    "f1": "F1",
    "brier": "Brier",
    "ece": "ECE",
    "ece_uncalibrated": "ECE uncalibrated",
    "mae": "MAE",
    "r": "Pearson r",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "qwk": "Quadratic kappa",
    "rps": "RPS",
    "c_index": "C-index",
    "c_index_ipcw": "C-index (Uno)",
    "ibs": "Integrated Brier",
    "calibration_slope": "Slope",
    "calibration_intercept": "Intercept",
    "coverage": "Coverage",
    "set_size": "Levels in the set",
    "interval_width": "Width of the interval",
    "box_iou": "IoU of best box",
    "miou": "IoU of map",
    "dice": "Dice",
    "pointing": "Pointing game",
    "cnr": "CNR",
    "map_share": "Map on the stated place",
    "t_iou_0.1": "T(IoU) .1",
    "t_iou_0.3": "T(IoU) .3",
    "t_iou_0.5": "T(IoU) .5",
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "finding_f1": "Finding F1",
    "distinct_ratio": "Distinct",
    "bayes": "Bayes",
    "complete": "where all inputs are there",
    "shapley": "mean share of an answer",
    "added": "added to all others",
}


@dataclass(frozen=True)
class Mark:
    """A second value on a row's scale: `shape` is "diamond", "square", "ring", "triangle" or "bar"."""

    name: str
    value: float
    shape: str


@dataclass(frozen=True)
class Row:
    """One line: a cell per column, None where there is no such metric; `quiet` for controls, `strong` for averages.

    `n`: patients of the row; a cell that rests on others shows its own number.
    """

    name: str
    cells: Sequence[Metric | None]
    note: str = ""
    marks: Sequence[Mark] = ()
    quiet: bool = False
    strong: bool = False
    n: int | None = None

    @property
    def reason(self) -> str:
        """Why the row has no figure at all, where one reason holds for every cell; ""."""
        cells = [cell for cell in self.cells if cell is not None]
        reasons = {cell.reason for cell in cells}
        return reasons.pop() or "" if len(reasons) == 1 and len(cells) > 1 else ""


@dataclass(frozen=True)
class Table:
    """Rows of metrics; the first column is drawn on a scale from `low` to `high`, with a line at `chance`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    low: float = 0.0
    high: float = 1.0
    chance: float | None = None
    legend: Sequence[tuple[str, str]] = ()
    fold: bool = False

    def at(self, value: float) -> float:
        """Where a value stands on the scale, in percent of its length.

        >>> Table("", (), (), low=0.5, high=1.0).at(0.75)
        50.0
        """
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0), 1), 2)


Names = Mapping[MetricName, Metric]


def score_tables(names: Names, lead: str) -> list[Table]:
    """The tables of each target in the arm `lead`, by label: those of `SCORES` whose first column it has."""
    tables = []
    for target in _unique(n.target for n in names if n.target not in NOT_TARGETS and n.target not in HEADS):
        own = _unique(n.metric for n in names if n.target == target and n.prefix == lead and not n.subgroup)
        for more, wanted in SCORES:
            columns = [m for w in wanted for m in own if m == w or (w.endswith("_") and m.startswith(w))]
            if not columns or not columns[0].startswith(wanted[0]) or (wanted[0] == "mae" and "qwk" in own):
                continue
            rows = [
                Row(
                    _row_name(target, label),
                    [names.get(_key(lead, target, label, m)) for m in columns],
                    f"n = {(n := names[_key(lead, target, label, columns[0])].n):,}",
                    strong=label == "macro",
                    n=n,
                )
                for label in _labels(names, lead, target, columns[0])
            ]
            tables.append(_table(" · ".join(filter(None, [pretty(target), more])), columns, rows))
    return tables


def answer_tables(names: Names, leads: Sequence[str], beside: Mapping[MetricName, Sequence[Row]]) -> list[Table]:
    """The answer of each target with each input alone and what stands beside it: a row each, and what an input adds.

    Args:
        beside: leading figure -> rows of controls and baselines.
    """
    tables = []
    for name in leading(names):
        target, label, metric, *_ = name
        own = [p for p in leads if name.of_arm(p) in names]
        alone = [m for m in MODALITIES if name.of_arm(m) in names] if len(inputs_of(names)) > 1 else []
        rows = [Row(_who(p) if len(own) > 1 else "the model", [names[name.of_arm(p)], None], strong=True) for p in own]
        rows += [Row(arm_name(m), [names[name.of_arm(m)], names.get(name.of_arm(f"added_{m}"))]) for m in alone]
        rows += [replace(row, cells=[*row.cells, None]) for row in beside.get(name, ())]
        if metric in LOWER_IS_BETTER and name.of_arm("prior") in names:
            rows.append(Row(arm_name("prior"), [names[name.of_arm("prior")], None], quiet=True))
        if rows:
            first = rows[0].cells[0]
            rows = [replace(rows[0], note=f"n = {first.n:,}", n=first.n) if first else rows[0], *rows[1:]]
            lower = " (lower is better)" if metric in LOWER_IS_BETTER else ""
            tables.append(_table(pretty(target, label) + lower, (metric, "added"), rows))
    return tables


def inputs_of(names: Names) -> list[str]:
    """The modalities of the model: those of the largest subset there is."""
    subsets = sorted({n.subset for n in names if n.subset and not n.control}, key=_subset_order)
    return subsets[0].split("+") if subsets else []


def _who(prefix: str) -> str:
    return (
        "all inputs" if prefix == "" else arm_name(prefix) if prefix != WITHOUT_OPT_IN else "without columns opted in"
    )


def lead_name(names: Names, lead: str) -> str:
    """The inputs of a leading arm in words; those of the full model are the largest subset there is."""
    subsets = sorted({n.subset for n in names if n.subset and not n.control}, key=_subset_order)
    inputs = lead or (subsets[0] if subsets else "")
    return " · ".join(filter(None, [arm_name(inputs), _arm_note(inputs)]))


def subset_tables(names: Names) -> list[Table]:
    """What each modality adds: every subset of the inputs beside Bayes, shuffled reports and the prior."""
    tables = []
    for target, label, metric, *_ in leading(names):
        every = {n: m for n, m in names.items() if n[:3] == (target, label, metric)}
        found = {n.prefix: m for n, m in every.items() if not n.subgroup}
        whole = {n.prefix: m for n, m in every.items() if n.subgroup == COMPLETE}
        subsets = sorted((p for p in found if set(p.split("+")) <= set(MODALITIES)), key=_subset_order)
        if len(subsets) < 2:
            continue
        bayes = {p.partition(":")[2]: m for p, m in found.items() if p.startswith("bayes:") and m.value is not None}
        whole |= {p: whole[""] for p in subsets[:1] if "" in whole}
        beside = ("shuffled_text", "record_column", "prior")
        cells = {p: [found[p], whole.get(p), bayes.get(p)] for p in (*subsets, *beside) if p in found}
        rows = [Row(arm_name(p), cells[p], _arm_note(p), _bayes_mark(bayes.get(p))) for p in subsets]
        rows += [Row(arm_name(p), cells[p], quiet=True) for p in cells if p not in subsets]
        legend = [("diamond", "Bayes: the best that these inputs allow, on the same patients")] if bayes else []
        tables.append(_table(pretty(target, label), (metric, "complete", "bayes"), rows, legend=legend))
    return tables


def added_tables(names: Names, opted_in: Sequence[str] = ()) -> list[Table]:
    """What each modality adds to all others: the paired difference of a figure, and its mean share of an answer.

    Args:
        opted_in: record columns of unknown time that are inputs.
    """
    tables = []
    for target, label, metric, *_ in leading(names):
        rows = []
        for what, name in {**ADDED, "opt_in": pretty(*opted_in) if opted_in else ""}.items():
            gain = MetricName(target, label, metric, control=f"added_{what}")
            share = names.get(MetricName(target, label, f"shapley_{what}"))
            if gain in names:
                rows.append(Row(name, [names[gain], names.get(gain._replace(subgroup=COMPLETE)), share]))
        if not rows:
            continue
        ends = [x for row in rows if (m := row.cells[0]) for x in (m.value, m.low, m.high) if x is not None]
        reach = 1.1 * max([*map(abs, ends), 1e-3])
        lower = " (lower is better)" if metric in LOWER_IS_BETTER else ""
        table = _table(pretty(target, label), (metric, "complete", "shapley"), rows)
        tables.append(
            replace(
                table,
                columns=[f"{column}{lower}" if i == 0 else column for i, column in enumerate(table.columns)],
                low=-reach,
                high=reach,
                chance=0.0,
            )
        )
    return tables


def control_tables(names: Names) -> list[Table]:
    """Shortcut controls: the AUROC of the image alone on each label, with the controls on the same scale."""
    tables = []
    shortcuts = [name for name, control in CONTROLS.items() if control.shortcut]
    for target in _unique(n.target for n in names if n.control in shortcuts):
        rows = []
        labels = _unique(label for c in shortcuts for label in _labels(names, c, target, "auroc"))
        for label in labels:
            controls = {c: names.get(_key(c, target, label, "auroc")) for c in shortcuts}
            marks = [Mark(arm_name(c), m.value, CONTROLS[c].marker) for c, m in controls.items() if m and m.value]
            model = names.get(_key("image", target, label, "auroc"))
            rows.append(
                Row(_row_name(target, label), [model, *controls.values()], marks=marks, strong=label == "macro")
            )
        if not rows:
            continue
        legend = [(CONTROLS[control].marker, arm_name(control)) for control in shortcuts]
        table = _table(pretty(target), ("auroc", *shortcuts), rows, legend=legend)
        tables.append(replace(table, columns=["image alone", *map(arm_name, table.columns[1:])]))
    return tables


def subgroup_tables(names: Names, lead: str) -> list[Table]:
    """Per label with subgroups: the figures of `SUBGROUPS` in each, with the first of the whole group as a bar."""
    tables = []
    groups = [n for n in names if n.subgroup not in (None, COMPLETE) and n.metric in SUBGROUPS and n.prefix == lead]
    for target, label, first in _unique(n[:3] for n in groups):
        whole = names.get(_key(lead, target, label, first))
        marks = [Mark("all patients", whole.value, "bar")] if whole and whole.value is not None else []
        columns = SUBGROUPS[first]
        rows = [
            Row(
                group_name(n.subgroup),
                [names.get(n._replace(metric=m)) for m in columns],
                f"n = {names[n].n:,}",
                marks,
                n=names[n].n,
            )
            for n in groups
            if n[:3] == (target, label, first) and n.subgroup
        ]
        fold = MetricName(target, label, first) not in leading(names)
        tables.append(_table(pretty(target, label), columns, rows, legend=[("bar", "all patients")], fold=fold))
    return sorted(tables, key=lambda table: table.fold)


def arm_table(names: Names, target: str, columns: Sequence[str]) -> list[Table]:
    """The figures of a head: a row for each label, with its controls below it. `columns`: metrics; all if empty."""
    columns = tuple(columns) or _unique(n.metric for n in names if n.target == target)
    rows = []
    for label in _labels(names, "", target, columns[0]) if columns else ():
        arms = ["", *_unique(n.prefix for n in names if (n.target, n.label) == (target, label) and n.control)]
        for arm in arms:
            called = arm_name(arm) if arm else "the model" if label == "all" else pretty(label)
            rows.append(Row(called, [names.get(_key(arm, target, label, m)) for m in columns], quiet=bool(arm)))
    return [_table("", columns, rows)] if rows else []


def side_by_side(internal: Names, external: Names) -> list[Table]:
    """The leading figures on the run's own patients and on those of another cohort."""
    tables = []
    for name in leading(internal):
        rows = [
            Row(called, [own[name]], f"n = {own[name].n:,}", quiet=quiet)
            for called, own, quiet in (("internal", internal, True), ("external", external, False))
            if name in own
        ]
        title = pretty(name.target, name.label)
        tables.append(_table(title, (name.metric,), rows))
    return tables


def _table(title: str, columns: Sequence[str], rows: list[Row], **more: Any) -> Table:
    """A table without its empty columns, whose scale holds every whisker and mark of the first."""
    ends = [x for row in rows for m in row.cells[:1] if m for x in (m.value, m.low, m.high) if x is not None]
    ends += [mark.value for row in rows for mark in row.marks]
    low, high, chance = min([0.0, *(math.floor(10 * x) / 10 for x in ends)]), 1.0, None
    if columns[0].startswith(("auroc", "c_index")):
        low, chance = min([0.45, *(math.floor(10 * x) / 10 for x in ends)]), 0.5
    elif columns[0] in UNBOUNDED:
        high, chance = 1.05 * max([*ends, 0.1]), 1.0 if columns[0] == "calibration_slope" else None
    shown = [i for i in range(len(columns)) if any(row.cells[i] is not None for row in rows)]
    rows = [replace(row, cells=[row.cells[i] for i in shown]) for row in rows]
    return Table(title, [title_of(columns[i]) for i in shown], rows, low, high, chance, **more)


def title_of(metric: str) -> str:
    """A metric in words.

    >>> title_of("auroc"), title_of("auroc_gt_2"), title_of("net_benefit_0.3")
    ('AUROC', 'AUROC > 2', 'Net benefit at 0.3')
    """
    for begin, words in (("auroc_gt_", "AUROC > "), ("net_benefit_", "Net benefit at ")):
        if metric.startswith(begin):
            return words + metric.removeprefix(begin)
    return TITLES.get(metric, metric)


def leading(names: Mapping[MetricName, Any]) -> list[MetricName]:
    """The figures that stand for their target: the macro average of several labels, else the one label."""
    found = []
    for target in _unique(n.target for n in names if n.target not in NOT_TARGETS and n.target not in HEADS):
        for metric in ("auroc", "mae", "c_index"):
            labels = _labels(names, "", target, metric)
            found += [MetricName(target, label, metric) for label in (["macro"] if "macro" in labels else labels)]
    return found


def _labels(names: Mapping[MetricName, Any], prefix: str, target: str, metric: str) -> list[str]:
    """The labels a metric has in an arm, the macro average first."""
    keys = [n for n in names if n.metric == metric and n.target == target and not n.subgroup and n.prefix == prefix]
    return sorted((n.label for n in keys), key=lambda label: label != "macro")


def _row_name(target: str, label: str) -> str:
    return pretty(target if label == "all" else label)


def _key(prefix: str, target: str, label: str, metric: str) -> MetricName:
    return MetricName(target, label, metric).of_arm(prefix)


def _subset_order(prefix: str) -> tuple[int, list[int]]:
    parts = prefix.split("+")
    return -len(parts), [MODALITIES.index(part) for part in parts]


def _bayes_mark(metric: Metric | None) -> list[Mark]:
    return [Mark("Bayes", metric.value, "diamond")] if metric and metric.value is not None else []


def _arm_note(prefix: str) -> str:
    return "report-conditioned" if "text" in prefix.split("+") else ""


def _unique(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))


def arm_name(prefix: str) -> str:
    """An arm or control in words: "image+record" is "image + record"."""
    for registry in (REGISTERED_ARMS, CONTROLS):
        if prefix in registry:
            return str(registry[prefix].title)
    return ARMS.get(prefix, prefix.replace("+", " + "))


def group_name(subgroup: str) -> str:
    """A subgroup in words.

    >>> group_name("age=40_65"), group_name("sex=f"), group_name("age=65_plus")
    ('age 40–65', 'sex f', 'age 65+')
    """
    column, _, value = subgroup.partition("=")
    value = re.sub(r"(?<=[0-9])_(?=[0-9])", "–", value).replace("_plus", "+")
    return f"{column} {value.replace('_', ' ')}"


def pretty(*names: str) -> str:
    """Names of targets and labels in words; `all` and the repeated name of a target go unsaid."""
    words = [
        name.replace("_gt_", " > ").replace("_", " ") for name in _unique(names) if name != "all" or len(names) == 1
    ]
    return " · ".join(word.replace("macro", "average over labels") for word in words)


def number(value: float | None) -> str:
    """Three digits after the point, fewer for large numbers, a dash for an undefined one."""
    if value is None:
        return "—"
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 10 else f"{value:.1f}"
