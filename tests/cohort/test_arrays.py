from pathlib import Path

import numpy as np

from chiasm.cohort.arrays import AT_ONCE, FileArray, MemoryArray


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


def test_from_the_first_image_of_sixteen_bits_on_an_array_has_sixteen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    narrow = random.integers(0, 256, (AT_ONCE + 3, 1, 4, 3)).astype(np.uint8)
    wide = random.integers(0, 65536, (2, 1, 4, 3)).astype(np.uint16)
    images = [*narrow[:-1], wide[0], narrow[-1], wide[1]]
    expected = np.stack([image * np.uint16(257) if image.dtype == np.uint8 else image for image in images])
    file, memory = FileArray(tmp_path / "a.npy", (1, 4, 3)), MemoryArray()
    for number, image in enumerate(images):
        assert file.append(image) == memory.append(image) == number
    file.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), expected)
    np.testing.assert_array_equal(memory.finish(), expected)
    first = FileArray(tmp_path / "b.npy", (1, 4, 3))
    first.append(wide[0])
    first.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy", allow_pickle=False), wide[:1])
