"""What a model sees of the store: 16 bits as gray values, windows as channels, and one preprocessing for one run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chiasm.cohort.store import Cohort, cohort_from_studies
from chiasm.encoding.batches import Loader
from chiasm.encoding.fit import fit_plan
from chiasm.encoding.images import Shown, channel_names, check_rules, join_preprocessing
from chiasm.errors import CohortError
from chiasm.formats.intensity import Intensity
from chiasm.geometry import Geometry
from chiasm.recipe import read_recipe
from chiasm.study import Image, Outcome, Record, Study, Values

TWO = Intensity.parse({"CT": "40,400;-600,1500"})
HU = np.random.default_rng(0).integers(-1024, 2000, (16, 16)).astype(np.int16)
GRAY = np.random.default_rng(1).integers(0, 256, (16, 16)).astype(np.uint8)


def study(i: int, pixels: np.ndarray, modality: str, values: Values = Values.GRAY) -> Study:
    image = Image(f"i{i}", pixels, Geometry.identity((16, 16)), dicom_modality=modality, values=values)
    return Study(
        f"s{i}", f"p{i}", (image,), record=Record({"age": float(i)}), outcomes=(Outcome("died", i % 2),), split="train"
    )


def mixed(**options) -> Cohort:
    """A CT in HU, a film of 8 bits, a film of 16."""
    deep = GRAY.astype(np.uint16) * 200
    studies = [study(0, HU, "CT", Values.MODALITY), study(1, GRAY, "DX"), study(2, deep, "DX")]
    return cohort_from_studies(studies, **{"size": 16, **options})


def test_images_of_several_depths_share_an_array_and_are_shown_as_they_are() -> None:
    cohort = mixed(intensity=TWO)
    assert (cohort.array(2).dtype, cohort.array(2).shape) == (np.uint16, (3, 1, 16, 16))
    assert cohort.images["scale"].tolist() == ["modality", "uint8", "uint16"]
    cohort.verify()
    shown = Shown(cohort, 2, TWO)
    assert (shown.shape, shown.dtype, len(shown)) == ((3, 2, 16, 16), np.float32, 3)
    soft, lung = (np.clip((HU - (c - 0.5)) / (w - 1) + 0.5, 0, 1) * 255 for c, w in ((40, 400), (-600, 1500)))
    np.testing.assert_allclose(shown[0], [soft, lung], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(shown[1], [GRAY, GRAY])
    np.testing.assert_array_equal(shown[1:3], np.stack([shown[1], shown[2]]))
    np.testing.assert_array_equal(shown[np.array([2, 0])], np.stack([shown[2], shown[0]]))
    np.testing.assert_array_equal(cohort.pixels(0), np.rint(soft))
    np.testing.assert_array_equal(cohort.pixels(1), GRAY)
    assert cohort.stored(1).dtype == np.uint8


def test_a_study_of_hounsfield_units_is_stored_again_as_it_was() -> None:
    cohort = mixed()
    again = cohort_from_studies([cohort.study(row) for row in range(3)], size=16)
    for row in range(3):
        np.testing.assert_array_equal(again.stored(row), cohort.stored(row))
    assert again.images["pixel_hash"].tolist() == cohort.images["pixel_hash"].tolist()


def test_eight_bits_alone_are_read_without_a_copy_and_without_a_table() -> None:
    cohort = cohort_from_studies([study(0, GRAY, "DX")], size=16)
    shown = Shown(cohort, 2, TWO)
    assert shown.dtype == np.uint8
    assert np.shares_memory(shown[0], cohort.array(2))
    np.testing.assert_array_equal(Shown(cohort, 2, TWO, 3)[:], [[GRAY] * 3])


def test_channels_of_the_file_are_channels_of_the_batch_and_one_number_for_all() -> None:
    pair = replace(study(0, GRAY, "DX").images[0], pixels=np.stack([GRAY, GRAY // 2]))
    one = replace(study(0, GRAY, "DX"), images=(pair,))
    cohort = cohort_from_studies([one, study(1, GRAY, "DX")], size=16)
    assert cohort.meta["channels"] == {"pixels_2d": ["channel_1", "channel_2"]}
    assert cohort.meta["counts"]["rejected"] == 1  # an image of one channel among images of two
    np.testing.assert_array_equal(Shown(cohort, 2, TWO)[0], [GRAY, GRAY // 2])
    np.testing.assert_array_equal(cohort.study(0).images[0].pixels, [GRAY, GRAY // 2])
    assert channel_names([cohort], 2, TWO) == ("channel_1", "channel_2")
    with pytest.raises(CohortError, match="another number of channels"):
        Shown(cohort, 2, TWO, 3)


def test_a_plan_knows_windows_as_channels_and_a_batch_has_them(tmp_path: Path) -> None:
    cohort = mixed(intensity=TWO, size=32)
    recipe = read_recipe("fusion-gated", ["inputs.text=null", "inputs.image.size=32", "targets=[outcome]"])
    plan, _, _ = fit_plan(recipe, [cohort], [np.arange(3)])
    assert plan.channels == ("40,400", "-600,1500")
    assert plan.preprocessing["intensity"] == {
        "CT": "40,400;-600,1500",
        "DX": "percentile",
        "SEG": "mask",
        "other": "percentile",
    }
    assert plan.preprocessing["modalities"] == {"pixels_2d": ["CT", "DX"]}
    batch = Loader([cohort], type(plan).from_json(plan.to_json()), None).batch([0, 1, 2])
    assert (batch.images.shape, batch.images.dtype) == ((3, 1, 2, 32, 32), torch.float32)
    np.testing.assert_array_equal(batch.images[:, 0], Shown(cohort, 2, TWO)[:])


def test_cohorts_of_one_run_must_prepare_a_modality_alike() -> None:
    soft, lung = (
        mixed(intensity=Intensity.parse({"CT": "40,400"})),
        mixed(intensity=Intensity.parse({"CT": "-600,1500"})),
    )
    films = cohort_from_studies([study(0, GRAY, "DX")], size=16)
    assert join_preprocessing([films, soft])["intensity"]["CT"] == "40,400"
    with pytest.raises(CohortError, match="prepare CT images differently") as caught:
        join_preprocessing([soft, lung])
    assert caught.value.remedy.endswith("--intensity CT=40,400")
    cropped = cohort_from_studies([study(0, GRAY, "DX")], size=16, crop="footer")
    with pytest.raises(CohortError, match="prepare pictures differently"):
        join_preprocessing([films, cropped])
    recipe = read_recipe("fusion-gated", ["inputs.text=null", "inputs.image.size=32", "targets=[outcome]"])
    large = [mixed(intensity=Intensity.parse({"CT": window}), size=32) for window in ("40,400", "-600,1500")]
    with pytest.raises(CohortError, match="prepare CT images differently"):
        fit_plan(recipe, large, [np.arange(3), np.arange(3)])


def test_another_cohort_is_seen_through_the_windows_of_the_model_and_refused_if_it_has_none() -> None:
    soft, lung = Intensity.parse({"CT": "40,400"}), mixed(intensity=Intensity.parse({"CT": "-600,1500"}))
    check_rules(lung, soft)
    np.testing.assert_array_equal(Shown(lung, 2, soft)[0], Shown(mixed(intensity=soft), 2, soft)[0])
    stretched = mixed(intensity=Intensity.parse({"CT": "percentile"}))
    with pytest.raises(CohortError, match="prepare CT images differently"):
        check_rules(stretched, soft)
