"""Do the tests notice a wrong formula? Faults are put into the core code, one at a time, and the tests of that code run.

    python benchmarks/mutation.py [--only alignment calibrate ...]

Each fault is made in a copy of the last commit, and the tests are asked until the first fails (pytest -x). `killed`: one
did. `survived`: none did, so that somebody could make this mistake unseen. `error`: the tests could not run. Writes
benchmarks/results/mutation.json after every fault; what it holds for the same sources and tests is not run again, so the
work can be done in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "mutation.json"
LIMIT = 900  # seconds; a fault that makes the tests hang is noticed

# the code by a short name: where it is, and the tests that should notice
CODE: dict[str, tuple[str, tuple[str, ...]]] = {
    "alignment": ("src/chiasm/heads/alignment.py", ("tests/heads/test_alignment.py",)),
    "balance": ("src/chiasm/objectives/balance.py", ("tests/objectives/test_balance.py",)),
    "bootstrap": ("src/chiasm/metrics/bootstrap.py", ("tests/metrics/test_bootstrap.py",)),
    "calibrate": ("src/chiasm/run/calibrate.py", ("tests/run/test_calibrate.py", "tests/training/test_train_edges.py")),
    "calibration": ("src/chiasm/metrics/calibration.py", ("tests/metrics/test_calibration.py",)),
    "classification": ("src/chiasm/metrics/classification.py", ("tests/metrics/test_classification.py",)),
    "co-attention": (
        "src/chiasm/models/fusion/co_attention.py",
        ("tests/models/fusion/test_fusion.py", "tests/models/fusion/test_co_attention.py"),
    ),
    "combine": ("src/chiasm/run/ensemble.py", ("tests/run/test_ensemble.py",)),
    "conformal": ("src/chiasm/metrics/conformal.py", ("tests/metrics/test_conformal.py",)),
    "decision": ("src/chiasm/metrics/decision.py", ("tests/metrics/test_decision.py",)),
    "film": (
        "src/chiasm/models/fusion/film.py",
        ("tests/models/fusion/test_fusion.py", "tests/models/fusion/test_families.py"),
    ),
    "folds": ("src/chiasm/metrics/folds.py", ("tests/metrics/test_folds.py",)),
    "geometry": ("src/chiasm/geometry.py", ("tests/test_geometry.py",)),
    "grounding": ("src/chiasm/objectives/grounding.py", ("tests/objectives/test_grounding.py",)),
    "localization": ("src/chiasm/metrics/localization.py", ("tests/metrics/test_localization.py",)),
    "ordinal": ("src/chiasm/metrics/ordinal.py", ("tests/metrics/test_ordinal.py",)),
    "outcome": ("src/chiasm/objectives/outcome.py", ("tests/objectives/test_outcome.py",)),
    "paired": ("src/chiasm/metrics/paired.py", ("tests/metrics/test_paired.py",)),
    "survival": ("src/chiasm/metrics/survival.py", ("tests/metrics/test_survival.py",)),
    "tensors": ("src/chiasm/tensors.py", ("tests/test_tensors.py",)),
    "text-encoder": ("src/chiasm/models/text/encoder.py", ("tests/models/text/test_encoder.py",)),
    "train": ("src/chiasm/training/train.py", ("tests/training/test_train.py",)),
    "unimodal": (
        "src/chiasm/objectives/outcome.py",
        ("tests/objectives/test_outcome.py", "tests/heads/test_losses.py", "tests/objectives/test_balance.py"),
    ),
    "vectors": (
        "src/chiasm/models/fusion/vectors.py",
        ("tests/models/fusion/test_fusion.py", "tests/models/fusion/test_families.py"),
    ),
    "vision": (
        "src/chiasm/models/fusion/vision_conditioned.py",
        ("tests/models/fusion/test_fusion.py", "tests/models/fusion/test_families.py"),
    ),
}


class Mutation(NamedTuple):
    """A fault: in which code, what goes wrong, and the text, once in its file, that another takes the place of."""

    code: str
    fault: str
    old: str
    new: str


MUTATIONS = (
    Mutation("alignment", "unknown outcomes are anchors", 'here["image"] & mask[:, i]', 'here["image"]'),
    Mutation("alignment", "unknown outcomes are candidates", 'here["record"] & mask[:, i]', 'here["record"]'),
    Mutation("balance", "no discrepancy is no slowing", "torch.tanh(alpha * rho)", "torch.tanh(alpha * (rho - 1))"),
    Mutation(
        "bootstrap",
        "a basic interval is that of percentiles",
        "(max(0.0, 2 * value - x) for x in (high, float(defined.mean()), low))",
        "(max(0.0, x) for x in (low, float(defined.mean()), high))",
    ),
    Mutation("bootstrap", "rows are drawn, not patients", "names, patients = np.unique(ids, return_inverse=True)",
             "names, patients = ids, np.arange(len(ids))"),
    Mutation("calibrate", "a threshold on uncalibrated probabilities", "best_f1_threshold(truth, probability)",
             "best_f1_threshold(truth, expit(logits))"),
    Mutation("calibrate", "a quantile on uncalibrated probabilities", "scores = np.abs(truth - probability)",
             "scores = np.abs(truth - expit(logits))"),
    Mutation("calibrate", "a set of inputs fitted on studies that lack one",
             'mask[:, k] & ((said.shown == shown) | (shown == ""))', "mask[:, k]"),
    Mutation("calibrate", "a fold calibrated by the patients it tests", "np.isin(self.people, list(people))",
             "np.zeros(len(self.people), bool)"),
    Mutation("bootstrap", "a class of three is reported", "min(self.classes, default=FEWEST) < FEWEST",
             "min(self.classes, default=FEWEST) < 0"),
    Mutation("calibration", "a mass at one end takes others in", "(2 * count.cumsum() - count) * bins", "2 * count.cumsum() * bins"),
    Mutation("calibration", "errors of bins cancel", "np.abs(sums[:-1]).sum(axis=0)", "np.abs(sums[:-1].sum(axis=0))"),
    Mutation("calibration", "truths are not smoothed",
             "smoothed = np.where(y, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))",
             "smoothed = y.astype(np.float64)"),
    Mutation("classification", "a tie counts nothing",
             '- np.einsum("sr,sr->r", positives, negatives) / 2', '- np.einsum("sr,sr->r", positives, negatives) * 0'),
    Mutation("classification", "at the threshold means no", "yes = s >= threshold", "yes = s > threshold"),
    Mutation("classification", "the best F1 counts negatives", "2 * tp / (called + y.sum())", "2 * tp / (called + len(y))"),
    Mutation("co-attention", "an absent modality has a vector", "self.norm[name](vector) * here[:, None]",
             "self.norm[name](vector)"),
    Mutation("co-attention", "an absent modality has a share of the gate",
             "gate.masked_fill(~here[..., None], torch.finfo(gate.dtype).min).softmax(dim=1)", "gate.softmax(dim=1)"),
    Mutation("combine", "a box at the threshold with the report", "said.hidden, said.hidden_cuts", "said.hidden, said.cuts"),
    Mutation("combine", "a box by the answer with the report", "said.hidden, said.hidden_cuts", "said.values, said.hidden_cuts"),
    Mutation("conformal", "the new patient is not counted", "coverage * (len(many) + 1)", "coverage * len(many)"),
    Mutation("conformal", "a patient weighs as many as its studies", "1 / many[whose[order]]", "1 + 0 * many[whose[order]]"),
    Mutation("conformal", "the less probable neighbour first", "down = padded[rows, low] >= padded[rows, high + 2]",
             "down = padded[rows, low] < padded[rows, high + 2]"),
    Mutation("decision", "harm weighs one", "* (at / (1 - at))", "* np.ones_like(at)"),
    Mutation("film", "no record modulates too", "self.condition(torch.cat(known, dim=1)) * here(record)",
             "self.condition(torch.cat(known, dim=1))"),
    Mutation("folds", "patients of two fold models are a pair", "before = total.cumsum(axis=0) - total", "before = 0 * total"),
    Mutation("folds", "repeats share no luck", "(influence**2).sum(axis=1).mean()", "(influence.mean(axis=0) ** 2).sum()"),
    Mutation("folds", "averaging repeats gains nothing", "np.sqrt((one + of_mean) / 2)", "np.sqrt(one)"),
    Mutation("folds", "a fold of positives alone is precise", "judged, by_repeat = n_negative > 0", "judged, by_repeat = n_negative >= 0"),
    Mutation("geometry", "an offset is not scaled by the next map", "o * b + c for o, b, c", "o + c for o, b, c"),
    Mutation("geometry", "a map is half a cell off", "(cells / self.shape[axis]) - 0.5", "(cells / self.shape[axis])"),
    Mutation("geometry", "what was cropped away repeats the edge", "result = np.where(shown.reshape(column), result, np.float32(0))",
             "result = np.where(shown.reshape(column), result, result)"),
    Mutation("grounding", "Dice of maps without a lesion", "lesion_label_mask & (shares.amax(dim=3) > 0)", "lesion_label_mask"),
    Mutation("localization", "boxes apart overlap", "np.prod(np.maximum(sides, 0), axis=-1)", "np.prod(sides, axis=-1)"),
    Mutation("localization", "Dice is IoU", "_ratio(2 * both, total)", "_ratio(both, total - both)"),
    Mutation("ordinal", "the ranked score is shared out over all levels", "reached.sum(axis=1) / (len(scale) - 1)", "reached.sum(axis=1) / len(scale)"),
    Mutation("ordinal", "kappa is not quadratic", "(values[:, None] - values) ** 2", "np.abs(values[:, None] - values)"),
    Mutation("outcome", "unknown labels dilute the mean", "mask.sum().clamp(min=1)", "mask.numel()"),
    Mutation("outcome", "a censored time is an event", "(labels[..., None] == interval) & ~torch.signbit(labels)[..., None]",
             "labels.abs()[..., None] == interval"),
    Mutation("paired", "folds are independent", "(1 / len(d) + test_share)", "(1 / len(d))"),
    Mutation("paired", "rounding is a difference", "if not varies(d):", "if d.var() == 0:"),
    Mutation("paired", "adjusted p may fall", "np.maximum.accumulate(steps)", "steps"),
    Mutation("survival", "a censoring comes before an event", "(t[first, None] == t) & ~event", "(t[first, None] == t) & event"),
    Mutation("survival", "pairs weigh 1 / G", "censoring_curve(t, event, t) ** -2.0",
             "censoring_curve(t, event, t) ** -1.0"),
    Mutation("tensors", "facts of a hidden image stay", 'changed["facts"] = self.facts * kept["image"][:, None]', "pass"),
    Mutation("tensors", "codes of a hidden record stay", 'self.record_codes * kept["record"][:, None]', "self.record_codes"),
    Mutation("text-encoder", "padding takes its share of attention", "each.new_full((mask.numel(),), torch.finfo(each.dtype).min)",
             "each.new_full((mask.numel(),), 0.0)"),
    Mutation("train", "a pretrained encoder at the full rate", "options.learning_rate / 10", "options.learning_rate"),
    Mutation("train", "the last modality may be hidden", "kept = (chance >= share) | (chance == chance.amax(dim=1, keepdim=True))",
             "kept = chance >= share"),
    Mutation("train", "the last column may be hidden", "kept = here & ((chance >= share) | (chance == chance.amax(dim=1, keepdim=True)))",
             "kept = here & (chance >= share)"),
    Mutation("unimodal", "studies without the modality are scored", "& outputs.present[modality][:, None]",
             "& torch.ones_like(outputs.present[modality])[:, None]"),
    Mutation("vectors", "an absent modality has a vector", "self.norm[m](pool(tokens[m])[0]) * here(tokens[m])",
             "self.norm[m](pool(tokens[m])[0])"),
    Mutation("vectors", "padding counts in the mean", "tokens.mask.sum(dim=1, keepdim=True).clamp(min=1)",
             "tokens.mask.shape[1]"),
    Mutation("vision", "no image is a prior", "self.prior(self.feature_norm(mean_token(image))) * here(image)",
             "self.prior(self.feature_norm(mean_token(image)))"),
    Mutation("vision", "no record lets an answer in", "* answer * here(record)", "* answer"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(CODE), default=sorted(CODE))
    only = parser.parse_args().only
    sources = {folder: git("rev-parse", f"HEAD:{folder}").decode().strip() for folder in ("src", "tests")}
    found = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    if found.get("sources") != sources:
        found = {"sources": sources, "whole": {}, "mutations": {}}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        with tarfile.open(fileobj=BytesIO(git("archive", "HEAD"))) as archive:
            archive.extractall(copy, filter="data")
        for mutation in MUTATIONS:
            count = (copy / CODE[mutation.code][0]).read_text("utf-8").count(mutation.old)
            if count != 1:
                sys.exit(
                    f"{mutation.code}, {mutation.fault}: its text is {count} times in {CODE[mutation.code][0]}, not once"
                )
        for code in sorted(only):
            _judge(copy, code, found)
    print(json.dumps(_summary(found["mutations"])))


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def _judge(copy: Path, code: str, found: dict[str, dict[str, object]]) -> None:
    """All faults of one file, after its tests have passed without any."""
    place, tests = CODE[code]
    source = (copy / place).read_text("utf-8")
    todo = {f"{code}: {m.fault}": m for m in MUTATIONS if m.code == code}
    todo = {name: m for name, m in todo.items() if name not in found["mutations"]}
    if todo and code not in found["whole"]:
        status, failed = _run(copy, tests)
        if status != "survived":
            sys.exit(f"the tests of {code} fail without any fault: {failed or ' '.join(tests)}")
        found["whole"][code] = list(tests)
    for name, mutation in todo.items():
        (copy / place).write_text(source.replace(mutation.old, mutation.new), "utf-8")
        status, noticed = _run(copy, tests)
        (copy / place).write_text(source, "utf-8")
        found["mutations"][name] = {"file": place, "status": status, "noticed_by": noticed}
        facts = {"date": date.today().isoformat(), **_summary(found["mutations"])}
        OUT.write_text(json.dumps(found | facts, indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"{status:9}{name}")


def _run(copy: Path, tests: tuple[str, ...]) -> tuple[str, str]:
    """What became of the fault, and the first test that noticed it."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "killed", f"none ended within {LIMIT} s"
    failed = [
        line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")
    ]
    return {0: "survived", 1: "killed"}.get(done.returncode, "error"), failed[0] if failed else ""


def _summary(mutations: dict[str, dict[str, object]]) -> dict[str, int]:
    statuses = [mutation["status"] for mutation in mutations.values()]
    return {status: statuses.count(status) for status in ("killed", "survived", "error")}


if __name__ == "__main__":
    main()
