"""The phantom stroke as a source: reproducible studies whose parts agree with each other, and with the store."""

from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.imports import import_cohort
from chiasm.domains.stroke.outcome import KINDS, PLACES, SUBSETS, bayes, draw_latents
from chiasm.domains.stroke.territories import TERRITORIES
from chiasm.errors import InputError
from chiasm.sources.phantom_stroke import read
from chiasm.study import State, Study

SHAPE = (32, 40, 36)


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(read(studies=60, volume_size=SHAPE, seed=2))


def test_a_study_is_the_same_however_many_are_made(studies: list[Study]) -> None:
    both = list(read(studies=5, volume_size=SHAPE, seed=2, sequences="flair,dwi"))
    for few, study in zip(both, studies, strict=False):
        assert (few.record, few.outcomes, few.bayes, few.facts) == (
            study.record,
            study.outcomes,
            study.bayes,
            study.facts,
        )
        assert [image.name for image in few.images] == ["FLAIR", "DWI"]
        np.testing.assert_array_equal(few.images[0].pixels, study.images[0].pixels)
    (mask,) = next(iter(read(studies=1, volume_size=SHAPE, seed=2, sequences="lesion-mask"))).images
    region = studies[0].regions[0].mask
    assert mask.name == "lesion-mask" and region is not None
    np.testing.assert_array_equal(mask.pixels, np.where(region, 255, 0))
    other = next(iter(read(studies=1, volume_size=SHAPE, seed=3)))
    assert not np.array_equal(other.images[0].pixels, studies[0].images[0].pixels)


def test_image_findings_regions_and_facts_are_one_truth(studies: list[Study]) -> None:
    latents = draw_latents(60, seed=2)
    for row, study in enumerate(studies):
        place = PLACES[latents.place[row]]
        (image,), (region,) = study.images, study.regions
        assert image.pixels.shape == image.geometry.shape == SHAPE
        assert region.label == place.name and region.image_id == image.image_id and region.mask is not None
        assert tuple(finding.name for finding in study.findings) == KINDS
        assert [f.name for f in study.findings if f.state is State.PRESENT] == [place.name]
        voxel_ml = np.prod(image.geometry.spacing_mm) / 1000
        assert study.facts["lesion_volume_ml"] == pytest.approx(region.mask.sum() * voxel_ml)
        assert study.facts["lesion_volume_ml"] == pytest.approx(latents.volume_ml[row], abs=voxel_ml / 2 + 1e-9)
        assert study.facts["hemisphere"] == TERRITORIES[place.territories[0]].split()[0]
        mine = sum(study.facts[f"territory_{n}_share"] for n in place.territories)  # type: ignore[misc]
        assert mine == pytest.approx(1)
        x = image.geometry.affine[3] + image.geometry.affine[2] * np.nonzero(region.mask)[2]
        assert ((x < 0) if study.facts["hemisphere"] == "left" else (x > 0)).all()
    contrasts = [s.facts["flair_contrast"] for s in studies if s.facts["flair_visible"] != "not visible"]
    assert contrasts and np.median(np.array(contrasts, float)) > 2
    assert any(study.facts["flair_visible"] == "not visible" for study in studies)


def test_record_outcome_and_posterior_are_those_of_the_latents(studies: list[Study]) -> None:
    latents = draw_latents(60, seed=2)
    known = bayes(latents)
    for row, study in enumerate(studies):
        assert study.bayes == pytest.approx({subset: known[subset][row] for subset in SUBSETS})
        values = {outcome.name: outcome.value for outcome in study.outcomes}
        assert values == {
            "mrs_gt_2": float(latents.mrs[row] > 2),
            "mrs": float(latents.mrs[row]),
            "nihss": float(latents.nihss[row]),
        }
        assert study.record is not None
        for i, (name, column) in enumerate(
            (("age_years", "age_years"), ("nihss", "nihss"), ("glucose_mmol_l", "glucose_mmol_l"))
        ):
            expected = float(getattr(latents, column)[row]) if latents.observed[row, i] else None
            assert study.record.values[name] == expected
        assert study.record.values["sex"] in ("f", "m", None)


def test_missing_parts_are_absent_and_the_rest_unchanged(studies: list[Study]) -> None:
    holes = list(read(studies=60, volume_size=SHAPE, seed=2, missing=0.4))
    assert 10 < sum(not study.images for study in holes) < 35
    assert 10 < sum(study.record is None for study in holes) < 40
    for study, whole in zip(holes, studies, strict=True):
        assert study.record in (None, whole.record)
        assert study.facts in ({}, whole.facts)
        assert bool(study.facts) == bool(study.regions) == bool(study.images)
        assert study.images or study.record
        assert study.outcomes == whole.outcomes


def test_the_import_makes_volumes_of_its_own_size_and_stores_them_as_they_are(
    studies: list[Study], tmp_path: Path
) -> None:
    cohort = import_cohort("phantom-stroke", None, tmp_path / "c", volume_size=SHAPE, seed=2, options={"studies": 6})
    assert cohort.array(3).shape == (6, 1, *SHAPE)
    assert cohort.bayes == tuple(sorted(SUBSETS))
    for row in range(6):
        np.testing.assert_array_equal(cohort.pixels(row), studies[row].images[0].pixels)
        label = studies[row].regions[0].label
        np.testing.assert_array_equal(cohort.mask(row, "findings", label), studies[row].regions[0].mask)
        assert cohort.geometry(row) == studies[row].images[0].geometry
        for name, value in studies[row].facts.items():
            back = cohort.study(row).facts.get(name)
            assert back == value if not isinstance(value, float) else back == pytest.approx(value)


@pytest.mark.parametrize(
    "options",
    [
        {"studies": 0},
        {"volume_size": (8, 8, 8)},
        {"volume_size": (32, 32)},
        {"missing": 1.5},
        {"seed": -1},
        {"sequences": "t1"},
        {"sequences": "flair,flair"},
        {"path": Path("somewhere")},
    ],
)
def test_what_cannot_be_made_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"phantom-stroke cannot take the option {next(iter(options))}"):
        next(iter(read(**options)))  # type: ignore[arg-type]
