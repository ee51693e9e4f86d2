from pathlib import Path

import numpy as np

from chiasm.cohort.arrays import FileArray


def test_a_growing_array_is_a_plain_npy_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 3)).astype(np.uint8)
    array = FileArray(tmp_path / "a.npy", (5, 3))
    assert [array.append(image) for image in images] == list(range(12))
    array.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), images)


def test_the_header_keeps_its_length_however_long_the_array_grows(tmp_path: Path) -> None:
    lengths = set()
    for count in (0, 9, 10, 10**6, 10**12):
        array = FileArray(tmp_path / "a.npy", (224, 224))
        array.count = count
        array.finish()
        lengths.add((tmp_path / "a.npy").stat().st_size)
    assert len(lengths) == 1
