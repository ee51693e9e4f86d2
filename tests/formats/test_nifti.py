"""NIfTI files written with nibabel."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import save, slices, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.errors import ImageError
from chiasm.formats.dicom import read_series
from chiasm.formats.nifti import read_nifti

RNG = np.random.default_rng(0)


def write(values: np.ndarray, path: Path, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(values, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)
    return path


def test_a_ras_file_is_transposed(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (3, 4, 5)).astype(np.uint8)
    image = read_nifti(write(values, tmp_path / "brain.nii"))
    np.testing.assert_array_equal(image.pixels, values.T)
    assert image.pixels.dtype == np.uint8
    assert image.geometry.original_shape == image.geometry.shape == (5, 4, 3)
    assert image.geometry.spacing_mm == (4.0, 3.0, 2.0)
    np.testing.assert_array_equal(np.array(image.geometry.affine).reshape(4, 4) @ [1, 0, 0, 1], [0, 0, 4, 1])
    assert (image.image_id, image.source) == ("brain", "brain.nii")


@settings(max_examples=48, deadline=None)
@given(turn=st.sampled_from(turns()), kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]))
def test_every_orientation_becomes_the_same_volume(tmp_path_factory: pytest.TempPathFactory, turn, kind: type) -> None:
    """One volume, stored along other axes, is read as one and the same."""
    axes, signs = turn
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    base = np.array([[2, 0, 0, -7], [0, 3, 0, 5], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    stored = values.transpose(axes)
    affine = base[:, [*axes, 3]]
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:, 3] += affine[:, axis] * (stored.shape[axis] - 1)
            affine[:, axis] *= -1
            stored = np.flip(stored, axis)
    path = write(stored, tmp_path_factory.mktemp("nifti") / "a.nii.gz", affine, kind)
    image = read_nifti(path)
    np.testing.assert_array_equal(image.pixels, values.T)
    np.testing.assert_allclose(np.array(image.geometry.affine).reshape(4, 4), base[:, [2, 1, 0, 3]], atol=1e-4)
    assert image.image_id == "a"


def test_dicom_and_nifti_of_one_scan_agree(tmp_path: Path) -> None:
    volume = RNG.integers(0, 4096, (4, 6, 5)).astype(np.uint16)
    affine = np.array([[0, 0, -0.5, 60], [0, -0.75, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])
    series = read_series([save(data, tmp_path / str(i)) for i, data in enumerate(slices(volume, affine))])
    image = read_nifti(write(volume.transpose(2, 1, 0), tmp_path / "a.nii", affine[:, [2, 1, 0, 3]]))
    np.testing.assert_array_equal(image.pixels, series.pixels)
    np.testing.assert_allclose(image.geometry.affine, series.geometry.affine, atol=1e-4)


def test_dtypes_and_scaling(tmp_path: Path) -> None:
    for dtype in (np.int16, np.uint16, np.int32, np.float32):
        values = np.array([[[-3, 7], [0, 100]]]).astype(dtype) if dtype != np.uint16 else np.array([[[3, 7]]], dtype)
        pixels = read_nifti(write(values, tmp_path / "a.nii")).pixels
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, values.T)
    big = nib.Nifti1Image(np.array([[[1, 500]]], ">i2"), np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii")
    pixels = read_nifti(tmp_path / "big.nii").pixels
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels.ravel(), [1, 500])
    scaled = nib.Nifti1Image(np.array([[[0.0, 0.5, 127.5]]]), np.eye(4))
    scaled.header.set_data_dtype(np.uint8)
    nib.save(scaled, tmp_path / "scaled.nii")
    pixels = read_nifti(tmp_path / "scaled.nii").pixels
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels.ravel(), [0, 0.5, 127.5], atol=0.26)


def test_units_are_millimetres(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([0.002, 0.003, 0.004, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").geometry.spacing_mm, (4, 3, 2), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 1, 1)])
def test_a_plane_is_a_volume_of_depth_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 255, shape).astype(np.uint8)
    np.testing.assert_array_equal(read_nifti(write(values, tmp_path / "a.nii")).pixels[0], values.reshape(4, 5).T)


def test_a_fourth_axis_of_one_is_no_time_series(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (3, 4, 5, 1)).astype(np.uint8)
    np.testing.assert_array_equal(read_nifti(write(values, tmp_path / "a.nii")).pixels, values[..., 0].T)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    def error(path: Path) -> ImageError:
        with pytest.raises(ImageError) as caught:
            read_nifti(path)
        assert caught.value.where == str(path)
        return caught.value

    good = write(RNG.integers(0, 255, (9, 8, 7)).astype(np.uint8), tmp_path / "good.nii.gz").read_bytes()
    plain = gzip.decompress(good)
    cases = {
        "empty.nii": b"",
        "text.nii": b"not a volume\n" * 99,
        "text.nii.gz": b"not a volume\n" * 99,
        "cut.nii.gz": good[: len(good) // 2],
        "cut.nii": plain[:-20],
        "head.nii": plain[:200],
        "junk.nii.gz": gzip.compress(bytes(range(256)) * 4),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        error(tmp_path / name)
    assert error(tmp_path / "missing.nii").got == "no such file"
    series = error(write(np.zeros((2, 3, 4, 5), np.uint8), tmp_path / "time.nii"))
    assert (series.what, series.got) == ("The file holds several volumes", "2 x 3 x 4 x 5")
    assert "four_to_three" in series.remedy
    assert "complex" in error(write(np.zeros((2, 2, 2), np.complex64), tmp_path / "complex.nii")).got
    bad = np.zeros((2, 2, 2), np.float32)
    bad[0, 0, 1] = np.inf
    assert error(write(bad, tmp_path / "inf.nii")).got == "1 infinite of 8"
    assert error(write(np.full((2, 2, 2), np.nan, np.float32), tmp_path / "nan.nii")).got == "NaN alone"
    lost = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    lost.header["sform_code"] = lost.header["qform_code"] = 0
    nib.save(lost, tmp_path / "lost.nii")
    assert "left and right" in error(tmp_path / "lost.nii").what
    flat = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    flat.header["srow_y"] = flat.header["srow_x"]
    flat.header["sform_code"] = 1
    (tmp_path / "flat.nii").write_bytes(flat.header.binaryblock + bytes(4 + 8))
    assert "no sense" in error(tmp_path / "flat.nii").what
    analyze = nib.AnalyzeImage(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    nib.save(analyze, tmp_path / "a.img")
    assert error(tmp_path / "a.img").got == "Spm2AnalyzeImage"


def test_nan_is_background_and_said(tmp_path: Path) -> None:
    """SPM and perfusion maps have NaN outside the brain."""
    values = np.array([[[np.nan, 2.0], [-3.0, 7.0]]], np.float32)
    image = read_nifti(write(values, tmp_path / "cbf.nii"), name="sub-1/cbf.nii")
    np.testing.assert_array_equal(image.pixels, np.array([[[-3.0, 2.0], [-3.0, 7.0]]]).T)
    (note,) = image.notes
    assert note.where == "sub-1/cbf.nii" and note.taken
    assert note.reason == "1 of 4 values are NaN: taken as background, the lowest value of the image"


@pytest.mark.parametrize(
    ("code", "millimetres", "said"), [(0, 2, 0), (1, 2000, 0), (2, 2, 0), (3, 0.002, 0), (4, 2, 1), (7, 2, 1)]
)
def test_an_unknown_unit_is_taken_as_millimetres_and_said(
    code: int, millimetres: float, said: int, tmp_path: Path
) -> None:
    path = write(np.zeros((2, 2, 2), np.uint8), tmp_path / "a.nii", np.diag([2.0, 2, 2, 1]))
    content = bytearray(path.read_bytes())
    content[123] = code | 8  # the unit of time stands beside it
    path.write_bytes(content)
    image = read_nifti(path)
    assert image.geometry.spacing_mm == pytest.approx((millimetres,) * 3)
    assert len(image.notes) == said


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_announced_axes_are_compared_with_the_bytes_before_memory_is_taken(suffix: str, tmp_path: Path) -> None:
    plain = write(np.zeros((4, 4, 4), np.uint8), tmp_path / "a.nii").read_bytes()
    for axes in ((30000, 30000, 1200), (32767, 32767, 32767), (-5, 4, 4), (0, 4, 4)):
        content = bytearray(plain)
        content[40:48] = np.array([3, *axes], "<i2").tobytes()
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(gzip.compress(bytes(content)) if suffix.endswith("gz") else bytes(content))
        with pytest.raises(ImageError):
            read_nifti(path)


def test_a_volume_beyond_the_limit_is_refused_with_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(np.zeros((40, 40, 40), np.int16), tmp_path / "a.nii")
    monkeypatch.setenv("CHIASM_MAX_IMAGE_GB", "0.0001")
    with pytest.raises(ImageError, match="larger than may be read") as caught:
        read_nifti(path)
    assert "CHIASM_MAX_IMAGE_GB" in caught.value.remedy
