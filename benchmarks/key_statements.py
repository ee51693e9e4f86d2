"""Which sentences of a report does an answer rest on: those with most attention, or those whose removal changes it most?

A model that reads reports alone (BiLSTM, co-attention with its pool over words) learns findings. Of test reports, for every
finding that is present and that some sentence states (`chiasm.report.findings`):

- the share of attention on the sentences that state it, beside their share of the words (uniform attention);
- how often the first sentence by attention, by removal (|change of the log-odds|, `chiasm.run.statements`) and by its length states
  it, beside the share of sentences that do (chance);
- attention against removal: Spearman's rank correlation over the sentences of a report, and how often both put the same one first.

The attention of a pool is one for all findings, so removal is scored twice: of the finding that is asked, and of all findings
(the largest change of any), as attention must be.

    OMP_NUM_THREADS=1 python benchmarks/key_statements.py --part phantom
    OMP_NUM_THREADS=1 python benchmarks/key_statements.py --part openi --data FOLDER-OF-OPENI
    writes benchmarks/results/key_statements.json, a part each
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from chiasm.cohort.imports import import_cohort
from chiasm.recipe import read_recipe
from chiasm.report.findings import read_mentions
from chiasm.run.ensemble import predict_together
from chiasm.run.fold_model import load_fold_models, over_own_cohorts
from chiasm.run.infer import BATCH
from chiasm.run.statements import read_texts, split
from chiasm.study import State
from chiasm.training.train import train

OUT = Path(__file__).parent / "results" / "key_statements.json"
RESAMPLES, STUDIES, EPOCHS = 2000, 2000, 12
RECIPE = """
name: reports
inputs:
  image: null
  record: null
  text: {encoder: bilstm, sections: [findings, impression], max_tokens: 200}
fusion: {name: co-attention, dim: 64, heads: 4, dropout: 0.0}
targets:
  findings: {}
train: {epochs: %d, batch_size: 32, learning_rate: 0.002, patience: 4, seed: 0}
"""
FIGURES = (
    *("attention on stating sentences", "their share of words"),
    *("first by attention states it", "first by removal states it", "first by removal of any finding states it"),
    *("longest states it", "sentences that state it"),
    *("rank correlation of attention and removal", "rank correlation of attention and removal of any finding"),
    *("same first by attention and removal", "same first by attention and removal of any finding"),
)


def read_attention(fold_model, indices, texts, spans):
    """[study][sentence] the weight of its words in the pool of the fusion; and the number of its words."""
    weights = []
    pool = fold_model.model.fusion.pool["text"]
    hook = pool.register_forward_hook(lambda _, __, out: weights.extend(out[1].float().cpu().numpy()))
    with torch.no_grad():
        for start in range(0, len(indices), BATCH):
            batch = fold_model.loader.batch(indices[start : start + BATCH])
            fold_model.model.answer(fold_model.model.encode(batch), batch)
    hook.remove()
    found = []
    for text, own, weight in zip(texts, spans, weights, strict=True):
        ends = [[len(fold_model.reader.encode(text[:at])) for at in span] for span in own]
        found.append((np.array([weight[a:b].sum() for a, b in ends]), np.array([b - a for a, b in ends])))
    return found


def measure(fold_model, indices):
    """A row of `FIGURES` for each finding that is present and stated, and the patient of each."""
    texts = read_texts([fold_model], indices)
    spans = [split(text) for text in texts]
    attention = read_attention(fold_model, indices, texts, spans)
    predictions = []
    for start in range(0, len(indices), BATCH):
        predictions += predict_together([fold_model], indices[start : start + BATCH])
    labels = fold_model.plan.targets["findings"]
    rows, patients = [], []
    for i, (text, own) in enumerate(zip(texts, spans, strict=True)):
        if len(own) < 3:
            continue
        weight, words = attention[i]
        change = np.array([[abs(s.changes[f"findings/{name}"]) for name in labels] for s in predictions[i].statements])
        loudest = change.max(axis=1)
        mentions = [m for m in read_mentions("FINDINGS: " + text) if m.state is State.PRESENT]
        truth, known = (x["findings"][indices[i]] for x in (fold_model.loader.labels, fold_model.loader.label_mask))
        for k, name in enumerate(labels):
            at = [m.start - len("FINDINGS: ") for m in mentions if m.finding == name]
            states = np.array([any(a <= place < b for place in at) for a, b in own])
            if not (known[k] and truth[k] == 1 and states.any()) or states.all():
                continue
            removed = change[:, k]
            rows.append(
                (
                    weight[states].sum() / weight.sum(),
                    words[states].sum() / words.sum(),
                    *(states[x.argmax()] for x in (weight, removed, loudest, words)),
                    states.mean(),
                    *(spearmanr(weight, x).statistic for x in (removed, loudest)),
                    *(weight.argmax() == x.argmax() for x in (removed, loudest)),
                )
            )
            patients.append(fold_model.loader.patient_ids[indices[i]])
    return np.array(rows, float), np.array(patients)


def estimate(rows, patients):
    """Name -> mean over findings, 95% percentile interval over resampled patients; differences of what is compared."""
    pairs = {
        "attention minus words": (0, 1),
        "first by removal minus first by attention": (3, 2),
        "first by removal of any finding minus first by attention": (4, 2),
    }
    columns = dict(zip(FIGURES, rows.T, strict=True)) | {n: rows[:, a] - rows[:, b] for n, (a, b) in pairs.items()}
    _, number = np.unique(patients, return_inverse=True)
    rng, found = np.random.default_rng(0), {}
    draws = rng.multinomial(number.max() + 1, np.full(number.max() + 1, 1 / (number.max() + 1)), RESAMPLES)
    for name, values in columns.items():
        known = np.isfinite(values)
        total = np.bincount(number[known], values[known], number.max() + 1)
        count = np.bincount(number[known], minlength=number.max() + 1)
        low, high = np.quantile((draws @ total) / (draws @ count), (0.025, 0.975))
        found[name] = {"value": float(values[known].mean()), "low": float(low), "high": float(high)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("phantom", "openi"), required=True)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "recipe.yaml").write_text(RECIPE % EPOCHS, "utf-8")
        if arguments.part == "phantom":
            options = {"studies": STUDIES}
            cohort = import_cohort("phantom-chest", None, home / "cohort", size=32, options=options)
        else:
            cohort = import_cohort("openi", arguments.data, home / "cohort", size=32)
        train(read_recipe(str(home / "recipe.yaml")), [cohort.path], home / "run")
        (fold_model,) = over_own_cohorts(home / "run", load_fold_models(home / "run"))
        rows, patients = measure(fold_model, fold_model.split["test"])
        part = {
            "command": " ".join(["python", *sys.argv]),
            "date": date.today().isoformat(),
            "seed": 0,
            "cohort": cohort.hash,
            "training studies": len(fold_model.split["train"]),
            "findings": len(rows),
            "patients": len(np.unique(patients)),
            "resamples": RESAMPLES,
            "figures": estimate(rows, patients),
        }
    document = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    OUT.write_text(json.dumps({**document, arguments.part: part}, indent=1, sort_keys=True) + "\n", "utf-8")
    print(json.dumps(part, indent=1))


if __name__ == "__main__":
    main()
