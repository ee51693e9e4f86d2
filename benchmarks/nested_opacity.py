"""Lung opacity as RSNA's readers saw it, everything chosen inside each of 5 outer folds: network, boosting on the image, record alone.

    python benchmarks/nested_opacity.py [--part network:0] [--budget-minutes 50] [--work FOLDER]

Parts as in nested_stroke.py. The last one writes benchmarks/results/nested_opacity.json.
"""

from chest_opacity import OVERRIDES, SIZE
from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.recipe import read_recipe
from nested import Arm, parse_arguments, run_nested

BOOSTING = """
baseline.leaves: [3, 5, 7, 15]
baseline.learning_rate: {low: 0.02, high: 0.1, log: true}
baseline.min_leaf: [5, 10, 20, 40]
baseline.l2: {low: 0.1, high: 30.0, log: true}
"""
NETWORK = """
train.learning_rate: {low: 0.0003, high: 0.01, log: true}
train.epochs: {low: 6, high: 24, step: 6}
train.weight_decay: {low: 0.01, high: 1.0, log: true}
fusion.dim: [16, 32, 64, 128]
fusion.dropout: [0.0, 0.2, 0.4]
heads.localization.weight: [0.3, 1.0, 3.0]
"""


def main() -> None:
    arguments = parse_arguments(__doc__ or "", "../shared/data/nih-chestxray14", "runs/nested_opacity")
    if not (arguments.work / "cohort").exists():
        arguments.work.mkdir(parents=True, exist_ok=True)
        import_cohort("chestxray14", arguments.data, arguments.work / "cohort", size=SIZE)
    cohort = Cohort.open(arguments.work / "cohort")
    asked = "targets=[lung_opacity]"
    image = ["inputs.text=null", "inputs.record=null", f"inputs.image.size={SIZE}"]
    arms = {
        "network": Arm([read_recipe("report-fusion", OVERRIDES)], NETWORK),
        "boosting": Arm([read_recipe("baseline-frozen", [asked, *image])], BOOSTING),
        "record": Arm([read_recipe("baseline-record", [asked])], BOOSTING),
    }
    run_nested("nested_opacity", cohort, arms, arguments)


if __name__ == "__main__":
    main()
