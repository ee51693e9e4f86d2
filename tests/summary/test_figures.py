import io
import re

import numpy as np
import pytest
from PIL import Image

from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.calibration import reliability
from chiasm.metrics.classification import pr_curve, roc_curve
from chiasm.metrics.decision import decision_curve
from chiasm.summary.figures import (
    PREDICTED_RGB,
    TRUTH_RGB,
    Curves,
    Decision,
    decision_svg,
    overlay,
    pr_svg,
    reliability_svg,
    roc_svg,
)

NONE = np.zeros((0, 4))


def pixels_of(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB"))


def test_a_plain_image_comes_back_as_it_is() -> None:
    gray = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    assert np.array_equal(pixels_of(overlay(gray, NONE, NONE)), np.repeat(gray[..., None], 3, axis=2))
    assert overlay(gray, NONE, NONE).startswith(b"\x89PNG")


def test_boxes_lie_on_the_pixels_they_name() -> None:
    """A box (5, 3, 11, 9) covers pixels 5..10 and 3..8: its maxima are exclusive."""
    drawn = pixels_of(overlay(np.zeros((20, 30), np.uint8), np.array([[5, 3, 11, 9]]), NONE))
    y, x = np.nonzero((drawn == TRUTH_RGB).all(axis=2))
    assert (x.min(), x.max(), y.min(), y.max()) == (5, 10, 3, 8)
    assert not drawn[4:8, 6:10].any(), "the inside stays clear"


def test_a_predicted_box_has_its_name_above_it_or_inside_at_the_border() -> None:
    black = np.zeros((120, 160), np.uint8)
    for top, above in ((40, True), (0, False)):
        box = np.array([[100.0, top, 150.0, top + 60]])
        plain, named = (
            pixels_of(overlay(black, NONE, box)),
            pixels_of(overlay(black, NONE, box, names=["pneumothorax"])),
        )
        y, x = np.nonzero((plain != named).any(axis=2))
        assert len(y) > 30 and x.max() <= 159
        assert y.max() <= top if above else y.min() >= top
    with pytest.raises(ValueError, match="zip"):
        overlay(black, NONE, np.array([[1.0, 1, 9, 9]]), names=["a", "b"])


def test_predicted_boxes_are_dashed_and_of_another_colour() -> None:
    drawn = pixels_of(overlay(np.zeros((60, 60), np.uint8), NONE, np.array([[5, 5, 50, 50]])))
    edge = (drawn[5, 5:50] == PREDICTED_RGB).all(axis=1)
    assert 0.3 < edge.mean() < 0.8
    assert not (drawn == TRUTH_RGB).all(axis=2).any()


def test_the_map_colours_what_it_points_at_alone() -> None:
    heat = np.zeros((16, 16), np.float32)
    heat[4:8, 4:8] = 0.9
    drawn = pixels_of(overlay(np.full((16, 16), 100, np.uint8), NONE, NONE, heat))
    coloured = drawn.std(axis=2) > 5
    assert np.array_equal(coloured, heat > 0)


def test_a_mask_is_an_outline() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    drawn = (pixels_of(overlay(np.zeros((20, 20), np.uint8), NONE, NONE, mask_truth=mask)) == TRUTH_RGB).all(axis=2)
    assert drawn[5, 7]
    assert drawn[4, 7]
    assert not drawn[9, 9]
    assert not drawn[1, 1]


def test_other_types_are_drawn_from_minimum_to_maximum() -> None:
    drawn = pixels_of(overlay(np.array([[-1000.0, 0.0, 1000.0]]), NONE, NONE))
    assert drawn[0, :, 0].tolist() == [0, 128, 255]
    assert not pixels_of(overlay(np.full((2, 2), 7.0), NONE, NONE)).any(), "a constant image is black, not NaN"


def test_a_small_picture_keeps_its_boxes_in_place() -> None:
    drawn = pixels_of(overlay(np.zeros((400, 200), np.uint8), np.array([[100, 200, 160, 360]]), NONE, max_side=100))
    assert drawn.shape == (100, 50, 3)
    y, x = np.nonzero((drawn == TRUTH_RGB).all(axis=2))
    assert (x.min(), x.max(), y.min(), y.max()) == (25, 39, 50, 89)


def test_an_empty_or_outlying_box_does_not_break_the_picture() -> None:
    boxes = np.array([[5, 5, 5, 5], [-10, -10, 100, 100]])
    assert pixels_of(overlay(np.zeros((20, 20), np.uint8), boxes, boxes)).shape == (20, 20, 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="pixels must be"):
        overlay(np.zeros((2, 3, 4), np.uint8), NONE, NONE)
    with pytest.raises(ValueError, match="heat must have the shape"):
        overlay(np.zeros((4, 4), np.uint8), NONE, NONE, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="mask_truth must have the shape"):
        overlay(np.zeros((4, 4), np.uint8), NONE, NONE, mask_truth=np.zeros((2, 2), bool))


@pytest.fixture(scope="module")
def curves() -> Curves:
    y = np.array([0, 1] * 20)
    p = np.clip(0.3 + 0.4 * y + np.linspace(-0.2, 0.2, 40), 0, 1)
    rows = Resamples.draw(np.arange(40), 100)
    roc, pr = roc_curve(y, p, rows), pr_curve(y, p, rows)
    assert roc is not None
    assert pr is not None
    table = reliability(y, p, rows, bins=5)
    acted = decision_curve(y, p, rows)
    decision = Decision(acted, decision_curve(y, np.ones(40), rows).y, {"record <only>": acted})
    return Curves("a <b>/c", roc, pr, 0.5, table, None, np.histogram(p, 25, (0, 1))[0], decision)


@pytest.mark.parametrize("draw", [roc_svg, pr_svg, reliability_svg, decision_svg])
def test_figures_follow_the_page(curves: Curves, draw) -> None:
    svg = draw(curves)
    assert svg.startswith("<svg role=")
    assert svg.rstrip().endswith("</svg>")
    assert "http" not in svg
    assert "<style" not in svg, "it would reach the whole page"
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "every colour is a variable of the page"
    assert "var(--accent)" in svg
    assert "a &lt;b&gt;/c" in svg
    assert "width=" not in svg.split(">")[0]


def test_figures_are_the_same_every_time_and_share_no_ids(curves: Curves) -> None:
    assert roc_svg(curves) == roc_svg(curves)
    ids = [set(re.findall(r' id="([^"]+)"', draw(curves))) for draw in (roc_svg, pr_svg, reliability_svg)]
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]


