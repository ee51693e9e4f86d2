import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.geometry import Geometry
from chiasm.metrics import localization as loc
from chiasm.metrics.bootstrap import Resamples

SIDE = 12
corners = st.tuples(*[st.integers(0, SIDE)] * 4)
boxes = corners.map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1))
box_lists = st.lists(boxes, min_size=1, max_size=5).map(lambda rows: np.array(rows, float))


def drawn(rows: np.ndarray) -> np.ndarray:
    """The slow way: integer boxes as pixels."""
    mask = np.zeros((SIDE + 1, SIDE + 1), bool)
    for x_min, y_min, x_max, y_max in rows.astype(int):
        mask[y_min:y_max, x_min:x_max] = True
    return mask


@given(box_lists, box_lists)
def test_iou_of_boxes_equals_that_of_their_pixels(a, b):
    ious = loc.box_iou(a, b)
    assert ious.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            slow, _ = loc.mask_overlap(drawn(one[None]), drawn(other[None]))
            assert ious[i, j] == pytest.approx(slow)
    assert (loc.box_iou(b, a) == ious.T).all()
    assert np.diag(loc.box_iou(a, a)) == pytest.approx(1)


@given(box_lists, box_lists)
def test_iou_of_unions_equals_that_of_their_pixels_and_knows_no_order(a, b):
    found = loc.union_iou(a, b)
    assert found == pytest.approx(loc.mask_overlap(drawn(a), drawn(b))[0])
    assert found == pytest.approx(loc.union_iou(b[::-1], a))
    assert found == pytest.approx(loc.union_iou(a * 0.37 + 5, b * 0.37 + 5))
    assert 0 <= found <= 1


def test_iou_of_boxes_and_of_their_union_equals_the_area_by_hand():
    assert loc.box_iou([[0, 0, 2, 2]], [[1, 1, 3, 3]]) == pytest.approx(1 / 7)
    assert loc.box_iou([[0, 0, 1, 1]], [[1, 0, 2, 1]]) == 0  # edges that touch share nothing
    assert loc.box_iou([[3, 3, 3, 3]], [[3, 3, 3, 3]]) == 0
    two_halves = np.array([[0, 0, 1, 2], [1, 0, 2, 2]])
    assert loc.union_iou(two_halves, [[0, 0, 2, 2]]) == 1
    assert loc.union_iou(np.empty((0, 4)), [[0, 0, 2, 2]]) == 0
    assert np.isnan(loc.union_iou(np.empty((0, 4)), np.empty((0, 4))))


def test_the_best_box_is_the_one_the_model_scores_highest_not_the_one_that_fits():
    boxes_, truth = np.array([[0, 0, 2, 2], [4, 4, 6, 6]]), np.array([[9, 9, 10, 10], [4, 4, 6, 8]])
    assert loc.best_box_iou(boxes_, np.array([0.9, 0.8]), truth) == 0
    assert loc.best_box_iou(boxes_, np.array([0.7, 0.8]), truth) == pytest.approx(0.5)
    assert loc.best_box_iou(np.empty((0, 4)), np.empty(0), truth) == 0


def test_mask_overlap_by_hand():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[0, :3], b[0, 1:] = True, True
    assert loc.mask_overlap(a, b) == (pytest.approx(2 / 4), pytest.approx(4 / 6))
    assert loc.mask_overlap(a, ~a) == (0, 0)
    assert np.isnan(loc.mask_overlap(a & ~a, b & ~b)).all()
    volume = np.stack([a, b])
    assert loc.mask_overlap(volume, volume) == (1, 1)


def test_pointing_and_its_ties():
    values, truth = np.zeros((3, 4)), np.zeros((3, 4), bool)
    truth[1, 1:3] = True
    values[1, 2] = 1
    assert loc.pointing(values, truth) == 1
    values[0, 0] = 2
    assert loc.pointing(values, truth) == 0
    values[1, 1] = 2
    assert loc.pointing(values, truth) == 0.5
    assert loc.pointing(np.ones((3, 4)), truth) == pytest.approx(truth.mean())  # an even map knows nothing


def test_cnr_is_the_difference_of_means_over_the_root_of_summed_variances():
    values, truth = np.array([[3.0, 5.0, 1.0, 1.0, 0.0, 2.0]]), np.array([[True, True, False, False, False, False]])
    assert loc.cnr(values, truth) == pytest.approx((4 - 1) / np.sqrt(1 + 0.5))
    assert loc.cnr(-values, truth) == loc.cnr(values, truth)


