"""Any atlas works: a toy one of five named regions goes from import to training and prediction."""

from pathlib import Path

import nibabel
import numpy as np

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.formats.atlas import Atlas
from chiasm.formats.nifti import read_nifti
from chiasm.prediction.folder import predict_inputs
from chiasm.recipe import read_recipe
from chiasm.run.fold_model import load_fold_models
from chiasm.study import Outcome, Study
from chiasm.training.train import train

SHAPE = (12, 10, 8)  # of the file: x, y, z
NAMES = {1: "left lobe", 2: "right lobe", 3: "caudate lobe", 5: "hilum", 6: "vessels"}  # 4 is left out
OVERRIDES = (
    "inputs.text=null", "inputs.record=null", "targets=[outcome]", "inputs.image.encoder=voxels", "train.epochs=2",
    "inputs.image.tokens=territories", "fusion.dim=8", "fusion.heads=2", "heads.localization=null",
)  # fmt: skip


def volumes(root: Path) -> list[Path]:
    """A spot of 2 x 2 x 2 voxels a file: in the right lobe of odd numbers, in the left of even ones."""
    files = []
    for i in range(24):
        values = np.zeros(SHAPE, np.uint8)
        start = 7 if i % 2 else 1
        values[start : start + 2, 1 + i % 6 : 3 + i % 6, 1:3] = 1
        files.append(root / f"scan{i}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), files[-1])
    return files


def test_a_toy_atlas_goes_from_import_to_prediction(tmp_path: Path) -> None:
    files = volumes(tmp_path)
    images = [read_nifti(file, image_id=f"i{i}") for i, file in enumerate(files)]
    regions = np.zeros(SHAPE[::-1], np.uint8)
    regions[..., 1:6], regions[..., 6:11] = 1, 2
    regions[0], regions[-1], regions[:, 0] = 3, 5, 6
    atlas = Atlas(regions, images[0].geometry, NAMES)
    splits = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
    studies = [
        Study(f"s{i}", f"p{i}", (image,), outcomes=(Outcome("right", float(i % 2)),), split=split)
        for i, (image, split) in enumerate(zip(images, splits, strict=True))
    ]
    out = tmp_path / "cohort"
    cohort = write_cohort(studies, out, source="hand", options={}, volume_size=SHAPE[::-1], atlas=atlas)
    assert cohort.region_names == NAMES
    np.testing.assert_array_equal(Cohort.open(out).atlas, regions)
    train(read_recipe("fusion-gated", OVERRIDES), [out], tmp_path / "run")
    fold_model = load_fold_models(tmp_path / "run")[0].over([cohort])
    assert fold_model.plan.regions == {str(n): name for n, name in NAMES.items()}
    assert fold_model.model.image_encoder.grid == (7,)  # numbers 0 .. 6
    (prediction,) = predict_inputs(tmp_path / "run", [files[3]], tmp_path / "out")
    assert [outcome.name for outcome in prediction.outcomes] == ["right"]
    fold_model.loader.features = None  # the volumes themselves
    batch = fold_model.loader.batch([3])
    held = fold_model.model.image_encoder.backbone(batch.images[batch.image_mask].float())[0][0, 0]
    ml = [8 * (r == 2) * float(fold_model.model.image_encoder.backbone.cell_ml) for r in range(7)]
    np.testing.assert_allclose(held.numpy(), np.log1p(ml), rtol=1e-5)
