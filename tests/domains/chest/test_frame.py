"""The frame of a frontal radiograph: it holds what the phantom's lungs hold, and its words name its parts."""

import numpy as np
import pytest

from chiasm.domains.chest.frame import IN_HEART, IN_LUNGS, ZONES, frame_parts, name_parts, organ_field
from chiasm.encoding.raster import cover
from chiasm.sources.phantom_chest import read

GRID = (16, 16)


@pytest.fixture(scope="module")
def lesions():
    """(name, share of each cell) of the lesions of 40 phantoms."""
    found = []
    for study in read(studies=40, size=64):
        geometry = study.images[0].geometry
        found += [(region.label, cover([region], geometry, GRID)) for region in study.regions]
    return found


@pytest.mark.parametrize(("names", "number"), [(IN_LUNGS, 30), (IN_HEART, 5)])
def test_what_the_phantom_draws_lies_where_its_organ_is_likely(lesions, names, number):
    field = organ_field(names[0], GRID)
    assert field.max() <= 1 and field.min() > 0
    likely = [float((share * (field > np.exp(-2))).sum() / share.sum()) for name, share in lesions if name in names]
    assert len(likely) > number
    assert np.mean(likely) > 0.9
    assert (field > np.exp(-2)).mean() < 0.6


def test_lungs_lie_alike_on_both_sides_and_the_heart_more_on_the_patients_left():
    lungs, heart = organ_field("edema", GRID), organ_field("cardiomegaly", GRID)
    assert np.allclose(lungs, lungs[:, ::-1])
    assert heart[:, 8:].sum() > heart[:, :8].sum()


@pytest.mark.parametrize("name", ["fracture", "support_devices", "a finding that no list knows"])
def test_what_belongs_to_no_organ_may_lie_anywhere(name):
    assert (organ_field(name, GRID) == 1).all()


@pytest.mark.parametrize(
    ("sides", "zones", "lobes", "corner"),
    [
        (["right"], [], [], (slice(None), slice(0, 8))),
        (["left"], ["upper"], [], (slice(0, 6), slice(8, 16))),
        (["left"], [], ["lower"], (slice(6, 16), slice(8, 16))),
        (["both"], ["base"], [], (slice(9, 16), slice(None))),
        (["left", "right"], ["hilum"], [], (slice(6, 9), slice(None))),
    ],
)
def test_words_name_parts_of_the_image(sides, zones, lobes, corner):
    expected = np.zeros(GRID, bool)
    expected[corner] = True
    assert np.array_equal(np.array(name_parts(sides, zones, lobes))[frame_parts(GRID)], expected)


@pytest.mark.parametrize("sides", [[], ["both"], ["left", "right"]])
def test_words_that_leave_out_no_part_name_none(sides):
    assert name_parts(sides, ["periphery"], []) is None


def test_every_zone_of_the_frame_is_a_zone_of_reports():
    from chiasm.report.sections import read_lexicon

    assert set(ZONES) <= set(read_lexicon("attributes")["zone"])
