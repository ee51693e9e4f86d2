"""mRS > 2 at discharge (SOOP), everything chosen inside each of 5 outer folds: network, boosting on the same inputs, record alone.

    python benchmarks/nested_stroke.py [--part network:0] [--budget-minutes 50] [--work FOLDER]

A part is an outer fold of an arm (network, boosting, record). The same command goes on with a part; without --part it does what is
missing until the budget is spent, and says what is left. The last one writes benchmarks/results/nested_stroke.json: the nested
figures with their intervals, the inner ones, the optimism, and network minus boosting on the same patients.

No candidate is preferred: fewer parameters, other fusion families, a stack of the modalities' own answers, how much the ordinal answer
teaches, regularization; of boosting its own settings, and whether answers may only rise with NIHSS and age.
"""

from chiasm.cohort.compose import write_texts
from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.recipe import change_recipe, read_recipe
from chiasm.report.writers import open_writer
from nested import Arm, parse_arguments, run_nested

BOOSTING = """
baseline.leaves: [3, 5, 7, 15]
baseline.learning_rate: {low: 0.02, high: 0.1, log: true}
baseline.min_leaf: [5, 10, 20, 40]
baseline.l2: {low: 0.1, high: 30.0, log: true}
baseline.rising: [[], [nihss, age_years]]
"""
NETWORK = """
recipe: [fusion-gated, fusion-early, fusion-film]
train.learning_rate: {low: 0.001, high: 0.01, log: true}
train.epochs: {low: 8, high: 24, step: 8}
train.weight_decay: {low: 0.01, high: 1.0, log: true}
fusion.dim: [8, 16, 32, 64]
fusion.dropout: [0.0, 0.2, 0.4]
fusion.modality_dropout: [0.0, 0.3, 0.5]
targets.mrs.weight: [0.3, 1.0, 3.0]
"""


def main() -> None:
    arguments = parse_arguments(__doc__ or "", "../shared/data/soop", "runs/nested_stroke")
    if not (arguments.work / "cohort").exists():
        arguments.work.mkdir(parents=True, exist_ok=True)
        import_cohort("soop", arguments.data, arguments.work / "cohort", volume_size=(48, 64, 56))
    cohort = Cohort.open(arguments.work / "cohort")
    write_texts(cohort, open_writer("template"), "image-description")
    network = read_recipe("stroke-prognosis")
    stack = {"name": "stack", "heads": {}, "fusion.name": "late-stacked", "train.unimodal_weight": 1.0}
    read = {"targets": network.model_dump(mode="json")["targets"]}
    sections = {"inputs.text.sections": ["image_description"], "inputs.text.max_tokens": 320}
    boosting = change_recipe(read_recipe("baseline-frozen"), read | sections)
    record = change_recipe(read_recipe("baseline-record"), read)
    arms = {
        "network": Arm([network, change_recipe(network, stack)], NETWORK),
        "boosting": Arm([boosting], BOOSTING),
        "record": Arm([record], BOOSTING),
    }
    run_nested("nested_stroke", cohort, arms, arguments)


if __name__ == "__main__":
    main()
