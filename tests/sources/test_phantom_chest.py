"""The phantom source: reproducible studies whose parts agree with each other."""

from pathlib import Path

import numpy as np
import pytest

from chiasm import vocabulary
from chiasm.domains.chest.lesions import KINDS
from chiasm.domains.chest.outcome import SUBSETS, VITALS, bayes, draw_latents
from chiasm.errors import InputError
from chiasm.sources.phantom_chest import read
from chiasm.study import State, Study, View


def same(a: Study, b: Study) -> bool:
    pixels = all(np.array_equal(x.pixels, y.pixels) for x, y in zip(a.images, b.images, strict=True))
    masks = all(np.array_equal(x.mask, y.mask) for x, y in zip(a.regions, b.regions, strict=True))
    rest = [(s.study_id, s.patient_id, s.report, s.record, s.findings, s.outcomes, s.bayes) for s in (a, b)]
    return pixels and masks and rest[0] == rest[1]


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(read(studies=300, size=64, seed=2))


def test_a_study_is_the_same_however_many_are_made(studies: list[Study]) -> None:
    few = list(read(studies=20, size=64, seed=2))
    assert all(same(a, b) for a, b in zip(few, studies, strict=False))
    other = next(iter(read(studies=1, size=64, seed=3)))
    assert not np.array_equal(other.images[0].pixels, few[0].images[0].pixels)
    assert other.patient_id not in {study.patient_id for study in studies}


def test_ids_patients_and_views(studies: list[Study]) -> None:
    assert len({study.study_id for study in studies}) == len({s.images[0].image_id for s in studies}) == 300
    pairs = list(zip(studies[::2], studies[1::2], strict=True))
    shared = [a.patient_id == b.patient_id for a, b in pairs]
    assert len({study.patient_id for study in studies}) == 300 - sum(shared)
    assert 0.2 < np.mean(shared) < 0.5
    for (a, b), one in zip(pairs, shared, strict=True):
        if one:
            assert len(a.images) == len(b.images)
            assert a.record is not None
            assert b.record is not None
            known = {a.record.values["sex"], b.record.values["sex"]} - {None}
            assert len(known) <= 1
    views = [tuple(image.view for image in study.images) for study in studies]
    assert set(views) == {(View.PA,), (View.PA, View.LATERAL)}
    assert 0.22 < np.mean([len(view) == 2 for view in views]) < 0.45


def test_findings_and_regions_are_one_truth(studies: list[Study]) -> None:
    counts = dict.fromkeys(KINDS, 0)
    for study in studies:
        assert tuple(finding.name for finding in study.findings) == KINDS
        present = {finding.name for finding in study.findings if finding.state is State.PRESENT}
        assert {finding.state for finding in study.findings} <= {State.PRESENT, State.ABSENT}
        assert {region.label for region in study.regions} == present
        for region in study.regions:
            counts[region.label] += 1
            assert region.image_id == study.images[0].image_id
            assert region.mask is not None
            assert region.box is not None
            x_min, y_min, x_max, y_max = map(int, region.box)
            assert 0 <= x_min < x_max <= 64
            assert 0 <= y_min < y_max <= 64
            cut = region.mask[y_min:y_max, x_min:x_max]
            assert cut.sum() == region.mask.sum() >= 20
            assert all(edge.any() for edge in (cut[0], cut[-1], cut[:, 0], cut[:, -1]))
    assert all(20 < count < 120 for count in counts.values()), counts
    assert all(name in vocabulary.FINDINGS for name in KINDS)


def test_truth_does_not_depend_on_the_size(studies: list[Study]) -> None:
    for small, large in zip(studies, read(studies=12, size=128, seed=2), strict=False):
        assert small.report == large.report
        assert small.record == large.record
        for a, b in zip(small.regions, large.regions, strict=True):
            assert a.label == b.label
            assert a.box is not None
            assert b.box is not None
            np.testing.assert_allclose(np.array(a.box) * 2, b.box, atol=4)


def test_posteriors_and_outcome_are_those_of_the_latents(studies: list[Study]) -> None:
    latents = draw_latents(300, seed=2)
    known = bayes(latents)
    for row, study in enumerate(studies):
        assert tuple(study.bayes) == SUBSETS
        assert study.bayes == pytest.approx({subset: known[subset][row] for subset in SUBSETS})
        (outcome,) = study.outcomes
        assert (outcome.name, outcome.target, outcome.value) == ("event", "outcome", float(latents.event[row]))


def test_records_hold_what_was_measured(studies: list[Study]) -> None:
    latents = draw_latents(300, seed=2)
    unknown = []
    for row, study in enumerate(studies):
        assert study.record is not None
        values = study.record.values
        assert tuple(values) == ("age_years", "sex", *VITALS)
        for j, name in enumerate(VITALS):
            assert values[name] == (latents.vitals[row, j] if latents.observed[row, j] else None)
        assert values["sex"] in ("f", "m", None)
        unknown.append([values["age_years"] is None, values["sex"] is None])
        assert values["age_years"] is None or f"{values['age_years']:.0f}-year-old" in study.report.text  # type: ignore[union-attr]
    assert 0 < np.mean(unknown) < 0.08


def test_missing_parts_are_absent_and_the_rest_unchanged(studies: list[Study]) -> None:
    holes = list(read(studies=300, size=64, seed=2, missing=0.3))
    assert 0.2 < np.mean([study.report is None for study in holes]) < 0.4
    assert 0.2 < np.mean([study.record is None for study in holes]) < 0.4
    for study, whole in zip(holes, studies, strict=True):
        assert study.report in (None, whole.report)
        assert study.record in (None, whole.record)
        assert np.array_equal(study.images[0].pixels, whole.images[0].pixels)
        assert (study.bayes["image+text"] == study.bayes["image"]) >= (study.report is None)
        assert (study.bayes["image+record"] == study.bayes["image"]) >= (study.record is None)


@pytest.mark.parametrize(
    "options", [{"studies": 0}, {"size": 8}, {"missing": 1.5}, {"seed": -1}, {"path": Path("somewhere")}]
)
def test_what_cannot_be_made_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="phantom-chest"):
        next(iter(read(**options)))  # type: ignore[arg-type]
