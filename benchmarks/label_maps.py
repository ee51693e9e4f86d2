"""Maps that image labels alone teach, on validation patients: what each step of the weak path is worth, beside maps that look at nothing.

    python benchmarks/label_maps.py --part plain|own|organ [--folds 5] [--limit 4] [--work FOLDER]

RSNA's target on ChestX-ray14 images, 224 px. plain: the fused vector may answer the label. own: the map answers it itself. organ: the
same, within the lungs. Writes benchmarks/results/label_maps/PART.json; `limit` fold models are asked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.imports import import_cohort
from chiasm.cohort.store import Cohort
from chiasm.domains.chest.frame import organ_field
from chiasm.encoding.raster import cover
from chiasm.heads.maps import likely_places, within_range
from chiasm.metrics import localization as loc
from chiasm.recipe import read_recipe
from chiasm.run.fold_model import FoldModelOver, load_fold_models, over_own_cohorts
from chiasm.run.infer import Ask, infer
from chiasm.training.train import train

PLACE = ("lung_opacity", "lung_opacity")
PARTS = {
    "plain": ("heads.localization.label_weight=0",),
    "own": (),
    "organ": ("heads.localization.within=organ",),
}
OVERRIDES = (
    *("targets=[lung_opacity]", "inputs.text=null", "inputs.record=null", "heads.description=null"),
    *("heads.localization.weight=0", "train.epochs=12"),
)


def score(cohort: Cohort, maps: Mapping[int, NDArray[np.floating]]) -> list[dict[str, float]]:
    """The figures of the maps of images in which a reader drew, by row of the image."""
    found = []
    for row, grid in maps.items():
        truth = cohort.mask(row, *PLACE)
        if truth is not None and truth.any():
            geometry, drawn = cohort.geometry(row), cohort.boxes(row, *PLACE)
            original = within_range(geometry.map_to_original(grid.astype(np.float32))[None, None])[0, 0]
            found.append(loc.score_map(original, 0.5, *loc.boxes_of(original, 0.5), truth, drawn))
    return found


def ask(model: FoldModelOver) -> dict[str, dict[int, NDArray[np.floating]]]:
    """Whose map -> row of an image -> map, of the validation patients of a fold model."""
    (cohort,) = model.loader.cohorts
    (said,) = infer(model, model.split["validation"], [Ask(heads=("localization",))])
    kept = said.heads["localization"]
    own = {int(row): likely_places(grid)[0] for grid, (_, row) in zip(kept.values, kept.index, strict=True)}
    trained = np.flatnonzero(np.isin(cohort.image_study, model.split["train"]))
    regions = [[r for r in cohort.regions_of(i) if (r.target, r.label) == PLACE] for i in trained.tolist()]
    drawn = [cover(r, cohort.geometry(i), (32, 32)) for i, r in zip(trained.tolist(), regions, strict=True) if r]
    constant = {"region_prior": np.mean(drawn, axis=0), "organ_prior": organ_field("lung_opacity", (32, 32))}
    return {"model": own} | {name: dict.fromkeys(own, grid) for name, grid in constant.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nih-chestxray14"))
    parser.add_argument("--work", type=Path, default=Path("runs/label_maps"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=5)
    given = parser.parse_args()
    where = given.work / "cohort"
    cohort = Cohort.open(where) if where.exists() else import_cohort("chestxray14", given.data, where, size=224)
    run, overrides = given.work / f"run-{given.part}", [*OVERRIDES, *PARTS[given.part]]
    resume = (run / "run.json").exists()
    train(read_recipe("report-fusion", overrides), [cohort.path], run, folds=given.folds, resume=resume)
    found: dict[str, list[dict[str, float]]] = {}
    for model in over_own_cohorts(run, load_fold_models(run))[: given.limit]:
        for name, maps in ask(model).items():
            found.setdefault(name, []).extend(score(cohort, maps))
    means = {who: {k: round(float(np.nanmean([x[k] for x in own])), 4) for k in own[0]} for who, own in found.items()}
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/label_maps.py --part {given.part} --limit {given.limit}",
        "cohort": cohort.hash,
        "overrides": overrides,
        "images": len(found["model"]),
        "means": means,
    }
    out = Path(__file__).parent / "results" / "label_maps"
    out.mkdir(exist_ok=True)
    (out / f"{given.part}.json").write_text(json.dumps(result, indent=1), "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
