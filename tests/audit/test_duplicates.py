"""Copies are found whatever was done to them; pictures that only look alike are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

from chiasm.audit import duplicates
from chiasm.audit.duplicates import FAR_BITS, correlate, identical, near_identical
from chiasm.cohort.tables import perceptual_hash

Pixels = NDArray[np.uint8]
SIZE = 128


def picture(seed: int, shape: tuple[int, ...] = (SIZE, SIZE)) -> Pixels:
    """Smooth light and shade with fine structure, as an X-ray has."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=shape), 16) * 16 * 3.5
    fine = gaussian_filter(random.normal(size=shape), 1.5) * 1.5 * 3.5
    return np.clip(128 + 40 * smooth + 10 * fine, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "JPEG", quality=40)
    return np.asarray(Pillow.open(buffer))


def moved(pixels: Pixels, down: int, right: int) -> Pixels:
    result = np.roll(pixels, (down, right), (0, 1))
    result[:down] = 0
    result[:, right:] = 0
    return result


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "darker": lambda p: (p * 0.6).astype(np.uint8),
    "brighter": lambda p: (p * 0.8 + 40).astype(np.uint8),
    "gamma": lambda p: (255 * (p / 255) ** 1.2).astype(np.uint8),
    "jpeg": jpeg,
    "smaller and back": lambda p: np.asarray(Pillow.fromarray(p).resize((96, 96)).resize((SIZE, SIZE))),
    "moved": lambda p: moved(p, 1, -1),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_and_nothing_else(how: str) -> None:
    images = [picture(seed) for seed in range(40)]
    images[33] = COPIES[how](images[4])
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    pairs = near_identical(hashes, np.arange(40), images.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(4, 33)]
    assert 0.99 <= pairs[0].correlation <= 1
    assert pairs[0].shift_px == ((-1, 1) if how == "moved" else (0, 0))


def test_pictures_with_one_hash_and_one_thumbnail_are_told_apart_by_their_pixels() -> None:
    base, stripes = picture(0) // 2 + 64, np.where(np.arange(SIZE) % 4 < 2, 40, -40)
    signs = np.random.default_rng(0).choice((-1, 1), (2, SIZE // 8, SIZE // 8)).repeat(8, 1).repeat(8, 2)
    images = [(base + sign * stripes).astype(np.uint8) for sign in signs]
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    assert int(hashes[0] ^ hashes[1]).bit_count() <= 2
    thumbnails = duplicates._Thumbnails(images.__getitem__, 2)
    assert list(thumbnails.alike(np.array([0]), np.array([1]))) == [(0, 1)]
    assert near_identical(hashes, np.arange(2), images.__getitem__) == []


def test_one_hash_for_all_yields_no_false_pair() -> None:
    images = [picture(seed) for seed in range(30)]
    images[7] = jpeg(images[3])
    pairs = near_identical(np.zeros(30, np.uint64), np.arange(30), images.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 7)]


def test_near_copies_count_between_owners_and_never_within_one() -> None:
    images = [picture(0), jpeg(picture(0)), (picture(0) * 0.7).astype(np.uint8)]
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)

    def found(*owners: int) -> list[tuple[int, int]]:
        return [(p.first, p.second) for p in near_identical(hashes, np.array(owners), images.__getitem__)]

    assert found(1, 1, 1) == found(0, 0, 0) == []
    assert found(1, 1, 2) == [(0, 2), (1, 2)]
    assert found(-1, -1, 2) == [(0, 1), (0, 2), (1, 2)]


def test_blank_images_are_near_to_nothing() -> None:
    images = [np.full((SIZE, SIZE), value, np.uint8) for value in (0, 9, 200)]
    assert near_identical(np.zeros(3, np.uint64), np.arange(3), images.__getitem__) == []


def test_near_copies_of_volumes_are_found() -> None:
    volume = picture(1, (16, 32, 32))
    images = [volume, (volume * 0.7).astype(np.uint8), picture(2, (16, 32, 32))]
    pairs = near_identical(np.zeros(3, np.uint64), np.arange(3), images.__getitem__)
    assert [(pair.first, pair.second, pair.shift_px) for pair in pairs] == [(0, 1, (0, 0, 0))]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_every_near_pair_of_hashes_is_proposed_once(values: list[int], high: int, wide: int) -> None:
    values += [value ^ 0b1011 for value in values[:5]]
    hashes = np.array(values, np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_TILE", (high, wide))
        tiles = list(duplicates._near_hashes(hashes))
    proposed = [pair for a, b in tiles for pair in zip(a.tolist(), b.tolist(), strict=True)]
    slow = [
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if (values[i] ^ values[j]).bit_count() <= FAR_BITS
    ]
    assert sorted(proposed) == slow


def test_correlate_is_pearson_where_nothing_moved() -> None:
    a = picture(0)
    b = np.clip(a.astype(int) + np.random.default_rng(1).integers(-4, 5, a.shape), 0, 255).astype(np.uint8)
    value, shift = correlate(a, b)
    assert value == pytest.approx(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1], abs=1e-5)
    assert shift == (0, 0)
    assert correlate(a, 255 - a)[0] < 0.5


def test_identical_things_are_grouped() -> None:
    assert identical(np.array(["a", "b", "a", "c", "b", "a"])) == [[0, 2, 5], [1, 4]]
    assert identical(np.array(["a"])) == []
    assert identical(np.array([], np.str_)) == []
