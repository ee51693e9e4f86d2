"""How many validation patients of a class does a temperature need, and a threshold, before they do more good than harm?

Truth of closed form: normal scores of two classes (AUROC .8), and a model that states the true log-odds times a factor: 1 is a
calibrated model, 2 and 4 are overconfident ones, 1/2 an underconfident one. In every replication a validation sample of m
patients of the rarer class is drawn, `fit_temperature` and `best_f1_threshold` are fitted to it, and what they are worth is
integrated over endless patients: log loss, Brier score and calibration error less those of the uncalibrated model, and the
F1 that the threshold reaches less that of .5 and of the best one.

    OMP_NUM_THREADS=1 python benchmarks/calibration_size.py     writes benchmarks/results/calibration_size.json
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from chiasm.metrics.calibration import TEMPERATURES, fit_temperature
from chiasm.metrics.classification import best_f1_threshold

OUT = Path(__file__).parent / "results" / "calibration_size.json"
REPLICATIONS, AUROC = 400, 0.8
RARER, PREVALENCE, FACTOR = (2, 3, 5, 8, 10, 15, 20, 30), (0.1, 0.3, 0.5), (0.5, 1.0, 2.0, 4.0)
WIDE = (0.05, 20.0)
APART = np.sqrt(2) * norm.ppf(AUROC)
X = np.linspace(-6, 8, 1401)
Array = np.ndarray


class Population:
    """Endless patients of one prevalence: the density of the score and the true chance of a positive, on the grid `X`."""

    def __init__(self, prevalence: float) -> None:
        positives, negatives = prevalence * norm.pdf(X - APART), (1 - prevalence) * norm.pdf(X)
        self.weight = (positives + negatives) / (positives + negatives).sum()
        self.log_odds = np.log(positives / negatives)
        self.chance = expit(self.log_odds)

    def worth(self, logits: Array) -> Array:
        """[3] log loss, Brier score and calibration error of a model that states these logits."""
        p = expit(logits)
        log_loss = np.logaddexp(0, logits) - self.chance * logits
        brier = self.chance * (1 - p) ** 2 + (1 - self.chance) * p**2
        return np.array([self.weight @ each for each in (log_loss, brier, np.abs(p - self.chance))])

    def f1(self, yes: Array) -> float:
        found = self.weight[yes] @ self.chance[yes]
        return float(2 * found / (self.weight[yes].sum() + self.weight @ self.chance))


def measure(rarer: int, prevalence: float, factor: float) -> dict[str, object]:
    rng = np.random.default_rng([rarer, round(100 * prevalence), round(10 * factor)])
    everybody, others = Population(prevalence), round(rarer * (1 - prevalence) / prevalence)
    stated = factor * everybody.log_odds
    without = everybody.worth(stated)
    best = max(everybody.f1(expit(stated) >= p) for p in np.linspace(0.01, 0.99, 99))
    half = everybody.f1(stated >= 0)
    labels = np.arange(rarer + others) < rarer
    gains, f1 = {"bounded": [], "wide": []}, []
    for _ in range(REPLICATIONS):
        x = rng.normal(size=len(labels)) + APART * labels
        logits = factor * np.interp(x, X, everybody.log_odds)
        for name, bounds in (("bounded", TEMPERATURES), ("wide", WIDE)):
            temperature = fit_temperature(labels, logits, bounds=bounds)
            assert temperature is not None
            gains[name].append(without - everybody.worth(stated / temperature))
        threshold = best_f1_threshold(labels, expit(logits))
        f1.append(everybody.f1(expit(stated) >= threshold))
    result: dict[str, object] = {"rarer_class": rarer, "prevalence": prevalence, "factor": factor}
    for name, each in gains.items():
        for k, what in enumerate(("log_loss", "brier", "ece")):
            values = np.array(each)[:, k]
            result[f"gain_{what}_{name}"] = {
                "mean": round(float(values.mean()), 4),
                "worst_in_20": round(float(np.percentile(values, 5)), 4),
                "share_better": round(float((values > 0).mean()), 3),
            }
    result["f1_threshold"] = {
        "mean_less_that_of_half": round(float(np.mean(f1) - half), 4),
        "mean_less_the_best": round(float(np.mean(f1) - best), 4),
        "share_better_than_half": round(float(np.mean(np.array(f1) > half)), 3),
    }
    return result


def main() -> None:
    found = [measure(*each) for each in product(RARER, PREVALENCE, FACTOR)]
    by_size = {}
    for rarer in RARER:
        here = [each for each in found if each["rarer_class"] == rarer]
        by_size[rarer] = {
            f"{what}, model times {factor:g}": round(
                float(np.mean([each[f"gain_{what}_bounded"]["mean"] for each in here if each["factor"] == factor])), 4
            )
            for what, factor in product(("log_loss", "brier", "ece"), FACTOR)
        } | {
            "log_loss, worst in 20 of a calibrated model": min(
                each["gain_log_loss_bounded"]["worst_in_20"] for each in here if each["factor"] == 1
            ),
            "log_loss, mean over factors": round(float(np.mean([e["gain_log_loss_bounded"]["mean"] for e in here])), 4),
            "log_loss, the same with bounds .05 and 20": round(
                float(np.mean([e["gain_log_loss_wide"]["mean"] for e in here])), 4
            ),
            "F1 of the threshold less that of .5": round(
                float(np.mean([e["f1_threshold"]["mean_less_that_of_half"] for e in here])), 4
            ),
            "F1 of the threshold less the best": round(
                float(np.mean([e["f1_threshold"]["mean_less_the_best"] for e in here])), 4
            ),
        }
    result = {
        "what": " ".join(str(__doc__).split("\n\n    OMP")[0].split()),
        "replications": REPLICATIONS,
        "temperatures": TEMPERATURES,
        "gain_by_patients_of_the_rarer_class": by_size,
        "settings": found,
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(by_size, indent=1))


if __name__ == "__main__":
    main()