@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-50, 50))
def test_cnr_knows_no_units(seed, scale, shift):
    rng = np.random.default_rng(seed)
    values, truth = rng.normal(size=(6, 7)), rng.random((6, 7)) < 0.4
    truth[0, :2] = [True, False]
    assert loc.cnr(values * scale + shift, truth) == pytest.approx(loc.cnr(values, truth))


def test_cnr_of_an_even_map_or_a_truth_without_edge_is_undefined():
    truth = np.zeros((40, 50), bool)
    truth[3:30, 7:20] = True
    assert np.isnan(loc.cnr(np.full((40, 50), 0.3), truth))
    assert np.isnan(loc.cnr(np.where(truth, 0.7, 0.1), truth))  # both variances 0
    assert np.isnan(loc.cnr(np.random.default_rng(0).random((40, 50)), np.ones((40, 50), bool)))


def test_parts_of_a_mask_become_boxes_and_corners_touch():
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = True
    mask[3:5, 4:7] = True
    found, parts = loc.mask_boxes(mask)
    assert found.tolist() == [[0, 0, 2, 2], [4, 3, 7, 5]]
    assert parts.max() == 2
    assert loc.mask_boxes(np.zeros((3, 3), bool))[0].shape == (0, 4)
    volume = np.zeros((3, 6, 8), bool)
    volume[0, 1:3, 2:4] = True
    assert loc.mask_boxes(volume)[0].tolist() == [[2, 1, 4, 3]]  # in a volume a box goes through every slice


def test_a_map_becomes_boxes_on_the_original_best_first():
    """A grid of 4 x 8 over a stored image that shows the original at half its size, with a padded border of 4 rows."""
    geometry = Geometry.identity((24, 64)).resized((12, 32)).cropped((-4, 0), (16, 32))
    values = np.zeros((4, 8))
    values[2, 1] = 0.8  # stored rows 8..12, columns 4..8; original rows 8..16, columns 8..16
    values[2, 6] = 1.0
    found, scores = loc.map_to_boxes(values, 0.5, geometry)
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert centres.tolist() == [[52, 12], [12, 12]]
    assert scores == pytest.approx([1.0, 0.8], rel=0.15)  # linear between cell centres, which are no pixel centres
    original = geometry.map_to_original(values)
    for (x_min, y_min, x_max, y_max), score in zip(found.astype(int), scores, strict=True):
        assert original[y_min:y_max, x_min:x_max].max() == pytest.approx(score)
        assert (original[y_min:y_max, x_min:x_max] >= 0.5).any(axis=0).all()
    nothing, no_scores = loc.map_to_boxes(values, 1.1, geometry)
    assert nothing.shape == (0, 4)
    assert no_scores.shape == (0,)


def test_a_map_of_a_volume_becomes_boxes():
    values = np.zeros((2, 3, 4))
    values[1, 1, 2] = 1
    found, scores = loc.map_to_boxes(values, 0.9, Geometry.identity((2, 3, 4)))
    assert found.tolist() == [[2, 1, 3, 2]]
    assert scores.tolist() == [1]


def test_score_map_by_hand():
    """Truth is columns 0..4 of a row of 10, the map reaches its threshold on columns 3..8 with the maximum at 4."""
    truth = np.zeros((1, 10), bool)
    truth[0, :5] = True
    values = np.array([[0, 0, 0, 0.6, 0.9, 0.6, 0.6, 0.6, 0.6, 0]])
    found = loc.score_map(values, 0.5, np.array([[3, 0, 9, 1]]), np.array([0.9]), truth)
    assert found["miou"] == found["box_iou"] == pytest.approx(2 / 9)
    assert found["dice"] == pytest.approx(4 / 11)
    assert found["pointing"] == 1
    assert (found["t_iou_0.1"], found["t_iou_0.3"], found["t_iou_0.5"]) == (1, 0, 0)
    assert found["cnr"] == pytest.approx(abs(0.3 - 0.48) / np.sqrt(np.var(values[0, :5]) + np.var(values[0, 5:])))
    assert set(found) == set(loc.PROTOCOLS) - {"miou_fitted"}
    exact = loc.score_map(values, 0.5, np.array([[0, 0, 5, 1]]), np.array([0.9]), truth, np.array([[0, 0, 10, 1]]))
    assert (exact["box_iou"], exact["t_iou_0.3"], exact["t_iou_0.5"]) == (0.5, 1, 0)  # more than .5, not .5


