"""Volumes from NIfTI files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from chiasm.errors import ImageError
from chiasm.formats.volume import canonical
from chiasm.study import Image, Values

SUFFIXES = (".nii", ".nii.gz")
_TO_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def read_nifti(path: Path, *, image_id: str = "", dicom_modality: str = "") -> Image:
    """Read one 3-D NIfTI-1 or -2 file as [D, H, W] with axes to Superior, Anterior, Right.

    Whole numbers keep their dtype where the header scales nothing; all else is float32. See
    `chiasm.formats.volume.canonical` for the geometry. A plane (one of the axes has one voxel) is a volume of depth 1.

    Args:
        image_id: the file's name without suffix when left out.
        dicom_modality: no NIfTI file says it. Of a CT the values are taken as Hounsfield units.

    Raises:
        ImageError: no such file, not NIfTI, truncated, without orientation, a time series, or not of real finite numbers.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    path = Path(path)
    where = str(path)
    expected = "a 3-D NIfTI file"
    if not path.is_file() or not path.stat().st_size:
        got = "a file of 0 bytes" if path.is_file() else "no such file"
        raise ImageError("The volume is not there", expected=expected, got=got, where=where)
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a kind of it
            raise ImageError("The file is no NIfTI file", expected=expected, got=type(image).__name__, where=where)
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        got = f"{type(error).__name__}: {error}"
        raise ImageError("The volume cannot be read", expected=expected, got=got, where=where) from error
    header = image.header
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        raise ImageError(
            "The volume does not say which way it lies, so left and right are unknown",
            expected="an sform or qform code above 0",
            got="both 0",
            where=where,
            remedy="set the orientation in the program that wrote the file",
        )
    values = values.reshape(*values.shape[:3], *(n for n in values.shape[3:] if n != 1))
    values = values.reshape(*values.shape, 1) if values.ndim == 2 else values
    if values.ndim != 3 or not values.size:
        got = " x ".join(map(str, values.shape))
        raise ImageError("The file holds no single volume", expected="3 axes", got=got, where=where)
    if values.dtype.kind not in "buif":
        raise ImageError(
            "The volume is not of real numbers", expected="gray values", got=str(values.dtype), where=where
        )
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    else:
        values = values.astype(values.dtype.newbyteorder("="))
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        got = f"{bad:,} NaN or infinite of {values.size:,}"
        raise ImageError("The volume is not all numbers", expected="finite values", got=got, where=where)
    affine = np.asarray(image.affine, np.float64).copy()
    affine[:3] *= _TO_MM[header.get_xyzt_units()[0]]
    pixels, geometry = canonical(values, affine, where)
    return Image(
        image_id or path.name.removesuffix(".gz").removesuffix(".nii"),
        np.ascontiguousarray(pixels),
        geometry,
        dicom_modality=dicom_modality,
        source=path.name,
        values=Values.MODALITY,
    )
