"""The phantom's picture: coordinates, organs and lesions are where the truth says they are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV

from chiasm.domains.chest.anatomy import Body, Frame, build_thorax, draw_body, draw_frame, heart_field, lung_air
from chiasm.domains.chest.lesions import CARDIOMEGALY, KINDS, SIDES, Lesion, draw_lesions
from chiasm.domains.chest.outcome import MAX_BURDEN
from chiasm.domains.chest.projection import lung_base, render_lateral, render_pa

SIZE = 96


def chest(seed: int) -> tuple[Frame, Body]:
    rng = np.random.default_rng(seed)
    body = draw_body(rng)
    return draw_frame(SIZE, body, rng), body


def lesion_of(name: str, side: str) -> Lesion:
    """The first lesion of a kind and side that the generator gives, at full contrast."""
    for seed in range(2000):
        for lesion in draw_lesions(lung_base(0), False, np.random.default_rng(seed)):
            if (lesion.name, lesion.side) == (name, side):
                return replace(lesion, contrast=1.0)
    raise AssertionError(f"no {side} {name} in 2000 draws")


@given(st.floats(-0.05, 0.05), st.floats(0.35, 0.45), st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
@settings(deadline=None)
def test_chest_coordinates_go_there_and_back(tilt: float, half_width: float, row: int, column: int) -> None:
    frame = Frame(SIZE, (0.51, 0.47), half_width, 0.68, tilt)
    u, v = frame.chest()
    x, y = frame.to_frame(u, v)
    assert x[row, column] * SIZE == pytest.approx(column + 0.5, abs=1e-2)
    assert y[row, column] * SIZE == pytest.approx(row + 0.5, abs=1e-2)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", [kind for kind in KINDS if kind != CARDIOMEGALY])
def test_a_mask_is_where_the_lesion_changed_the_picture(name: str, side: str) -> None:
    frame, body = chest(4)
    lesion = lesion_of(name, side)
    without, _, _ = render_pa(frame, body, 0.0, body.heart_share, [], np.random.default_rng(1))
    pixels, (mask,), _ = render_pa(frame, body, 0.0, body.heart_share, [lesion], np.random.default_rng(1))
    change = pixels.astype(float) - without
    u, v = frame.chest()
    right = u < 0  # the patient's right is the image's left
    assert mask.sum() > 60
    assert not mask[right if side == "left" else ~right].any()
    assert np.average(u, weights=mask) * (-1 if side == "right" else 1) > 0.3
    inside = np.abs(change[mask]).mean()
    assert inside > 8
    assert np.abs(change[~mask]).mean() < 0.08 * inside
    assert np.abs(change[mask]).sum() > 0.6 * np.abs(change).sum()
    assert (change[mask].mean() < 0) == (name == "pneumothorax")  # air is dark, all others are bright
    lowest, highest = {"upper": (0.0, 0.45), "mid": (0.25, 0.7), "lower": (0.45, 1.05)}[lesion.zone]
    assert lowest < np.average(v, weights=mask) < highest


def test_lungs_and_heart_measure_what_they_are_told() -> None:
    frame = Frame(256, (0.5, 0.48), 0.40, 0.68, 0.0)
    for base in (0.9, 1.05):
        thorax = build_thorax(frame, base)
        lungs = lung_air(thorax) > 0
        width = np.ptp(np.flatnonzero(lungs.any(axis=0))) + 1
        assert width / 256 == pytest.approx(2 * 0.40, rel=0.03)
        bottom = thorax.v[np.flatnonzero(lungs.any(axis=1))[-1]].mean()
        assert bottom == pytest.approx(base, abs=0.02)
        for share in (0.42, 0.60):
            heart = heart_field(thorax, share) > 0.5
            columns = np.flatnonzero(heart.any(axis=0))
            assert (np.ptp(columns) + 1) / width == pytest.approx(share, abs=0.03)
            assert heart[:, 128:].sum() > 1.5 * heart[:, :128].sum()  # most of it lies to the patient's left


def features(pixels: np.ndarray) -> np.ndarray:
    """Mean and contrast of 12 x 12 tiles."""
    tiles = pixels.reshape(12, SIZE // 12, 12, SIZE // 12).astype(float)
    return np.concatenate([tiles.mean(axis=(1, 3)).ravel(), np.log(1 + tiles.std(axis=(1, 3))).ravel()])


def test_the_burden_can_be_read_from_the_picture_alone() -> None:
    rng = np.random.default_rng(0)
    burdens = rng.uniform(-MAX_BURDEN, MAX_BURDEN, 320)
    rows = []
    for number, burden in enumerate(burdens):
        frame, body = chest(number)
        lesions = draw_lesions(lung_base(burden), False, rng)
        rows.append(features(render_pa(frame, body, float(burden), body.heart_share, lesions, rng)[0]))
    model = RidgeCV(np.logspace(0, 4, 9)).fit(rows[:240], burdens[:240])
    assert model.score(rows[240:], burdens[240:]) > 0.75  # tile statistics; a network reads it better


def test_pictures_use_the_gray_scale_and_are_each_their_own() -> None:
    frame, body = chest(2)
    seen = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pa, masks, heart = render_pa(frame, body, 0.5, 0.6, [], rng)
        side = render_lateral(frame, body, 0.5, 0.6, [lesion_of("mass", "left")], rng)
        assert masks == []
        assert heart.any()
        for pixels in (pa, side):
            assert pixels.shape == (SIZE, SIZE)
            assert pixels.dtype == np.uint8
            assert pixels.std() > 30
            assert np.percentile(pixels, 99) - np.percentile(pixels, 1) > 120
            seen.append(pixels.tobytes())
    assert len(set(seen)) == 6
