import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis.extra import numpy as arrays
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from chiasm.cohort.tables import content_hash, decode_mask, encode_mask, perceptual_hash, pixel_hash


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_mask_comes_back_from_its_runs(mask: np.ndarray) -> None:
    runs = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(runs, mask.shape), mask)
    assert sum(runs) == mask.size
    assert all(run > 0 for run in runs[1:])


def test_runs_begin_with_zeros() -> None:
    assert encode_mask(np.zeros((2, 3), bool)) == [6]
    assert encode_mask(np.ones((2, 3), bool)) == [0, 6]
    assert encode_mask(np.array([[0, 1], [1, 0]], bool)) == [1, 2, 1]


def test_pixel_hash_sees_one_pixel_and_the_shape() -> None:
    image = np.zeros((4, 6), np.uint8)
    other = image.copy()
    other[3, 5] = 1
    assert len({pixel_hash(image), pixel_hash(other), pixel_hash(image.reshape(6, 4))}) == 3
    assert pixel_hash(image.T.copy().T) == pixel_hash(image)  # the layout in memory does not count


def test_perceptual_hash_is_near_for_like_images_and_far_for_others() -> None:
    random = np.random.default_rng(0)
    images = [
        255 * (f - f.min()) / np.ptp(f) for f in (gaussian_filter(random.normal(size=(224, 224)), 20) for _ in range(8))
    ]
    hashes = [perceptual_hash(image.astype(np.uint8)) for image in images]
    noisy = [
        perceptual_hash(np.clip(0.9 * i + 8 + random.normal(0, 4, i.shape), 0, 255).astype(np.uint8)) for i in images
    ]
    assert max((a ^ b).bit_count() for a, b in zip(hashes, noisy, strict=True)) <= 10
    far = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert np.median(far) >= 20
    assert perceptual_hash(np.zeros((8, 8), np.uint8)) == 0
    assert perceptual_hash(np.stack([images[0]] * 3).astype(np.uint8)) == hashes[0]


def test_perceptual_hash_equals_the_cosine_transform() -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32)).astype(np.uint8)
    low = dctn(image.astype(float), norm=None)[:8, :8].ravel() / 4  # SciPy's DCT-II carries a factor 2 an axis
    bits = "".join(str(int(c > np.median(low))) for c in low)
    assert perceptual_hash(image) == int(bits, 2)


def test_content_hash_takes_content_only() -> None:
    images = {"image_id": ["a", "b"], "index": [0, 1], "source": ["x.png", "y.png"]}
    table, moved = pa.table(images), pa.table({**images, "index": [1, 0], "source": ["z/x.png", "z/y.png"]})
    first = content_hash({"images": table}, {"size": 8})
    assert content_hash({"images": moved}, {"size": 8}) == first
    assert content_hash({"images": table.select(["source", "index", "image_id"])}, {"size": 8}) == first
    assert content_hash({"images": pa.table({**images, "image_id": ["a", "c"]})}, {"size": 8}) != first
    assert content_hash({"images": table}, {"size": 9}) != first
    assert content_hash({"studies": table}, {"size": 8}) != first
