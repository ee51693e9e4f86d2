"""Detection figures against computations by hand."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.detection import Boxes, _presence_correlation, average_precision, generalized_iou, rodeo


def an_image(predicted, true) -> Boxes:
    """Of (box, class, score) and (box, class)."""
    own = np.array([b for b, *_ in predicted], float).reshape(-1, 4)
    classes, scores = (np.array([one[k] for one in predicted], kind) for k, kind in ((1, int), (2, float)))
    return Boxes(
        own, classes, scores, np.array([b for b, _ in true], float).reshape(-1, 4), np.array([c for _, c in true], int)
    )


def of(images) -> Resamples:
    return Resamples.draw([f"p{i}" for i in range(len(images))], 50)


def value(estimate) -> float:
    return float(estimate.draws[0])


SQUARE, RIGHT, FAR = (0, 0, 10, 10), (10, 0, 20, 10), (100, 100, 110, 110)


def test_what_is_found_exactly_is_worth_1():
    images = [an_image([(SQUARE, 0, 0.9)], [(SQUARE, 0)]), an_image([(FAR, 1, 0.8)], [(FAR, 1)])]
    assert [value(x) for x in rodeo(images, 2, of(images)).values()] == pytest.approx([1, 1, 1, 1], abs=1e-5)
    assert value(average_precision(images, 0, 0.5, of(images))) == 1


def test_rodeo_by_hand():
    """One pair of one class, a side apart and half as high; one box too many; one missed in another image."""
    images = [an_image([((10, 0, 20, 5), 0, 0.9), (FAR, 1, 0.5)], [(SQUARE, 0)]), an_image([], [(SQUARE, 1)])]
    found = {name: value(x) for name, x in rodeo(images, 2, of(images)).items()}
    location = 2 ** -(1**2 + 0.25**2) / 3  # the centre is a side to the right and a quarter up
    shape = 0.5 / 3
    classification = 1 / 3
    assert found["rodeo_location"] == pytest.approx(location)
    assert found["rodeo_shape"] == pytest.approx(shape)
    assert found["rodeo_classification"] == pytest.approx(classification)
    assert found["rodeo_total"] == pytest.approx(3 / (1 / location + 1 / shape + 1 / classification), rel=1e-4)


@pytest.mark.parametrize(("same", "other"), [(5, 0), (4, 1), (2, 2), (0, 3)])
def test_the_classification_of_rodeo_is_the_matthews_correlation_of_one_hot_classes(same, other):
    classes = [(0, 0)] * same + [(1, 2)] * other
    images = [an_image([(SQUARE, a, 1.0)], [(SQUARE, b)]) for a, b in classes]
    hot = np.eye(3)[np.array(classes)]  # [n, 2, 3]
    slow = max(0.0, matthews_corrcoef(hot[:, 0].ravel(), hot[:, 1].ravel()))
    assert value(rodeo(images, 3, of(images))["rodeo_classification"]) == pytest.approx(slow)


def test_the_weight_of_classes_in_the_matching_is_the_matthews_correlation_of_what_is_there():
    images = [
        an_image([(SQUARE, 0, 1.0)], [(SQUARE, 0)]),
        an_image([(SQUARE, 1, 1.0)], []),
        an_image([], [(SQUARE, 1)]),
    ]
    assert _presence_correlation(images, 2) == pytest.approx(matthews_corrcoef([1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]))
    assert _presence_correlation([an_image([], [])], 2) == 0


def test_with_one_class_there_is_nothing_to_classify():
    images = [an_image([(SQUARE, 0, 1.0)], [(SQUARE, 0)])] * 2
    found = rodeo(images, 1, of(images))
    assert np.isnan(value(found["rodeo_total"]))
    assert found["rodeo_total"].undefined == "there is one class"
    assert value(found["rodeo_shape"]) == 1


def test_nothing_predicted_and_nothing_there_are_worth_nothing():
    images = [an_image([], [(SQUARE, 0)])] * 5
    assert value(rodeo(images, 2, of(images))["rodeo_total"]) == pytest.approx(0, abs=1e-5)
    assert value(average_precision(images, 0, 0.3, of(images))) == 0
    assert np.isnan(value(average_precision(images, 1, 0.3, of(images))))


def test_average_precision_by_hand():
    """By score: right, wrong, right, of three true boxes: precision 1, 1/2, 2/3, of which the envelope is 1, 2/3, 2/3."""
    images = [
        an_image([(SQUARE, 0, 0.9), (FAR, 0, 0.8)], [(SQUARE, 0)]),
        an_image([(RIGHT, 0, 0.7)], [(RIGHT, 0), (FAR, 0)]),
    ]
    assert value(average_precision(images, 0, 0.5, of(images))) == pytest.approx((1 + 2 / 3) / 3)


def test_a_true_box_is_found_once_and_an_iou_at_the_bound_counts():
    twice = [an_image([(SQUARE, 0, 0.9), (SQUARE, 0, 0.8)], [(SQUARE, 0)])]
    assert value(average_precision(twice, 0, 0.5, of(twice))) == 1  # the second box comes after all are found
    first_wrong = [an_image([((0, 0, 10, 20), 0, 0.9), (SQUARE, 0, 0.8)], [(SQUARE, 0)])]
    assert value(average_precision(first_wrong, 0, 0.5, of(first_wrong))) == 1  # IoU .5
    assert value(average_precision(first_wrong, 0, 0.51, of(first_wrong))) == pytest.approx(0.5)


def test_generalized_iou_falls_with_distance():
    near, far = generalized_iou(np.array([SQUARE], float), np.array([RIGHT, FAR], float))[0]
    assert near == 0
    assert far == pytest.approx(-(110**2 - 200) / 110**2)


def test_resamples_of_a_figure_are_its_values_on_the_drawn_images():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (12, 2, 2))
    images = [
        an_image([((*a, *(a + 10)), int(rng.integers(2)), rng.random())], [((*b, *(b + 12)), int(rng.integers(2)))])
        for a, b in corners
    ]
    resamples = of(images)
    order = np.unique([f"p{i}" for i in range(12)], return_inverse=True)[1]
    drawn = np.repeat(np.arange(12), resamples.weights[order, 7])
    again = [images[i] for i in drawn]
    found = average_precision(images, 1, 0.3, resamples)
    assert found.draws[7] == pytest.approx(value(average_precision(again, 1, 0.3, of(again))))
