import numpy as np
import pytest
from scipy.stats import kurtosis, skew
from sklearn.metrics import roc_auc_score

from chiasm.metrics import controls
from chiasm.metrics.bootstrap import Resamples
from chiasm.metrics.classification import ranking


def images(n: int = 5, shape: tuple[int, ...] = (40, 50), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(10, 240, size=(n, *shape), dtype=np.uint8)


def column(statistics: np.ndarray, name: str) -> np.ndarray:
    return statistics[:, controls.STATISTICS.index(name)]


def test_statistics_of_the_values_equal_the_slow_ones():
    pixels = images()
    pixels[0, :3] = 0
    pixels[1, 0, 0] = 255
    found = controls.pixel_statistics(pixels, batch_size=2)
    assert found.shape == (5, len(controls.STATISTICS)) == (5, 25)
    for row, image in zip(found, pixels.astype(float), strict=True):
        slow = {
            "mean": image.mean(),
            "std": image.std(),
            "skewness": skew(image.ravel()),
            "kurtosis": kurtosis(image.ravel(), fisher=False),
            "levels": len(np.unique(image)),
            "black_share": np.mean(image == 0),
            "white_share": np.mean(image == 255),
            "lowest": image.min(),
            "highest": image.max(),
            **{f"percentile_{q}": np.percentile(image, q, method="inverted_cdf") for q in controls.PERCENTILES},
        }
        _, counts = np.unique(image, return_counts=True)
        slow["entropy"] = -np.sum(counts / image.size * np.log2(counts / image.size))
        for name, value in slow.items():
            assert row[controls.STATISTICS.index(name)] == pytest.approx(value), name


def test_statistics_of_the_layout_by_hand():
    """White left half, black right half, 32 x 64: one edge, halfway."""
    pixels = np.zeros((1, 32, 64), np.uint8)
    pixels[:, :, :32] = 255
    found = controls.pixel_statistics(pixels)
    assert column(found, "border_mean") == 127.5
    assert column(found, "corner_mean") == 127.5
    assert column(found, "left_minus_right") == 255
    assert column(found, "top_minus_bottom") == 0
    assert column(found, "gradient_x") == pytest.approx(255 / 63)
    assert column(found, "gradient_y") == 0
    assert column(found, "sharpness") == pytest.approx(2 * 255 / 62)
    turned = controls.pixel_statistics(pixels.transpose(0, 2, 1))
    assert column(turned, "top_minus_bottom") == 255
    assert column(turned, "gradient_y") == pytest.approx(255 / 63)


def test_the_middle_belongs_to_no_side():
    pixels = np.tile(np.array([0, 100, 200], np.uint8), (1, 4, 1))
    assert column(controls.pixel_statistics(pixels), "left_minus_right") == -200
    assert column(controls.pixel_statistics(pixels.transpose(0, 2, 1)), "top_minus_bottom") == -200


def test_an_even_image_has_statistics_too():
    found = controls.pixel_statistics(np.full((2, 20, 20), 7, np.uint8))
    assert np.isfinite(found).all()
    assert column(found, "entropy").tolist() == [0, 0]
    assert column(found, "percentile_50").tolist() == [7, 7]


def test_volumes_have_the_same_statistics_as_their_slices_together():
    volume = images(2, (3, 16, 20))
    found = controls.pixel_statistics(volume)
    assert column(found, "mean") == pytest.approx(volume.mean(axis=(1, 2, 3)))
    by_slice = controls.pixel_statistics(volume.reshape(6, 16, 20))
    for name in ("corner_mean", "gradient_x", "sharpness", "border_mean", "left_minus_right"):
        assert column(found, name) == pytest.approx(column(by_slice, name).reshape(2, 3).mean(axis=1))


def test_batches_and_memory_maps_change_nothing(tmp_path):
    np.save(tmp_path / "p.npy", images(7))
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    for function in (controls.pixel_statistics, controls.thumbnails):
        assert function(mapped, batch_size=3) == pytest.approx(function(images(7)), rel=1e-12)
        assert function(images(0)).shape[0] == 0


@pytest.mark.parametrize("shape", [(32, 48), (37, 50), (9, 16)])
def test_thumbnails_are_area_means(shape):
    pixels = images(2, shape)
    found = controls.thumbnails(pixels).reshape(2, 16, 16) * 255
    fine = pixels.repeat(16, axis=1).repeat(16, axis=2)  # every cell of the thumbnail is a whole number of these
    slow = fine.reshape(2, 16, shape[0], 16, shape[1]).mean(axis=(2, 4))
    assert found == pytest.approx(slow)
    assert controls.thumbnails(np.stack([pixels, pixels], axis=1)) == pytest.approx(controls.thumbnails(pixels))


def test_only_stored_pixels_are_taken():
    with pytest.raises(ValueError, match="uint8"):
        controls.pixel_statistics(images().astype(np.float32))
    with pytest.raises(ValueError, match="uint8"):
        controls.thumbnails(images()[0])


def test_the_probe_finds_a_shortcut_in_the_pixels_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.5
    clean, marked = images(300, seed=1), images(300, seed=1)
    marked[labels, :2] = 0  # the positives come from a device with a black bar
    aurocs = []
    for pixels in (clean, marked):
        features = controls.pixel_statistics(pixels)
        scores = controls.probe(features[:200], labels[:200], features[200:])
        aurocs.append(roc_auc_score(labels[200:], scores))
    assert abs(aurocs[0] - 0.5) < 0.15
    assert aurocs[1] > 0.95


def test_missingness_alone_can_be_a_shortcut():
    rng = np.random.default_rng(1)
    labels = rng.random(200) < 0.5
    age = np.where(labels, np.nan, rng.normal(50, 10, size=200))
    features = controls.metadata_features({"age": age, "empty": np.full(200, np.nan)}, {})
    scores = controls.probe(features[:100], labels[:100], features[100:])
    assert np.isfinite(scores).all()
    assert roc_auc_score(labels[100:], scores) == 1


def test_the_probe_reads_known_training_labels_only():
    features = np.arange(8.0)[:, None]
    labels = np.array([0, 0, 0, 0, 1, 1, np.nan, np.nan])
    mask = ~np.isnan(labels)
    scores = controls.probe(features, labels, features, mask)
    assert (np.diff(scores) > 0).all()
    assert (scores == controls.probe(features[mask], labels[mask], features)).all()
    assert controls.probe(features, labels, features, labels == 0) is None
    assert controls.probe(controls.metadata_features({}, {}), labels, features, mask) is None
    assert len(controls.probe(features, labels, features[:0], mask)) == 0


def test_metadata_becomes_numbers_words_and_a_column_for_missing_words():
    found = controls.metadata_features({"age": [30, np.nan]}, {"view": ["pa", None], "sex": ["f", "f"]})
    assert found[:, 1:].tolist() == [[0, 1, 1], [1, 0, 1]]  # "", "pa"; "f"
    assert found[0, 0] == 30
    assert np.isnan(found[1, 0])


@pytest.mark.parametrize(
    ("model_noise", "control_noise", "warned"),
    [(0.4, 0.6, True), (0.4, 50.0, False), (0.4, 1.0, True), (0.4, 2.5, False), (2.0, 0.5, True)],
)
def test_a_control_that_comes_close_is_told(model_noise, control_noise, warned):
    rng = np.random.default_rng(3)
    labels = rng.random(400) < 0.5
    resamples = Resamples.draw(range(400), 200)
    model, control = (
        ranking(labels, labels + noise * rng.normal(size=400), resamples)["auroc"]
        for noise in (model_noise, control_noise)
    )
    assert (controls.closeness(model, control) in ("close", "beats")) is warned


def test_a_control_that_beats_the_model_is_told():
    assert near(400, model_noise=3.0, control_noise=0.5) == "beats"


@pytest.mark.parametrize(
    ("model_noise", "control_noise", "found"),
    [(0.8, 1.0, "unclear"), (0.8, 50.0, ""), (50.0, 60.0, "")],
)
def test_in_a_small_cohort_a_control_that_cannot_be_told_apart_is_told(model_noise, control_noise, found):
    """Of 24 patients: near the model, at chance beside it, and beside a model that is at chance itself."""
    assert near(24, model_noise, control_noise) == found


def near(n, model_noise, control_noise):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 2 == 1
    resamples = Resamples.draw(range(n), 300)
    model, control = (
        ranking(labels, labels + noise * rng.normal(size=n), resamples)["auroc"]
        for noise in (model_noise, control_noise)
    )
    return controls.closeness(model, control)


def test_an_undefined_control_warns_of_nothing():
    resamples = Resamples.draw(range(3), 50)
    undefined = ranking([1, 1, 1], [1, 2, 3], resamples)["auroc"]
    assert controls.closeness(undefined, undefined) == ""