def test_a_decision_is_drawn_beside_everybody_and_other_arms(curves: Curves) -> None:
    svg = decision_svg(curves)
    assert all(f">{name}<" in svg for name in ("model", "everybody", "record &lt;only&gt;"))


def test_before_and_after_temperature(curves: Curves) -> None:
    from dataclasses import replace

    assert ">before<" not in reliability_svg(curves)
    assert ">before<" in reliability_svg(replace(curves, before=curves.after))


def test_a_warning_stands_in_the_upper_left_corner():
    black = np.zeros((100, 200), np.uint8)
    drawn = pixels_of(overlay(black, NONE, NONE, warning="unlike"))
    lit = np.argwhere(drawn.any(axis=2))
    assert len(lit) > 20 and lit[:, 0].max() < 20 and lit[:, 1].max() < 100
    assert not pixels_of(overlay(black, NONE, NONE)).any()


def test_names_of_boxes_that_lie_on_each_other_stand_apart():
    boxes = np.array([[40.0, 60, 90, 90], [41.0, 61, 90, 90]])
    nothing = np.zeros((0, 4))

    def black(names: list[str]) -> int:
        png = overlay(np.full((200, 200), 255, np.uint8), nothing, boxes[: len(names)], names=names)
        return int((np.asarray(Image.open(io.BytesIO(png))).max(axis=2) < 10).sum())

    assert black(["mass", "mass"]) > 1.8 * black(["mass"])