def test_an_empty_truth_is_refused():
    with pytest.raises(ValueError, match="not empty"):
        loc.score_map(np.ones((2, 2)), 0.5, np.empty((0, 4)), np.empty(0), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="of its shape"):
        loc.score_map(np.ones((2, 3)), 0.5, np.empty((0, 4)), np.empty(0), np.ones((2, 2), bool))


def test_the_summary_counts_patients_and_what_was_undefined():
    row = dict.fromkeys(loc.PROTOCOLS, 0.5)
    rows = [row, {**row, "cnr": np.nan}, {**row, "miou": 0.2}]
    found = loc.summarize(rows, Resamples.draw(["a", "a", "b"], 200))
    assert found["miou"].metric().value == pytest.approx(0.4)
    assert found["miou"].metric().n == 2
    assert "1 of 3 undefined and left out" in found["cnr"].metric().protocol


def test_the_best_cut_of_the_maps_equals_the_slow_search():
    rng = np.random.default_rng(2)
    truths = [rng.random((9, 11)) < 0.3 for _ in range(4)]
    maps = [np.clip(0.3 * truth + rng.random((9, 11)) * 0.7, 0, 1) for truth in truths]
    found = loc.best_map_threshold(zip(maps, truths, strict=True), np.linspace(0, 1, 21)[1:-1])
    cuts = np.linspace(0, 1, 21)[1:-1]
    slow = [np.mean([loc.mask_overlap(m >= cut, t)[0] for m, t in zip(maps, truths, strict=True)]) for cut in cuts]
    assert found == cuts[int(np.argmax(slow))]
    assert loc.best_map_threshold([]) is None


def test_a_pixel_as_high_as_the_cut_is_in():
    assert (
        loc.best_map_threshold([(np.array([[0.5, 0.25]]), np.array([[True, False]]))], np.array([0.25, 0.5, 0.75]))
        == 0.5
    )


def test_overlap_within_the_range_of_a_map_by_hand():
    values = np.array([[2.0, 3.0, 4.0, 4.4]])  # 0, 1/2.4, 2/2.4, 1 within its range
    truth = np.array([[False, False, True, True]])
    iou, dice = loc.range_overlap(values, truth, (0.1, 0.4, 0.5))
    assert iou == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert dice == pytest.approx((0.8 + 0.8 + 1) / 3)
    assert loc.range_overlap(np.ones((1, 4)), truth, (0.1,)) == (0.0, 0.0)


def test_a_map_that_is_higher_outside_has_a_contrast_below_0():
    values, truth = np.array([[0.0, 0.2, 1.0, 0.8]]), np.array([[True, True, False, False]])
    assert loc.signed_cnr(values, truth) == pytest.approx(-loc.cnr(values, truth))
    assert loc.signed_cnr(1 - values, truth) == pytest.approx(loc.cnr(values, truth))


def test_the_same_map_under_the_thresholds_of_afloc():
    """Of a ramp more is left at .1 to .5 of [0, 1] than at .1 to .5 of [-1, 1]: no figure without its protocol."""
    values = np.tile(np.linspace(0, 1, 101), (101, 1))
    truth = values > 0.7
    found = loc.afloc(values, truth)
    slow = [30 / np.sum(values[0] >= (t + 1) / 2) for t in (0.1, 0.2, 0.3, 0.4)] + [np.sum(values[0] >= 0.75) / 30]
    assert found["afloc_iou"] == pytest.approx(np.mean(slow), abs=0.02)
    assert found["afloc_iou"] > 0.75
    assert loc.range_overlap(values, truth, (0.1, 0.2, 0.3))[0] < 0.4
    assert found["afloc_cnr"] == pytest.approx(loc.cnr(values, truth))


def test_afloc_scores_the_central_square_and_leaves_out_what_is_empty_there():
    values = np.zeros((2, 6))
    values[:, 2] = 1.0
    values[:, 0] = 5.0  # outside of the square of columns 2 and 3
    truth = np.zeros((2, 6), bool)
    truth[:, 2] = True
    assert loc.afloc(values, truth)["afloc_iou"] == 1.0
    outside = np.zeros((2, 6), bool)
    outside[:, 0] = True
    assert np.isnan(list(loc.afloc(values, outside).values())).all()
    assert np.isnan(loc.afloc(np.ones((2, 2)), np.ones((2, 2), bool))["afloc_iou"])
